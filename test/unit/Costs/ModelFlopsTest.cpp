// Operations of a step, counted by hand.
#include "galvatron/Costs/ModelFlops.h"
#include "../Reference/Program.h"

using namespace galvatron;

namespace {

/// Of two calls of a layer with one attention of 2 samples, 3 heads, 8 queries and keys of 4 values.
ModelFlops countAttention(const std::string &mask, const std::string &type) {
  std::string tensor = "tensor<2x3x8x4x" + type + ">", call = "graph.call @layer(%x) parameters [] path ";
  reference::Program program(
      "module {\n  graph.layer @layer(%x: " + tensor + ") -> " + tensor + " {\n" +
      "    %y, %lse = graph.attention %x, %x, %x {" + mask + "scale = 0.5} : (" + tensor + ", " + tensor + ", " +
      tensor + ") -> (" + tensor + ", tensor<2x3x8xf32>)\n    graph.return %y : " + tensor + "\n  }\n" +
      "  func.func @step(%x: " + tensor + ") -> " + tensor + " {\n    %0 = " + call + "\"a\" : (" + tensor + ") -> " +
      tensor + "\n    %1 = graph.call @layer(%0) parameters [] path \"b\" : (" + tensor + ") -> " + tensor +
      "\n    return %1 : " + tensor + "\n  }\n}");
  return countModelFlops(*program.module);
}

TEST(ModelFlops, AttentionCountsPairsThatTheMaskLeaves) {
  // Twice forward, three times for backward, six rows of heads, q kᵀ and P v of 4 values each.
  double each = 2 * 3 * 6 * 2 * (4 + 4);
  EXPECT_EQ(countAttention("", "f32").perStep, each * 64);
  EXPECT_EQ(countAttention("causal, ", "f32").perStep, each * 36);
  EXPECT_EQ(countAttention("causal, window = 3 : i64, ", "f32").perStep, each * (1 + 2 + 6 * 3));
  EXPECT_FALSE(countAttention("", "f32").areNarrow);
  EXPECT_TRUE(countAttention("", "bf16").areNarrow);
}

/// A product of 2 x 3 rows of 4 with a matrix of 5 x 4; arguments with these attributes.
double countProduct(const std::string &ofInput, const std::string &ofMatrix) {
  reference::Program program("module {\n  graph.layer @layer(%x: tensor<2x3x4xf32> {" + ofInput +
                             "}, %w: tensor<5x4xf32> {graph.parameter = \"w\"" + ofMatrix +
                             "}) -> tensor<2x3x5xf32> {\n    %y = graph.einsum %x, %w \"bsi,oi->bso\" : "
                             "(tensor<2x3x4xf32>, tensor<5x4xf32>) -> tensor<2x3x5xf32>\n    graph.return %y : "
                             "tensor<2x3x5xf32>\n  }\n  func.func @step(%x: tensor<2x3x4xf32>) -> tensor<2x3x5xf32> {\n"
                             "    %0 = graph.call @layer(%x) parameters [\"a.w\"] path \"a\" : (tensor<2x3x4xf32>) -> "
                             "tensor<2x3x5xf32>\n    return %0 : tensor<2x3x5xf32>\n  }\n}");
  return countModelFlops(*program.module).perStep / (2 * 2 * 3 * 4 * 5);
}

TEST(ModelFlops, WhatIsFrozenHasNoGradient) {
  EXPECT_EQ(countProduct("", ""), 3);
  EXPECT_EQ(countProduct("", ", graph.frozen"), 2);
  EXPECT_EQ(countProduct("graph.frozen", ""), 2);
  EXPECT_EQ(countProduct("graph.frozen", ", graph.frozen"), 1);
}

TEST(ModelFlops, NoLayersNoFigure) {
  reference::Program program("module {}");
  EXPECT_EQ(countModelFlops(*program.module).perStep, 0);
}

} // namespace
