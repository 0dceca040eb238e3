// Collectives and bytes that every row of the table of strategies is priced at, by layer type of the reference model.
#include "../Reference/Program.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Costs/ProgramCosts.h"

#include <fstream>
#include <sstream>

using namespace galvatron;
using search::Strategy;

namespace {

/// [8 samples, 16 positions, hidden 24], 4 heads of 4 on 2 of keys and values, feed-forward 40, vocabulary 32.
reference::Program makeLlama() {
  std::ifstream file("test/Inputs/llama.mlir"); // tests run from the source tree
  std::stringstream text;
  text << file.rdbuf();
  reference::Program program(text.str());
  EXPECT_TRUE(
      program.run("galvatron-flatten-sums,galvatron-differentiate,galvatron-expand-cross-entropy,cse,canonicalize"));
  return program;
}

search::Result<search::LayerCost> price(const ProgramCosts &costs, const std::string &type, const Strategy &strategy,
                                        int dp = 1, int samples = 8) {
  search::Layer layer{type, type};
  return costs.cost({&layer, strategy, dp, samples, 8 / samples});
}

std::string describe(const search::Collective &collective) {
  static const char *const kKinds[] = {"AR", "AG", "RS", "A2A", "P2P"};
  static const char *const kGroups[] = {"tp", "ulysses", "cp", "ep", "dp", "shard", "expert shard"};
  std::string group = collective.axes.empty() ? kGroups[int(collective.group)] : "axes";
  for (int axis : collective.axes)
    group += " " + std::to_string(axis);
  return kKinds[int(collective.kind)] + (" " + group + " " + std::to_string(collective.bytes));
}

/// "2 x AR tp 12288, AG cp 96": alike ones counted, in order of their first.
std::string describe(const std::vector<search::Collective> &collectives) {
  std::vector<std::pair<std::string, int>> counts;
  for (const search::Collective &collective : collectives) {
    std::string text = describe(collective);
    auto at = llvm::find_if(counts, [&](const auto &count) { return count.first == text; });
    at == counts.end() ? void(counts.emplace_back(text, collective.count)) : void(at->second += collective.count);
  }
  std::string line;
  for (const auto &[text, count] : counts)
    line += (line.empty() ? "" : ", ") + (count > 1 ? std::to_string(count) + " x " : "") + text;
  return line;
}

/// With Megatron's sequence parallelism.
Strategy withSequence(Strategy strategy) {
  strategy.sequenceParallel = true;
  return strategy;
}

/// Words of `cp_kind` and `cp_zigzag`.
constexpr int kGathered = 1, kRing = 2, kContiguous = 1, kZigzag = 2;

struct Row {
  const char *layer;
  Strategy strategy;
  int dp;
  const char *forward, *backward, *step;
};

// 128 tokens of 24 floats are 12288 bytes, a decoder's parameters in f32 16320. As published: Megatron's two
// all-reduces each way, the gathers and scatters of its sequence parallelism, Ulysses' exchanges (queries, keys and
// values in one), all-gather context parallelism.
const Row kRows[] = {
    {"decoder", {}, 8, "", "", "AR dp 16320"},
    {"decoder", {.tp = 2}, 1, "2 x AR tp 12288", "2 x AR tp 12288", ""},
    {"decoder", {.tp = 2}, 2, "2 x AR tp 6144", "2 x AR tp 6144", "AR dp 8256"},
    // Two ranks share a head of keys and values, so gradients of their weights are sums over them.
    {"decoder", {.tp = 4}, 1, "2 x AR tp 12288", "2 x AR tp 12288", "AR axes 1 768"},
    {"decoder", {.tp = 4}, 2, "2 x AR tp 6144", "2 x AR tp 6144", "AR dp 3840, AR axes 0 2 768"},
    // Backward needs the first all-reduce of forward again, not the second, whose sum only leaves the layer.
    {"decoder", {.tp = 2, .recompute = true}, 1, "2 x AR tp 12288", "3 x AR tp 12288", ""},
    {"decoder", withSequence({.tp = 2}), 1, "2 x AG tp 12288, 2 x RS tp 12288", "4 x AG tp 12288, 2 x RS tp 12288",
     "AR tp 192"},
    {"decoder", withSequence({.tp = 2}), 2, "2 x AG tp 6144, 2 x RS tp 6144", "4 x AG tp 6144, 2 x RS tp 6144",
     "AR dp 8064, AR axes 0 1 192"},
    {"decoder",
     {.ulysses = 2},
     1,
     "A2A ulysses 8192, A2A ulysses 4096",
     "A2A ulysses 4096, A2A ulysses 8192",
     "AR ulysses 16320"},
    // Keys and values have two heads for four ranks: exchanged by pairs, gathered by neighbours.
    {"decoder",
     {.ulysses = 4},
     2,
     "A2A axes 1 1024, 2 x A2A ulysses 1024, 2 x AG axes 2 1024",
     "2 x A2A ulysses 1024, 2 x AG axes 2 1024, 2 x RS axes 2 1024, A2A axes 1 1024",
     "AR shard 16320"},
    {"decoder", {.cp = 2}, 1, "2 x AG cp 4096", "2 x AG cp 4096, 2 x RS cp 4096", "AR cp 16320"},
    {"decoder", {.cp = 2}, 2, "2 x AG cp 2048", "2 x AG cp 2048, 2 x RS cp 2048", "AR shard 16320"},
    // A ring moves as many bytes: keys and values, one step after another, and their gradients on and home.
    {"decoder", {.cp = 2, .cpKind = kRing}, 1, "2 x P2P cp 2048", "4 x P2P cp 2048", "AR cp 16320"},
    {"decoder", {.cp = 4, .cpKind = kRing}, 1, "6 x P2P cp 1024", "12 x P2P cp 1024", "AR cp 16320"},
    {"decoder",
     {.cp = 4, .cpKind = kRing, .cpZigzag = kContiguous},
     2,
     "6 x P2P cp 512",
     "12 x P2P cp 512",
     "AR shard 16320"},
    {"decoder", {.cp = 8, .cpKind = kRing}, 1, "14 x P2P cp 512", "28 x P2P cp 512", "AR cp 16320"},
    {"decoder", withSequence({.tp = 2, .cp = 2}), 2, "2 x AG tp 3072, 2 x AG cp 1024, 2 x RS tp 3072",
     "4 x AG tp 3072, 2 x RS tp 3072, 2 x AG cp 1024, 2 x RS cp 1024", "AR shard 8064, AR axes 0 1 2 192"},
    // ZeRO, over the ranks that share gradients, of whole cache lines for each: norm weights under Megatron-SP apart.
    {"decoder", {.zero = 1}, 8, "", "", "AG dp 16384, RS dp 16384"},
    {"decoder", {.zero = 2}, 8, "", "RS dp 16384", "AG dp 16384"},
    {"decoder", {.zero = 3}, 8, "AG dp 16384", "AG dp 16384, RS dp 16384", ""},
    // Gradients are reduced once a step or every micro-batch, where a plan says so.
    {"decoder", {.reduceEveryMicroBatch = 2}, 8, "", "AR dp 16320", ""},
    {"decoder", {.zero = 1, .reduceEveryMicroBatch = 2}, 8, "", "RS dp 16384", "AG dp 16384"},
    {"decoder", {.zero = 2, .reduceEveryMicroBatch = 1}, 8, "", "", "AG dp 16384, RS dp 16384"},
    {"decoder", {.zero = 3, .reduceEveryMicroBatch = 1}, 8, "AG dp 16384", "AG dp 16384", "RS dp 16384"},
    {"decoder",
     {.ulysses = 2, .zero = 1},
     1,
     "A2A ulysses 8192, A2A ulysses 4096",
     "A2A ulysses 4096, A2A ulysses 8192",
     "AG ulysses 16384, RS ulysses 16384"},
    {"decoder",
     {.cp = 2, .zero = 3},
     2,
     "2 x AG cp 2048, AG shard 16384",
     "2 x AG cp 2048, 2 x RS cp 2048, AG shard 16384, RS shard 16384",
     ""},
    {"decoder", withSequence({.tp = 2, .zero = 2}), 2, "2 x AG tp 6144, 2 x RS tp 6144",
     "4 x AG tp 6144, 2 x RS tp 6144, RS dp 8192, RS axes 0 1 512", "AG dp 8192, AG axes 0 1 512"},
    // Nobody shares them.
    {"decoder", {.tp = 2, .zero = 3}, 1, "2 x AR tp 12288", "2 x AR tp 12288", ""},
    {"embedding", {.tp = 2}, 1, "AR tp 12288", "", ""},
    // Token ids, 8 bytes each, arrive cut and are gathered for the table.
    {"embedding", withSequence({.tp = 2}), 1, "AG tp 1024, RS tp 12288", "AG tp 12288, AG tp 1024", ""},
    {"embedding", {.ulysses = 2}, 1, "", "", "AR ulysses 3072"},
    // Of the loss: largest logit, sum of exponentials and the label's logit of each position.
    {"head", {.tp = 2}, 1, "3 x AR tp 512", "AR tp 12288", ""},
    {"head", withSequence({.tp = 2}), 1, "AG tp 12288, AG tp 1024, AR tp 512, 2 x RS tp 512",
     "2 x AG tp 512, AG tp 12288, RS tp 12288", "AR tp 96"},
    // Labels move by one position.
    {"head", {.cp = 2}, 2, "AG cp 512", "", "AR shard 3168"},
};

TEST(StrategyCosts, collectives_of_each_row) {
  reference::Program llama = makeLlama();
  ProgramCosts costs(*llama.module, search::Cluster(), 8, Priced::WhatIsPlaced);
  for (const Row &row : kRows) {
    SCOPED_TRACE(std::string(row.layer) + " " + search::describe(row.strategy, row.dp));
    auto cost = price(costs, row.layer, row.strategy, row.dp);
    ASSERT_TRUE(cost) << cost.error().message;
    EXPECT_EQ(describe(cost->forwardCollectives), row.forward);
    EXPECT_EQ(describe(cost->backwardCollectives), row.backward);
    EXPECT_EQ(describe(cost->stepCollectives), row.step);
  }
}

TEST(StrategyCosts, saved_and_state_bytes_are_local) {
  reference::Program llama = makeLlama();
  ProgramCosts costs(*llama.module, search::Cluster(), 8, Priced::WhatIsPlaced);
  // Input, both norms' results and the middle residual; both norms' mean and rstd; q, attention's result, k, v and
  // log-sum-exp; gate and up.
  const int64_t tokens = 128, hidden = 24, heads = 4, width = 4, kvWidth = 8, ffn = 40;
  auto saved = [&](int64_t cut, int64_t tp) {
    return 4 * (tokens * (4 * hidden + 4) / cut + tokens * (2 * heads * width + 2 * kvWidth + heads + 2 * ffn) / tp);
  };
  EXPECT_EQ(price(costs, "decoder", {})->savedBytes, saved(1, 1));
  EXPECT_EQ(price(costs, "decoder", {.tp = 2})->savedBytes, saved(1, 2));
  EXPECT_EQ(price(costs, "decoder", withSequence({.tp = 2}))->savedBytes, saved(2, 2));
  // Attention's result twice: by heads for its own backward, by positions for the product's.
  EXPECT_EQ(price(costs, "decoder", {.ulysses = 2})->savedBytes, saved(2, 2) + 4 * tokens * heads * width / 2);
  EXPECT_EQ(price(costs, "decoder", {.recompute = true})->savedBytes, 4 * tokens * hidden);
  // Norm weights are whole everywhere; parameter, gradient and two moments.
  EXPECT_EQ(price(costs, "decoder", {.tp = 2})->stateBytes, 16 * (2 * hidden + (4080 - 2 * hidden) / 2));
  EXPECT_EQ(price(costs, "decoder", {.ulysses = 2})->stateBytes, 16 * 4080);
}

TEST(StrategyCosts, zero_shares_states_among_the_ranks_of_a_gradient) {
  reference::Program llama = makeLlama();
  search::Cluster cluster;
  cluster.device.memoryBytesPerSecond = 1;
  ProgramCosts costs(*llama.module, cluster, 8);
  // Norm weights of 24 elements take 32, and a piece a multiple of that.
  const int64_t bytes = 4 * 4096;
  auto state = [&](const Strategy &strategy, int dp) { return price(costs, "decoder", strategy, dp)->stateBytes; };
  // Parameter, two moments and gradient.
  EXPECT_EQ(state({.zero = 1}, 4), bytes + (3 * bytes) / 4);
  EXPECT_EQ(state({.zero = 2}, 4), bytes + (3 * bytes) / 4);
  EXPECT_EQ(state({.zero = 3}, 4), bytes);
  EXPECT_EQ(state({.ulysses = 2, .cp = 2, .zero = 3}, 1), bytes);
  // Weights of norms are shared with the ranks of tp, too, where these cut the sequence.
  EXPECT_EQ(state(withSequence({.tp = 2, .zero = 3}), 2), 4 * 8192 / 2 + 4 * 512 / 4);
  EXPECT_EQ(state({.tp = 2, .zero = 3}, 2), 4 * 4 * 2112 / 2); // 2016 and 64, of two pieces
  // Level 1 adds gradients up whole and scatters them then. A single backward lets go of activations meanwhile.
  search::Layer decoder{"decoder", "decoder"};
  auto kept = [&](int level, int microBatches) { return *costs.cost({&decoder, {.zero = level}, 4, 4, microBatches}); };
  EXPECT_EQ(kept(1, 2).stateBytes, kept(2, 2).stateBytes + bytes);
  EXPECT_EQ(kept(1, 2).savedBytes, kept(2, 2).savedBytes);
  EXPECT_EQ(kept(1, 1).savedBytes, std::max(kept(2, 1).savedBytes, bytes));
  // Whatever the level, a plan may say so.
  auto asked = [&](int level, int reduced) {
    return *costs.cost({&decoder, {.zero = level, .reduceEveryMicroBatch = reduced}, 4, 4, 2});
  };
  auto isSame = [](const search::LayerCost &a, const search::LayerCost &b) {
    return std::tie(a.stateBytes, a.savedBytes, a.scratchBytes) == std::tie(b.stateBytes, b.savedBytes, b.scratchBytes);
  };
  EXPECT_TRUE(isSame(asked(1, 2), kept(2, 2)) && isSame(asked(2, 1), kept(1, 2)));
  EXPECT_EQ(asked(3, 1).stateBytes, kept(3, 2).stateBytes + bytes);
  EXPECT_GT(asked(0, 2).scratchBytes, kept(0, 2).scratchBytes); // of all micro-batches but the first, apart
  // States and values are there when backward begins, gradients only when another went before.
  EXPECT_EQ(kept(3, 1).certainBytes, 3 * bytes / 4 + kept(3, 1).savedBytes);
  EXPECT_EQ(kept(3, 2).certainBytes, bytes + kept(3, 2).savedBytes);
  auto update = [&](int level) { return price(costs, "decoder", {.zero = level}, 4)->updateSeconds; };
  EXPECT_DOUBLE_EQ(update(0), 8 * 4 * 4080);
  for (int level : {1, 2, 3})
    EXPECT_DOUBLE_EQ(update(level), 8 * bytes / 4);
}

TEST(StrategyCosts, zero_takes_buffers_while_a_layer_runs) {
  reference::Program llama = makeLlama();
  ProgramCosts costs(*llama.module, search::Cluster(), 8);
  const int64_t bytes = 4 * 4096;
  search::Layer block{"decoder", "decoder"}, end{"decoder", "decoder", search::LayerRole::Head};
  auto scratch = [&](const search::Layer &layer, int level, int microBatches) {
    return costs.cost({&layer, {.zero = level}, 4, 4, microBatches})->scratchBytes;
  };
  EXPECT_EQ(scratch(block, 1, 1), scratch(block, 0, 1));
  // Gradients of the layer and of the one before, whose sum is under way; a piece each of several micro-batches.
  EXPECT_EQ(scratch(block, 2, 1), scratch(end, 2, 1) + bytes);
  EXPECT_EQ(scratch(block, 2, 2), scratch(block, 2, 1) + 2 * bytes / 4);
  // And the parameters of the layer and of the next one.
  EXPECT_EQ(scratch(block, 3, 1), scratch(block, 2, 1) + 2 * bytes);
}

TEST(StrategyCosts, what_an_earlier_layer_has_is_tied) {
  using Pair = std::pair<int64_t, int64_t>;
  auto tiedBytes = [](const std::string &second, int zero) {
    const std::string layer = R"((%x: tensor<8x4xf32>, %w: tensor<4x4xf32> {graph.parameter = "w"}) -> tensor<8x4xf32> {
        %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
        graph.backward(%dy: tensor<8x4xf32>) {
          %dx = graph.einsum %dy, %w "bo,oi->bi" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
          %dw = graph.einsum %dy, %x "bo,bi->oi" : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<4x4xf32>
          graph.return %dx, %dw : tensor<8x4xf32>, tensor<4x4xf32>
        }
        graph.return %y : tensor<8x4xf32>
      })";
    reference::Program program("module attributes {graph.batch = 8 : i64} {\ngraph.layer @one" + layer +
                               "\ngraph.layer @two" + layer + R"(
      func.func @step(%x: tensor<8x4xf32>) -> tensor<8x4xf32> {
        %y = graph.call @one(%x) parameters ["w"] path "one" : (tensor<8x4xf32>) -> tensor<8x4xf32>
        %z = graph.call @two(%y) parameters [")" +
                               second + R"("] path "two" : (tensor<8x4xf32>) -> tensor<8x4xf32>
        return %z : tensor<8x4xf32>
      }
    })");
    ProgramCosts costs(*program.module, search::Cluster(), 8);
    EXPECT_EQ(price(costs, "one", {.zero = zero}, 2)->tiedStateBytes, 0);
    auto cost = price(costs, "two", {.zero = zero}, 2);
    return Pair(cost->tiedStateBytes, cost->stateBytes);
  };
  EXPECT_EQ(tiedBytes("v", 0), Pair(0, 256));
  EXPECT_EQ(tiedBytes("w", 0), Pair(256, 256));
  EXPECT_EQ(tiedBytes("w", 3), Pair(512, 512)); // 64 elements, of two pieces, for 16
}

