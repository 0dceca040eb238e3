// Builds one kernel of a GPU: what kernels over runs and over rows share. Internal to lib/Conversion/ExecToLLVM.
#ifndef GALVATRON_CONVERSION_EXECTOLLVM_KERNELBUILDER_H
#define GALVATRON_CONVERSION_EXECTOLLVM_KERNELBUILDER_H

#include "GpuKernels.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/IRMapping.h"

namespace galvatron {

inline constexpr int64_t kThreads = 256;
/// Bytes of the widest load and store of a thread.
inline constexpr int64_t kAccessBytes = 16;

/// Builds the kernel of one `exec.loops`, in one of two forms. Its work is cut into runs: neighbouring elements along
/// the innermost loop that every buffer reads or writes in one access.
class KernelBuilder {
public:
  KernelBuilder(exec::LoopsOp op, const KernelPointers &pointers, mlir::ModuleOp kernels)
      : op(op), pointers(pointers), kernels(kernels), nest(simplifyLoops(op)), loc(op.getLoc()),
        builder(op.getContext()), buffers(op.getInputs()) {
    llvm::append_range(buffers, op.getOutputs());
  }

  /// Every thread computes a few runs, wherever they lie.
  LaunchShape build(llvm::StringRef name);
  /// Threads share a row, whose elements they hold (RowKernels.cpp).
  LaunchShape buildRows(llvm::StringRef name);

private:
  mlir::Type elementOf(unsigned buffer) {
    return mlir::cast<mlir::MemRefType>(buffers[buffer].getType()).getElementType();
  }
  /// Along the innermost loop.
  int64_t innerStride(unsigned buffer) { return nest.extents.empty() ? 0 : nest.strides[buffer].back(); }
  bool isRunAligned(unsigned buffer);
  void chooseRun();
  void createFunction(llvm::StringRef name);
  mlir::Value constant(mlir::Type type, int64_t value) {
    return mlir::arith::ConstantOp::create(builder, loc, builder.getIntegerAttr(type, value));
  }
  /// Threads of all blocks are numbered; this one's number.
  mlir::Value threadIndex(int64_t first);
  mlir::Value special(llvm::StringRef intrinsic);
  /// Counters of a loop nest from the number of an iteration.
  llvm::SmallVector<mlir::Value> countersOf(mlir::Value index, llvm::ArrayRef<int64_t> extents);
  void computeRun(mlir::Value index);
  /// Takes one value a row.
  bool isRowOutput(unsigned buffer) {
    return op.hasRows() && buffer >= op.getInputs().size() && innerStride(buffer) == 0;
  }
  mlir::Value addressOf(unsigned buffer, llvm::ArrayRef<mlir::Value> counters);
  mlir::Value elementAddress(unsigned buffer, mlir::Value address, int64_t element);
  llvm::SmallVector<mlir::Value> load(unsigned buffer, mlir::Value address);
  void store(unsigned buffer, mlir::Value address, llvm::ArrayRef<mlir::Value> elements);
  /// Memory holds an i1 as a byte.
  mlir::Type storedType(mlir::Type element) { return element.isInteger(1) ? builder.getI8Type() : element; }
  mlir::Value fromStored(mlir::Value stored, mlir::Type element);
  void cloneScalar(mlir::Operation &scalar, mlir::IRMapping &map);

  /// Which row a thread begins with, and what it has of every row; null values: all threads do.
  struct RowPlace {
    mlir::Value block, row, isRow;
    llvm::SmallVector<mlir::Value> columns, isInside; // of each of its runs: the first element, whether the row has it
  };

  void chooseRowShape();
  LaunchShape startRows(llvm::StringRef name, int64_t rows);
  mlir::Value widen(mlir::Value value);
  RowPlace placeThread(int64_t rows);
  mlir::Block *enterRowLoop(mlir::Value &row, llvm::MutableArrayRef<mlir::Value> sums);
  void leaveRowLoop(mlir::Block *loop, mlir::Value row, llvm::MutableArrayRef<mlir::Value> sums,
                    llvm::ArrayRef<mlir::IRMapping> elements, int64_t rows, int64_t blocks);
  /// Computes with the elements that this thread holds; row sums through the block.
  void computeRow(llvm::MutableArrayRef<mlir::IRMapping> elements, llvm::ArrayRef<mlir::Value> isInside);
  void loadRow(llvm::MutableArrayRef<mlir::IRMapping> elements, llvm::SmallVector<mlir::Value> counters,
               llvm::ArrayRef<mlir::Value> columns);
  void storeRow(llvm::MutableArrayRef<mlir::IRMapping> elements, llvm::SmallVector<mlir::Value> counters,
                llvm::ArrayRef<mlir::Value> columns, llvm::ArrayRef<mlir::Value> isInside, mlir::Value isRow);
  void storeColumnSums(llvm::ArrayRef<mlir::Value> sums, mlir::Value block, llvm::ArrayRef<mlir::Value> columns,
                       llvm::ArrayRef<mlir::Value> isInside);
  void barrier();
  llvm::SmallVector<mlir::Value> sumOverRow(llvm::ArrayRef<mlir::Value> partial);
  mlir::Value shuffleSum(mlir::Value value, int64_t threads);
  mlir::Value sharedSlot(int64_t first, mlir::Value index);
  void emitIf(mlir::Value condition, llvm::function_ref<void()> body);

  exec::LoopsOp op;
  const KernelPointers &pointers;
  mlir::ModuleOp kernels;
  LoopNest nest; // of `op`
  mlir::Location loc;
  mlir::OpBuilder builder;
  llvm::SmallVector<mlir::Value> buffers; // inputs, then outputs
  int64_t run = 1;                        // elements
  // Of a kernel over rows: runs of a row, of a thread; threads that share a row; rows of a block.
  int64_t rowRuns = 1, threadRuns = 1, rowThreads = 1, blockRows = 1;
  mlir::LLVM::GlobalOp shared; // floats, one for each warp and sum
  int64_t numShared = 0;
  mlir::Value threadNumber;    // in its block
  mlir::IntegerType indexType; // of element offsets: 32 bits where they are wide enough
  mlir::LLVM::LLVMFuncOp function;
  llvm::SmallVector<mlir::Value> bases; // of `pointers.distinct`
};

} // namespace galvatron

#endif // GALVATRON_CONVERSION_EXECTOLLVM_KERNELBUILDER_H
