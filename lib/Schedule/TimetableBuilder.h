// Expands a stage into entries: the state that five files share: TimetableContents.cpp (what there is), Timetable.cpp
// (calls), TimetableTransfers.cpp (sends and receives), TimetableGradients.cpp (where gradients of parameters lie, when
// they are written and reduced), TimetableShards.cpp (states that ranks share). Internal to lib/Schedule.
#ifndef GALVATRON_SCHEDULE_TIMETABLEBUILDER_H
#define GALVATRON_SCHEDULE_TIMETABLEBUILDER_H

#include "dialects/Graph/GraphStructure.h"
#include "dialects/Graph/Precision.h"
#include "galvatron/Schedule/Timetable.h"

#include "dialects/Exec/Exec.h"
#include "dialects/Plan/Plan.h"

#include "mlir/IR/SymbolTable.h"

#include <map>

namespace galvatron {

int64_t bytesOf(mlir::Type type);
/// The tensor that one device holds.
mlir::RankedTensorType localType(mlir::Value value);
/// Mesh axes on which a value is partial. Not time: sums over micro-batches add up in place.
std::vector<int64_t> partialAxesOf(dist::PlacementAttr placement);

/// One call of a layer in a stage.
struct Call {
  graph::CallOp op;
  dist::LayerOp layer;
  exec::FunctionOp forward, backward; // backward: null where nothing is differentiated
  exec::FunctionOp weights;           // null where the backward leaves all gradients
  int64_t layerIndex = -1;            // of the whole model's layers; -1: a redistribution
  llvm::SmallVector<int> parameters;  // indices into Timetable::parameters
  /// Indices of those that have a gradient here, of those whose gradient the backward leaves, and the weights.
  llvm::SmallVector<unsigned> trained, trainedInBackward, trainedInWeights;
  exec::FunctionOp functionOf(dist::Computation computation) {
    return computation == dist::Computation::Forward    ? forward
           : computation == dist::Computation::Backward ? backward
                                                        : weights;
  }
  /// Where arguments stand in functions other than forward: of parameters the first, then saved values, kept ones.
  size_t firstParameter();
  size_t firstSaved() { return firstParameter() + parameters.size(); }
  /// The type in which the layer reads a parameter.
  mlir::ShapedType parameterType(unsigned index) {
    return llvm::cast<mlir::ShapedType>(forward.getArgumentTypes()[op.getInputs().size() + index]);
  }
  /// Whether it reads a copy of 16 bits, not the master.
  bool readsCopy(unsigned index) { return graph::isHalf(parameterType(index).getElementType()); }
};

/// A body of a call.
struct Use {
  Call *call = nullptr; // null: the step is over
  dist::Computation computation = dist::Computation::Forward;
};

/// The body after which gradients are complete: a call, and which of its bodies. Null: none in this stage leaves any.
struct Completion {
  mlir::Operation *call = nullptr;
  dist::Computation computation = dist::Computation::Backward;
  auto operator<=>(const Completion &) const = default;
};

class TimetableBuilder {
public:
  TimetableBuilder(mlir::ModuleOp module, dist::StageOp stage)
      : module(module), stage(stage), symbols(module),
        pipeline(module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName)) {}

  mlir::FailureOr<Timetable> run();
  /// The forwards alone of a stage whose timetable is there, by another builder than that one's.
  mlir::FailureOr<Timetable> runEvaluation(const Timetable &training);

private:
  //===--- What there is -------------------------------------------------===//