TEST(StrategyCosts, a_smaller_micro_batch_moves_less_but_for_parameters) {
  reference::Program llama = makeLlama();
  search::Cluster cluster;
  cluster.device.launchSeconds = 0;
  cluster.device.matmulFlopsPerSecond = 1e30;
  cluster.device.memoryBytesPerSecond = 1;
  ProgramCosts costs(*llama.module, cluster, 8, Priced::WhatIsPlaced);
  auto whole = price(costs, "decoder", {.tp = 2}), half = price(costs, "decoder", {.tp = 2}, 1, 4);
  EXPECT_EQ(describe(half->forwardCollectives), "2 x AR tp 6144");
  EXPECT_EQ(half->savedBytes * 2, whole->savedBytes);
  EXPECT_EQ(half->boundaryBytes * 2, whole->boundaryBytes);
  EXPECT_EQ(half->stateBytes, whole->stateBytes);
  // Both read the parameters once, 8256 bytes of them.
  EXPECT_DOUBLE_EQ(whole->forwardSeconds, 2 * half->forwardSeconds - 8256);
}

TEST(StrategyCosts, the_last_queries_see_the_most_keys) {
  reference::Program llama = makeLlama();
  search::Cluster cluster;
  cluster.device.launchSeconds = 0;
  cluster.device.matmulFlopsPerSecond = cluster.device.memoryBytesPerSecond = 1e30;
  cluster.device.attentionPairsPerSecond = 1;
  cluster.device.name = "cpu";
  ProgramCosts costs(*llama.module, cluster, 8, Priced::WhatIsPlaced);
  // 8 samples, 4 heads, 16 · 17 / 2 pairs under the diagonal: half of them each, but 3/4 where queries are cut.
  const double pairs = 8 * 4 * 136;
  EXPECT_DOUBLE_EQ(price(costs, "decoder", {})->forwardSeconds, pairs);
  EXPECT_DOUBLE_EQ(price(costs, "decoder", {}, 2)->forwardSeconds, pairs / 2);
  EXPECT_DOUBLE_EQ(price(costs, "decoder", {.ulysses = 2})->forwardSeconds, pairs / 2);
  for (int cp : {2, 4, 8, 16})
    EXPECT_DOUBLE_EQ(price(costs, "decoder", {.cp = cp, .cpZigzag = kContiguous})->forwardSeconds,
                     pairs * (2 * cp - 1) / cp / cp)
        << cp;
  // Pieces from both ends are even. So are a plan's that says nothing, where there are two pieces for each rank.
  for (int cp : {2, 4, 8}) {
    EXPECT_DOUBLE_EQ(price(costs, "decoder", {.cp = cp, .cpZigzag = kZigzag})->forwardSeconds, pairs / cp) << cp;
    EXPECT_DOUBLE_EQ(price(costs, "decoder", {.cp = cp})->forwardSeconds, pairs / cp) << cp;
  }
  EXPECT_DOUBLE_EQ(price(costs, "decoder", {.cp = 16})->forwardSeconds, pairs * 31 / 256);
  // A ring goes over the same pairs, step by step.
  for (int cp : {2, 4, 8}) {
    EXPECT_DOUBLE_EQ(price(costs, "decoder", {.cp = cp, .cpKind = kRing, .cpZigzag = kZigzag})->forwardSeconds,
                     pairs / cp);
    EXPECT_DOUBLE_EQ(price(costs, "decoder", {.cp = cp, .cpKind = kRing, .cpZigzag = kContiguous})->forwardSeconds,
                     pairs * (2 * cp - 1) / cp / cp);
  }
  // GPUs' fast kernels take whole sequences alone: no better price.
  cluster.device.name = "h200";
  ProgramCosts onGpus(*llama.module, cluster, 8, Priced::WhatIsPlaced);
  EXPECT_DOUBLE_EQ(price(onGpus, "decoder", {.cp = 2})->forwardSeconds, pairs * 3 / 4);
  EXPECT_DOUBLE_EQ(price(onGpus, "decoder", {.cp = 2, .cpZigzag = kZigzag})->forwardSeconds, pairs * 3 / 4);
}

