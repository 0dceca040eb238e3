// What a layer's kernels move and how many there are, counted by hand: a device that does nothing but one of them at
// one layer a second.
#include "galvatron/Costs/ProgramCosts.h"
#include "../Reference/Program.h"
#include "galvatron/Kernels/ElementwiseOps.h"

using namespace galvatron;

namespace {

constexpr double kNever = 1e30;

search::Cluster device() {
  search::Cluster cluster;
  cluster.device = *search::findDeviceKind("h200");
  cluster.device.matmulFlopsPerSecond = cluster.device.memoryBytesPerSecond = kNever;
  cluster.device.attentionPairsPerSecond = 0;
  cluster.device.launchSeconds = 0;
  return cluster;
}

search::LayerCost cost(const std::string &text, const search::Cluster &cluster) {
  reference::Program program("module attributes {graph.batch = 8 : i64} {\n" + text + "\n}");
  ProgramCosts costs(*program.module, cluster, 8);
  search::Layer layer{"layer", "layer"};
  search::CostQuery query;
  query.layer = &layer;
  query.microBatchSamples = 8;
  auto found = costs.cost(query);
  EXPECT_TRUE(found) << found.error().message;
  return found ? *found : search::LayerCost();
}

/// Forward's and backward's bytes beyond those of products.
std::pair<double, double> bytes(const std::string &layer) {
  search::Cluster cluster = device();
  cluster.device.memoryBytesPerSecond = 1;
  search::LayerCost found = cost(layer, cluster);
  return {found.forwardSeconds, found.backwardSeconds};
}

std::pair<double, double> kernels(const std::string &layer) {
  search::Cluster cluster = device();
  cluster.device.launchSeconds = 1;
  search::LayerCost found = cost(layer, cluster);
  return {std::round(found.forwardSeconds), std::round(found.backwardSeconds)};
}

// 8 x 4 floats are 128 bytes, the weight 64, the bias 16.
const std::string kBiasAndResidual = R"(
  graph.layer @layer(%x: tensor<8x4xf32>, %w: tensor<4x4xf32> {graph.parameter = "w"}, %b: tensor<4xf32> {graph.parameter = "b"}) -> tensor<8x4xf32> {
    %h = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
    %bias = graph.broadcast %b dims [1] : tensor<4xf32> -> tensor<8x4xf32>
    %y = graph.sum %h, %bias, %x : (tensor<8x4xf32>, tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
    graph.backward(%dy: tensor<8x4xf32>) {
      %dx = graph.einsum %dy, %w "bo,oi->bi" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
      %dw = graph.einsum %dy, %x "bo,bi->oi" : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<4x4xf32>
      %db = graph.reduce sum %dy dims [0] : tensor<8x4xf32> -> tensor<4xf32>
      graph.return %dx, %dw, %db : tensor<8x4xf32>, tensor<4x4xf32>, tensor<4xf32>
    }
    graph.return %y : tensor<8x4xf32>
  })";

TEST(ProgramCosts, bias_and_residual_go_along_with_a_product) {
  EXPECT_EQ(kernels(kBiasAndResidual), std::make_pair(1.0, 3.0));
  // Products: 128 + 64 + 128 each way; the bias's gradient reads 128 and writes 16.
  EXPECT_EQ(bytes(kBiasAndResidual), std::make_pair(320.0, 320.0 + 320.0 + 144.0));
}

const std::string kChain = R"(
  graph.layer @layer(%x: tensor<8x4xf32>, %z: tensor<8x4xf32>) -> tensor<8x4xf32> {
    %a = graph.activation silu %x : tensor<8x4xf32> -> tensor<8x4xf32>
    %p = arith.mulf %a, %z : tensor<8x4xf32>
    %q = arith.addf %p, %x : tensor<8x4xf32>
    graph.backward(%dy: tensor<8x4xf32>) {
      %d = arith.mulf %dy, %a : tensor<8x4xf32>
      %e = arith.mulf %dy, %z : tensor<8x4xf32>
      graph.return %d, %e : tensor<8x4xf32>, tensor<8x4xf32>
    }
    graph.return %q : tensor<8x4xf32>
  })";

TEST(ProgramCosts, what_shares_memory_is_one_kernel) {
  EXPECT_EQ(kernels(kChain), std::make_pair(1.0, 1.0));
  // x and z are read once, the sum is written; backward computes silu again from x: dy, x, z in, two out.
  EXPECT_EQ(bytes(kChain), std::make_pair(3 * 128.0, 5 * 128.0));
}

const std::string kApart = R"(
  graph.layer @layer(%x: tensor<8x4xf32>, %w: tensor<4x4xf32> {graph.parameter = "w"}) -> tensor<8x4xf32> {
    %a = graph.activation silu %x : tensor<8x4xf32> -> tensor<8x4xf32>
    %h = graph.einsum %a, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
    %y = arith.mulf %h, %x : tensor<8x4xf32>
    graph.return %y : tensor<8x4xf32>
  })";

TEST(ProgramCosts, a_product_between_them_keeps_kernels_apart) {
  // The last one reads x, too, but needs what the first one's product makes.
  EXPECT_EQ(kernels(kApart).first, 3.0);
  EXPECT_EQ(bytes(kApart).first, 2 * 128.0 + 320.0 + 3 * 128.0);
}

