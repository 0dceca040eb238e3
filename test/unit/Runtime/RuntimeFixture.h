//===- RuntimeFixture.h - calls functions of the device library with made-up buffers ------===//
#ifndef GALVATRON_TEST_UNIT_RUNTIME_RUNTIMEFIXTURE_H
#define GALVATRON_TEST_UNIT_RUNTIME_RUNTIMEFIXTURE_H

#include "runtime/api/Functions.h"
#include "runtime/core/Context.h"

#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <random>
#include <vector>

namespace galvatron::test {

inline int64_t bits(double value) { return std::bit_cast<int64_t>(value); }

/// Reproducible values in [-1, 1).
inline std::vector<float> values(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> result(count);
  for (float &value : result)
    value = uniform(generator);
  return result;
}

/// Position map of dimensions that are whole on this device.
inline std::vector<int64_t> whole(std::vector<int64_t> extents) {
  std::vector<int64_t> words;
  for (int64_t extent : extents)
    words.insert(words.end(), {1, extent, -1});
  return words;
}

class RuntimeTest : public ::testing::Test {
protected:
  void call(gvrt_function function, std::vector<const void *> buffers, std::vector<int64_t> attributes) {
    std::vector<void *> addresses;
    for (const void *buffer : buffers)
      addresses.push_back(const_cast<void *>(buffer));
    function(&context, addresses.data(), attributes.data());
  }

  gvrt_context context;
};

/// max |a - b| <= tolerance·(1 + max |b|)
template <typename A, typename B> void expectNear(const A &a, const B &b, double tolerance, const char *what = "") {
  ASSERT_EQ(a.size(), b.size());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    largest = std::max(largest, (double)std::fabs(b[i]));
    difference = std::max(difference, (double)std::fabs((double)a[i] - (double)b[i]));
    ASSERT_FALSE(std::isnan(a[i]) != std::isnan(b[i])) << what << " at " << i;
  }
  EXPECT_LE(difference, tolerance * (1 + largest)) << what;
}

} // namespace galvatron::test

#endif