  mlir::LogicalResult readOrder();
  void keepForwards();
  mlir::LogicalResult collect();
  /// Notes for each group how its ranks exchange pieces in `body`.
  void noteExchanges(exec::FunctionOp body);
  mlir::LogicalResult collectCall(graph::CallOp op);
  mlir::LogicalResult addParameters(Call &call);
  /// What all stages' calls say of the parameters: who holds them, whether they are trained.
  mlir::LogicalResult collectHolders();
  /// Which body is the last of a step to add to the gradient of each parameter.
  void collectCompletions();
  mlir::FailureOr<std::vector<std::pair<unsigned, unsigned>>> collectAdjacent();
  mlir::LogicalResult addParameterBuffers();
  void addToGradientRegion(int buffer);
  /// Groups that only other stages' collectives join need no communicator here.
  void forgetUnusedGroups();
  int groupIndex(RankGroup group);

  //===--- Memory and entries --------------------------------------------===//

  int addBuffer(std::string name, int64_t bytes, bool persistent = false);
  /// Appends an entry; the buffers that it touches live until it at least.
  void addEntry(Action action, std::string name, int64_t microBatch = -1, int64_t layerIndex = -1);
  /// "forward model.layers.0 micro-batch 1".
  static std::string label(llvm::StringRef what, llvm::StringRef path, int64_t microBatch) {
    return (what + " " + path + " micro-batch " + llvm::Twine(microBatch)).str();
  }
  int valueBuffer(mlir::Value value, int64_t microBatch);
  BufferReference inputReference(mlir::Value value, int64_t microBatch);
  BufferReference parameterReference(Call &call, unsigned index);
  /// Where the values lie that a call saves for its backward, or that its backward keeps for its weights. Those that
  /// the weights read live longer and lie apart.
  std::vector<BufferReference> savedReferences(Call &call, int64_t microBatch);
  std::vector<BufferReference> keptReferences(Call &call, int64_t microBatch);
  BufferReference addScratch(exec::FunctionOp function);

  //===--- Calls ---------------------------------------------------------===//

  void begin();
  /// Zeroes gradients that no backward of this stage writes.
  void zeroUnwritten();
  /// Zeroes the sums of the loss' terms.
  void beginLosses();
  /// Adds up a total over micro-batches and devices, before all else.
  mlir::LogicalResult addTotal(graph::TotalOp total);
  /// `index`: of the instruction in the order.
  void forward(size_t index);
  /// `isLast`: gradients of parameters are complete afterwards.
  mlir::LogicalResult backward(size_t index, bool isLast);
  /// Gradients of weights that the backward has put off.
  mlir::LogicalResult weights(size_t index, bool isLast);
  /// The backward of a forward's op other than a call.
  mlir::LogicalResult backwardOp(mlir::Operation &op, int64_t microBatch);
  /// `next`: what runs after it.
  void callForward(Call &call, int64_t microBatch, const Use &next);
  mlir::LogicalResult callBackward(Call &call, int64_t microBatch, const Use &next);
  mlir::LogicalResult callWeights(Call &call, int64_t microBatch, const Use &next);
  /// Appends what both read after gradients of outputs; what the body does not read is not kept alive for it.
  void addForwardReads(Compute &compute, Call &call, exec::FunctionOp function, int64_t microBatch);
  void addParameterGradients(Compute &compute, Call &call, llvm::ArrayRef<unsigned> trained, int64_t microBatch);
  /// The gradients that a call's backward takes, in order.
  mlir::FailureOr<std::vector<BufferReference>> outputGradients(Call &call, int64_t microBatch);
  /// sum += addend, of gradients of `value`.
  void accumulate(std::string name, mlir::Value value, int addend, int sum, int64_t microBatch, int64_t layerIndex);

  //===--- Transfers -----------------------------------------------------===//

  /// Which instructions find their values sent before the instruction before ends, in unit times.
  void collectEarly();
  /// In which order other stages send what this one receives.
  void collectArrivals();
  /// Starts the receives of instruction `next`, if they are to be started early.
  void receiveEarly(size_t next);
  void receiveActivation(dist::ReceiveOp receive, int64_t microBatch, bool isEarly);
  int receiveGradient(dist::SendOp send, int64_t microBatch, bool isEarly);
  /// Values are received in the order they are sent, so those that are sent before come first, whatever reads them.
  void receive(std::string name, Receive receive, int64_t microBatch, bool isEarly);
  /// `op`: whose value it is.
  void send(mlir::Operation *op, BufferReference buffer, const Channel &channel, int64_t microBatch);
  /// The other stage; where stages have several parts, also which of its own an op is in.
  std::string peerOf(mlir::Operation *op, int64_t stage);
  /// Waits for the send of this value, if it is under way.
  void waitForSend(Lane lane, int64_t value, int64_t microBatch);