TEST(StrategyCosts, recomputation_takes_what_backward_needs) {
  reference::Program llama = makeLlama();
  search::Cluster cluster;
  cluster.device.launchSeconds = 1;
  cluster.device.matmulFlopsPerSecond = cluster.device.memoryBytesPerSecond = 1e30;
  cluster.device.attentionPairsPerSecond = 0;
  ProgramCosts costs(*llama.module, cluster, 8);
  auto kept = price(costs, "decoder", {}), again = price(costs, "decoder", {.recompute = true});
  EXPECT_EQ(again->forwardSeconds, kept->forwardSeconds);
  EXPECT_EQ(again->backwardSeconds, kept->backwardSeconds);
  // Not the last product with its residual, nor the gated activation, which backward makes in either case.
  EXPECT_NEAR(again->recomputeSeconds, kept->forwardSeconds - 2, 1e-9);
}

TEST(StrategyCosts, what_has_no_price) {
  reference::Program llama = makeLlama();
  search::Cluster cluster;
  ProgramCosts searched(*llama.module, cluster, 8), byHand(*llama.module, cluster, 8, Priced::All),
      placed(*llama.module, cluster, 8, Priced::WhatIsPlaced);
  auto why = [](const search::Result<search::LayerCost> &cost) { return cost ? "" : cost.error().message; };
  EXPECT_NE(why(price(byHand, "decoder", {.ep = 2}, 2)).find("'ep'"), std::string::npos);
  // As phase shard says it, and neither samples nor heads for seven.
  EXPECT_NE(why(price(placed, "decoder", {.tp = 7})).find("cannot use tp = 7"), std::string::npos);
  EXPECT_NE(why(price(placed, "decoder", {}, 7)).find("cannot use dp = 7"), std::string::npos);
  EXPECT_NE(why(price(byHand, "decoder", {.ulysses = 8})).find("cannot use ulysses = 8"), std::string::npos);
  EXPECT_NE(why(price(byHand, "decoder", {.cp = 3})).find("cannot use cp = 3"), std::string::npos);
  EXPECT_EQ(why(price(placed, "nothing", {})), "unknown layer type 'nothing'");
}