const std::string kFrozen = R"(
  graph.layer @layer(%x: tensor<8x4xf32>, %v: tensor<4x4xf32> {graph.parameter = "v", graph.frozen}, %w: tensor<4x4xf32> {graph.parameter = "w"}) -> tensor<8x4xf32> {
    %h = graph.einsum %x, %v "bi,oi->bo" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
    %y = graph.einsum %h, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
    graph.backward(%dy: tensor<8x4xf32>) {
      %dh = graph.einsum %dy, %w "bo,oi->bi" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
      %dw = graph.einsum %dy, %h "bo,bi->oi" : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<4x4xf32>
      %dx = graph.einsum %dh, %v "bo,oi->bi" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
      graph.return %dx, %dw : tensor<8x4xf32>, tensor<4x4xf32>
    }
    graph.return %y : tensor<8x4xf32>
  })";
const std::string kAllFrozen = R"(
  graph.layer @layer(%x: tensor<8x4xf32> {graph.frozen}, %v: tensor<4x4xf32> {graph.parameter = "v", graph.frozen}) -> (tensor<8x4xf32> {graph.frozen}) {
    %y = graph.einsum %x, %v "bi,oi->bo" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
    graph.return %y : tensor<8x4xf32>
  })";

TEST(ProgramCosts, a_frozen_parameter_is_kept_and_no_more) {
  search::Cluster cluster = device();
  cluster.device.memoryBytesPerSecond = 1;
  search::LayerCost found = cost(kFrozen, cluster);
  EXPECT_EQ(found.stateBytes, 64 + 4 * 64);
  EXPECT_EQ(found.updateSeconds, 8 * 64);
  found = cost(kAllFrozen, cluster);
  EXPECT_EQ(found.stateBytes, 64);
  EXPECT_EQ(found.updateSeconds, 0);
  EXPECT_EQ(found.backwardSeconds, 0);
  EXPECT_EQ(found.savedBytes, 0);
}

const std::string kCalls = R"(
  graph.layer @layer(%x: tensor<8x4xf32>) -> tensor<8x4xf32> {
    %a = graph.activation silu %x : tensor<8x4xf32> -> tensor<8x4xf32>
    %d = graph.dropout %a {p = 0.5 : f64, id = 0 : i64} : tensor<8x4xf32> -> tensor<8x4xf32>
    %y = graph.softmax %d : tensor<8x4xf32> -> tensor<8x4xf32>
    %z = arith.addf %y, %y : tensor<8x4xf32>
    graph.return %z : tensor<8x4xf32>
  })";

TEST(ProgramCosts, calls_of_the_runtime_join_no_kernel) {
  // Operands and results of one shape, but functions of the runtime compute them.
  EXPECT_EQ(kernels(kCalls).first, 4.0);
  EXPECT_EQ(bytes(kCalls).first, 4 * 2 * 128.0);
}

/// Loops and links that `convert-dist-to-exec` makes: what is computed in them is what the costs take for fusible.
TEST(ProgramCosts, fusible_is_what_lowering_computes_in_loops) {
  reference::Program program("module attributes {graph.batch = 8 : i64} {\n" + kCalls + "\n}");
  std::vector<std::string> inLoops, calls;
  program.module->walk([&](mlir::Operation *op) {
    if (op->getNumOperands() && op->getNumResults())
      (isComputedInLoops(op) ? inLoops : calls).push_back(op->getName().getStringRef().str());
  });
  EXPECT_EQ(inLoops, (std::vector<std::string>{"graph.activation", "arith.addf"}));
  EXPECT_EQ(calls, (std::vector<std::string>{"graph.dropout", "graph.softmax"}));
}

const std::string kAttention = R"(
  graph.layer @layer(%x: tensor<8x2x4x4xf32>) -> tensor<8x2x4x4xf32> {
    %y, %lse = graph.attention %x, %x, %x {causal, scale = 1.0 : f64} : (tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>) -> (tensor<8x2x4x4xf32>, tensor<8x2x4xf32>)
    graph.backward(%dy: tensor<8x2x4x4xf32>) {
      %dq, %dk, %dv = graph.attention_backward %dy, %x, %x, %x, %y, %lse {causal, scale = 1.0 : f64} : (tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>, tensor<8x2x4xf32>) -> (tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>)
      %dx = graph.sum %dq, %dk, %dv : (tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>, tensor<8x2x4x4xf32>) -> tensor<8x2x4x4xf32>
      graph.return %dx : tensor<8x2x4x4xf32>
    }
    graph.return %y : tensor<8x2x4x4xf32>
  })";

TEST(ProgramCosts, attention_takes_its_pairs) {
  search::Cluster cluster = device();
  cluster.device.attentionPairsPerSecond = 1;
  search::LayerCost found = cost(kAttention, cluster);
  // 8 samples, 2 heads, 4 · 5 / 2 pairs under the diagonal.
  EXPECT_DOUBLE_EQ(found.forwardSeconds, 160);
  EXPECT_NEAR(found.backwardSeconds, 160 * search::kBackwardAttention, 1e-9);
  cluster.device.attentionPairsPerSecond = 0;
  EXPECT_LT(cost(kAttention, cluster).forwardSeconds, 1e-20);
}

TEST(ProgramCosts, says_why_a_layer_has_no_price) {
  reference::Program program(R"(module attributes {graph.batch = 8 : i64} {
  graph.layer @layer(%x: tensor<8x3xf32>) -> tensor<8x3xf32> {
    %y = graph.activation relu %x : tensor<8x3xf32> -> tensor<8x3xf32>
    graph.return %y : tensor<8x3xf32>
  }
})");
  ProgramCosts costs(*program.module, device(), 8);
  search::Layer layer{"layer", "layer"}, other{"other", "other"};
  search::CostQuery query;
  query.microBatchSamples = 8;
  query.layer = &other;
  EXPECT_EQ(costs.cost(query).error().message, "unknown layer type 'other'");
  query.layer = &layer;
  query.strategy.tp = 2;
  EXPECT_EQ(costs.cost(query).error().message, "tp 2 divides neither heads nor widths of layer type 'layer'");
}

} // namespace