  //===--- Gradients of parameters ---------------------------------------===//

  /// For each parameter of a call whose gradient a body leaves, whether that adds to the gradient or writes it, which
  /// is then written. Zeroes first what can only be added to.
  std::vector<bool> addOrWrite(Call &call, dist::Computation computation, int64_t microBatch);
  void zeroGradient(int parameter, int64_t microBatch);
  /// Where a backward of this micro-batch leaves a gradient.
  BufferReference gradientReference(int parameter, int64_t microBatch);
  /// Which gradients each call's last body completes, as buckets.
  void collectBuckets();
  /// After a body. `microBatch`: whose reductions; -1: the step's.
  void startReductions(Call &call, dist::Computation computation, int64_t microBatch);
  /// Before a reduction of a micro-batch: zeroes those of these parameters that nothing has written since the last, of
  /// which some are in the backward and some in the weights. Whether there is something to reduce.
  bool completeUnwritten(llvm::ArrayRef<int> parameters, int64_t microBatch);
  /// Ends those under way of a micro-batch, and where `ofStep` all others, too.
  void endReductions(bool ofStep);
  /// Ends whatever is still under way; then sums over stages.
  void finish();

  //===--- States that ranks share (ZeRO) --------------------------------===//

  /// `order`, `places`: of parameters, so that those that lie together are neighbours.
  void collectStateBuckets(llvm::ArrayRef<unsigned> order, llvm::ArrayRef<std::pair<unsigned, unsigned>> places);
  void addStateBuffers();
  /// Where a backward of this micro-batch leaves a gradient that is then reduced into pieces.
  BufferReference wholeGradientReference(const StageParameter &parameter, int64_t microBatch);
  /// The body that runs after this call's, in this instruction or the next.
  Use useAfter(size_t index, graph::CallOp op);
  /// Buckets that a body reads parameters of, each with whether as copies.
  std::vector<std::pair<int, bool>> bucketsOf(const Use &use);
  /// Zeroes the pieces of gradients that no backward of this stage leaves.
  void zeroUnwrittenBuckets();
  /// Starts to gather what levels 1 and 2 gather once a step.
  void gatherForStep();
  /// Sees that what a body reads is there, and starts to gather what the next one reads.
  void gatherFor(const Use &use, const Use &next, int64_t microBatch);
  void startGather(std::pair<int, bool> key, std::string name, int64_t microBatch);
  /// Gathered values of level 3 that the next body does not read need not stay.
  void forgetGathered(const Use &next);
  /// The same as `startReductions` of buckets of states.
  void scatterGradients(const Completion &completion, int64_t microBatch);

  //===--- State ---------------------------------------------------------===//

  // Given.
  mlir::ModuleOp module;
  dist::StageOp stage;
  mlir::SymbolTable symbols;
  plan::PipelineAttr pipeline;
  /// Of the stage's instructions; set by `readOrder`.
  llvm::ArrayRef<dist::Instruction> order;
  std::vector<dist::Instruction> forwards; // what `order` is in evaluation
  /// By chunk, in the order of a forward: calls, receives, sends, losses.
  using Part = llvm::SmallVector<mlir::Operation *>;
  std::vector<Part> parts;
  const Part &partOf(size_t index) const { return parts[order[index].chunk]; }

  /// The result so far.
  Timetable table;