/// Ways of context parallelism, in words.
std::string settle(const ProgramCosts &costs, const std::string &type, const Strategy &strategy, int microBatches = 1) {
  std::string text;
  for (const Strategy &way : costs.settle({type, type}, strategy, microBatches))
    text += (text.empty() ? "" : ", ") + search::describe(way, 1);
  return text;
}

TEST(StrategyCosts, ways_that_have_prices_of_their_own) {
  reference::Program llama = makeLlama();
  search::Cluster cluster;
  cluster.device.name = "cpu";
  ProgramCosts costs(*llama.module, cluster, 8);
  EXPECT_EQ(settle(costs, "decoder", {.tp = 2}), "tp=2");
  EXPECT_EQ(settle(costs, "decoder", {.cp = 2}), "cp=2 gathered zigzag, cp=2 ring zigzag, cp=2 gathered contiguous, "
                                                 "cp=2 ring contiguous");
  // A ring's keys are never kept; two pieces for each of 16 ranks there are not; no attention, no ring.
  EXPECT_EQ(settle(costs, "decoder", {.cp = 2, .keepGathered = true}),
            "cp=2 gathered zigzag keep-gathered, cp=2 gathered contiguous keep-gathered");
  EXPECT_EQ(settle(costs, "decoder", {.cp = 16}), "cp=16 gathered contiguous, cp=16 ring contiguous");
  EXPECT_EQ(settle(costs, "head", {.cp = 2}), "cp=2 zigzag, cp=2 contiguous");
  EXPECT_EQ(settle(costs, "decoder", {.zero = 3}, 4), "zero3, zero3 reduceonce");
  EXPECT_EQ(settle(costs, "decoder", {.zero = 3}), "zero3");
  EXPECT_EQ(settle(costs, "decoder", {.zero = 2}, 4), "zero2");
  // On GPUs both layouts have the price of stretches: the one that a plan has which says none.
  cluster.device.name = "h200";
  ProgramCosts onGpus(*llama.module, cluster, 8);
  EXPECT_EQ(settle(onGpus, "decoder", {.cp = 2}), "cp=2 gathered zigzag, cp=2 ring zigzag");
}

