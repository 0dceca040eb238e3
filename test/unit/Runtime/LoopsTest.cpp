// Every instruction set's loops give what the portable ones give, at lengths around a vector's.
#include "runtime/kernels/Loops.h"
#include "RuntimeFixture.h"

#include <cstring>

using namespace galvatron;
using namespace galvatron::test;

namespace {

/// The last table is the portable one.
const Loops &portable() {
  const Loops *const *table = supportedLoops();
  while (table[1])
    ++table;
  return **table;
}

/// Calls use(table, outputs): the outputs of each table must be near the portable ones'.
template <typename Use> void compare(std::vector<float> start, double tolerance, Use use) {
  std::vector<float> expected = start;
  use(portable(), expected);
  for (const Loops *const *table = supportedLoops(); *table; ++table) {
    std::vector<float> result = start;
    use(**table, result);
    expectNear(result, expected, tolerance, (*table)->name);
  }
}

TEST(LoopsTest, AgreeAtEveryLength) {
  for (int64_t n = 1; n < 150; n += n < 70 ? 1 : 13) {
    auto x = values(3 * n, 1), y = values(3 * n, 2), w = values(n, 3), mean = values(3, 4), rstd = values(3, 5);
    std::vector<float> zero(3 * n);
    compare({0, 0, 0, 0}, 1e-6, [&](const Loops &l, auto &out) {
      out = {l.sum(x.data(), n), l.max(x.data(), n), (float)l.squareSum(x.data(), n), l.dot(x.data(), y.data(), n)};
    });
    compare(w, 1e-6, [&](const Loops &l, auto &out) { l.addRows(x.data(), n, out.data(), 3, n); });
    compare(w, 0, [&](const Loops &l, auto &out) { l.maxRows(x.data(), n, out.data(), 3, n); });
    compare(y, 0, [&](const Loops &l, auto &out) { l.add(x.data(), out.data(), n); });
    compare(zero, 2e-6, [&](const Loops &l, auto &out) {
      float m[3], r[3];
      l.norm(x.data(), w.data(), w.data(), out.data(), m, r, 3, n, 1, 1e-2, 0.5f);
    });
    compare(zero, 2e-6, [&](const Loops &l, auto &out) {
      l.normBackward(y.data(), x.data(), w.data(), mean.data(), rstd.data(), out.data(), 3, n, 1, 0.5f);
    });
    compare(w, 1e-6, [&](const Loops &l, auto &out) {
      l.normWeightBackward(y.data(), x.data(), mean.data(), rstd.data(), out.data(), 3, n);
    });
    compare(zero, 1e-6, [&](const Loops &l, auto &out) { l.softmax(x.data(), out.data(), n); });
    compare(zero, 1e-6, [&](const Loops &l, auto &out) { l.softmaxBackward(y.data(), x.data(), out.data(), n); });
    compare(zero, 1e-6, [&](const Loops &l, auto &out) { l.scaledExp(x.data(), 0.5f, 2, out.data(), n); });
    compare(x, 1e-6, [&](const Loops &l, auto &out) { l.softcap(out.data(), out.data() + n, 0.3f, n); });
    compare(x, 1e-6, [&](const Loops &l, auto &out) { out[n] = l.expInPlace(out.data(), 0.3f, n); });
    compare(x, 1e-6,
            [&](const Loops &l, auto &out) { l.scoreGradient(y.data(), out.data(), w.data(), w.data(), 0.1f, n); });
    compare(zero, 0, [&](const Loops &l, auto &out) { l.dropFactors(1, 2, 1000003, 1u << 30, 1.5f, out.data(), n); });
    for (int style : {0, 1})
      compare(zero, 1e-6,
              [&](const Loops &l, auto &out) { l.rotate(x.data(), out.data(), w.data(), y.data(), n / 2, n, style); });
  }
}

TEST(LoopsTest, MaximumKeepsWhatIsNotANumber) {
  for (const Loops *const *table = supportedLoops(); *table; ++table)
    for (int64_t n : {1, 5, 16, 40})
      for (int64_t place : {int64_t(0), n - 1}) {
        auto x = values(n, 1);
        EXPECT_FALSE(std::isnan((*table)->max(x.data(), n)));
        x[place] = NAN;
        EXPECT_TRUE(std::isnan((*table)->max(x.data(), n))) << (*table)->name << " " << n << " " << place;
      }
}

TEST(LoopsTest, HyperbolicTangentIsAccurate) {
  for (const Loops *const *table = supportedLoops(); *table; ++table)
    for (double v = -12; v < 12; v += 0.003) {
      float s = (float)v, t;
      (*table)->softcap(&s, &t, 1, 1);
      EXPECT_NEAR(t, std::tanh((double)(float)v), 4e-7 * std::fabs(std::tanh(v)) + 1e-12);
    }
}

} // namespace