  /// Ops of the stage; set by `collect` and `addTotal`.
  struct Contents {
    llvm::DenseMap<mlir::Operation *, Call> calls;
    llvm::DenseMap<mlir::Value, int> inputs;          // results of dist.input → index into Timetable::inputs
    llvm::DenseMap<mlir::Value, int> totals;          // results of graph.total → buffer
    llvm::DenseMap<mlir::Operation *, int> lossOfOps; // dist.loss → buffer that it is added to
    int lossGradient = -1;                            // buffer: 1
  } contents;

  /// Buffers of one micro-batch's values, by (value or op, micro-batch).
  using PerMicroBatch = std::map<std::pair<void *, int64_t>, int>;
  struct Places {
    PerMicroBatch values, saved, savedForWeights, kept;
    PerMicroBatch gradients;         // of a value, summed over its readers
    PerMicroBatch receivedGradients; // by dist.send, before they are summed
  } places;

  /// Started, and not waited for yet.
  struct UnderWay {
    int64_t handle;
    BufferReference buffer;
    std::string name;
  };
  void addWait(const UnderWay &started);
  /// Gradients that are being reduced after a micro-batch, or after the step.
  struct Reduction {
    UnderWay started;
    BufferReference addend, sum; // to be added up once it has ended; none: it is there already
    int64_t count;
    std::string path;
    int64_t microBatch; // -1: of the step
  };
  struct Pending {
    std::map<std::tuple<Lane, int64_t, int64_t>, UnderWay> sends; // by lane, value, micro-batch
    std::map<int, UnderWay> receives;                             // by buffer
    std::vector<Reduction> reductions;                            // in the order of their starts
    int64_t numHandles = 0;
  } pending;

  /// What one other stage sends here, in its order, and how much of it is received or being received.
  struct Arrivals {
    using Value = std::tuple<Lane, int64_t, int64_t>; // tag, micro-batch
    std::vector<Value> order;
    size_t next = 0;
  };
  std::map<int64_t, Arrivals> arrivals; // by stage; set by `collectArrivals`

  /// When to receive; set by `collectEarly`.
  struct Early {
    std::vector<bool> instructions;
    /// Calls before which a forward, backward or weights of each part starts the receives of the next instruction;
    /// null: it does not.
    std::vector<mlir::Operation *> beforeForward, beforeBackward, beforeWeights;
  } early;

  /// Gradients that lie together, are partial on the same axes and are complete together: reduced at once.
  struct Bucket {
    int buffer; // the first
    int64_t bytes = 0;
    std::vector<int64_t> axes;
    Completion completedBy = {};
    bool reducesEveryMicroBatch = false;
    std::map<int, int64_t> offsets = {}; // of parameters, in bytes
    /// Reduced where they lie in this step, so that the next micro-batch's are left elsewhere: in this buffer, or -1.
    bool isReduced = false;
    int apart = -1;
  };
  struct Gradients {
    std::vector<Bucket> buckets;
    std::vector<int> bucketOf;           // by parameter: index into `buckets`, or -1
    std::vector<Completion> completedBy; // by parameter: the last body that adds to it
    std::vector<bool> written;           // by parameter: in this step, or since it was reduced
  } gradients;

  /// What is there whole, from its gather on.
  struct Gathered {
    int64_t handle;
    BufferReference buffer;
    std::string name;
    bool isWaitedFor = false;
  };
  struct Shards {
    std::vector<Completion> completedBy;               // by bucket: the last body to add to its gradients
    std::map<std::pair<int, bool>, Gathered> gathered; // by bucket, whether as copies
    std::vector<int> whole;    // by bucket: buffer of its gradients before they are reduced, or -1
    std::vector<bool> reduced; // by bucket: in this step
  } shards;

  /// Of each part the micro-batch of the last forward, whose activation, and of the last backward, whose gradient may
  /// still be under way.
  std::vector<int64_t> lastForward, lastBackward;
};

} // namespace galvatron

#endif // GALVATRON_SCHEDULE_TIMETABLEBUILDER_H
