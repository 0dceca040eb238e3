// Positions, slices of files, windows of tokens.
#include "runtime/checkpoint/Slices.h"
#include "runtime/data/Windows.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <numeric>

using namespace galvatron;

namespace {

TEST(PositionMap, LocalAndGlobalAreInverse) {
  // 24 = [2 time][2 local][2 axis 1][3 local]
  std::vector<int64_t> words = {4, 2, -2, 2, -1, 2, 1, 3, -1};
  std::vector<bool> seen(24);
  for (int64_t microBatch : {0, 1})
    for (int64_t coordinate : {0, 1}) {
      PositionMap map({9, coordinate}, microBatch, words.data(), 1);
      EXPECT_EQ(map.globalExtent(0), 24);
      EXPECT_EQ(map.localExtent(0), 6);
      for (int64_t local = 0; local < 6; ++local) {
        int64_t global = map.toGlobal(0, local);
        EXPECT_EQ(global, ((microBatch * 2 + local / 3) * 2 + coordinate) * 3 + local % 3);
        EXPECT_EQ(map.toLocal(0, global), local);
        EXPECT_FALSE(seen[global]);
        seen[global] = true;
      }
      for (int64_t global = 0; global < 24; ++global)
        if (int64_t local = map.toLocal(0, global); local >= 0)
          EXPECT_EQ(map.toGlobal(0, local), global);
    }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 24);
}

TEST(PositionMap, MirroredPiecesLieAtBothEnds) {
  // 24 = [2 local][2 x 3 mirrored][2 local]: the device at position p has chunks p and 11 - p of 12.
  for (int64_t p = 0; p < 6; ++p)
    for (int64_t turn : {0, 1}) {
      std::vector<int64_t> words = {4, 2, -1, 2, meshAxisWord(0, true), 3, meshAxisWord(1, true, turn), 2, -1};
      PositionMap map({p / 3, (p + turn) % 3}, 0, words.data(), 1);
      std::vector<int64_t> expected = {2 * p, 2 * p + 1, 22 - 2 * p, 23 - 2 * p};
      EXPECT_EQ(map.indices(0), expected);
      for (int64_t local = 0; local < 4; ++local)
        EXPECT_EQ(map.toLocal(0, map.toGlobal(0, local)), local);
    }
}

ParameterInfo parameter(std::vector<int64_t> shape, Placement placement) {
  ParameterInfo info;
  info.names = {"w"};
  info.shape = std::move(shape);
  info.placement = std::move(placement);
  info.count = std::accumulate(info.shape.begin(), info.shape.end(), int64_t(1), std::multiplies<>());
  return info;
}

std::vector<Slice> slices(const ParameterInfo &info, std::vector<int64_t> coordinates) {
  gvrt_context context;
  context.coordinates = std::move(coordinates);
  std::vector<Slice> result;
  Status status = forSlices(context, info, [&](const Slice &slice) {
    result.push_back(slice);
    return Status::success();
  });
  EXPECT_TRUE(status.ok());
  return result;
}

/// 4 x 6 elements of which a rank holds columns 3 c to 3 c + 2: in a list of 24 elements from 5 on, of which each of
/// three ranks has 8.
ParameterInfo shared(int64_t rank, int64_t column) {
  Manifest manifest;
  manifest.mesh = {3, 2};
  ParameterInfo info = parameter({4, 6}, {1, 4, -1, 2, 2, 1, 3, -1});
  info.count = 12;
  info.parameter = 1000;
  info.gradient = 2000;
  info.firstMoment = 3000;
  info.copy = 4000;
  info.shard = {/*axes=*/{0}, /*piece=*/8, /*first=*/5, /*isParameterWhole=*/false, /*isCopyWhole=*/true};
  manifest.parameters = {info};
  manifest.takeShards({rank, column});
  return manifest.parameters[0];
}

TEST(Slices, ARankReadsAndWritesWhatItUpdates) {
  // Pieces [0, 8), [8, 16), [16, 24) of a list in which the parameter is [5, 17).
  std::vector<int64_t> seen(24);
  for (int64_t rank : {0, 1, 2})
    for (int64_t column : {0, 1}) {
      ParameterInfo info = shared(rank, column);
      int64_t local = 0;
      for (const Slice &slice : slices(info, {rank, column})) {
        EXPECT_EQ(slice.local, local);
        local += slice.count;
        for (int64_t element = slice.global; element < slice.global + slice.count; ++element) {
          EXPECT_EQ(element % 6 / 3, column);
          ++seen[element];
        }
      }
      EXPECT_EQ(local, info.count);
    }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 24);
}

