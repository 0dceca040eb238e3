// The proof of one stage's timetable, entry by entry: the state that these files share: VerifyTimetableProgram.cpp
// (what the program says), VerifyTimetableEntries.cpp (what entries read and write), VerifyTimetableSums.cpp (gradients
// of parameters, the loss, sums over the batch), VerifyTimetableShards.cpp (states that ranks share),
// VerifyTimetableWords.cpp (their names). Internal to lib/Schedule. It must not use TimetableBuilder.h: what it expects
// follows from the program alone.
#ifndef GALVATRON_SCHEDULE_STAGEPROVER_H
#define GALVATRON_SCHEDULE_STAGEPROVER_H

#include "ByteMap.h"
#include "galvatron/Schedule/VerifyTimetable.h"

#include "dialects/Exec/Exec.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"

#include "mlir/IR/SymbolTable.h"

#include <deque>
#include <set>

namespace galvatron {

/// A value on its way between two stages.
struct ProvedTransfer {
  Lane lane;
  int64_t value, microBatch, bytes;
  std::string name; // of the entry
  auto key() const { return std::tuple(lane, value, microBatch, bytes); }
};

/// A parameter of the model, as the program's calls and layers have it.
struct ModelParameter {
  std::vector<int64_t> stages; // that hold it, ascending
  bool isTrained = false;
  dist::PlacementAttr home;
  /// ZeRO's, as its layers' strategies say.
  int64_t zero = 0;
  /// Mesh axes on which gradients are partial as bodies leave them, ascending.
  std::vector<int64_t> partialAxes;
  /// A part of the gradient may be reduced before the rest is there.
  bool reducesEveryMicroBatch = false;
  void add(const plan::StrategyValues &strategy) {
    zero = std::max(zero, strategy.zero);
    reducesEveryMicroBatch |= plan::reducesEveryMicroBatch(strategy);
  }
  /// Ranks that differ on these axes have equal parameters, so that they can share its states.
  bool isShared() const { return zero && isTrained && !partialAxes.empty(); }
};

/// What the provers of all stages know alike.
struct ProvedModel {
  mlir::ModuleOp module;
  mlir::SymbolTable symbols;
  int64_t microBatches;
  std::map<std::string, ModelParameter, std::less<>> parameters;
  llvm::SmallVector<int64_t> mesh; // of a stage
};

/// Mesh axes on which a value is partial; time is none.
std::vector<int64_t> meshAxesOf(dist::PlacementAttr partial);

/// "mesh axes 0, 2", "stage 1".
std::string axesText(llvm::ArrayRef<int64_t> axes);
std::string stagesText(llvm::ArrayRef<int64_t> stages);

/// Reports what is wrong, with what to do about it.
mlir::LogicalResult reportUnproved(mlir::ModuleOp module, const llvm::Twine &message);

/// Of stages that receive what the others send, that they end together (VerifyTimetableProgress.cpp).
mlir::LogicalResult verifyProgress(const ProvedModel &model, llvm::ArrayRef<Timetable> timetables);

class StageProver {
public:
  StageProver(const ProvedModel &model, dist::StageOp stage, const Timetable &timetable, TimetableProof &proof)
      : model(model), stage(stage), table(timetable), symbols(model.symbols), microBatches(model.microBatches),
        proof(proof) {}

  mlir::LogicalResult run();

  /// In the order of their entries, by the other stage; known after `run`.
  std::map<int64_t, std::vector<ProvedTransfer>> sent, received;

private:
  /// One term of a sum: an operand of the stage (OpOperand, or Use of a parameter), and the micro-batch.
  using Term = std::pair<const void *, int64_t>;
  using Terms = std::set<Term>;

  struct Call {
    graph::CallOp op;
    dist::LayerOp layer;
    exec::FunctionOp forward, backward, weights;    // weights: null where backward leaves all gradients
    std::vector<int> parameters;                    // indices into Timetable::parameters
    std::vector<unsigned> trained;                  // indices of those that leave a gradient
    std::vector<const void *> uses;                 // by which that is known, one for each of those
    std::map<Compute::Kind, std::vector<bool>> ran; // by body and micro-batch
    /// Indices into `trained` of those whose gradient a body leaves.
    llvm::SmallVector<size_t> trainedBy(bool inWeights) {
      llvm::SmallVector<size_t> indices;
      for (auto [number, index] : llvm::enumerate(trained))
        if (layer.isPutOff(index) == inWeights)
          indices.push_back(number);
      return indices;
    }
  };

