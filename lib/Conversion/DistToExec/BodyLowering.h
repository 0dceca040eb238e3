// Turns one `dist.body` into an `exec.function`: what the lowering of kernels, of generated loops and of collectives
// share. Internal to lib/Conversion/DistToExec.
//
// Ops are lowered in their order. Each leaves the buffer of each of its results: a view of an operand's buffer where
// strides can express it, else a place that ResultPlaces names or scratch, which one or more `exec` ops fill. Kernels
// that take strides write their result in the order in which it will be read.
#ifndef GALVATRON_CONVERSION_DISTTOEXEC_BODYLOWERING_H
#define GALVATRON_CONVERSION_DISTTOEXEC_BODYLOWERING_H

#include "DocumentMasks.h"
#include "ResultPlaces.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Exec/Exec.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Kernels/DeviceTraits.h"
#include "galvatron/Kernels/ElementwiseOps.h"
#include "galvatron/Kernels/FusionRule.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"

namespace galvatron {

/// The groups of one module that collectives name by index.
class GroupTable {
public:
  int64_t indexOf(llvm::ArrayRef<int64_t> axes);
  mlir::ArrayAttr getAttribute(mlir::Builder &builder) const;

private:
  llvm::SmallVector<llvm::SmallVector<int64_t>> groups;
};

/// The constants of a call, by name.
using Constants = llvm::SmallVector<exec::CallConstant>;

class BodyLowering {
public:
  /// `numAccumulated`, `numSaved`: how many of the last results are gradients of parameters, and how many before them
  /// values for a later body (ResultPlaces). `argumentStrides`: of each argument, empty where row-major; such values
  /// lie as the earlier body left them. `groups`: collects those of the module's collectives. `lacking`: functions to
  /// take for missing, whatever the device's library defines.
  BodyLowering(dist::BodyOp body, unsigned numAccumulated, unsigned numSaved, llvm::ArrayRef<Strides> argumentStrides,
               GroupTable &groups, const DeviceTraits &device, llvm::ArrayRef<std::string> lacking);

  /// Creates the function before the body, or reports what cannot be lowered.
  mlir::FailureOr<exec::FunctionOp> run();

  /// Layout of each of the body's results, after `run`.
  llvm::ArrayRef<Strides> getResultStrides() const { return resultStrides; }
  /// Generated kernels that became part of another.
  unsigned getNumFused() const { return numFused; }

  // What the lowering of single ops uses.
  mlir::OpBuilder &getBuilder() { return builder; }
  GroupTable &getGroups() { return groups; }
  const DeviceTraits &getDevice() const { return device; }
  /// Of attention whose kernel reads documents; else null.
  const DocumentMask *findDocuments(mlir::Operation *attention) const {
    auto found = documentMasks.find(attention);
    return found == documentMasks.end() ? nullptr : &found->second;
  }
  /// Code of a value's element type (runtime/api/ElementType.h) as this device's kernels see it.
  int64_t kernelType(mlir::Value value) const;
  /// The buffer of a value, whatever its layout.
  mlir::Value bufferOf(mlir::Value value);
  /// The same with row-major layout, copied if need be.
  mlir::Value rowMajorBufferOf(mlir::Value value);
  /// The same with stride 1 in the last dimension.
  mlir::Value bufferWithUnitStride(mlir::Value value);
  /// A place for a result: its destination if it is one of the body's results, else scratch. With
  /// `order`, dimensions lie in that order, major first (ignored if it must be row-major).
  mlir::Value createResult(mlir::Value value, llvm::ArrayRef<int64_t> order = {});
  /// The strides of what `createResult` without an order makes.
  Strides resultStridesOf(mlir::Value value);
  /// The order of dimensions in which a value's readers want it: that of the transpose that reads it.
  llvm::SmallVector<int64_t> preferredOrder(mlir::Value value);
  /// Whether the result goes straight into a gradient that the kernel must add to.
  bool isAccumulated(mlir::Value value) { return !places->getParameters(value).empty(); }
  /// The same where the kernel's constant `accumulate` says whether it adds: the `entry` of its call, or null.
  mlir::DictionaryAttr accumulateByEntry(mlir::Value value);
  mlir::Value createScratch(mlir::MemRefType type, mlir::Location loc) { return buffers.createScratch(type, loc); }
  const ResultPlaces &getPlaces() { return *places; }
  void setBuffer(mlir::Value value, mlir::Value buffer) { bufferOfValue[value] = buffer; }
  void call(mlir::Location loc, llvm::StringRef function, mlir::ValueRange buffers,
            llvm::ArrayRef<exec::CallConstant> constants, llvm::ArrayRef<int64_t> present = {},
            mlir::DictionaryAttr entry = {});
  /// The same after everything else: what it writes, nobody reads before.
  void callAtEnd(mlir::Location loc, llvm::StringRef function, mlir::ValueRange buffers,
                 llvm::ArrayRef<exec::CallConstant> constants, mlir::DictionaryAttr entry = {});
  /// The same for a function of which every buffer from the `firstOutput`-th given one on is written. Where the
  /// device's kernels take no 16 bits, such buffers are converted before and after, through scratch of the same
  /// layout.
  void callKernel(mlir::Location loc, llvm::StringRef function, mlir::ValueRange buffers, unsigned firstOutput,
                  llvm::ArrayRef<exec::CallConstant> constants, llvm::ArrayRef<int64_t> present = {},
                  mlir::DictionaryAttr entry = {});
  /// y = x between f32 and bf16 or f16, element by element.
  void convert(mlir::Location loc, mlir::Value from, mlir::Value to);
  mlir::Value copyByKernel(mlir::Location loc, mlir::Value buffer);
  /// y = x, element by element.
  void copy(mlir::Location loc, mlir::Value from, mlir::Value to);
  mlir::Value view(mlir::Location loc, mlir::Value base, int64_t elementOffset, llvm::ArrayRef<int64_t> shape,
                   llvm::ArrayRef<int64_t> strides) {
    return buffers.view(loc, base, elementOffset, shape, strides);
  }

private:
  mlir::LogicalResult lower(mlir::Operation *op);
  /// Reports the first call since `last` of a function that the device lacks; a stage would not link.
  mlir::LogicalResult checkCalls(mlir::Operation *op, mlir::Operation *last);
  /// Copies or adds what is not computed where it belongs, and ends with the calls of `callAtEnd`.
  void finishResults();