TEST(Slices, StatesLieWhereTheRanksPieceDoes) {
  ParameterInfo first = shared(0, 0), second = shared(1, 0), last = shared(2, 0);
  EXPECT_EQ((std::vector{first.begin, second.begin, last.begin}), (std::vector<int64_t>{0, 3, 11}));
  EXPECT_EQ((std::vector{first.count, second.count, last.count}), (std::vector<int64_t>{3, 8, 1}));
  // In the piece where that alone is there, in the list where all of it is.
  EXPECT_EQ((std::vector{first.gradient, second.gradient, last.gradient}),
            (std::vector<int64_t>{2000 + 5 * 4, 2000, 2000}));
  EXPECT_EQ(second.parameter, 1000);
  EXPECT_EQ((std::vector{first.copy, second.copy, last.copy}),
            (std::vector<int64_t>{4000 + 5 * 2, 4000 + 8 * 2, 4000 + 16 * 2}));
}

TEST(Slices, AWholeTensorIsOneRun) {
  auto list = slices(parameter({4, 6}, {1, 4, -1, 1, 6, -1}), {});
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].count, 24);
}

TEST(Slices, RowsOfACutTensorAreOneRun) {
  auto list = slices(parameter({4, 6}, {2, 2, 0, 2, -1, 1, 6, -1}), {1});
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].global, 12);
  EXPECT_EQ(list[0].count, 12);
}

TEST(Slices, AllDevicesTogetherCoverEveryElementOnce) {
  // [4 = 2@1 · 2][6 = 3 · 2@0][2]: the second dimension jumps.
  ParameterInfo info = parameter({4, 6, 2}, {2, 2, 1, 2, -1, 2, 3, -1, 2, 0, 1, 2, -1});
  std::vector<int> covered(48);
  for (int64_t a : {0, 1})
    for (int64_t b : {0, 1}) {
      int64_t next = 0;
      for (const Slice &slice : slices(info, {a, b})) {
        EXPECT_EQ(slice.local, next);
        next += slice.count;
        for (int64_t i = 0; i < slice.count; ++i) {
          ++covered[slice.global + i];
          EXPECT_EQ((slice.global + i) / 2 % 2, a);
          EXPECT_EQ((slice.global + i) / 24, b);
        }
      }
      EXPECT_EQ(next, 12);
    }
  EXPECT_EQ(covered, std::vector<int>(48, 1));
}

TEST(Slices, PaddingIsInNoFile) {
  // Rows [2 · (2, padded by 1)], cut in two by the first factor; columns 3, padded by 1 and cut in two.
  ParameterInfo info = parameter({4, 3}, {2, 2, 0, 3, -1, 2, 2, 1, 2, -1});
  info.padding = {{{2, 0}, {2, 1}}, {{3, 1}}};
  info.count = 6;
  std::vector<int> covered(12);
  for (int64_t row : {0, 1})
    for (int64_t column : {0, 1})
      for (const Slice &slice : slices(info, {row, column}))
        for (int64_t i = 0; i < slice.count; ++i) {
          int64_t element = slice.global + i, localRow = (slice.local + i) / 2, localColumn = (slice.local + i) % 2;
          ++covered[element];
          EXPECT_EQ(element / 3, row * 2 + localRow);
          EXPECT_EQ(element % 3, column * 2 + localColumn);
        }
  EXPECT_EQ(covered, std::vector<int>(12, 1));
}

TEST(Slices, ARankMayHoldPaddingAlone) {
  // A vocabulary of 5, padded to 8, over four ranks.
  ParameterInfo info = parameter({5, 2}, {2, 4, 0, 2, -1, 1, 2, -1});
  info.padding = {{{5, 3}}, {{2, 0}}};
  info.count = 4;
  EXPECT_EQ(slices(info, {1})[0].count, 4);
  EXPECT_EQ(slices(info, {2})[0].count, 2);
  EXPECT_TRUE(slices(info, {3}).empty());
}

TEST(Permute, IsAPermutationThatDependsOnTheKey) {
  for (int64_t size : {1, 2, 5, 16, 17, 1000}) {
    std::vector<int64_t> first(size), second(size), sorted(size);
    for (int64_t i = 0; i < size; ++i) {
      first[i] = permute(i, size, 1);
      second[i] = permute(i, size, 2);
    }
    std::iota(sorted.begin(), sorted.end(), 0);
    if (size > 5) {
      EXPECT_NE(first, second);
      EXPECT_NE(first, sorted);
    }
    std::sort(first.begin(), first.end());
    std::sort(second.begin(), second.end());
    EXPECT_EQ(first, sorted);
    EXPECT_EQ(second, sorted);
  }
}

} // namespace
