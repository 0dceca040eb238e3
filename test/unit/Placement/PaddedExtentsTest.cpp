// How far axes are padded that a degree cuts together.
#include "galvatron/Placement/PaddedExtents.h"

#include <gtest/gtest.h>

using namespace galvatron;

namespace {

llvm::SmallVector<int64_t> parts(llvm::ArrayRef<int64_t> extents, int64_t degree) { return getParts(extents, degree); }
using Parts = llvm::SmallVector<int64_t>;

TEST(PaddedExtents, OneAxisTakesTheDegree) {
  EXPECT_EQ(parts({50257}, 2), Parts({2}));
  EXPECT_EQ(parts({12}, 5), Parts({5}));
}

TEST(PaddedExtents, WhatDividesIsNotPadded) {
  EXPECT_EQ(parts({4, 3}, 6), Parts({2, 3}));
  EXPECT_EQ(parts({4, 3}, 4), Parts({4, 1}));
  EXPECT_EQ(parts({2, 6}, 12), Parts({2, 6}));
}

TEST(PaddedExtents, TheLeastProductIsTaken) {
  EXPECT_EQ(parts({4, 3}, 8), Parts({4, 2})); // 4 x 4, not 8 x 3
  EXPECT_EQ(parts({4, 3}, 5), Parts({5, 1})); // 5 x 3, not 4 x 5
  EXPECT_EQ(parts({2, 3}, 5), Parts({1, 5})); // 2 x 5, not 5 x 3
  EXPECT_EQ(parts({2, 3}, 4), Parts({2, 2})); // 2 x 4, not 4 x 3
}

} // namespace
