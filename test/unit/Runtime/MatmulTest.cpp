// Products with every arrangement of strides, against three plain loops in f64.
#include "RuntimeFixture.h"

using namespace galvatron::test;

namespace {

struct Strides {
  int64_t rows, columns;
};

/// Strides of an m × n matrix: row-major, column-major, padded rows, or with gaps both ways.
enum Layout { kRows, kColumns, kPadded, kScattered };
Strides strides(Layout layout, int64_t m, int64_t n) {
  switch (layout) {
  case kRows:
    return {n, 1};
  case kColumns:
    return {1, m};
  case kPadded:
    return {n + 5, 1};
  case kScattered:
    return {2 * n + 1, 2};
  }
  return {};
}

class MatmulTest : public RuntimeTest,
                   public ::testing::WithParamInterface<std::tuple<Layout, Layout, Layout, int64_t>> {};

TEST_P(MatmulTest, EqualsPlainLoops) {
  auto [la, lb, lc, accumulate] = GetParam();
  for (auto [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{7, 9, 5}, {1, 33, 17}, {65, 1, 31}, {40, 48, 1}}) {
    constexpr int64_t kBatch = 3;
    Strides sa = strides(la, m, k), sb = strides(lb, k, n), sc = strides(lc, m, n);
    int64_t na = 2 * (m + 1) * (k + 6), nb = 2 * (k + 1) * (n + 6), nc = 2 * (m + 1) * (n + 6);
    auto a = values(kBatch * na, 1), b = values(kBatch * nb, 2), c = values(kBatch * nc, 3);
    std::vector<double> expected(c.begin(), c.end());
    for (int64_t t = 0; t < kBatch; ++t)
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double &out = expected[t * nc + i * sc.rows + j * sc.columns];
          out = accumulate ? out : 0;
          for (int64_t l = 0; l < k; ++l)
            out += (double)a[t * na + i * sa.rows + l * sa.columns] * b[t * nb + l * sb.rows + j * sb.columns];
        }
    if (!accumulate) // what is overwritten may be anything
      for (int64_t t = 0; t < kBatch; ++t)
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j)
            c[t * nc + i * sc.rows + j * sc.columns] = NAN;
    call(gvrt_matmul, {a.data(), b.data(), c.data()},
         {GVRT_F32, GVRT_F32, m, n, k, sa.rows, sa.columns, sb.rows, sb.columns, sc.rows, sc.columns, accumulate, 1,
          kBatch, na, nb, nc});
    expectNear(c, expected, 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, MatmulTest,
                         ::testing::Combine(::testing::Values(kRows, kColumns, kPadded, kScattered),
                                            ::testing::Values(kRows, kColumns, kPadded, kScattered),
                                            ::testing::Values(kRows, kColumns, kPadded, kScattered),
                                            ::testing::Values(0, 1)));

using MatmulBatchTest = RuntimeTest;

TEST_F(MatmulBatchTest, LoopsThatContinueADimensionAreOneProduct) {
  // c[b,s,n] = a[b,s,k] w[n,k]: the batch loop runs on in m.
  constexpr int64_t kB = 3, kS = 5, kN = 7, kK = 6;
  auto a = values(kB * kS * kK, 1), w = values(kN * kK, 2);
  std::vector<float> c(kB * kS * kN), expected(kB * kS * kN);
  call(gvrt_matmul, {a.data(), w.data(), c.data()},
       {GVRT_F32, GVRT_F32, kS, kN, kK, kK, 1, 1, kK, kN, 1, 0, 1, kB, kS * kK, 0, kS * kN});
  call(gvrt_matmul, {a.data(), w.data(), expected.data()},
       {GVRT_F32, GVRT_F32, kB * kS, kN, kK, kK, 1, 1, kK, kN, 1, 0, 0});
  EXPECT_EQ(c, expected);
}

TEST_F(MatmulBatchTest, BiasAndAddendAreAdded) {
  // Rows of c and of the addend are further apart than they are long; what lies between is not touched.
  constexpr int64_t kM = 5, kN = 7, kK = 6, kRow = 9;
  auto a = values(kM * kK, 1), b = values(kK * kN, 2), bias = values(kN, 3), addend = values(kM * kRow, 4);
  for (bool hasBias : {false, true})
    for (bool hasAddend : {false, true}) {
      std::vector<float> c(kM * kRow, NAN);
      call(gvrt_matmul_add,
           {a.data(), b.data(), hasBias ? bias.data() : nullptr, hasAddend ? addend.data() : nullptr, c.data()},
           {GVRT_F32, GVRT_F32, kM, kN, kK, kK, 1, kN, 1, kRow});
      for (int64_t i = 0; i < kM; ++i)
        for (int64_t j = 0; j < kRow; ++j) {
          if (j >= kN) {
            EXPECT_TRUE(std::isnan(c[i * kRow + j]));
            continue;
          }
          double expected = (hasBias ? bias[j] : 0) + (hasAddend ? addend[i * kRow + j] : 0);
          for (int64_t l = 0; l < kK; ++l)
            expected += (double)a[i * kK + l] * b[l * kN + j];
          EXPECT_NEAR(c[i * kRow + j], expected, 1e-5);
        }
    }
}

TEST_F(MatmulBatchTest, OtherTypesAreRefused) {
  float x = 1;
  for (auto [type, resultType] : {std::pair{GVRT_BF16, GVRT_F32}, {GVRT_F32, GVRT_BF16}})
    EXPECT_THROW(call(gvrt_matmul, {&x, &x, &x}, {type, resultType, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0}),
                 std::runtime_error);
}

TEST_F(MatmulBatchTest, LongSidesGoInBlocks) {
  for (auto [m, n] : {std::pair<int64_t, int64_t>{3073, 3}, {3, 6200}, {3100, 3079}}) {
    constexpr int64_t kK = 2;
    auto a = values(m * kK, 1), b = values(n * kK, 2);
    std::vector<float> rows(m * n, NAN), columns(m * n, NAN);
    call(gvrt_matmul, {a.data(), b.data(), rows.data()}, {GVRT_F32, GVRT_F32, m, n, kK, kK, 1, 1, kK, n, 1, 0, 0});
    call(gvrt_matmul, {a.data(), b.data(), columns.data()}, {GVRT_F32, GVRT_F32, m, n, kK, 1, m, n, 1, 1, m, 0, 0});
    for (int64_t i = 0; i < m; i += 97)
      for (int64_t j = 0; j < n; j += j < n - 5 ? 89 : 1) {
        ASSERT_NEAR(rows[i * n + j], a[2 * i] * b[2 * j] + a[2 * i + 1] * b[2 * j + 1], 1e-6);
        ASSERT_NEAR(columns[i + j * m], a[i] * b[j] + a[m + i] * b[n + j], 1e-6);
      }
  }
}

TEST_F(MatmulBatchTest, LoopsThatTheResultLacksAreSummed) {
  // dw[n,k] = Σ over b of dy[b,s,n] x[b,s,k], once as a continued k loop, once with a gap between batches.
  constexpr int64_t kB = 3, kS = 5, kN = 4, kK = 6;
  for (int64_t gap : {0, 2}) {
    int64_t rows = kS + gap;
    auto dy = values(kB * rows * kN, 1), x = values(kB * rows * kK, 2);
    std::vector<float> dw(kN * kK, NAN);
    std::vector<double> expected(kN * kK);
    for (int64_t b = 0; b < kB; ++b)
      for (int64_t s = 0; s < kS; ++s)
        for (int64_t n = 0; n < kN; ++n)
          for (int64_t k = 0; k < kK; ++k)
            expected[n * kK + k] += (double)dy[(b * rows + s) * kN + n] * x[(b * rows + s) * kK + k];
    call(gvrt_matmul, {dy.data(), x.data(), dw.data()},
         {GVRT_F32, GVRT_F32, kN, kK, kS, 1, kN, kK, 1, kK, 1, 0, 1, kB, rows * kN, rows * kK, 0});
    expectNear(dw, expected, 1e-6);
  }
}

} // namespace
