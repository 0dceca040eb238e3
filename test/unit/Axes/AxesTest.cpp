// The loops of ops, printed: `operands -> results`, a loop as its number with w (whole), r (routed) or
// m (reduced by maximum); dimensions in brackets, "." for one without loop.
#include "../Reference/Program.h"

#include "dialects/Graph/GraphDialect.h"

using namespace galvatron;
using namespace galvatron::graph;
using galvatron::reference::Program;

namespace {

std::string print(const OpAxes &axes) {
  auto tensor = [&](const DimensionLoops &dims) {
    std::string text;
    for (const auto &dim : dims) {
      text += text.empty() ? "" : ",";
      for (size_t i = 0; i < dim.size(); ++i) {
        const Loop &loop = axes.loops[dim[i]];
        text += (i ? "*" : "") + std::to_string(dim[i]);
        text += loop.kind == LoopKind::Whole ? "w" : loop.kind == LoopKind::Routed ? "r" : "";
        text += loop.reduction == ReduceKind::Max ? "m" : "";
      }
      text += dim.empty() ? "." : "";
    }
    return "[" + text + "]";
  };
  std::string text;
  for (const auto &operand : axes.operands)
    text += tensor(operand);
  text += "->";
  for (const auto &result : axes.results)
    text += tensor(result);
  return text;
}

/// The loops of the last op before the return.
std::string loopsOf(const std::string &arguments, const std::string &op) {
  Program program("func.func @f(" + arguments + ") {\n" + op + "\nreturn\n}");
  mlir::Operation &last = *std::prev(program.module->getBody()->front().getRegion(0).front().end(), 2);
  return print(getOpAxes(&last));
}

std::string reshapeLoops(const std::string &from, const std::string &to) {
  return loopsOf("%x: tensor<" + from + "xf32>",
                 "%y = graph.reshape %x : tensor<" + from + "xf32> -> tensor<" + to + "xf32>");
}

TEST(Axes, ReshapeSplitsAndMergesFactors) {
  EXPECT_EQ(reshapeLoops("2x3x24", "2x3x6x4"), "[0,1,2*3]->[0,1,2,3]");
  EXPECT_EQ(reshapeLoops("2x3x6x4", "6x24"), "[0,1,2,3]->[0*1,2*3]");
  // The common refinement of 8·16 and 4·32 is 4, 2, 16.
  EXPECT_EQ(reshapeLoops("8x16", "4x32"), "[0*1,2]->[0,1*2]");
}

TEST(Axes, ReshapeDropsExtentsOfOne) { EXPECT_EQ(reshapeLoops("2x1x6", "1x2x6x1"), "[0,.,1]->[.,0,1,.]"); }

TEST(Axes, ReshapeIsABarrierOnlyWhereFactorsDoNotDivide) {
  EXPECT_EQ(reshapeLoops("8x6x4x5", "8x4x6x5"), "[0,1w,2w,5]->[0,3w,4w,5]");
}

TEST(Axes, EinsumLoopsAreSubscripts) {
  EXPECT_EQ(loopsOf("%x: tensor<2x3x4xf32>, %w: tensor<5x4xf32>",
                    "%y = graph.einsum %x, %w \"bsi,oi->bso\" : (tensor<2x3x4xf32>, tensor<5x4xf32>) -> "
                    "tensor<2x3x5xf32>"),
            "[0,1,2][3,2]->[0,1,3]");
}

TEST(Axes, AttentionCutsHeadsIntoKeyValueHeadsAndGroup) {
  EXPECT_EQ(loopsOf("%q: tensor<2x6x3x5xf32>, %k: tensor<2x2x3x5xf32>, %v: tensor<2x2x3x4xf32>",
                    "%y, %lse = graph.attention %q, %k, %v {scale = 1.0 : f64} : (tensor<2x6x3x5xf32>, "
                    "tensor<2x2x3x5xf32>, tensor<2x2x3x4xf32>) -> (tensor<2x6x3x4xf32>, tensor<2x6x3xf32>)"),
            "[0,1*2,3,5w][0,1,4w,5w][0,1,4w,6w]->[0,1*2,3,6w][0,1*2,3]");
}

TEST(Axes, NormsNeedTheWholeRow) {
  EXPECT_EQ(loopsOf("%x: tensor<2x4xf32>, %w: tensor<4xf32>",
                    "%y, %m, %r = graph.norm rms %x weight %w {epsilon = 0.0} : (tensor<2x4xf32>, tensor<4xf32>) "
                    "-> (tensor<2x4xf32>, tensor<2xf32>, tensor<2xf32>)"),
            "[0,1w][1w]->[0,1w][0][0]");
}

TEST(Axes, TablesAreRouted) {
  EXPECT_EQ(loopsOf("%t: tensor<7x4xf32>, %i: tensor<2x3xi64>",
                    "%y = graph.embedding %t, %i : (tensor<7x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>"),
            "[0r,1][2,3]->[2,3,1]");
  EXPECT_EQ(loopsOf("%x: tensor<2x7xf32>, %l: tensor<2xi64>",
                    "%y = graph.target_logit %x, %l {ignore_index = 0 : i64} : (tensor<2x7xf32>, tensor<2xi64>) -> "
                    "tensor<2xf32>"),
            "[0,1r][0]->[0]");
}

TEST(Axes, ReductionsSayHowPiecesCombine) {
  EXPECT_EQ(loopsOf("%x: tensor<2x7xf32>", "%y = graph.reduce max %x dims [1] : tensor<2x7xf32> -> tensor<2xf32>"),
            "[0m,1m]->[0m]");
}

TEST(Axes, CutDimensionsAreWhole) {
  EXPECT_EQ(loopsOf("%x: tensor<2x7xf32>", "%y = graph.slice %x offsets [0, 1] : tensor<2x7xf32> -> tensor<2x3xf32>"),
            "[0,1w]->[0,2w]");
  EXPECT_EQ(loopsOf("%x: tensor<2x3xf32>", "%y = graph.pad %x offsets [0, 1] : tensor<2x3xf32> -> tensor<2x7xf32>"),
            "[0,2w]->[0,1w]");
  EXPECT_EQ(loopsOf("%x: tensor<2x3xf32>", "%y = graph.concat %x, %x {dim = 1 : i64} : (tensor<2x3xf32>, "
                                           "tensor<2x3xf32>) -> tensor<2x6xf32>"),
            "[0,2w][0,3w]->[0,1w]");
  EXPECT_EQ(loopsOf("%x: tensor<2x3xi64>", "%y = graph.shift %x {dim = 1 : i64, offset = 1 : i64, fill = 0 : i64} : "
                                           "tensor<2x3xi64> -> tensor<2x3xi64>"),
            "[0,1w]->[0,1w]");
}

// One of three equal parts, as q in a fused q|k|v: selecting is whole, what is selected is free.
TEST(Axes, EqualPartsAreFree) {
  EXPECT_EQ(loopsOf("%x: tensor<2x6xf32>", "%y = graph.slice %x offsets [0, 2] : tensor<2x6xf32> -> tensor<2x2xf32>"),
            "[0,1w*2]->[0,2]");
}

TEST(Axes, ArithmeticIsElementwise) {
  EXPECT_EQ(loopsOf("%x: tensor<2x3xf32>", "%y = arith.mulf %x, %x : tensor<2x3xf32>"), "[0,1][0,1]->[0,1]");
  EXPECT_EQ(loopsOf("", "%y = arith.constant dense<1.0> : tensor<2x1x3xf32>"), "->[0,.,1]");
}

TEST(Axes, UnknownOpsAreBarriers) {
  EXPECT_EQ(loopsOf("%x: tensor<2x3xf32>", "%y = tensor.cast %x : tensor<2x3xf32> to tensor<2x3xf32>"),
            "[0w,1w]->[2w,3w]");
}

TEST(Axes, Linearity) {
  Program program(
      "func.func @f(%x: tensor<2xf32>, %c: tensor<2xi1>) {\n"
      "%zero = arith.constant dense<0.0> : tensor<2xf32>\n"
      "%0 = arith.mulf %x, %x : tensor<2xf32>\n%1 = arith.divf %x, %x : tensor<2xf32>\n"
      "%2 = arith.addf %x, %x : tensor<2xf32>\n%3 = arith.select %c, %x, %zero : tensor<2xi1>, tensor<2xf32>\n"
      "%4 = graph.sum %x, %x : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>\n"
      "%5 = graph.activation relu %x : tensor<2xf32> -> tensor<2xf32>\nreturn\n}");
  auto it = program.module->getBody()->front().getRegion(0).front().begin();
  mlir::Operation *mul = &*++it, *div = &*++it, *add = &*++it, *select = &*++it, *sum = &*++it, *relu = &*++it;
  EXPECT_TRUE(isLinear(mul, 0, 0) && isLinear(mul, 1, 0) && !isJointlyLinear(mul));
  EXPECT_TRUE(isLinear(div, 0, 0) && !isLinear(div, 1, 0));
  EXPECT_TRUE(!isLinear(add, 0, 0) && isJointlyLinear(add));
  EXPECT_TRUE(isLinear(select, 1, 0) && !isLinear(select, 2, 0));
  EXPECT_TRUE(!isLinear(sum, 0, 0) && isJointlyLinear(sum));
  EXPECT_TRUE(!isLinear(relu, 0, 0) && !isJointlyLinear(relu));
}

} // namespace