/// So many strategies are offered there that placing each way of each would take the search too long.
TEST(StrategyCosts, clusters_of_more_than_512_devices_settle_nothing) {
  reference::Program llama = makeLlama();
  search::Cluster cluster;
  cluster.devicesPerNode = 8;
  auto settled = [&](int nodes, const Strategy &strategy) {
    cluster.nodes = nodes;
    return settle(ProgramCosts(*llama.module, cluster, 8), "decoder", strategy, /*microBatches=*/4);
  };
  EXPECT_NE(settled(64, {.cp = 2}), "cp=2");
  EXPECT_EQ(settled(65, {.cp = 2}), "cp=2");
  EXPECT_EQ(settled(64, {.zero = 3}), "zero3, zero3 reduceonce");
  EXPECT_EQ(settled(65, {.zero = 3}), "zero3");
}

/// Gathered keys and values are there whole; a ring has two ranks' at once.
TEST(StrategyCosts, a_ring_holds_fewer_keys) {
  reference::Program llama = makeLlama();
  search::Cluster cluster;
  ProgramCosts costs(*llama.module, cluster, 8, Priced::WhatIsPlaced);
  auto of = [&](int kind) { return *price(costs, "decoder", {.cp = 8, .cpKind = kind, .cpZigzag = kZigzag}); };
  search::LayerCost gathered = of(kGathered), ring = of(kRing);
  EXPECT_LT(ring.scratchBytes, gathered.scratchBytes);
  EXPECT_EQ(ring.savedBytes, gathered.savedBytes);
  EXPECT_EQ(ring.stateBytes, gathered.stateBytes);
}