  /// What is added up in one place.
  struct Sum {
    enum class Kind { ValueGradient, ParameterGradient, GradientPiece, Loss, Total } kind;
    const void *of = nullptr; // the value, or the `graph.total`
    int64_t index = -1;       // of the parameter, of the bucket whose piece it is, or of the loss
    int64_t microBatch = -1;
    Terms terms = {};
    bool isReducedOverAxes = false, isReducedOverStages = false;
  };

  struct Held {
    Bytes bytes;
    bool writes;
  };

  /// What is under way.
  struct UnderWay {
    const TimetableEntry *start;
    llvm::SmallVector<Held, 2> held;
    BufferReference buffer; // that the wait names
  };

  //===--- What the program says (VerifyTimetableProgram.cpp) ------------===//

  mlir::LogicalResult collect();
  mlir::LogicalResult collectCall(graph::CallOp op);
  mlir::LogicalResult collectParameters(Call &call);
  mlir::LogicalResult collectParameter(Call &call, size_t index, llvm::StringRef name);
  /// What a body reads or writes as one lies together.
  mlir::LogicalResult checkAdjacent(Call &call);
  /// The same of the gradients that a body leaves, wherever it does: one each for `trained`, indices of parameters.
  mlir::LogicalResult checkAdjacentGradients(const Call &call, llvm::ArrayRef<unsigned> trained,
                                             llvm::ArrayRef<BufferReference> gradients);
  mlir::LogicalResult layOutState();
  mlir::LogicalResult layOut(int buffer, int64_t bytes, const Content &content);
  /// The data of the step, in the order of their ops.
  mlir::LogicalResult layOutInputs();

  //===--- Entries (VerifyTimetableEntries.cpp) --------------------------===//

  mlir::LogicalResult visit(const Compute &compute);
  mlir::LogicalResult visit(const FillZero &fill);
  mlir::LogicalResult visit(const StartBackward &start);
  mlir::LogicalResult visit(const Accumulate &sum);
  mlir::LogicalResult visit(const AllReduce &reduce);
  mlir::LogicalResult visit(const ReduceScatter &scatter);
  mlir::LogicalResult visit(const AllGather &gather);
  mlir::LogicalResult visit(const Send &send);
  mlir::LogicalResult visit(const Receive &receive);
  mlir::LogicalResult visit(const Wait &wait);

  /// The call that a body's entry runs for its micro-batch, and notes that it has run; null after an error.
  Call *findCall(const Compute &compute);
  mlir::LogicalResult runForward(const Compute &compute, Call &call);
  mlir::LogicalResult runBackward(const Compute &compute, Call &call);
  mlir::LogicalResult runWeights(const Compute &compute, Call &call);
  /// What a body other than forward reads: gradients of outputs, inputs, parameters, saved values, then `numKept`
  /// values of the backward before.
  mlir::LogicalResult readBackward(const Compute &compute, Call &call, exec::FunctionOp function, size_t numKept);
  /// The gradients of parameters that it leaves, its last results.
  mlir::LogicalResult writeGradients(const Compute &compute, Call &call, exec::FunctionOp function, bool inWeights);
  graph::TotalOp findTotal(const Compute &compute);
  mlir::LogicalResult runTotal(const Compute &compute);
  /// That an entry gives a body as many buffers as it has arguments, and writes nothing over what it reads.
  mlir::LogicalResult checkArguments(const Compute &compute, exec::FunctionOp function, size_t reads);
  mlir::LogicalResult writeScratch(const Compute &compute, exec::FunctionOp function);
  /// `microBatch`'s value, where bodies find it.
  mlir::LogicalResult readValue(BufferReference reference, int64_t bytes, mlir::Value value);
  mlir::LogicalResult readParameter(BufferReference reference, mlir::Type type, int parameter);
  mlir::LogicalResult readGradient(BufferReference reference, int64_t bytes, mlir::Value value);
  mlir::LogicalResult read(BufferReference reference, int64_t bytes, const Content &expected);
  mlir::LogicalResult write(BufferReference reference, int64_t bytes, const Content &content);
  mlir::LogicalResult start(int64_t handle, BufferReference reference, llvm::ArrayRef<Held> held);
  /// The bytes that an entry touches: within the buffer, not under way, and no state where it writes.
  mlir::FailureOr<Bytes> touch(BufferReference reference, int64_t bytes, bool writes);
  /// The same, of whatever the bytes are.
  mlir::FailureOr<Bytes> reach(BufferReference reference, int64_t bytes, bool writes);
  mlir::LogicalResult checkNoState(BufferReference reference, Bytes bytes);
  /// The same of buffers that lie together, from `reference` on.
  mlir::FailureOr<Bytes> touchTogether(BufferReference reference, int64_t bytes);
  mlir::LogicalResult checkLeftAlone(BufferReference reference, Bytes bytes, bool writes);
  mlir::LogicalResult finish();

