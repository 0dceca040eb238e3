// NCCL's collectives against the local model of test/unit/Comm. Then what a step does with them: values between stages,
// streams that fork and join, one captured graph.
#include "CudaFixture.h"
#include "test/Runtime/CudaKernels.h"
#include "test/unit/Comm/CollectiveModel.h"

#include <algorithm>
#include <cstdio>

using namespace galvatron;
using namespace galvatron::test;

namespace {

template <typename T> int64_t type() {
  return sizeof(T) == 8 ? GVRT_I64 : sizeof(T) == 4 ? GVRT_F32 : std::is_same_v<T, Float16> ? GVRT_F16 : GVRT_BF16;
}

const gvrt_program kNoProgram = {};
constexpr int64_t kLarge = 1 << 20;

class CudaCollectivesTest : public ::testing::Test {
protected:
  static void SetUpTestSuite() {
    if (!hasGpus())
      return;
    int ranks;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    rank = new Rank(ranks, kNoProgram, 1 << 30, /*workspaceBytes=*/1 << 20);
    rank->start();
  }
  static void TearDownTestSuite() {
    delete rank;
    rank = nullptr;
  }
  void SetUp() override {
    if (!rank)
      GTEST_SKIP() << "needs a GPU for each rank";
    rank->used = 1 << 20;
  }

  /// Runs a collective that has a handle, at once or with something in between.
  void collective(gvrt_function function, void *x, void *y, std::vector<int64_t> attributes, int64_t handle) {
    attributes.push_back(handle);
    rank->call(function, {x, y}, attributes);
    if (handle >= 0)
      rank->call(gvrt_wait, {y}, {handle});
  }