/// A plan that pads is priced by what is computed, and by nothing that is not.
TEST(StrategyCosts, padded_layers_cost_what_they_are_padded_to) {
  reference::Program llama = makeLlama();
  mlir::MLIRContext *context = llama.context.get();
  context->loadDialect<plan::PlanDialect>();
  (*llama.module)
      ->setAttr(plan::kPipelineAttrName, plan::PipelineAttr::get(context, 1, 3, 1, plan::Schedule::GPipe, 1, {}));
  llama.module->walk([&](graph::CallOp call) {
    bool isFirst = call.getPath() == "model.layers.0";
    plan::StrategyValues values = {.tp = isFirst ? 3 : 1, .cp = isFirst ? 1 : 3, .pad = 1};
    call->setAttr(plan::kStrategyAttrName, plan::StrategyAttr::get(context, values));
  });
  ASSERT_TRUE(llama.run("galvatron-pad-dimensions"));
  ProgramCosts costs(*llama.module, search::Cluster(), 8, Priced::All);
  // 8 x 18 tokens of 24 floats under either strategy.
  auto cut = price(costs, "decoder", {.cp = 3, .pad = true}), padded = price(costs, "decoder", {.tp = 3, .pad = true});
  ASSERT_TRUE(cut && padded);
  EXPECT_EQ(cut->boundaryBytes, 8 * 18 * 24 * 4);
  EXPECT_EQ(describe(cut->stepCollectives), "AR cp 16320");
  EXPECT_EQ(describe(padded->forwardCollectives), "2 x AR tp 13824");
  auto other = price(costs, "decoder", {.tp = 3});
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().message, "layers of type 'decoder' are padded for other strategies");
}

