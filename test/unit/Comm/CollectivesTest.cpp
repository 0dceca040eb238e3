// Every collective over groups of 1, 2 and 4 ranks against a local model: each rank knows what all ranks contribute, so
// it computes what it must get. Runs under mpirun with 1, 2 or 4 ranks.
#include "runtime/comm/Communicators.h"
#include "runtime/core/Context.h"
#include "runtime/kernels/Bfloat16.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <numeric>

using namespace galvatron;

namespace {

/// Contribution of a rank: small whole numbers, so that sums are exact in any order.
float element(int rank, int64_t e) { return (float)((rank * 37 + e * 11) % 101); }

template <typename T> std::vector<T> contribution(int rank, int64_t count) {
  std::vector<T> x(count);
  for (int64_t e = 0; e < count; ++e)
    x[e] = (T)element(rank, e);
  return x;
}

/// Element counts: less than a rank each, odd, longer than one part of the workspace.
constexpr int64_t kCounts[] = {1, 3, 1000, 2100001};

class CollectivesTest : public ::testing::Test {
protected:
  void SetUp() override {
    MPI_Comm_rank(MPI_COMM_WORLD, &context.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &context.ranks);
    context.devices = context.ranks;
    context.device = context.rank;
    // Group 0: all; group 1: alone; groups 2, 3: halves and their transposes, as grid axes make them.
    std::vector<int> all(context.ranks);
    std::iota(all.begin(), all.end(), 0);
    addGroup(all);
    addGroup({context.rank});
    int half = context.ranks / 2;
    if (half == 2) {
      addGroup({context.rank / half * half, context.rank / half * half + 1});
      addGroup({context.rank % half, context.rank % half + half});
    }
    connect(&context);
  }
  void TearDown() override { disconnect(&context); }

  void addGroup(std::vector<int> ranks) {
    int position = std::find(ranks.begin(), ranks.end(), context.rank) - ranks.begin();
    context.groups.push_back({ranks, position, MPI_COMM_NULL});
  }

  template <typename T> static int64_t kind() { return sizeof(T) == 8; }

  void call(gvrt_function function, const void *x, void *y, std::vector<int64_t> attributes) {
    void *buffers[] = {const_cast<void *>(x), y};
    function(&context, buffers, attributes.data());
  }