  static Rank *rank;
};
Rank *CudaCollectivesTest::rank = nullptr;

TEST_F(CudaCollectivesTest, AllReduce) {
  auto check = [&]<typename T>(T, int64_t group, int64_t count, int64_t kind, bool inPlace, int64_t handle) {
    rank->used = 1 << 20;
    T *x = rank->place(contribution<T>(rank->context.rank, count)), *y = inPlace ? x : rank->allocate<T>(count);
    collective(gvrt_all_reduce, x, y, {group, type<T>(), kind, count}, handle);
    expectSame(rank->read(y, count), allReduced(rank->context.groups[group], kind, count));
  };
  for (int64_t group : {0, 1})
    for (int64_t count : {int64_t(1), int64_t(1003), kLarge})
      for (int64_t kind : {0, 1})
        for (bool inPlace : {false, true})
          for (int64_t handle : {-1, 3}) {
            check(0.0f, group, count, kind, inPlace, handle);
            check(int64_t(), group, count, kind, inPlace, handle);
            check(Bfloat16(), group, count, kind, inPlace, handle);
            check(Float16(), group, count, kind, inPlace, handle);
          }
}

/// Few outer indices, and so many that they pass through the workspace, also in several parts.
constexpr std::pair<int64_t, int64_t> kCuts[] = {{1, 5}, {3, 1}, {32, 40}, {33, 7}, {1000, 8}, {3000, 1024}};

/// Gradients of one layer are under way while the next needs collectives of its own; all of it in one captured graph.
TEST_F(CudaCollectivesTest, AStepGoesOnWhileSumsAreUnderWay) {
  int member = rank->context.rank, size = rank->context.groups[0].ranks.size();
  float *slow = rank->place(std::vector<float>(kLarge, 1.0f + member));
  float *first = rank->place(std::vector<float>(kLarge, 2.0f)), *second = rank->allocate<float>(kLarge);
  auto walk = [&] {
    rank->call(gvrt_fill_zero, {second}, {kLarge * 4});
    rank->call(gvrt_all_reduce, {slow, slow}, {0, GVRT_F32, /*max*/ 1, kLarge, 11});
    rank->call(gvrt_all_reduce, {first, second}, {0, GVRT_F32, 0, 1003, -1});
    rank->call(gvrt_accumulate, {first, second}, {GVRT_F32, GVRT_F32, kLarge});
    rank->call(gvrt_wait, {slow}, {11});
    rank->call(gvrt_accumulate, {slow, second}, {GVRT_F32, GVRT_F32, kLarge});
  };
  for (int64_t step = 1; step <= 3; ++step) {
    rank->step(step, walk);
    std::vector<float> result = rank->read(second, kLarge);
    ASSERT_EQ(result[0], 2 * size + 2 + size) << step;
    ASSERT_EQ(result[1003], 2 + size) << step;
  }
}

TEST_F(CudaCollectivesTest, AllGatherInterleavesPieces) {
  auto check = [&]<typename T>(T, int64_t group, int64_t outer, int64_t inner, int64_t handle) {
    rank->used = 1 << 20;
    SCOPED_TRACE("outer " + std::to_string(outer) + " inner " + std::to_string(inner));
    const Group &members = rank->context.groups[group];
    int64_t size = members.ranks.size();
    T *x = rank->place(contribution<T>(rank->context.rank, outer * inner)),
      *y = rank->allocate<T>(size * outer * inner);
    collective(gvrt_all_gather, x, y, {group, type<T>(), outer, inner, kPlain}, handle);
    expectSame(rank->read(y, size * outer * inner), allGathered(members, outer, inner));
    if (outer % 2)
      return;
    collective(gvrt_all_gather, x, y, {group, type<T>(), outer, inner, kMirrored}, handle);
    expectSame(rank->read(y, size * outer * inner), allGathered(members, outer, inner, kMirrored));
  };
  for (int64_t group : {0, 1})
    for (auto [outer, inner] : kCuts)
      for (int64_t handle : {-1, 2}) {
        check(0.0f, group, outer, inner, handle);
        check(int64_t(), group, outer, inner, handle);
        check(Bfloat16(), group, outer, inner, handle);
        check(Float16(), group, outer, inner, handle);
      }
}

TEST_F(CudaCollectivesTest, ReduceScatterGivesEachRankItsPieceOfTheSum) {
  auto check = [&]<typename T>(T, int64_t group, int64_t outer, int64_t inner, int64_t handle) {
    rank->used = 1 << 20;
    SCOPED_TRACE("outer " + std::to_string(outer) + " inner " + std::to_string(inner));
    const Group &members = rank->context.groups[group];
    int64_t size = members.ranks.size();
    T *x = rank->place(contribution<T>(rank->context.rank, size * outer * inner)),
      *y = rank->allocate<T>(outer * inner);
    collective(gvrt_reduce_scatter, x, y, {group, type<T>(), 0, outer, inner, kPlain}, handle);
    expectSame(rank->read(y, outer * inner), reduceScattered(members, outer, inner));
    if (outer % 2)
      return;
    collective(gvrt_reduce_scatter, x, y, {group, type<T>(), 0, outer, inner, kMirrored}, handle);
    expectSame(rank->read(y, outer * inner), reduceScattered(members, outer, inner, kMirrored));
  };
  for (int64_t group : {0, 1})
    for (auto [outer, inner] : kCuts)
      for (int64_t handle : {-1, 0}) {
        check(0.0f, group, outer, inner, handle);
        check(Bfloat16(), group, outer, inner, handle);
        check(Float16(), group, outer, inner, handle);
      }
}

TEST_F(CudaCollectivesTest, AllToAllMovesTheCutFromOneDimensionToAnother) {
  const Group &members = rank->context.groups[0];
  for (int64_t last : {90, 90 * 181}) // the larger one needs several parts
    for (const AllToAll &each : allToAlls(members.ranks.size(), last)) {
      SCOPED_TRACE(::testing::PrintToString(each));
      rank->used = 1 << 20;
      auto *x = rank->place(contribution<Bfloat16>(rank->context.rank, each.total())),
           *y = rank->allocate<Bfloat16>(each.total());
      int64_t handle = each.split == 0 ? 3 : -1;
      rank->call(gvrt_all_to_all, {x, y}, each.attributes(0, GVRT_BF16, handle));
      if (handle >= 0)
        rank->call(gvrt_wait, {y}, {handle});
      expectSame(rank->read(y, each.total()), each.result(members));
    }
}

TEST_F(CudaCollectivesTest, PermuteGivesEachRankTheValueOfItsSource) {
  for (int64_t group : {0, 1})
    for (int64_t handle : {-1, 0}) {
      rank->used = 1 << 20;
      const Group &members = rank->context.groups[group];
      int64_t size = members.ranks.size(), count = 100003;
      std::vector<int64_t> attributes = {group, GVRT_BF16, count, size};
      for (int64_t r = 0; r < size; ++r)
        attributes.push_back((r + 1) % size);
      auto *x = rank->place(contribution<Bfloat16>(rank->context.rank, count)), *y = rank->allocate<Bfloat16>(count);
      collective(gvrt_permute, x, y, attributes, handle);
      auto expected = contribution<Bfloat16>(members.ranks[(members.position + 1) % size], count);
      expectSame(rank->read(y, count), std::vector<float>(expected.begin(), expected.end()));
    }
}

TEST_F(CudaCollectivesTest, ShardTakesThisRanksPiece) {
  const Group &members = rank->context.groups[0];
  int64_t size = members.ranks.size();
  auto *x = rank->place(contribution<int64_t>(0, size * 15)), *y = rank->allocate<int64_t>(15);
  rank->call(gvrt_shard, {x, y}, {0, 8, 3, 5, kPlain, 0});
  std::vector<int64_t> result = rank->read(y, 15);
  for (int64_t o = 0; o < 3; ++o)
    for (int64_t i = 0; i < 5; ++i)
      EXPECT_EQ(result[o * 5 + i], element(0, (o * size + members.position) * 5 + i));
  std::vector<int64_t> nextOnes = {0, 8, 3, 5, kPlain, size};
  for (int64_t r = 0; r < size; ++r)
    nextOnes.push_back((r + 1) % size);
  rank->call(gvrt_shard, {x, y}, nextOnes);
  result = rank->read(y, 15);
  for (int64_t o = 0; o < 3; ++o)
    for (int64_t i = 0; i < 5; ++i)
      EXPECT_EQ(result[o * 5 + i], element(0, (o * size + (members.position + 1) % size) * 5 + i));
}

TEST_F(CudaCollectivesTest, Speed) {
  int64_t size = rank->context.ranks, count = 128 << 20;
  auto *x = rank->allocate<uint16_t>(count), *y = rank->allocate<uint16_t>(count);
  double reduce = rank->seconds([&] { collective(gvrt_all_reduce, x, x, {0, GVRT_BF16, 0, count}, -1); });
  double packed =
      rank->seconds([&] { collective(gvrt_all_gather, x, y, {0, GVRT_BF16, 4096, count / size / 4096, kPlain}, -1); });
  double plain = rank->seconds([&] { collective(gvrt_all_gather, x, y, {0, GVRT_BF16, 1, count / size, kPlain}, -1); });
  if (rank->context.rank == 0)
    std::printf("all_reduce of %lld MiB: %.0f GB/s (bytes / time); all_gather: %.0f GB/s, packed through 1 MiB: %.0f\n",
                (long long)count * 2 >> 20, count * 2e-9 / reduce, count * 2e-9 / plain, count * 2e-9 / packed);
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

const gvrt_function kFunctions[] = {gvrt_send, gvrt_receive};
/// Only says that each of two stages sends to the other; the tests' walks call the functions by themselves.
constexpr int64_t kBothWays[2][2][10] = {
    {{10, 0, -1, -1, -1, 0, /*stage=*/1, 0, 4, 0}, {10, 1, -1, -1, -1, 0, 1, 0, 4, 0}},
    {{10, 0, -1, -1, -1, 0, /*stage=*/0, 0, 4, 0}, {10, 1, -1, -1, -1, 0, 0, 0, 4, 0}}};

TEST(CudaStepTest, AGraphOfKernelsAndValuesBetweenStages) {
  if (!hasGpus())
    GTEST_SKIP() << "needs a GPU for each rank";
  int world, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &world);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  gvrt_program program = {};
  program.functions = kFunctions;
  program.num_functions = 2;
  if (size == 2) {
    program.timetable = &kBothWays[world][0][0];
    program.timetable_words = 20;
  }
  program.kernels = kKernels;
  program.kernels_bytes = sizeof kKernels;
  Rank rank(/*devices=*/1, program, 64 << 20);
  constexpr int64_t kCount = kLarge;
  auto *x = rank.place(std::vector<float>(kCount, 1.0f + world)), *y = rank.allocate<float>(kCount);
  auto *total = rank.allocate<float>(kCount);
  rank.start();
  auto add = [&](float *from, float *to) { rank.call(gvrt_launch, {from, to}, {kAdd, kCount / 256, 256, 2}); };
  // total += x, then += what the other stage had in x at that time, eight times; x grows in between.
  auto walk = [&] {
    rank.call(gvrt_launch, {total}, {kZero, kCount / 256, 256, 1});
    for (int64_t m = 0; m < 8; ++m) {
      add(x, total);
      if (size == 2) {
        rank.call(gvrt_send, {x}, {1 - world, m, kCount * 4, m});
        // Every other one is under way for a while.
        rank.call(gvrt_receive, {y}, {1 - world, m, kCount * 4, m % 2 ? 20 + m : -1});
        if (m % 2)
          rank.call(gvrt_wait, {y}, {20 + m});
        rank.call(gvrt_wait, {x}, {m});
        add(y, total);
      }
    }
    add(total, x);
  };
  // x becomes 9 times itself plus 8 times the other's; the first step runs twice, once for tuning.
  float own = 1 + world, other = 2 - world;
  for (int64_t step = 1; step <= 3; ++step) {
    rank.step(step, walk);
    for (int repeat = 0; repeat < (step == 1 ? 2 : 1); ++repeat) {
      float next = size == 2 ? 9 * own + 8 * other : 9 * own;
      other = 9 * other + 8 * own;
      own = next;
    }
    std::vector<float> result = rank.read(x, kCount);
    ASSERT_TRUE(std::all_of(result.begin(), result.end(), [&](float v) { return v == own; }))
        << result[0] << " " << own;
    auto scalars = rank.read(cuda::stateOf(&rank.context).scalars, 1)[0];
    EXPECT_EQ(scalars.step, step);
  }
  double seconds = rank.seconds([&] { rank.step(4, walk); });
  if (world == 0)
    std::printf("step of 8 exchanges of 4 MiB, captured: %.0f us\n", seconds * 1e6);
}

} // namespace
