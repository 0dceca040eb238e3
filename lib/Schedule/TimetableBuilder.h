// Expands a stage into entries: the state that Timetable.cpp (what there is, calls, transfers) and
// TimetableGradients.cpp (where gradients lie, when they are written and reduced) share. Internal to lib/Schedule.
#ifndef GALVATRON_SCHEDULE_TIMETABLEBUILDER_H
#define GALVATRON_SCHEDULE_TIMETABLEBUILDER_H

#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Schedule/Timetable.h"

#include "dialects/Exec/Exec.h"
#include "dialects/Plan/Plan.h"

#include "mlir/IR/SymbolTable.h"

#include <map>

namespace galvatron {

/// Every slot begins on a cache line.
inline constexpr int64_t kSlotAlignment = 64;
/// Tags of gradients, beside those of activations.
inline constexpr int64_t kGradientTag = 1 << 20;
/// The handle of what is done where it starts.
inline constexpr int64_t kAtOnce = -1;
/// A collective's kind of reduction.
inline constexpr int64_t kSum = 0;

int64_t bytesOf(mlir::Type type);
/// The tensor that one device holds.
mlir::RankedTensorType localType(mlir::Value value);

/// One call of a layer in a stage.
struct Call {
  graph::CallOp op;
  dist::LayerOp layer;
  exec::FunctionOp forward, backward;
  int64_t unit = -1;
  llvm::SmallVector<int> parameters; // indices into Timetable::parameters
  /// Positions of those that have a gradient here.
  llvm::SmallVector<unsigned> trained;
  /// The type in which the layer reads a parameter.
  mlir::ShapedType parameterType(unsigned position) {
    return llvm::cast<mlir::ShapedType>(forward.getArgumentTypes()[op.getInputs().size() + position]);
  }
};

/// What is under way until its wait.
struct Transfer {
  int64_t handle;
  SlotReference value;
  std::string name;
};

/// One item of a stage's order.
struct StageItem {
  bool isForward;
  int64_t microBatch;
};

/// Gradients that lie together, are partial on the same axes and are complete together.
struct Message {
  int slot; // the first
  int64_t bytes;
  std::vector<int64_t> axes;
};

class TimetableBuilder {
public:
  TimetableBuilder(mlir::ModuleOp module, dist::StageOp stage)
      : module(module), stage(stage), symbols(module),
        pipeline(module->getAttrOfType<plan::PipelineAttr>("plan.pipeline")) {}

  mlir::FailureOr<Timetable> run();

private:
  mlir::LogicalResult collect();
  mlir::LogicalResult collectCall(graph::CallOp op);
  mlir::LogicalResult addParameters(Call &call);
  /// What all stages' calls say of the parameters: who holds them, whether they are trained.
  void collectHolders();
  mlir::FailureOr<std::vector<std::pair<unsigned, unsigned>>> collectAdjacent();
  mlir::LogicalResult addParameterSlots();
  int addSlot(std::string name, int64_t bytes, bool persistent = false);
  TimetableEntry &addEntry(std::string function, std::string name, int64_t microBatch = -1, int64_t unit = -1);
  void use(TimetableEntry &entry, SlotReference reference);
  void useResult(TimetableEntry &entry, SlotReference reference, mlir::Type type);
  int valueSlot(mlir::Value value, int64_t microBatch);
  SlotReference inputReference(mlir::Value value, int64_t microBatch);
  SlotReference parameterReference(Call &call, unsigned position);
  /// sum += contribution, of gradients of `value`.
  void accumulate(std::string name, mlir::Value value, int contribution, int sum, int64_t microBatch, int64_t unit);
  int savedSlot(Call &call, int64_t microBatch);
  int64_t savedBytes(Call &call);
  /// Items of the stage's order whose values are sent, by unit times, before the item before ends.
  mlir::LogicalResult collectEarly();
  /// Starts the receives of item `next`, if they are to be started early.
  void receiveEarly(size_t next);
  void receiveActivation(dist::ReceiveOp receive, int64_t microBatch, bool isEarly);
  int receiveGradient(dist::SendOp send, int64_t microBatch, bool isEarly);
  void receive(std::string name, int slot, int64_t fromStage, int64_t tag, int64_t bytes, int64_t microBatch,
               bool isEarly);
  void begin();
  /// Adds up a total over micro-batches and devices, before all else.
  mlir::LogicalResult addTotal(graph::TotalOp total);
  /// `item`: its index in the order.
  void forward(size_t item);
  /// `isLast`: gradients of parameters are complete afterwards.
  mlir::LogicalResult backward(size_t item, bool isLast);
  void callForward(Call &call, int64_t microBatch);
  mlir::LogicalResult callBackward(Call &call, int64_t microBatch);
  void send(SlotReference value, int64_t bytes, int64_t toStage, int64_t tag, int64_t microBatch, llvm::StringRef what);
  void waitFor(llvm::StringRef key);
  void addWait(const Transfer &transfer);
  /// For each parameter of a call with a gradient, whether its backward adds to the gradient (1) or writes it (0),
  /// which is then written. Zeroes first what can only be added to.
  std::vector<int64_t> addOrWrite(Call &call, int64_t microBatch);
  void zeroGradient(int parameter, int64_t microBatch);
  /// Which gradients each call's last backward completes, as messages.
  void collectMessages();
  void startReductions(Call &call);
  void finishReductions();
  int groupIndex(RankGroup group);
  /// Groups that only other stages' collectives join need no communicator here.
  void forgetUnusedGroups();
  std::string label(llvm::StringRef what, llvm::StringRef path, int64_t microBatch) {
    return (what + " " + path + (microBatch < 0 ? llvm::Twine("") : " micro-batch " + llvm::Twine(microBatch))).str();
  }

  mlir::ModuleOp module;
  dist::StageOp stage;
  mlir::SymbolTable symbols;
  plan::PipelineAttr pipeline;
  Timetable table;
  llvm::DenseMap<mlir::Operation *, Call> calls;
  llvm::DenseMap<mlir::Value, int> inputs; // results of dist.input → index into Timetable::inputs
  llvm::DenseMap<mlir::Value, int> totals; // results of graph.total → slot
  std::map<std::pair<void *, int64_t>, int> valueSlots, savedSlots, gradientSlots;
  std::map<std::string, Transfer> transfers;             // sends under way, by what they carry
  std::map<int, Transfer> received;                      // receives under way, by slot
  std::map<std::pair<void *, int64_t>, int> gradientsIn; // slots of gradients from other stages, by send
  std::vector<StageItem> order;
  std::vector<bool> isEarly; // by item
  /// The last calls of a forward and of a backward.
  mlir::Operation *lastForward = nullptr, *lastBackwardCall = nullptr;
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<Message>> messages; // by the call that completes them
  llvm::SmallVector<Transfer> reductions;                                 // under way, in the order of their starts
  std::vector<mlir::Operation *> completedBy; // the last call that adds to each parameter's gradient, or null
  std::vector<bool> written;                  // gradients, in this step
  int64_t numHandles = 0;
  int oneSlot = -1;
  llvm::DenseMap<mlir::Operation *, int> lossSlots; // by dist.loss
  /// Micro-batch of the last backward, whose gradient may still be under way.
  int64_t lastBackward = -1;
};

} // namespace galvatron

#endif // GALVATRON_SCHEDULE_TIMETABLEBUILDER_H
