// How many collectives each strategy costs a layer of the small Llama and GPT-2, and how many bytes: numbers, so that
// one more all-gather is a failed test. The published schemes (Megatron's tensor and sequence parallelism, Ulysses,
// all-gather context parallelism, ZeRO) are the measure; where a row has more or fewer, it says so before the number.
//
// Counted is one micro-batch forward and backward, and what parameters' gradients need once a step. The reduction of
// the loss, one number, is not among them, nor is `dist.shard`, which moves nothing.
#include "../Reference/Program.h"
#include "PlannedModel.h"

#include "dialects/Dist/Dist.h"
#include "galvatron/Pipelines/Phases.h"
#include "galvatron/Schedule/Timetable.h"

#include "mlir/Pass/PassManager.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;

namespace {

// test/Inputs/llama.mlir; in test/Inputs/gpt2.mlir keys are as wide as queries, and there are biases.
constexpr int64_t kBatch = 8, kSeq = 16, kHidden = 24, kQueries = 4 * 4, kKeys = 2 * 4, kFeedForward = 40, kVocab = 32;
// Bytes of whole tensors: activations [batch, seq, …] and, of float32 but for token ids, parameters.
constexpr int64_t kStream = 4 * kBatch * kSeq * kHidden; // between layers
constexpr int64_t kQuery = 4 * kBatch * kSeq * kQueries, kKey = 4 * kBatch * kSeq * kKeys;
constexpr int64_t kStatistic = 4 * kBatch * kSeq; // of the loss: one number for each token
constexpr int64_t kIds = 8 * kBatch * kSeq;
constexpr int64_t kTable = 4 * kVocab * kHidden, kNorm = 4 * kHidden, kKeyWeight = 4 * kKeys * kHidden;
constexpr int64_t kBiasedLayer = 4 * ((4 * kQueries + 2 * kFeedForward + 6) * kHidden + 3 * kQueries + kFeedForward);
constexpr int64_t kMatrices = 4 * (2 * kQueries + 2 * kKeys + 3 * kFeedForward) * kHidden; // seven of a decoder layer

/// Collectives of one kind in groups of one size.
struct Collectives {
  std::string kind;
  int64_t group; // devices
  int64_t count;
  int64_t bytes; // that each device sends in all of them together
};

// `bytes` is the sum over the `count` collectives of what a device holds before it, or after it where that is more.
// Factors as of rings and of nccl-tests.
Collectives allReduce(int64_t group, int64_t count, int64_t bytes) {
  return {"all_reduce", group, count, 2 * bytes * (group - 1) / group};
}
Collectives allGather(int64_t group, int64_t count, int64_t bytes) {
  return {"all_gather", group, count, bytes * (group - 1) / group};
}
Collectives reduceScatter(int64_t group, int64_t count, int64_t bytes) {
  return {"reduce_scatter", group, count, bytes * (group - 1) / group};
}
Collectives allToAll(int64_t group, int64_t count, int64_t bytes) {
  return {"all_to_all", group, count, bytes * (group - 1) / group};
}

Collectives permute(int64_t group, int64_t count, int64_t bytes) { return {"permute", group, count, bytes}; }

struct LayerCollectives {
  std::vector<Collectives> forward, backward, gradients;
};

struct Row {
  std::string strategy;
  int64_t devices;
  LayerCollectives embedding, decoder, head;
  std::string model = "llama.mlir";
  bool onlyDecoder = false;

