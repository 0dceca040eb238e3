// Copies and reductions over any strides, and the values that follow from global positions.
#include "RuntimeFixture.h"
#include "runtime/api/CounterRandom.h"
#include "runtime/kernels/HalfTypes.h"

#include <numeric>

using namespace galvatron::test;
using galvatron::Bfloat16;
using galvatron::Float16;

namespace {

using StridedTest = RuntimeTest;

/// Row-major strides.
std::vector<int64_t> rowMajor(const std::vector<int64_t> &extents) {
  std::vector<int64_t> strides(extents.size(), 1);
  for (size_t d = extents.size(); d-- > 1;)
    strides[d - 1] = strides[d] * extents[d];
  return strides;
}

std::vector<int64_t> join(std::initializer_list<std::vector<int64_t>> parts) {
  std::vector<int64_t> all;
  for (const auto &part : parts)
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST_F(StridedTest, CopyPermutesDimensionsOfEveryElementSize) {
  std::vector<int64_t> extents = {3, 17, 5, 19};
  std::vector<int64_t> permutation = {0, 1, 2, 3};
  int64_t total = 3 * 17 * 5 * 19;
  do {
    // y is a row-major tensor with permuted dimensions: loops in x's order, strides of y accordingly.
    std::vector<int64_t> permuted;
    for (int64_t p : permutation)
      permuted.push_back(extents[p]);
    std::vector<int64_t> yPermuted = rowMajor(permuted), y(4), x = rowMajor(extents);
    for (int i = 0; i < 4; ++i)
      y[permutation[i]] = yPermuted[i];
    auto check = [&](auto zero) {
      using T = decltype(zero);
      std::vector<T> from(total), to(total, T(-1));
      std::iota(from.begin(), from.end(), T(1));
      call(gvrt_copy, {from.data(), to.data()}, join({{sizeof(T), 4}, extents, x, y}));
      for (int64_t e = 0; e < total; ++e) {
        int64_t target = 0;
        for (int d = 0; d < 4; ++d)
          target += e / x[d] % extents[d] * y[d];
        ASSERT_EQ(to[target], from[e]);
      }
    };
    check(uint8_t());
    check(uint16_t());
    check(float());
    check(int64_t());
  } while (std::next_permutation(permutation.begin(), permutation.end()));
}

TEST_F(StridedTest, CopyRepeatsAlongStrideZeroAndLeavesGaps) {
  std::vector<float> x = {1, 2, 3}, y(12, 0.0f);
  call(gvrt_copy, {x.data(), y.data()}, {4, 2, 2, 3, 0, 1, 6, 2});
  EXPECT_EQ(y, (std::vector<float>{1, 0, 2, 0, 3, 0, 1, 0, 2, 0, 3, 0}));
}

TEST_F(StridedTest, ReduceOverEverySubsetOfDimensions) {
  std::vector<int64_t> extents = {3, 70, 2, 19}, x = rowMajor(extents);
  auto from = values(3 * 70 * 2 * 19, 1);
  for (int64_t kind : {0, 1})
    for (int64_t accumulate : {0, 1})
      for (int kept = 0; kept < 16; ++kept) {
        std::vector<int64_t> y(4, 0);
        int64_t count = 1;
        for (int d = 3; d >= 0; --d)
          if (kept >> d & 1) {
            y[d] = count;
            count *= extents[d];
          }
        std::vector<float> to(count, 0.25f);
        std::vector<double> expected(count, accumulate ? 0.25 : kind ? -INFINITY : 0);
        for (size_t e = 0; e < from.size(); ++e) {
          int64_t target = 0;
          for (int d = 0; d < 4; ++d)
            target += (int64_t)e / x[d] % extents[d] * y[d];
          expected[target] = kind ? std::max(expected[target], (double)from[e]) : expected[target] + from[e];
        }
        call(gvrt_reduce, {from.data(), to.data()}, join({{GVRT_F32, GVRT_F32, kind, accumulate, 4}, extents, x, y}));
        expectNear(to, expected, 2e-6);
      }
}

/// Ties go to the even neighbour; infinity, -0 and what is not a number stay what they are.
TEST_F(StridedTest, ConvertRoundsToNearestEven) {
  const float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> x = {1.0f,     1.00390625f, 1.01171875f, -1.00390625f, 1.00390637f,
                          3.39e38f, 3.4e38f,     kInfinity,   -0.0f};
  std::vector<float> expected = {1.0f, 1.0f, 1.015625f, -1.0f, 1.0078125f, 3.3895e38f, kInfinity, kInfinity, -0.0f};
  std::vector<Bfloat16> y(x.size());
  std::vector<float> back(x.size());
  call(gvrt_convert, {x.data(), y.data()}, {GVRT_F32, GVRT_BF16, (int64_t)x.size()});
  call(gvrt_convert, {y.data(), back.data()}, {GVRT_BF16, GVRT_F32, (int64_t)x.size()});
  for (size_t i = 0; i < x.size(); ++i)
    EXPECT_TRUE(back[i] == expected[i] || std::fabs(back[i] - expected[i]) < 0.002f * std::fabs(expected[i]))
        << x[i] << " " << back[i];
  for (size_t i : {0, 1, 2, 3, 4, 6, 7})
    EXPECT_EQ(back[i], expected[i]);
  EXPECT_TRUE(std::signbit(back[8]));
  float nan = NAN;
  call(gvrt_convert, {&nan, y.data()}, {GVRT_F32, GVRT_BF16, 1});
  EXPECT_TRUE(std::isnan((float)y[0]));
}

/// Subnormals, the least of them, ties at both ends of the range, and overflow.
TEST_F(StridedTest, ConvertToF16RoundsToNearestEven) {
  const float kInfinity = std::numeric_limits<float>::infinity(), kLeast = 0x1p-24f;
  std::vector<std::pair<float, float>> cases = {{1.0f, 1.0f},
                                                {1.00048828125f, 1.0f}, // ties
                                                {1.00146484375f, 1.001953125f},
                                                {-1.00146484375f, -1.001953125f},
                                                {1.000488400459f, 1.0009765625f},
                                                {65504, 65504},
                                                {65519.996f, 65504},
                                                {65520, kInfinity},
                                                {-1e30f, -kInfinity},
                                                {kInfinity, kInfinity},
                                                {0x1p-14f, 0x1p-14f},
                                                {0x1.ff8p-15f, 0x1.ff8p-15f},
                                                {0x1.ffcp-15f, 0x1p-14f}, // a tie that leaves the subnormals
                                                {-3 * kLeast, -3 * kLeast},
                                                {2.5f * kLeast, 2 * kLeast},
                                                {0.5f * kLeast, 0},
                                                {0.50001f * kLeast, kLeast},
                                                {1e-40f, 0},
                                                {-0.0f, -0.0f}};
  std::vector<Float16> y(1);
  for (auto [x, expected] : cases) {
    float back;
    call(gvrt_convert, {&x, y.data()}, {GVRT_F32, GVRT_F16, 1});
    call(gvrt_convert, {y.data(), &back}, {GVRT_F16, GVRT_F32, 1});
    EXPECT_EQ(back, expected) << x;
    EXPECT_EQ(std::signbit(back), std::signbit(x)) << x;
  }
  EXPECT_TRUE(std::isnan((float)Float16(NAN)));
  for (int bits = 0; bits < 0x10000; ++bits) {
    Float16 value, again;
    value.bits = bits;
    again = Float16((float)value);
    EXPECT_TRUE(again.bits == bits || (std::isnan((float)value) && std::isnan((float)again))) << bits;
  }
}

TEST_F(StridedTest, AccumulateAddsEveryPairOfTypes) {
  std::vector<float> x = {1, 0.00390625f};
  std::vector<Bfloat16> half = {Bfloat16(1.0f), Bfloat16(0.00390625f)};
  std::vector<Float16> other = {Float16(1.0f), Float16(0.00390625f)};
  for (int64_t type : {GVRT_F32, GVRT_BF16, GVRT_F16}) {
    const void *from = type == GVRT_F32   ? (const void *)x.data()
                       : type == GVRT_F16 ? (const void *)other.data()
                                          : half.data();
    std::vector<float> y = {1, 1};
    std::vector<Bfloat16> z = {Bfloat16(1.0f), Bfloat16(1.0f)};
    call(gvrt_accumulate, {from, y.data()}, {type, GVRT_F32, 2});
    call(gvrt_accumulate, {from, z.data()}, {type, GVRT_BF16, 2});
    EXPECT_EQ(y, (std::vector<float>{2, 1.00390625f}));
    EXPECT_EQ((float)z[0], 2.0f);
    EXPECT_EQ((float)z[1], 1.0f); // the tie went to the even neighbour
    std::vector<Float16> w = {Float16(1.0f), Float16(2048.0f)};
    call(gvrt_accumulate, {from, w.data()}, {type, GVRT_F16, 2});
    EXPECT_EQ((float)w[0], 2.0f);
    EXPECT_EQ((float)w[1], 2048.0f);
  }
}

TEST_F(StridedTest, ShiftFillsBehindTheEnd) {
  std::vector<int64_t> x = {1, 2, 3, 4, 5, 6}, y(6);
  call(gvrt_shift, {x.data(), y.data()}, {2, 3, 1, 1, -100});
  EXPECT_EQ(y, (std::vector<int64_t>{2, 3, -100, 5, 6, -100}));
  call(gvrt_shift, {x.data(), y.data()}, {1, 3, 2, -1, 0});
  EXPECT_EQ(y, (std::vector<int64_t>{0, 0, 1, 2, 3, 4}));
}

TEST_F(StridedTest, IotaCountsGlobally) {
  context.coordinates = {1};
  context.microBatch = 1;
  // Dimension 1, global 8 as [2 micro-batch][2 axis 0][2 local].
  std::vector<int64_t> y(6);
  call(gvrt_iota, {y.data()}, {GVRT_I64, 1, 2, 3, 2, 1, 3, -1, 3, 2, -2, 2, 0, 2, -1});
  EXPECT_EQ(y, (std::vector<int64_t>{6, 7, 6, 7, 6, 7}));
}

TEST_F(StridedTest, DropoutDrawsByGlobalElementUnderEveryCut) {
  constexpr int64_t kRows = 4, kColumns = 12, kId = 7;
  constexpr double kP = 0.3;
  context.seed = 5;
  context.step = 9;
  context.layer = 1234;
  auto stream = galvatron::random::dropoutStream(5, 9, 1234, kId);
  auto x = values(kRows * kColumns, 1);
  std::vector<float> expected(x.size());
  for (size_t e = 0; e < x.size(); ++e)
    expected[e] = galvatron::random::keeps(stream, e, kP) ? x[e] * (float)(1 / (1 - kP)) : 0;
  // Columns as [2 local][2 axis 0][3 local], rows as [2 micro-batch][2 local].
  std::vector<float> whole(x.size(), NAN);
  for (int64_t coordinate : {0, 1})
    for (int64_t microBatch : {0, 1}) {
      context.coordinates = {coordinate};
      context.microBatch = microBatch;
      std::vector<float> local(12), result(12);
      auto global = [&](int64_t i) {
        int64_t row = microBatch * 2 + i / 6, column = i % 6 / 3 * 6 + coordinate * 3 + i % 3;
        return row * kColumns + column;
      };
      for (int64_t i = 0; i < 12; ++i)
        local[i] = x[global(i)];
      call(gvrt_dropout, {local.data(), result.data()},
           {GVRT_F32, bits(kP), kId, 2, 2, 6, 2, 2, -2, 2, -1, 3, 2, -1, 2, 0, 3, -1});
      for (int64_t i = 0; i < 12; ++i)
        whole[global(i)] = result[i];
    }
  EXPECT_EQ(whole, expected);
}

} // namespace
