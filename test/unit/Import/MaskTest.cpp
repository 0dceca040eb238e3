// Masks: every spelling of the two that attention has as attributes, and nothing else.
#include "lib/Import/Expression/Mask.h"

#include <gmock/gmock.h>

#include <cmath>

using namespace galvatron::importer;

namespace {

struct MaskTest : testing::Test {
  ExpressionContext context;

  /// Positions along one of the two dimensions of [queries, keys].
  ExpressionRef along(int dim, int64_t queries, int64_t keys, int64_t offset = 0) {
    Linear value{double(offset), Shape(2, 0), true};
    value.factors[dim] = 1;
    return context.linear(ElementType::Int64, {queries, keys}, value);
  }
  ExpressionRef compare(Operator op, ExpressionRef a, ExpressionRef b) {
    return context.elementwise(op, {a, b}, ElementType::Bool);
  }
  ExpressionRef both(ExpressionRef a, ExpressionRef b) {
    return context.elementwise(Operator::And, {a, b}, ElementType::Bool);
  }
  ExpressionRef causal(int64_t n) { return compare(Operator::LessEqual, along(1, n, n), along(0, n, n)); }
  ExpressionRef recent(int64_t n, int64_t window) {
    return compare(Operator::Less, along(0, n, n, -window), along(1, n, n));
  }
};

TEST_F(MaskTest, Causal) {
  auto mask = recognizeMask(context, causal(1 << 17));
  ASSERT_TRUE(mask);
  EXPECT_TRUE(mask->causal);
  EXPECT_EQ(mask->window, 0);
}

TEST_F(MaskTest, SlidingWindow) {
  auto mask = recognizeMask(context, both(causal(64), recent(64, 8)));
  ASSERT_TRUE(mask && mask->causal);
  EXPECT_EQ(mask->window, 8);
}

TEST_F(MaskTest, WindowAsLongAsTheSequenceIsNone) {
  auto mask = recognizeMask(context, both(causal(64), recent(64, 64)));
  ASSERT_TRUE(mask && mask->causal);
  EXPECT_EQ(mask->window, 0);
}

TEST_F(MaskTest, FewerQueriesThanKeysAlignAtTheEnd) {
  ExpressionRef visible = compare(Operator::LessEqual, along(1, 4, 10), along(0, 4, 10, 6));
  auto mask = recognizeMask(context, visible);
  ASSERT_TRUE(mask);
  EXPECT_TRUE(mask->causal);
  EXPECT_FALSE(recognizeMask(context, compare(Operator::LessEqual, along(1, 4, 10), along(0, 4, 10))));
}

TEST_F(MaskTest, OneNumberEverywhereMasksNothing) {
  auto all = recognizeMask(context, context.splat(ElementType::Bool, {8, 8}, 1));
  EXPECT_TRUE(all && !all->causal && all->window == 0);
  EXPECT_TRUE(recognizeMask(context, context.splat(ElementType::Float32, {8, 8}, 0)));
  EXPECT_FALSE(recognizeMask(context, context.splat(ElementType::Bool, {8, 8}, 0)));
}

TEST_F(MaskTest, AdditiveMasks) {
  constexpr auto f32 = ElementType::Float32;
  for (double hidden : {-3.4028234663852886e38, -double(INFINITY), -1e9}) {
    ExpressionRef mask = context.elementwise(
        Operator::Select, {causal(32), context.splat(f32, {}, 0), context.splat(f32, {}, hidden)}, f32);
    ASSERT_TRUE(recognizeMask(context, mask)) << hidden;
    EXPECT_TRUE(recognizeMask(context, mask)->causal);
  }
  // A bias of -1 is no mask.
  ExpressionRef bias =
      context.elementwise(Operator::Select, {causal(32), context.splat(f32, {}, 0), context.splat(f32, {}, -1)}, f32);
  EXPECT_FALSE(recognizeMask(context, bias));
}

TEST_F(MaskTest, NumbersAreCheckedOneByOne) {
  std::vector<double> values;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j)
      values.push_back(j <= i && i - j < 5);
  auto mask = recognizeMask(context, context.dense(ElementType::Bool, {16, 16}, values));
  ASSERT_TRUE(mask && mask->causal);
  EXPECT_EQ(mask->window, 5);
  values[7 * 16 + 3] = !values[7 * 16 + 3];
  EXPECT_FALSE(recognizeMask(context, context.dense(ElementType::Bool, {16, 16}, values)));
}

TEST_F(MaskTest, BlocksAndBidirectionalWindowsAreNoAttributes) {
  EXPECT_FALSE(recognizeMask(context, recent(32, 4)));
  EXPECT_FALSE(recognizeMask(context, compare(Operator::LessEqual, along(0, 32, 32), along(1, 32, 32))));
  // A mask that differs between heads.
  ExpressionRef heads = context.dense(ElementType::Bool, {2, 1, 1}, {0, 1});
  EXPECT_FALSE(recognizeMask(context, context.elementwise(Operator::Or, {heads, causal(8)}, ElementType::Bool)));
}

} // namespace