/// Of 128 tokens in f32: two norms' results and the gradients of the two residuals (24 each), queries and attention's
/// result (16 each), keys and values (8 each), three inner values (40 each).
constexpr int64_t kKeptForWeights = 128 * 4 * (4 * 24 + 2 * 16 + 2 * 8 + 3 * 40);

TEST(StrategyCosts, gradients_of_weights_have_seconds_and_bytes_of_their_own) {
  reference::Program program = makeLlama();
  search::Cluster cluster;
  cluster.device = *search::findDeviceKind("h200");
  ProgramCosts costs(*program.module, cluster, 8);
  auto plain = price(costs, "decoder", {}), recomputed = price(costs, "decoder", {.recompute = true}),
       cut = price(costs, "decoder", {.tp = 2}), spread = price(costs, "decoder", {}, 2);
  ASSERT_TRUE(plain && recomputed && cut && spread);
  EXPECT_EQ(plain->weightSavedBytes, kKeptForWeights);
  EXPECT_EQ(recomputed->weightSavedBytes, kKeptForWeights);
  EXPECT_GT(recomputed->weightSavedBytes, recomputed->savedBytes);
  EXPECT_EQ(cut->weightSavedBytes, (kKeptForWeights + 128 * 4 * 4 * 24) / 2); // tp cuts all but what has hidden size
  EXPECT_EQ(spread->weightSavedBytes, kKeptForWeights / 2);
  for (const auto &cost : {plain, recomputed, cut, spread}) {
    EXPECT_GT(cost->weightSeconds, 0);
    EXPECT_LT(cost->weightSeconds, cost->backwardSeconds);
  }
  EXPECT_NEAR(recomputed->weightSeconds, plain->weightSeconds, 1e-9 * plain->weightSeconds);
}