  friend void PrintTo(const Row &row, std::ostream *os) { *os << row.strategy; }
};

std::vector<Row> getRows() {
  constexpr int64_t n = kNorm, x = kStream, q = kQuery, k = kKey, stat = kStatistic, ids = kIds;
  return {
      {"dp = 2",
       2,
       {{}, {}, {allReduce(2, 1, kTable)}},
       {{}, {}, {allReduce(2, 9, kMatrices + 2 * n)}},
       {{}, {}, {allReduce(2, 2, kTable + n)}}},
      {"tp = 2",
       2,
       {{allReduce(2, 1, x)}, {}, {}},
       {{allReduce(2, 2, 2 * x)}, {allReduce(2, 2, 2 * x)}, {}},
       {{allReduce(2, 3, 3 * stat)}, {allReduce(2, 1, x)}, {}}},
      // More devices than heads of keys: a weight of keys, one of values on each two of them.
      {"tp = 4",
       4,
       {{allReduce(4, 1, x)}, {}, {}},
       {{allReduce(4, 2, 2 * x)}, {allReduce(4, 2, 2 * x)}, {allReduce(2, 2, 2 * kKeyWeight / 2)}},
       {{allReduce(4, 3, 3 * stat)}, {allReduce(4, 1, x)}, {}}},
      {"tp = 2, sequence_parallel = true",
       2,
       // More than Megatron's: token ids come cut and are gathered in both directions.
       {{allGather(2, 1, ids), reduceScatter(2, 1, x)}, {allGather(2, 2, x + ids)}, {}},
       {{allGather(2, 2, 2 * x), reduceScatter(2, 2, 2 * x)},
        {allGather(2, 4, 4 * x), reduceScatter(2, 2, 2 * x)},
        {allReduce(2, 2, 2 * n)}},
       // More: labels are gathered to be shifted; of three all-reduces of a statistic two are reduce-scatters, so that
       // backward has two all-gathers (two calls more, no more bytes).
       {{allGather(2, 2, x + ids), allReduce(2, 1, stat), reduceScatter(2, 2, 2 * stat)},
        {allGather(2, 3, x + 2 * stat), reduceScatter(2, 1, x)},
        {allReduce(2, 1, n)}}},
      {"ulysses = 2",
       2,
       {{}, {}, {allReduce(2, 1, kTable)}},
       // Queries, keys and values are one exchange, their gradients too.
       {{allToAll(2, 2, (2 * q + 2 * k) / 2)},
        {allToAll(2, 2, (2 * q + 2 * k) / 2)},
        {allReduce(2, 9, kMatrices + 2 * n)}},
       // More than Ulysses': labels are gathered to be shifted.
       {{allGather(2, 1, ids)}, {}, {allReduce(2, 2, kTable + n)}}},
      // More devices than heads of keys: keys and values are exchanged as one as far as there are heads, then gathered.
      {"ulysses = 4",
       4,
       {{}, {}, {allReduce(4, 1, kTable)}},
       {{allToAll(4, 2, 2 * q / 4), allToAll(2, 1, 2 * k / 4), allGather(2, 2, 2 * k / 2)},
        {allToAll(4, 2, 2 * q / 4), allGather(2, 2, 2 * k / 2), allToAll(2, 1, 2 * k / 4),
         reduceScatter(2, 2, 2 * k / 2)},
        {allReduce(4, 9, kMatrices + 2 * n)}},
       {{allGather(4, 1, ids)}, {}, {allReduce(4, 2, kTable + n)}}},
      {"cp = 2",
       2,
       {{}, {}, {allReduce(2, 1, kTable)}},
       {{allGather(2, 2, 2 * k)},
        {allGather(2, 2, 2 * k), reduceScatter(2, 2, 2 * k)},
        {allReduce(2, 9, kMatrices + 2 * n)}},
       // More: labels, as above.
       {{allGather(2, 1, ids)}, {}, {allReduce(2, 2, kTable + n)}}},
      {"cp = 2, cp_zigzag = true",
       2,
       {{}, {}, {allReduce(2, 1, kTable)}},
       {{allGather(2, 2, 2 * k)},
        {allGather(2, 2, 2 * k), reduceScatter(2, 2, 2 * k)},
        {allReduce(2, 9, kMatrices + 2 * n)}},
       {{allGather(2, 1, ids)}, {}, {allReduce(2, 2, kTable + n)}}},
      // No more bytes than gathered: keys and values go to all others, and so come their gradients.
      {"cp = 2, cp_kind = ring, cp_zigzag = true",
       2,
       {{}, {}, {allReduce(2, 1, kTable)}},
       {{permute(2, 2, 2 * k / 2)}, {permute(2, 4, 4 * k / 2)}, {allReduce(2, 9, kMatrices + 2 * n)}},
       {{allGather(2, 1, ids)}, {}, {allReduce(2, 2, kTable + n)}}},
      {"cp = 4, cp_kind = ring",
       4,
       {{}, {}, {allReduce(4, 1, kTable)}},
       {{permute(4, 6, 6 * k / 4)}, {permute(4, 12, 12 * k / 4)}, {allReduce(4, 9, kMatrices + 2 * n)}},
       {{allGather(4, 1, ids)}, {}, {allReduce(4, 2, kTable + n)}}},
      // The union of the rows, each on its share of samples (dp), positions (cp) and heads (tp).
      {"dp = 2, cp = 2, tp = 2, sequence_parallel = true",
       8,
       {{allGather(2, 1, ids / 4), reduceScatter(2, 1, x / 4)},
        {allGather(2, 2, (x + ids) / 4)},
        {allReduce(4, 1, kTable / 2)}},
       {{allGather(2, 4, (2 * x + 2 * k) / 4), reduceScatter(2, 2, 2 * x / 4)},
        {allGather(2, 6, (4 * x + 2 * k) / 4), reduceScatter(2, 4, (2 * x + 2 * k) / 4)},
        {allReduce(4, 7, kMatrices / 2), allReduce(8, 2, 2 * n)}},
       {{allGather(2, 1, x / 4), allGather(4, 1, ids / 2), allReduce(2, 1, stat / 4),
         reduceScatter(2, 2, 2 * stat / 4)},
        {allGather(2, 3, (x + 2 * stat) / 4), reduceScatter(2, 1, x / 4)},
        {allReduce(8, 1, n), allReduce(4, 1, kTable / 2)}}},
  };
}

/// Of a decoder layer alone.
std::vector<Row> getDecoderRows() {
  constexpr int64_t n = kNorm, x = kStream, q = kQuery, k = kKey;
  constexpr int64_t layer = kMatrices + 2 * n;
  std::vector<Row> rows;
  auto add = [&](std::string model, std::string strategy, int64_t devices, LayerCollectives decoder) {
    rows.push_back({std::move(strategy), devices, {}, std::move(decoder), {}, std::move(model), /*onlyDecoder=*/true});
  };
  // What forward has gathered is kept: Megatron's 4 + 4, and half of cp's gathers.
  add("llama.mlir", "tp = 2, sequence_parallel = true, keep_gathered = true", 2,
      {{allGather(2, 2, 2 * x), reduceScatter(2, 2, 2 * x)},
       {allGather(2, 2, 2 * x), reduceScatter(2, 2, 2 * x)},
       {allReduce(2, 2, 2 * n)}});
  add("llama.mlir", "cp = 2, keep_gathered = true", 2,
      {{allGather(2, 2, 2 * k)}, {reduceScatter(2, 2, 2 * k)}, {allReduce(2, 9, layer)}});
  add("llama.mlir", "ulysses = 4, keep_gathered = true", 4,
      {{allToAll(4, 2, 2 * q / 4), allToAll(2, 1, 2 * k / 4), allGather(2, 2, 2 * k / 2)},
       {allToAll(4, 2, 2 * q / 4), allToAll(2, 1, 2 * k / 4), reduceScatter(2, 2, 2 * k / 2)},
       {allReduce(4, 9, layer)}});
  // Backward repeats forward but for the last product and its reduction, which nothing reads.
  add("llama.mlir", "tp = 2, recompute = true", 2, {{allReduce(2, 2, 2 * x)}, {allReduce(2, 3, 3 * x)}, {}});
  add("llama.mlir", "tp = 2, sequence_parallel = true, recompute = true", 2,
      {{allGather(2, 2, 2 * x), reduceScatter(2, 2, 2 * x)},
       {allGather(2, 6, 6 * x), reduceScatter(2, 3, 3 * x)},
       {allReduce(2, 2, 2 * n)}});
  // Fewer: what is gathered again for the products serves the gradients of their weights too.
  add("llama.mlir", "tp = 2, sequence_parallel = true, recompute = true, keep_gathered = true", 2,
      {{allGather(2, 2, 2 * x), reduceScatter(2, 2, 2 * x)},
       {allGather(2, 4, 4 * x), reduceScatter(2, 3, 3 * x)},
       {allReduce(2, 2, 2 * n)}});
  add("llama.mlir", "ulysses = 2, recompute = true", 2,
      {{allToAll(2, 2, (2 * q + 2 * k) / 2)}, {allToAll(2, 4, 2 * (2 * q + 2 * k) / 2)}, {allReduce(2, 9, layer)}});
  add("llama.mlir", "cp = 2, recompute = true", 2,
      {{allGather(2, 2, 2 * k)}, {allGather(2, 4, 4 * k), reduceScatter(2, 2, 2 * k)}, {allReduce(2, 9, layer)}});
  add("llama.mlir", "cp = 2, recompute = true, keep_gathered = true", 2,
      {{allGather(2, 2, 2 * k)}, {allGather(2, 2, 2 * k), reduceScatter(2, 2, 2 * k)}, {allReduce(2, 9, layer)}});

  add("gpt2.mlir", "dp = 2", 2, {{}, {}, {allReduce(2, 12, kBiasedLayer)}});
  add("gpt2.mlir", "tp = 2", 2, {{allReduce(2, 2, 2 * x)}, {allReduce(2, 2, 2 * x)}, {}});
  // Norms' weights and biases, and the biases of products that are cut along rows.
  add("gpt2.mlir", "tp = 2, sequence_parallel = true", 2,
      {{allGather(2, 2, 2 * x), reduceScatter(2, 2, 2 * x)},
       {allGather(2, 4, 4 * x), reduceScatter(2, 2, 2 * x)},
       {allReduce(2, 6, 6 * n)}});
  add("gpt2.mlir", "tp = 2, sequence_parallel = true, keep_gathered = true", 2,
      {{allGather(2, 2, 2 * x), reduceScatter(2, 2, 2 * x)},
       {allGather(2, 2, 2 * x), reduceScatter(2, 2, 2 * x)},
       {allReduce(2, 6, 6 * n)}});
  add("gpt2.mlir", "ulysses = 2", 2,
      {{allToAll(2, 2, 4 * q / 2)}, {allToAll(2, 2, 4 * q / 2)}, {allReduce(2, 12, kBiasedLayer)}});
  add("gpt2.mlir", "cp = 2", 2,
      {{allGather(2, 2, 2 * q)},
       {allGather(2, 2, 2 * q), reduceScatter(2, 2, 2 * q)},
       {allReduce(2, 12, kBiasedLayer)}});
  return rows;
}

//===----------------------------------------------------------------------===//
// What the compiler makes
//===----------------------------------------------------------------------===//

/// Lines such as "forward: 2 all_gather among 2, sending 12288 bytes", ordered, one for each kind and group.
using Report = std::vector<std::string>;

void report(const std::string &when, const std::vector<Collectives> &all, Report &lines) {
  std::map<std::pair<std::string, int64_t>, Collectives> sums;
  for (const Collectives &some : all) {
    Collectives &sum =
        sums.try_emplace({some.kind, some.group}, Collectives{some.kind, some.group, 0, 0}).first->second;
    sum.count += some.count;
    sum.bytes += some.bytes;
  }
  for (auto &[key, sum] : sums)
    lines.push_back(when + ": " + std::to_string(sum.count) + " " + sum.kind + " among " + std::to_string(sum.group) +
                    ", sending " + std::to_string(sum.bytes) + " bytes");
}

Report report(const LayerCollectives &layer) {
  Report lines;
  report("forward", layer.forward, lines);
  report("backward", layer.backward, lines);
  report("gradients", layer.gradients, lines);
  return lines;
}

int64_t getGroupSize(llvm::ArrayRef<int64_t> axes, llvm::ArrayRef<int64_t> mesh) {
  int64_t size = 1;
  for (int64_t axis : axes)
    size *= mesh[axis];
  return size;
}

std::vector<Collectives> countInBody(dist::BodyOp body, llvm::ArrayRef<int64_t> mesh) {
  std::vector<Collectives> all;
  body.walk([&](mlir::Operation *op) {
    if (!llvm::isa<dist::DistDialect>(op->getDialect()) || !op->hasAttr("axes") || llvm::isa<dist::ShardOp>(op))
      return;
    int64_t group = getGroupSize(op->getAttrOfType<mlir::DenseI64ArrayAttr>("axes").asArrayRef(), mesh);
    int64_t before = dist::getLocalBytes(op->getOperand(0).getType());
    int64_t after = dist::getLocalBytes(op->getResult(0).getType());
    int64_t moved = 0;
    for (mlir::Value value : op->getOperands())
      moved += dist::getLocalBytes(value.getType());
    if (llvm::isa<dist::AllReduceOp>(op))
      all.push_back(allReduce(group, 1, before));
    else if (llvm::isa<dist::AllGatherOp>(op))
      all.push_back(allGather(group, 1, after));
    else if (llvm::isa<dist::ReduceScatterOp>(op))
      all.push_back(reduceScatter(group, 1, before));
    else if (llvm::isa<dist::AllToAllOp, dist::CoalescedAllToAllOp>(op))
      all.push_back(allToAll(group, 1, moved));
    else if (llvm::isa<dist::PermuteOp>(op))
      all.push_back(permute(group, 1, before));
    else
      ADD_FAILURE() << "a collective of no known kind: " << op->getName().getStringRef().str();
  });
  return all;
}

/// Gradients of parameters, of float32, that the backward body leaves partial.
std::vector<Collectives> countGradients(dist::LayerOp layer, llvm::ArrayRef<int64_t> mesh) {
  std::vector<Collectives> all;
  for (auto [home, gradient] : llvm::zip(layer.getHomes().getAsRange<dist::PlacementAttr>(),
                                         layer.getGradients().getAsRange<dist::PlacementAttr>())) {
    EXPECT_EQ(gradient.withPartials({}), home) << "the one collective of a gradient is an all-reduce";
    int64_t bytes = 4;
    for (int64_t extent : gradient.getLocalShape())
      bytes *= extent;
    if (gradient.isPartial())
      all.push_back(allReduce(getGroupSize(gradient.getPartialAxes(), mesh), 1, bytes));
  }
  return all;
}

class CollectiveCountsTest : public testing::TestWithParam<Row> {};

TEST_P(CollectiveCountsTest, AreThoseOfTheTable) {
  const Row &row = GetParam();
  Program program(readInput(row.model));
  ASSERT_TRUE(program.run(kTrain));
  annotate(*program.module, {row.model, row.devices, 1, {row.strategy}});
  for (const char *pipeline : {kPlace, kCollect, kSplit})
    ASSERT_TRUE(program.run(pipeline));
  plan::Mesh mesh = plan::getPrimeFactors(row.devices);
  int layers = 0;
  for (auto layer : program.module->getOps<dist::LayerOp>()) {
    auto body = [&](llvm::StringRef name) { return program.module->lookupSymbol<dist::BodyOp>(name); };
    LayerCollectives made{countInBody(body(layer.getForward()), mesh), countInBody(body(*layer.getBackward()), mesh),
                          countGradients(layer, mesh)};
    llvm::StringRef type = layer.getSymName().split('.').first;
    ++layers;
    if (row.onlyDecoder && type != "decoder")
      continue;
    const LayerCollectives &expected = type == "embedding" ? row.embedding : type == "head" ? row.head : row.decoder;
    EXPECT_THAT(report(made), testing::ElementsAreArray(report(expected))) << type.str();
  }
  EXPECT_EQ(layers, 3) << "nothing is redistributed between layers of one strategy";
}

std::string getRowName(const testing::TestParamInfo<Row> &info) {
  std::string name = info.param.model.substr(0, info.param.model.find('.'));
  for (char c : info.param.strategy)
    if (std::isalnum(c))
      name += c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(Model, CollectiveCountsTest, testing::ValuesIn(getRows()), getRowName);
INSTANTIATE_TEST_SUITE_P(Decoder, CollectiveCountsTest, testing::ValuesIn(getDecoderRows()), getRowName);

//===----------------------------------------------------------------------===//
// Shards of states: entries of the timetable
//===----------------------------------------------------------------------===//

/// Collectives of the first decoder layer's bucket of states in a step of one micro-batch.
std::vector<Collectives> countOfBucket(mlir::ModuleOp module, int64_t devices) {
  mlir::PassManager passes(module.getContext());
  LowerPhaseOptions options;
  options.timetables = std::make_shared<std::vector<Timetable>>();
  buildShardPhase(passes, {});
  buildStagePhase(passes, {});
  buildLowerPhase(passes, options);
  std::vector<Collectives> all;
  if (failed(passes.run(module)))
    return all;
  for (const TimetableEntry &entry : options.timetables->front().entries) {
    if (!llvm::StringRef(entry.name).contains("model.layers.0"))
      continue;
    if (auto *scatter = entry.getIf<ReduceScatter>())
      all.push_back(reduceScatter(devices, 1, 4 * devices * scatter->count));
    else if (auto *gather = entry.getIf<AllGather>())
      all.push_back(allGather(devices, 1, 4 * devices * gather->count));
    else if (auto *reduce = entry.getIf<AllReduce>())
      all.push_back(allReduce(devices, 1, 4 * reduce->count));
  }
  return all;
}

/// One for a layer, not one for each of its nine parameters: by ZeRO level. Buckets are padded to pieces of 32 elements.
TEST(CollectiveCounts, OfParametersAreOneForALayer) {
  constexpr int64_t bytes = (kMatrices + 2 * kNorm + 255) / 256 * 256;
  std::vector<Collectives> byLevel[] = {{allReduce(2, 1, bytes)},
                                        {allGather(2, 1, bytes), reduceScatter(2, 1, bytes)},
                                        {allGather(2, 1, bytes), reduceScatter(2, 1, bytes)},
                                        {allGather(2, 2, 2 * bytes), reduceScatter(2, 1, bytes)}};
  for (int level = 0; level <= 3; ++level) {
    Program program(readInput("llama.mlir"));
    ASSERT_TRUE(program.run(kTrain));
    annotate(*program.module, {"llama.mlir", 2, 1, {"dp = 2, zero = " + std::to_string(level)}});
    Report made, expected;
    report("step", countOfBucket(*program.module, 2), made);
    report("step", byLevel[level], expected);
    EXPECT_EQ(made, expected) << "zero " << level;
  }
}

} // namespace