  //===--- Sums (VerifyTimetableSums.cpp) --------------------------------===//

  mlir::LogicalResult addParameterGradient(BufferReference reference, int64_t bytes, Call &call, size_t trained,
                                           bool adds, bool canWrite);
  mlir::LogicalResult addLoss(const Accumulate &accumulate, Bytes bytes, mlir::Value value);
  mlir::LogicalResult addTotal(Bytes bytes, const Content &part);
  mlir::LogicalResult addGradients(Bytes bytes, const Sum &addend);
  /// The sum that lies in these bytes, of nothing yet where they are zeroed; null: something else does.
  Sum *findSum(Bytes bytes, Sum::Kind kind, const void *of, int64_t index = -1, int64_t microBatch = -1);
  mlir::LogicalResult addTerm(Sum &sum, const Term &term, const llvm::Twine &what);
  /// The gradients in these bytes, with where they lie: at home, or apart where they are of some micro-batches.
  std::vector<std::pair<int, Bytes>> gradientsIn(Bytes bytes) const;
  bool isUnshardedGradient(const Content &content) const;
  mlir::LogicalResult reduceParameters(const AllReduce &reduce, Bytes bytes);
  mlir::LogicalResult reduceParameter(const AllReduce &reduce, int parameter, Bytes place);
  /// Whether gradients lie there that are reduced after each micro-batch.
  bool isOfMicroBatch(Bytes bytes) const;
  /// Those of a micro-batch, reduced, to those of the micro-batches before.
  mlir::LogicalResult addReduced(Bytes addend, Bytes target);
  mlir::LogicalResult reduceOverAxes(const RankGroup &group, llvm::ArrayRef<int64_t> axes, Sum &sum,
                                     const llvm::Twine &what);
  mlir::LogicalResult reduceOverStages(const RankGroup &group, int parameter, Sum &sum);
  mlir::LogicalResult readTotal(BufferReference reference, int64_t bytes, graph::TotalOp total);
  mlir::LogicalResult checkTotal(const Sum &sum);
  std::vector<int64_t> axesOf(graph::TotalOp total) const;
  mlir::LogicalResult checkTerms(const Terms &terms, const Terms &expected, const llvm::Twine &what) const;
  /// The same of what others may be in, too.
  mlir::LogicalResult checkHasTerms(const Terms &terms, const Terms &expected, const llvm::Twine &what) const;
  /// A term of each use and micro-batch.
  Terms termsOf(llvm::ArrayRef<const void *> uses) const;
  mlir::LogicalResult finishParameter(int parameter);
  mlir::LogicalResult finishLosses();
  mlir::LogicalResult finishTotals();

  Content newSum(Sum sum);

  //===--- States that ranks share (VerifyTimetableShards.cpp) -----------===//