  gvrt_context context;
};

TEST_F(CollectivesTest, AllReduceSumAndMaximumInPlaceAndNot) {
  auto check = [&]<typename T>(T, int64_t group, int64_t count, int64_t reduction, bool inPlace) {
    auto x = contribution<T>(context.rank, count);
    std::vector<T> y(inPlace ? 0 : count);
    call(gvrt_all_reduce, x.data(), inPlace ? x.data() : y.data(), {group, kind<T>(), reduction, count, -1});
    const std::vector<T> &result = inPlace ? x : y;
    for (int64_t e = 0; e < count; ++e) {
      float expected = reduction ? -1 : 0;
      for (int rank : context.groups[group].ranks)
        expected = reduction ? std::max(expected, element(rank, e)) : expected + element(rank, e);
      ASSERT_EQ(result[e], (T)expected) << e;
    }
  };
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (int64_t count : kCounts)
      for (int64_t reduction : {0, 1})
        for (bool inPlace : {false, true}) {
          check(0.0f, group, count, reduction, inPlace);
          check(int64_t(), group, count, reduction, inPlace);
        }
}

/// 1 and n small numbers: added one by one in bf16 the sum would stay 1.
TEST_F(CollectivesTest, HalvesAreAddedInFullPrecision) {
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (int64_t count : {3, 9001}) {
      const Group &members = context.groups[group];
      int64_t size = members.ranks.size();
      Bfloat16 mine(members.position == 0 ? 1.0f : 0.00390625f); // 2⁻⁸, half a place behind 1
      std::vector<Bfloat16> x(count, mine), y(count);
      Bfloat16 sum(1.0f + (size - 1) * 0.00390625f);
      call(gvrt_all_reduce, x.data(), y.data(), {(int64_t)group, GVRT_BF16, 0, count, -1});
      for (const Bfloat16 &value : y)
        ASSERT_EQ((float)value, (float)sum);
      call(gvrt_all_reduce, x.data(), y.data(), {(int64_t)group, GVRT_BF16, 1, count, -1});
      for (const Bfloat16 &value : y)
        ASSERT_EQ((float)value, 1.0f);
      std::vector<Bfloat16> whole(size * count);
      call(gvrt_all_gather, x.data(), whole.data(), {(int64_t)group, GVRT_BF16, count, 1, -1});
      EXPECT_EQ((float)whole[(count - 1) * size], 1.0f);
      whole.assign(size * count, mine);
      call(gvrt_reduce_scatter, whole.data(), y.data(), {(int64_t)group, GVRT_BF16, 0, count, 1, -1});
      for (const Bfloat16 &value : y)
        ASSERT_EQ((float)value, (float)sum);
    }
}

TEST_F(CollectivesTest, ACollectiveWithAHandleIsWaitedForOnce) {
  float x = 1, y = 0;
  void *buffer[] = {&x};
  int64_t handle = 5;
  call(gvrt_all_reduce, &x, &y, {0, GVRT_F32, 0, 1, handle});
  EXPECT_EQ(y, (float)context.groups[0].ranks.size());
  EXPECT_THROW(call(gvrt_all_gather, &x, &y, {/*group=*/1, GVRT_F32, 1, 1, handle}), std::runtime_error);
  gvrt_wait(&context, buffer, &handle);
  EXPECT_THROW(gvrt_wait(&context, buffer, &handle), std::runtime_error);
}

TEST_F(CollectivesTest, AllReduceGivesEveryRankTheSameBits) {
  for (int64_t count : {100, 300007}) {
    std::vector<float> x(count);
    for (int64_t e = 0; e < count; ++e)
      x[e] = 1.0f / (float)(1 + e % 1000 + context.rank * 7919); // sums depend on their order
    call(gvrt_all_reduce, x.data(), x.data(), {0, 0, 0, count, -1});
    std::vector<float> first = x;
    MPI_Bcast(first.data(), count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    EXPECT_EQ(x, first);
  }
}

TEST_F(CollectivesTest, AllGatherInterleavesPieces) {
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (auto [outer, inner] : {std::pair<int64_t, int64_t>{1, 5}, {3, 1}, {7, 4}, {1, 1500001}, {3, 700001}}) {
      const std::vector<int> &ranks = context.groups[group].ranks;
      int64_t size = ranks.size();
      auto x = contribution<float>(context.rank, outer * inner);
      std::vector<float> y(size * outer * inner, -1);
      call(gvrt_all_gather, x.data(), y.data(), {(int64_t)group, GVRT_F32, outer, inner, -1});
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t r = 0; r < size; ++r)
          for (int64_t i = 0; i < inner; ++i)
            ASSERT_EQ(y[(o * size + r) * inner + i], element(ranks[r], o * inner + i));
    }
}

TEST_F(CollectivesTest, ReduceScatterGivesEachRankItsPieceOfTheSum) {
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (auto [outer, inner] : {std::pair<int64_t, int64_t>{1, 5}, {3, 1}, {7, 4}, {1, 900001}, {3, 400001}}) {
      const Group &members = context.groups[group];
      int64_t size = members.ranks.size();
      auto x = contribution<float>(context.rank, size * outer * inner);
      std::vector<float> y(outer * inner, -1);
      call(gvrt_reduce_scatter, x.data(), y.data(), {(int64_t)group, GVRT_F32, 0, outer, inner, -1});
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t i = 0; i < inner; ++i) {
          float expected = 0;
          for (int rank : members.ranks)
            expected += element(rank, (o * size + members.position) * inner + i);
          ASSERT_EQ(y[o * inner + i], expected);
        }
    }
}

TEST_F(CollectivesTest, ShardTakesThisRanksPiece) {
  const Group &members = context.groups[0];
  int64_t size = members.ranks.size();
  auto x = contribution<int64_t>(0, size * 3 * 5);
  std::vector<int64_t> y(3 * 5);
  call(gvrt_shard, x.data(), y.data(), {0, 8, 3, 5});
  for (int64_t o = 0; o < 3; ++o)
    for (int64_t i = 0; i < 5; ++i)
      EXPECT_EQ(y[o * 5 + i], x[(o * size + members.position) * 5 + i]);
}

