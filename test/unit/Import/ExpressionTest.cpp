// Expressions: what simplifies, what stays symbolic, and that views and folding never change a number.
#include "lib/Import/Expression/Expression.h"

#include <gmock/gmock.h>

#include <cmath>

using namespace galvatron::importer;
using testing::ElementsAre;

namespace {

struct ExpressionTest : testing::Test {
  ExpressionContext context;

  ExpressionRef positions(int64_t count) { return context.arange(ElementType::Int64, 0, 1, count, true); }
  ExpressionRef number(double value, ElementType type = ElementType::Int64) { return context.splat(type, {}, value); }
  ExpressionRef apply(Operator op, ExpressionRef a, ExpressionRef b, ElementType type) {
    return context.elementwise(op, {a, b}, type);
  }
  ExpressionRef integers(Operator op, ExpressionRef a, ExpressionRef b) {
    return apply(op, a, b, isComparison(op) ? ElementType::Bool : ElementType::Int64);
  }
  /// Rows [n, 1] and columns [1, n] of a square.
  ExpressionRef row(int64_t n) { return context.reshape(positions(n), {n, 1}); }
  ExpressionRef column(int64_t n) { return context.reshape(positions(n), {1, n}); }
};

TEST_F(ExpressionTest, ArithmeticOnRampsIsARamp) {
  ExpressionRef x = integers(Operator::Subtract, integers(Operator::Multiply, positions(8), number(3)), number(1));
  EXPECT_EQ(x->kind, Expression::Kind::Affine);
  EXPECT_EQ(context.evaluate(x, {5}), 14);
  EXPECT_TRUE(x->positional);
}

TEST_F(ExpressionTest, EqualExpressionsAreOnePointer) {
  EXPECT_EQ(integers(Operator::LessEqual, column(9), row(9)), integers(Operator::LessEqual, column(9), row(9)));
}

TEST_F(ExpressionTest, ComparisonsOfPositionsHaveOneForm) {
  ExpressionRef causal = integers(Operator::LessEqual, column(9), row(9));
  ExpressionRef future = integers(Operator::Less, row(9), column(9));
  EXPECT_EQ(context.logicalNot(future), causal);
  EXPECT_EQ(integers(Operator::Less, column(9), integers(Operator::Add, row(9), number(1))), causal);
}

TEST_F(ExpressionTest, RangesDecideComparisons) {
  EXPECT_TRUE(integers(Operator::Less, positions(8), number(8))->isSplat(1));
  EXPECT_TRUE(integers(Operator::Equal, positions(8), number(9))->isSplat(0));
  EXPECT_FALSE(integers(Operator::Less, positions(8), number(7))->isSplat());
}

TEST_F(ExpressionTest, AdditiveMasksOfAnySpellingAreOneChoice) {
  constexpr auto f32 = ElementType::Float32;
  ExpressionRef causal = integers(Operator::LessEqual, column(9), row(9));
  ExpressionRef chosen = context.elementwise(Operator::Select, {causal, number(0, f32), number(-1e9, f32)}, f32);
  // (1 - float(mask)) * -1e9
  ExpressionRef inverted = apply(Operator::Subtract, number(1, f32), context.convert(causal, f32), f32);
  EXPECT_EQ(apply(Operator::Multiply, inverted, number(-1e9, f32), f32), chosen);
  // masked_fill(zeros, future, -1e9)
  ExpressionRef future = integers(Operator::Less, row(9), column(9));
  EXPECT_EQ(context.elementwise(Operator::Select, {future, number(-1e9, f32), number(0, f32)}, f32), chosen);
}

TEST_F(ExpressionTest, PositionalValuesStaySymbolicAtAnySize) {
  int64_t n = 1 << 20;
  ExpressionRef mask = context.expand(integers(Operator::LessEqual, column(n), row(n)), {8, 1, n, n});
  EXPECT_THAT(mask->dependentDims(), ElementsAre(2, 3));
  EXPECT_EQ(context.evaluate(mask, {7, 0, 5, n - 1}), 0);
  EXPECT_EQ(context.evaluate(mask, {7, 0, n - 1, 5}), 1);
}

TEST_F(ExpressionTest, RotaryAnglesAreOneProductWithSmallNumbers) {
  constexpr auto f32 = ElementType::Float32;
  // 1 / 10000^(arange(0, 8, 2) / 8), then cat(p·f, p·f)
  ExpressionRef exponents = apply(
      Operator::Divide, context.convert(context.arange(ElementType::Int64, 0, 2, 4, false), f32), number(8, f32), f32);
  ExpressionRef frequencies =
      apply(Operator::Divide, number(1, f32), apply(Operator::Power, number(10000, f32), exponents, f32), f32);
  EXPECT_EQ(frequencies->kind, Expression::Kind::Dense);
  ExpressionRef angles =
      apply(Operator::Multiply, context.convert(context.reshape(positions(64), {64, 1}), f32), frequencies, f32);
  ExpressionRef both = context.concat({angles, angles}, 1);
  ASSERT_TRUE(both && both->isElementwise(Operator::Multiply));
  EXPECT_EQ(both->operands[0]->kind, Expression::Kind::Affine);
  EXPECT_EQ(both->operands[1]->kind, Expression::Kind::Dense);
  for (int64_t d : {1, 5})
    EXPECT_EQ(context.evaluate(both, {17, d}), float(17 * float(1 / float(std::pow(10000.0, 0.25)))));
}

TEST_F(ExpressionTest, NumbersWrittenOutForEverySampleAreNoneOfItsOwn) {
  ExpressionRef slopes = context.expand(context.dense(ElementType::Float32, {4}, {0.5, 0.25, 0.125, 0.0625}), {3, 4});
  ExpressionRef merged = context.reshape(slopes, {12, 1});
  EXPECT_TRUE(merged->dependsOn(0));
  EXPECT_EQ(merged->data->period, 4);
  ExpressionRef split = context.reshape(merged, {3, 4});
  EXPECT_FALSE(split->dependsOn(0));
  EXPECT_EQ(context.materialize(split), context.materialize(slopes));
  // A repetition that the numbers happen to have is none: tables of frequencies have it.
  EXPECT_EQ(context.reshape(context.dense(ElementType::Float32, {2, 2}, {1, 2, 1, 2}), {4, 1})->data->period, 0);
  // Where samples differ nothing is dropped.
  ExpressionRef other = context.dense(ElementType::Float32, {4}, {0.5, 0.25, 0.5, 0.0625});
  EXPECT_TRUE(context.reshape(other, {2, 2})->dependsOn(0));
}

TEST_F(ExpressionTest, ReshapesOfDenseLeavesKeepEveryNumber) {
  std::vector<double> values;
  for (int i = 0; i < 24; ++i)
    values.push_back(i * i % 7);
  ExpressionRef x = context.dense(ElementType::Float32, {2, 3, 4}, values);
  EXPECT_EQ(context.materialize(context.reshape(x, {6, 4})), values);
  // Through a transpose the merged dimensions are no ramp, so the numbers are written out.
  View turned;
  turned.shape = {4, 3, 2};
  for (unsigned from : {2u, 1u, 0u}) {
    View::Index index;
    index.terms.push_back({from, 1});
    turned.indices.push_back(index);
  }
  ExpressionRef y = context.view(x, turned);
  EXPECT_EQ(context.materialize(context.reshape(y, {12, 2})), context.materialize(y));
}

TEST_F(ExpressionTest, ConcatenationsOfRampsThatContinueAreARamp) {
  ExpressionRef before = context.splat(ElementType::Int64, {1}, -1);
  ExpressionRef whole = context.concat({before, positions(8)}, 0);
  EXPECT_EQ(whole->kind, Expression::Kind::Affine);
  EXPECT_EQ(context.evaluate(whole, {0}), -1);
}

TEST_F(ExpressionTest, MaskBuffersBecomeComparisons) {
  constexpr int64_t n = 300; // above the fold limit
  std::vector<uint8_t> causal(n * n), window(n * n), odd(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      causal[i * n + j] = j <= i;
      window[i * n + j] = j <= i && i - j < 16;
      odd[i * n + j] = j <= i || (i == 3 && j == 200);
    }
  auto buffer = [&](const std::vector<uint8_t> &bytes) {
    return context.buffer(ElementType::Bool, {1, 1, n, n}, {n * n, n * n, n, 1}, bytes.data(), nullptr);
  };
  EXPECT_TRUE(buffer(causal)->isElementwise(Operator::LessEqual));
  EXPECT_TRUE(buffer(window)->isElementwise(Operator::And));
  EXPECT_EQ(buffer(odd)->kind, Expression::Kind::Dense);
  std::vector<uint8_t> copy = causal;
  EXPECT_EQ(buffer(copy), buffer(causal));
}

TEST_F(ExpressionTest, StoredTablesOfSinesBecomeTheFormula) {
  constexpr int64_t rows = 600, half = 64;
  std::vector<float> table(rows * 2 * half);
  auto frequency = [](int64_t i) { return float(std::pow(10000.0, -double(i) / half)); };
  for (int64_t p = 0; p < rows; ++p)
    for (int64_t i = 0; i < half; ++i) {
      float angle = float(p) * frequency(i);
      table[p * 2 * half + i] = std::sin(angle);
      table[p * 2 * half + half + i] = std::cos(angle);
    }
  ExpressionRef x = context.buffer(ElementType::Float32, {rows, 2 * half}, {2 * half, 1}, table.data(), nullptr);
  ASSERT_TRUE(x->isElementwise(Operator::Select));
  for (int64_t c : {0, 5, 63, 64, 70, 127})
    EXPECT_NEAR(context.evaluate(x, {577, c}), table[577 * 2 * half + c], 2e-6) << c;
  // The half with the cosines is a cosine alone.
  View right;
  right.shape = {rows, half};
  right.indices.resize(2);
  right.indices[0].terms.push_back({0, 1});
  right.indices[1] = {half, {{1, 1}}};
  EXPECT_TRUE(context.view(x, right)->isElementwise(Operator::Cosine));
  table[577 * 2 * half + 70] += 1e-3f;
  EXPECT_EQ(context.buffer(ElementType::Float32, {rows, 2 * half}, {2 * half, 1}, table.data(), nullptr)->kind,
            Expression::Kind::Dense);
}

TEST_F(ExpressionTest, FloatsRoundAsTheirTypeDoes) {
  EXPECT_EQ(roundTo(ElementType::Float32, 0.1), double(0.1f));
  EXPECT_EQ(roundTo(ElementType::BFloat16, 1.00390625), 1.0); // halfway, to even
  EXPECT_EQ(roundTo(ElementType::Float16, 65520), INFINITY);
  EXPECT_EQ(roundTo(ElementType::Float16, 1.0 + 0x1p-11), 1.0);
  EXPECT_EQ(roundTo(ElementType::Int64, -1.5), -1);
}

TEST_F(ExpressionTest, QuotientsAreRoundedAsAsked) {
  auto quotient = [&](Operator op, double a, double b) { return evaluateOperator(op, {a, b}, ElementType::Int64); };
  EXPECT_EQ(quotient(Operator::FloorDivide, -7, 2), -4);
  EXPECT_EQ(quotient(Operator::TruncateDivide, -7, 2), -3);
  constexpr auto f32 = ElementType::Float32;
  EXPECT_EQ(evaluateOperator(Operator::Truncate, {-1.7}, f32), -1);
  EXPECT_EQ(evaluateOperator(Operator::Round, {2.5}, f32), 2); // to even, as torch
  EXPECT_NEAR(evaluateOperator(Operator::Arctangent2, {1, -1}, f32), 2.35619449, 1e-7);
}

} // namespace