  /// That what is shared is what the program says, and that each element of it is in one piece.
  mlir::LogicalResult checkShared(const StageParameter &parameter);
  mlir::LogicalResult checkPieces(const StateBucket &bucket);
  mlir::LogicalResult layOutBuckets();
  /// Those that are in a bucket, in the order of its list.
  llvm::SmallVector<int> parametersIn(int bucket) const;
  /// The bucket whose gradients of parameters begin in these bytes, or -1.
  int findScattered(Bytes bytes) const;
  /// The gradients of the whole list that lie in `from`, as one piece that is reduced.
  mlir::FailureOr<Sum> scatterSums(const ReduceScatter &scatter, int bucket, Bytes from);
  mlir::LogicalResult checkRanks(const RankGroup &group, const StateBucket &bucket);
  /// The bucket whose piece of gradients begins there or has some of these bytes, or -1.
  int findPiece(Bytes bytes) const;
  mlir::LogicalResult addPiece(Bytes bytes, const Sum &addend);
  /// Over the stages that hold what is in the bucket.
  mlir::LogicalResult reducePiece(const RankGroup &group, int bucket, Bytes bytes);
  /// Where the update finds the gradient, as a sum.
  Sum *findGradient(int parameter);

  //===--- Words (VerifyTimetableWords.cpp) ------------------------------===//

  std::string describe(const Content &content) const;
  std::string describe(const Term &term) const;
  static std::string describe(mlir::Value value);
  std::string nameOf(BufferReference reference) const { return table.buffers[reference.buffer].name; }
  std::string parameterName(int parameter) const { return table.parameters[parameter].names.front(); }
  /// "stage 1".
  std::string stageName() const { return "stage " + std::to_string(table.stage); }
  /// `"forward model.layers.3 micro-batch 1" on stage 0`.
  std::string here() const;
  std::string writerOf(const Cell *cell) const;
  mlir::LogicalResult fail(const llvm::Twine &message) const { return reportUnproved(model.module, message); }

  const TimetableEntry &entry() const { return table.entries[now]; }
  int64_t microBatch() const { return entry().microBatch; }
  Bytes placeOf(int buffer) const {
    return {table.buffers[buffer].offset, table.buffers[buffer].offset + table.buffers[buffer].bytes};
  }
  Bytes rangeOf(BufferReference reference, int64_t bytes) const {
    int64_t begin = table.buffers[reference.buffer].offset + reference.offset;
    return {begin, begin + bytes};
  }
  /// Elements of a parameter on one rank.
  static int64_t countOf(const StageParameter &parameter);
  /// Bytes of a tensor or buffer.
  static int64_t sizeOf(mlir::Type type);
  /// Bytes that one device holds of a value of the stage.
  static int64_t localSizeOf(mlir::Value value);

  const ProvedModel &model;
  dist::StageOp stage;
  const Timetable &table;
  const mlir::SymbolTable &symbols;
  int64_t microBatches;
  TimetableProof &proof;

  std::vector<Call> calls;
  std::map<std::string, std::vector<size_t>, std::less<>> callsOf; // by body: indices into `calls`
  std::map<std::string, int, std::less<>> parameterOf;             // by canonical name
  /// Operands through which the gradient of a value comes.
  llvm::DenseMap<mlir::Value, llvm::SmallVector<const void *>> gradientUses;
  /// Uses of each parameter that leave a gradient, by (call, index).
  std::vector<llvm::SmallVector<const void *>> parameterUses;
  std::deque<std::string> usePaths; // of uses of parameters, whose places they are
  std::map<const void *, std::string> useNames;
  /// Axes on which each parameter's gradient is partial as bodies leave it; empty too where none in this stage does.
  std::vector<std::vector<int64_t>> partialAxes;
  llvm::DenseMap<mlir::Value, std::pair<int, int64_t>> inputs; // buffer, bytes of a micro-batch

  size_t now = 0;
  ByteMap memory;
  ByteMap state; // parameters, copies and moments, which the update alone writes
  std::deque<Sum> sums;
  std::map<int64_t, UnderWay> underWay; // by handle
};

} // namespace galvatron

#endif // GALVATRON_SCHEDULE_STAGEPROVER_H