  dist::BodyOp body;
  unsigned numAccumulated, numSaved;
  llvm::ArrayRef<Strides> argumentStrides;
  GroupTable &groups;
  const DeviceTraits &device;
  llvm::ArrayRef<std::string> lacking;
  mlir::OpBuilder builder;
  exec::FunctionOp function; ///< Under construction, as are all below.
  BufferBuilder buffers;
  std::optional<ResultPlaces> places;
  llvm::DenseMap<mlir::Operation *, DocumentMask> documentMasks;
  /// Of every argument and of every result of an op lowered so far; inlined ones have none.
  llvm::DenseMap<mlir::Value, mlir::Value> bufferOfValue;
  /// Parameters whose gradients are written or added to, as the entry says; all others can only be added to.
  llvm::DenseSet<unsigned> written;
  llvm::SmallVector<Strides> resultStrides;
  llvm::SmallVector<exec::CallOp> lastCalls; ///< Of `callAtEnd`.
  unsigned numFused = 0;
};

/// Whether an op has a runtime function or a view; lowers it if so (success), fails with a message
/// if its form has none. `handled` false: not a kernel.
mlir::LogicalResult lowerKernel(BodyLowering &lowering, mlir::Operation *op, bool &handled);
mlir::LogicalResult lowerView(BodyLowering &lowering, mlir::Operation *op, bool &handled);
mlir::LogicalResult lowerCollective(BodyLowering &lowering, mlir::Operation *op, bool &handled);

mlir::LogicalResult lowerProduct(BodyLowering &lowering, graph::EinsumOp op);
/// A product to which a bias or another tensor is added, in one call where there is a function for it.
mlir::LogicalResult lowerProductSum(BodyLowering &lowering, mlir::Operation *op, bool &handled);

/// Generates the loops of an elementwise op whose results are stored.
mlir::LogicalResult lowerElementwise(BodyLowering &lowering, mlir::Operation *op);

/// Whether a norm, or the gradient of its input, is generated rather than called; generates its loops.
bool isGeneratedNorm(mlir::Operation *op);
mlir::LogicalResult lowerGeneratedNorm(BodyLowering &lowering, mlir::Operation *op);
/// Whether a gradient that sums over rows is made where its terms are.
bool isGeneratedColumnSum(BodyLowering &lowering, mlir::Operation *op);
mlir::LogicalResult lowerGeneratedColumnSum(BodyLowering &lowering, mlir::Operation *op);

/// Fuses generated kernels that share what they read, or of which one reads what another writes, in a function whose
/// first `numInputs` arguments nothing writes and whose scratch is not placed yet (every buffer there is memory of its
/// own). Returns how many kernels are gone.
unsigned fuseLoops(exec::FunctionOp function, unsigned numInputs);

/// Gives every scratch buffer of a function an offset such that buffers in use at the same time do
/// not overlap; sets `exec.scratch_bytes`.
void planScratch(exec::FunctionOp function);

/// `dist.position` (or none: everything local) as a position map of Functions.def, of `dims` of the placement.
llvm::SmallVector<int64_t> positionMap(mlir::Operation *op, llvm::ArrayRef<int64_t> shape,
                                       llvm::ArrayRef<int64_t> dims);
/// The same of a placement (null: everything local); `turn`, for each mesh axis how much less the coordinate is whose
/// device the value comes from, or empty.
llvm::SmallVector<int64_t> positionMap(dist::PlacementAttr placement, llvm::ArrayRef<int64_t> turn,
                                       llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> dims);

} // namespace galvatron

#endif