/// What every rank holds before is a piece of one global tensor, cut on one dimension; afterwards on another.
TEST_F(CollectivesTest, AllToAllMovesTheCutFromOneDimensionToAnother) {
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (int64_t scale : {1, 181}) // the larger one needs several parts
      for (int64_t split : {0, 1, 2})
        for (int64_t concat : {0, 1, 2})
          for (int64_t splitOuter : {1, 3})
            for (int64_t concatOuter : {1, 3}) {
              if (scale > 1 && splitOuter != concatOuter)
                continue;
              const Group &members = context.groups[group];
              int64_t size = members.ranks.size();
              // Extents of x: every dimension is divisible by 3 and, where split, by size·3.
              std::vector<int64_t> extents = {3, 6, 9 * scale};
              extents[split] *= size * (split == concat ? 3 : 1);
              int64_t total = extents[0] * extents[1] * extents[2];
              auto x = contribution<float>(context.rank, total);
              std::vector<float> y(total, -1);
              call(gvrt_all_to_all, x.data(), y.data(),
                   {(int64_t)group, 0, 3, extents[0], extents[1], extents[2], split, splitOuter, concat, concatOuter});
              std::vector<int64_t> piece = extents, result = extents;
              piece[split] /= size;
              result[split] /= size;
              result[concat] *= size;
              int64_t splitRest = piece[split] / splitOuter, concatRest = piece[concat] / concatOuter;
              for (int64_t r = 0; r < size; ++r)
                for (int64_t e = 0; e < total / size; ++e) {
                  int64_t index[3] = {e / (piece[1] * piece[2]), e / piece[2] % piece[1], e % piece[2]};
                  auto at = [&](std::vector<int64_t> shape, int64_t dim, int64_t rest, int64_t position) {
                    int64_t i[3] = {index[0], index[1], index[2]};
                    i[dim] = (i[dim] / rest * size + position) * rest + i[dim] % rest;
                    return (i[0] * shape[1] + i[1]) * shape[2] + i[2];
                  };
                  ASSERT_EQ(y[at(result, concat, concatRest, r)],
                            element(members.ranks[r], at(extents, split, splitRest, members.position)))
                      << "split " << split << "/" << splitOuter << " concat " << concat << "/" << concatOuter;
                }
            }
}

TEST_F(CollectivesTest, StagesSendBothWaysAtOnce) {
  if (context.ranks < 2)
    GTEST_SKIP() << "needs two ranks";
  int half = context.ranks / 2;
  context.devices = half;
  context.stages = 2;
  context.stage = context.rank / half;
  context.device = context.rank % half;
  if (context.stage > 1)
    return;
  int64_t other = 1 - context.stage;
  std::vector<float> sent(500000, (float)context.rank), received(500000); // too long to be buffered
  void *sentBuffer[] = {sent.data()}, *receivedBuffer[] = {received.data()};
  int64_t words[] = {other, 7, (int64_t)sent.size() * 4, /*handle=*/3};
  for (int64_t handle : {-1, 4}) {
    std::fill(received.begin(), received.end(), -1.0f);
    int64_t receiveWords[] = {other, 7, words[2], handle};
    if (handle >= 0) // posted before anything is sent
      gvrt_receive(&context, receivedBuffer, receiveWords);
    gvrt_send(&context, sentBuffer, words);
    if (handle < 0)
      gvrt_receive(&context, receivedBuffer, receiveWords);
    else
      gvrt_wait(&context, receivedBuffer, &receiveWords[3]);
    gvrt_wait(&context, sentBuffer, &words[3]);
    EXPECT_EQ(received, std::vector<float>(500000, (float)(other * half + context.device)));
  }
}

TEST_F(CollectivesTest, AValueThatWasNotExpectedIsAnErrorNotAHang) {
  if (context.ranks < 2)
    GTEST_SKIP() << "needs two ranks";
  context.devices = context.ranks / 2;
  context.stage = context.rank / context.devices;
  context.device = context.rank % context.devices;
  float value = 1;
  void *buffer[] = {&value};
  int64_t sendWords[] = {1, 7, 4, 0}, receiveWords[] = {0, 8, 4, -1}, laterWords[] = {0, 8, 4, 5};
  for (int turn = 0; turn < 2; ++turn)
    if (context.stage == 0) {
      gvrt_send(&context, buffer, sendWords);
      gvrt_wait(&context, buffer, &sendWords[3]);
      EXPECT_THROW(gvrt_wait(&context, buffer, &sendWords[3]), std::runtime_error);
    } else if (turn == 0) {
      EXPECT_THROW(gvrt_receive(&context, buffer, receiveWords), std::runtime_error);
    } else {
      gvrt_receive(&context, buffer, laterWords);
      EXPECT_THROW(gvrt_wait(&context, buffer, &laterWords[3]), std::runtime_error);
    }
}

} // namespace

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  ::testing::InitGoogleTest(&argc, argv);
  int failed = RUN_ALL_TESTS(), anyFailed = 0;
  MPI_Allreduce(&failed, &anyFailed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return anyFailed;
}
