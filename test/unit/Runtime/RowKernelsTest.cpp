// Norms, softmax, rope, embedding and loss against their formulas in f64.
#include "RuntimeFixture.h"

using namespace galvatron::test;

namespace {

class NormTest : public RuntimeTest, public ::testing::WithParamInterface<std::tuple<int, bool, double, int64_t>> {};

TEST_P(NormTest, ForwardAndBackwardFollowTheFormula) {
  auto [kind, affine, offset, columns] = GetParam();
  constexpr int64_t kRows = 70; // more than a block of rows
  constexpr double kEpsilon = 1e-5;
  auto x = values(kRows * columns, 1), dy = values(kRows * columns, 2), w = values(columns, 3), b = values(columns, 4);
  std::vector<float> y(x.size()), mean(kRows), rstd(kRows), dx(x.size()), dw(columns, 0.5f);
  std::vector<double> ey(x.size()), edx(x.size()), edw(columns, 0.5);
  for (int64_t r = 0; r < kRows; ++r) {
    const float *row = &x[r * columns], *drow = &dy[r * columns];
    double m = 0, squares = 0, meanG = 0, meanGx = 0;
    for (int64_t c = 0; kind == 1 && c < columns; ++c)
      m += (double)row[c] / columns;
    for (int64_t c = 0; c < columns; ++c)
      squares += (row[c] - m) * (row[c] - m) / columns;
    double s = 1 / std::sqrt(squares + kEpsilon);
    auto weight = [&](int64_t c) { return affine ? w[c] + offset : 1.0; };
    for (int64_t c = 0; c < columns; ++c) {
      double normal = (row[c] - m) * s;
      ey[r * columns + c] = normal * weight(c) + (affine ? b[c] : 0);
      edw[c] += drow[c] * normal;
      meanG += kind == 1 ? drow[c] * weight(c) / columns : 0;
      meanGx += drow[c] * weight(c) * normal / columns;
    }
    for (int64_t c = 0; c < columns; ++c)
      edx[r * columns + c] = s * (drow[c] * weight(c) - meanG - (row[c] - m) * s * meanGx);
  }
  const float *weight = affine ? w.data() : nullptr, *bias = affine ? b.data() : nullptr;
  call(gvrt_norm, {x.data(), weight, bias, y.data(), mean.data(), rstd.data()},
       {GVRT_F32, kRows, columns, kind, bits(kEpsilon), bits(offset)});
  call(gvrt_norm_backward, {dy.data(), x.data(), weight, mean.data(), rstd.data(), dx.data()},
       {GVRT_F32, kRows, columns, kind, bits(offset)});
  call(gvrt_norm_weight_backward, {dy.data(), x.data(), mean.data(), rstd.data(), dw.data()},
       {GVRT_F32, kRows, columns, 1});
  expectNear(y, ey, 1e-6, "y");
  expectNear(dx, edx, 2e-6, "dx");
  expectNear(dw, edw, 1e-6, "dw");
  if (kind == 0)
    EXPECT_EQ(mean, std::vector<float>(kRows, 0.0f));
}

INSTANTIATE_TEST_SUITE_P(Kinds, NormTest,
                         ::testing::Combine(::testing::Values(0, 1), ::testing::Bool(), ::testing::Values(0.0, 1.0),
                                            ::testing::Values<int64_t>(3, 13, 64, 257)));

using RowTest = RuntimeTest;

TEST_F(RowTest, SoftmaxAndItsGradient) {
  for (int64_t columns : {1, 5, 16, 100}) {
    constexpr int64_t kRows = 3;
    auto x = values(kRows * columns, 1), dy = values(kRows * columns, 2);
    for (float &value : x)
      value *= 30;
    std::vector<float> y(x.size()), dx(x.size());
    std::vector<double> ey(x.size()), edx(x.size());
    for (int64_t r = 0; r < kRows; ++r) {
      double sum = 0, dot = 0;
      for (int64_t c = 0; c < columns; ++c)
        sum += std::exp((double)x[r * columns + c]);
      for (int64_t c = 0; c < columns; ++c) {
        ey[r * columns + c] = std::exp((double)x[r * columns + c]) / sum;
        dot += ey[r * columns + c] * dy[r * columns + c];
      }
      for (int64_t c = 0; c < columns; ++c)
        edx[r * columns + c] = ey[r * columns + c] * (dy[r * columns + c] - dot);
    }
    call(gvrt_softmax, {x.data(), y.data()}, {GVRT_F32, kRows, columns});
    call(gvrt_softmax_backward, {dy.data(), y.data(), dx.data()}, {GVRT_F32, kRows, columns});
    expectNear(y, ey, 5e-7);
    expectNear(dx, edx, 5e-7);
  }
}

TEST_F(RowTest, ExponentialIsAccurateOverItsWholeRange) {
  std::vector<float> x;
  for (double v = -110; v < 89; v += 0.0137)
    x.push_back((float)v);
  float zero = 0, sum;
  for (float value : x) {
    call(gvrt_sum_exp, {&value, &zero, &sum}, {GVRT_F32, 1, 1});
    double exact = std::exp((double)value);
    if (exact < 1.2e-38) // below normal numbers
      EXPECT_LE(sum, 1.2e-38f);
    else if (exact < 3.4e38)
      EXPECT_NEAR(sum / exact, 1, 2e-7) << value;
  }
  for (auto [value, expected] : {std::pair<float, float>{INFINITY, INFINITY}, {-INFINITY, 0}, {NAN, NAN}, {0, 1}}) {
    call(gvrt_sum_exp, {&value, &zero, &sum}, {GVRT_F32, 1, 1});
    EXPECT_TRUE(sum == expected || (std::isnan(sum) && std::isnan(expected))) << value << " " << sum;
  }
}

TEST_F(RowTest, RopeRotatesPairsAndItsInverseUndoesIt) {
  constexpr int64_t kB = 2, kS = 5, kN = 3, kD = 10, kF = 4; // two of ten elements pass through
  std::vector<double> frequency = {1.0, 0.3, 0.05, 0.001};
  auto x = values(kB * kS * kN * kD, 1);
  // The sequence is cut on mesh axis 0; this device holds positions 5 … 9.
  context.coordinates = {1};
  for (int64_t style : {0, 1}) {
    std::vector<float> y(x.size()), back(x.size());
    std::vector<double> expected(x.begin(), x.end());
    for (int64_t b = 0; b < kB; ++b)
      for (int64_t s = 0; s < kS; ++s)
        for (int64_t n = 0; n < kN; ++n)
          for (int64_t f = 0; f < kF; ++f) {
            int64_t base = ((b * kS + s) * kN + n) * kD;
            int64_t i = base + (style ? 2 * f : f), j = base + (style ? 2 * f + 1 : f + kF);
            double angle = (kS + s) * frequency[f];
            expected[i] = 1.5 * (x[i] * std::cos(angle) - x[j] * std::sin(angle));
            expected[j] = 1.5 * (x[j] * std::cos(angle) + x[i] * std::sin(angle));
            for (int64_t k = 2 * kF; k < kD; ++k)
              expected[base + k] = x[base + k];
          }
    auto attributes = [&](int64_t inverse, double scaling) {
      std::vector<int64_t> words = {GVRT_F32, kB, kS, kN, kD,    kS * kN * kD, kN * kD,       kD, kS * kN * kD,
                                    kN * kD,  kD, 1,  0,  style, inverse,      bits(scaling), kF};
      for (double f : frequency)
        words.push_back(bits(f));
      words.insert(words.end(), {2, 2, 0, kS, -1});
      return words;
    };
    call(gvrt_rope, {x.data(), nullptr, y.data()}, attributes(0, 1.5));
    expectNear(y, expected, 2e-6);
    call(gvrt_rope, {y.data(), nullptr, back.data()}, attributes(1, 1 / 1.5));
    expectNear(back, x, 1e-6);
  }
}

// Rows of several documents; the row is the second dimension, as in models that put positions first.
TEST_F(RowTest, RopeTakesPositionsOfRows) {
  constexpr int64_t kS = 4, kB = 2, kN = 2, kD = 2;
  std::vector<int64_t> positions = {0, 1, 2, 0, 0, 0, 1, 5};
  auto x = values(kS * kB * kN * kD, 1);
  std::vector<float> y(x.size());
  std::vector<double> expected(x.size());
  for (int64_t s = 0; s < kS; ++s)
    for (int64_t b = 0; b < kB; ++b)
      for (int64_t n = 0; n < kN; ++n) {
        int64_t i = ((s * kB + b) * kN + n) * kD;
        double angle = 0.7f * positions[b * kS + s];
        expected[i] = x[i] * std::cos(angle) - x[i + 1] * std::sin(angle);
        expected[i + 1] = x[i + 1] * std::cos(angle) + x[i] * std::sin(angle);
      }
  std::vector<int64_t> strides = {kB * kN * kD, kN * kD, kD}, words = {GVRT_F32, kS, kB, kN, kD};
  for (int copy = 0; copy < 2; ++copy)
    words.insert(words.end(), strides.begin(), strides.end());
  words.insert(words.end(),
               {/*seq_dim=*/0, /*row_dim=*/1, /*style=*/0, /*inverse=*/0, bits(1), 1, bits(0.7f), 1, kS, -1});
  call(gvrt_rope, {x.data(), positions.data(), y.data()}, words);
  expectNear(y, expected, 2e-6);
}

TEST_F(RowTest, EmbeddingOfACutTableLeavesOtherRowsToOthers) {
  constexpr int64_t kRows = 3, kColumns = 5; // rows 3, 4, 5 of six
  auto table = values(kRows * kColumns, 1), dy = values(4 * kColumns, 2);
  std::vector<int64_t> ids = {4, 0, 5, 4};
  context.coordinates = {1};
  std::vector<float> y(4 * kColumns, NAN), expected(4 * kColumns), dtable(table.size(), 1.0f),
      edtable(table.size(), 1.0f);
  for (int64_t i = 0; i < 4; ++i)
    for (int64_t c = 0; c < kColumns && ids[i] >= 3; ++c) {
      expected[i * kColumns + c] = table[(ids[i] - 3) * kColumns + c];
      edtable[(ids[i] - 3) * kColumns + c] += dy[i * kColumns + c];
    }
  std::vector<int64_t> positions = {2, 2, 0, kRows, -1};
  std::vector<int64_t> words = {GVRT_F32, kRows, kColumns, 4};
  words.insert(words.end(), positions.begin(), positions.end());
  call(gvrt_embedding, {table.data(), ids.data(), y.data()}, words);
  EXPECT_EQ(y, expected);
  words = {GVRT_F32, kRows, kColumns, 4, 1};
  words.insert(words.end(), positions.begin(), positions.end());
  call(gvrt_embedding_backward, {dy.data(), ids.data(), dtable.data()}, words);
  expectNear(dtable, edtable, 1e-6);
  ids[1] = 6;
  EXPECT_THROW(call(gvrt_embedding_backward, {dy.data(), ids.data(), dtable.data()}, words), std::runtime_error);
}

TEST_F(RowTest, CrossEntropyFromItsStatistics) {
  constexpr int64_t kRows = 4, kColumns = 37, kIgnored = -100;
  auto logits = values(kRows * kColumns, 1), dy = values(kRows, 2);
  std::vector<int64_t> labels = {3, 36, kIgnored, 0};
  std::vector<float> max(kRows), sum(kRows), target(kRows), dlogits(logits.size(), NAN);
  call(gvrt_reduce, {logits.data(), max.data()}, {GVRT_F32, GVRT_F32, 1, 0, 2, kRows, kColumns, kColumns, 1, 1, 0});
  call(gvrt_sum_exp, {logits.data(), max.data(), sum.data()}, {GVRT_F32, kRows, kColumns});
  call(gvrt_target_logit, {logits.data(), labels.data(), target.data()},
       {GVRT_F32, kRows, kColumns, kIgnored, 1, kColumns, -1});
  call(gvrt_cross_entropy_backward, {dy.data(), logits.data(), sum.data(), max.data(), labels.data(), dlogits.data()},
       {GVRT_F32, kRows, kColumns, kIgnored, 1, kColumns, -1});
  for (int64_t r = 0; r < kRows; ++r) {
    bool counts = labels[r] != kIgnored;
    double total = 0;
    for (int64_t c = 0; c < kColumns; ++c)
      total += std::exp((double)logits[r * kColumns + c]);
    EXPECT_NEAR(max[r] + std::log(sum[r]), std::log(total), 1e-6);
    EXPECT_EQ(target[r], counts ? logits[r * kColumns + labels[r]] : 0);
    for (int64_t c = 0; c < kColumns; ++c) {
      double p = std::exp((double)logits[r * kColumns + c]) / total;
      EXPECT_NEAR(dlogits[r * kColumns + c], counts ? dy[r] * (p - (c == labels[r])) : 0, 1e-6);
    }
  }
}

} // namespace
