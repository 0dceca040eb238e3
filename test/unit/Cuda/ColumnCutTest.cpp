// How reductions over rows are cut, on the host: what every cut must hold, and the shapes that were thought of.
#include "runtime/cuda/kernels/ColumnCut.h"

#include <gtest/gtest.h>

using namespace galvatron::cuda;

namespace {

TEST(CudaColumnCutTest, EveryCutCoversTheMatrixAndFitsACluster) {
  for (int multiprocessors : {1, 78, 132})
    for (int W : {1, 4, 8})
      for (int64_t rows : {0, 1, 300, 2048, 16384})
        for (int64_t columns : {1, 37, 768, 1600, 1601, 4800, 6400, 50304}) {
          ColumnCut cut = clusterCut(multiprocessors, rows, columns, W);
          EXPECT_GE(cut.strips * cut.lanes * W, columns);
          EXPECT_LT((cut.strips - 1) * cut.lanes * W, columns);
          EXPECT_TRUE(cut.lanes == 8 || cut.lanes == 16 || cut.lanes == 32);
          EXPECT_TRUE(cut.ranges >= 1 && cut.ranges <= kMostRanges);
          EXPECT_LE(cut.share, 1.0);
          if (cut.ranges > 1) { // four rows a thread
            EXPECT_GE(rows, 4 * cut.ranges * kColumnThreads / cut.lanes);
          }
        }
}

TEST(CudaColumnCutTest, WhatModelsReduceFillsTheDevice) {
  for (int64_t columns : {768, 1024, 1600, 2048, 4096, 4800, 5120, 6400, 11008, 12288, 14336, 22016}) {
    ColumnCut cut = clusterCut(132, 16384, columns, 8);
    EXPECT_GE(cut.share, columns < 1024 ? 0.7 : 0.9) << columns;
  }
  ColumnCut narrow = clusterCut(132, 16384, 1600, 8), wide = clusterCut(132, 16384, 6400, 8);
  EXPECT_EQ(std::tuple(narrow.lanes, narrow.strips, narrow.ranges), std::tuple(8, 25, 8));
  EXPECT_EQ(std::tuple(wide.lanes, wide.strips, wide.ranges), std::tuple(32, 25, 8));
}

TEST(CudaColumnCutTest, FewColumnsOrFewRowsAreNotForClusters) {
  EXPECT_LT(clusterCut(132, 16384, 37, 1).share, 0.6);
  EXPECT_LT(clusterCut(132, 100, 4096, 8).share, 0.6);
}

} // namespace