/// Words have no gradient: nothing waits for the backward of a table.
TEST(StrategyCosts, an_embedding_has_nothing_to_put_off) {
  reference::Program program = makeLlama();
  search::Cluster cluster;
  cluster.device = *search::findDeviceKind("h200");
  ProgramCosts costs(*program.module, cluster, 8);
  auto cost = price(costs, "embedding", {});
  ASSERT_TRUE(cost) << cost.error().message;
  EXPECT_EQ(cost->weightSeconds, 0);
  EXPECT_EQ(cost->weightSavedBytes, 0);
}

/// Worth nothing to the search, possible by hand.
TEST(StrategyCosts, a_layer_of_which_tp_cuts_nothing) {
  reference::Program program(R"(
    module attributes {graph.batch = 8 : i64} {
      graph.layer @scale(%x: tensor<8x4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<8x4xf32> {
        %y, %mean, %rstd = graph.norm rms %x weight %w {epsilon = 1.0e-5 : f64} : (tensor<8x4xf32>, tensor<4xf32>) -> (tensor<8x4xf32>, tensor<8xf32>, tensor<8xf32>)
        graph.return %y : tensor<8x4xf32>
      }
      func.func @step(%x: tensor<8x4xf32>) -> tensor<8x4xf32> {
        %y = graph.call @scale(%x) parameters ["w"] path "scale" : (tensor<8x4xf32>) -> tensor<8x4xf32>
        return %y : tensor<8x4xf32>
      }
    })");
  search::Cluster cluster;
  ProgramCosts searched(*program.module, cluster, 8), byHand(*program.module, cluster, 8, Priced::All);
  EXPECT_EQ(price(searched, "scale", {.tp = 2}).error().message,
            "tp 2 divides neither heads nor widths of layer type 'scale'");
  EXPECT_TRUE(price(byHand, "scale", {.tp = 2}));
}

} // namespace
