// MPI's collectives over groups of 1, 2 and 4 ranks against a local model. Runs under mpirun with 1, 2 or 4 ranks.
#include "CollectiveModel.h"
#include "runtime/api/Functions.h"
#include "runtime/comm/Communicators.h"

#include <gmock/gmock.h>
#include <numeric>

using namespace galvatron;
using namespace galvatron::test;
using ::testing::HasSubstr;

namespace {

/// Element counts: less than a rank each, odd, longer than one part of the workspace.
constexpr int64_t kCounts[] = {1, 3, 1000, 2100001};

class CollectivesTest : public ::testing::Test {
protected:
  void SetUp() override {
    MPI_Comm_rank(MPI_COMM_WORLD, &context.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &context.ranks);
    context.devices = context.ranks;
    context.device = context.rank;
    // Group 0: all; group 1: alone; groups 2, 3: halves and their transposes, as mesh axes make them.
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

  /// What a call says that must fail.
  std::string failure(gvrt_function function, const void *x, void *y, std::vector<int64_t> attributes) {
    try {
      call(function, x, y, attributes);
    } catch (const std::runtime_error &error) {
      return error.what();
    }
    return "no failure";
  }

  template <typename Half> void expectFullPrecision(int64_t type, float small);

  gvrt_context context;
};

TEST_F(CollectivesTest, AllReduceSumAndMaximumInPlaceAndNot) {
  auto check = [&]<typename T>(T, int64_t group, int64_t count, int64_t reduction, bool inPlace) {
    auto x = contribution<T>(context.rank, count);
    std::vector<T> y(inPlace ? 0 : count);
    call(gvrt_all_reduce, x.data(), inPlace ? x.data() : y.data(), {group, kind<T>(), reduction, count, -1});
    expectSame(inPlace ? x : y, allReduced(context.groups[group], reduction, count));
  };
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (int64_t count : kCounts)
      for (int64_t reduction : {0, 1})
        for (bool inPlace : {false, true}) {
          check(0.0f, group, count, reduction, inPlace);
          check(int64_t(), group, count, reduction, inPlace);
        }
}

/// 1 and n small numbers, each half a place after 1: added one by one in 16 bits the sum would stay 1.
template <typename Half> void CollectivesTest::expectFullPrecision(int64_t type, float small) {
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (int64_t count : {3, 9001}) {
      const Group &members = context.groups[group];
      int64_t size = members.ranks.size();
      Half mine(members.position == 0 ? 1.0f : small);
      std::vector<Half> x(count, mine), y(count);
      Half sum(1.0f + (size - 1) * small);
      call(gvrt_all_reduce, x.data(), y.data(), {(int64_t)group, type, 0, count, -1});
      for (const Half &value : y)
        ASSERT_EQ((float)value, (float)sum);
      call(gvrt_all_reduce, x.data(), y.data(), {(int64_t)group, type, 1, count, -1});
      for (const Half &value : y)
        ASSERT_EQ((float)value, 1.0f);
      std::vector<Half> whole(size * count);
      call(gvrt_all_gather, x.data(), whole.data(), {(int64_t)group, type, count, 1, kPlain, -1});
      EXPECT_EQ((float)whole[(count - 1) * size], 1.0f);
      whole.assign(size * count, mine);
      call(gvrt_reduce_scatter, whole.data(), y.data(), {(int64_t)group, type, 0, count, 1, kPlain, -1});
      for (const Half &value : y)
        ASSERT_EQ((float)value, (float)sum);
    }
}

TEST_F(CollectivesTest, HalvesAreAddedInFullPrecision) {
  expectFullPrecision<Bfloat16>(GVRT_BF16, 0x1p-8f);
  expectFullPrecision<Float16>(GVRT_F16, 0x1p-11f);
}

TEST_F(CollectivesTest, ACollectiveWithAHandleIsWaitedForOnce) {
  float x = 1, y = 0;
  int64_t handle = 5;
  call(gvrt_all_reduce, &x, &y, {0, GVRT_F32, 0, 1, handle});
  EXPECT_EQ(y, (float)context.groups[0].ranks.size());
  EXPECT_THAT(failure(gvrt_all_gather, &x, &y, {/*group=*/1, GVRT_F32, 1, 1, kPlain, handle}),
              HasSubstr("expects handle 5 to be waited for before it is used again"));
  call(gvrt_wait, &x, nullptr, {handle});
  EXPECT_THAT(failure(gvrt_wait, &x, nullptr, {handle}), HasSubstr("expects handle 5 to be under way"));
}

/// Each rank is its own neighbour here.
TEST_F(CollectivesTest, AReceiveChecksWhatCame) {
  float x[2] = {1, 2}, y[2] = {};
  std::string expected =
      "expects value 3 of 8 bytes from rank " + std::to_string(context.rank) + ", but got value 2 of 4 bytes";
  for (int64_t handle : {-1, 1}) {
    call(gvrt_send, x, nullptr, {/*stage=*/0, /*value=*/2, /*bytes=*/4, /*handle=*/0});
    std::string text = failure(gvrt_receive, y, nullptr, {0, 3, 8, handle});
    EXPECT_THAT(handle < 0 ? text : failure(gvrt_wait, y, nullptr, {handle}), HasSubstr(expected));
    call(gvrt_wait, x, nullptr, {0});
  }
}

/// Rank, stage, step, entry, operation, and whom it is among.
TEST_F(CollectivesTest, AFailureSaysWhereItHappened) {
  context.stage = 3;
  context.step = 2;
  context.entry = "forward model.layers.0 micro-batch 1";
  std::string place = "rank " + std::to_string(context.rank) + " (stage 3), step 2, ";
  place += "forward model.layers.0 micro-batch 1, ";
  float x[4] = {}, y[4] = {};
  std::string among = " among ranks 0";
  for (int rank = 1; rank < context.ranks; ++rank)
    among += ", " + std::to_string(rank);
  constexpr int64_t kNoType = 9;
  for (auto [function, name] : {std::pair<gvrt_function, std::string>{gvrt_all_reduce, "all_reduce"},
                                {gvrt_all_gather, "all_gather"},
                                {gvrt_reduce_scatter, "reduce_scatter"},
                                {gvrt_all_to_all, "all_to_all"}}) {
    std::string actual = failure(function, x, y, {/*group=*/0, kNoType, 1, 1, 1, 1, 1, 1});
    EXPECT_TRUE(actual.starts_with(place + name + among + ": expects an element type")) << actual;
  }
  // An error that MPI returns.
  context.devices = context.ranks;
  std::string receive = failure(gvrt_receive, x, y, {/*stage=*/8, 7, 4, /*handle=*/-1});
  std::string from = "receive from rank " + std::to_string(8 * context.ranks + context.rank) + ": ";
  EXPECT_TRUE(receive.starts_with(place + from + "MPI_ERR_RANK")) << receive;
  EXPECT_NE(receive.find(" in MPI_Recv [PointToPoint.cpp:"), std::string::npos) << receive;
  EXPECT_EQ(context.operation, nullptr);
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
    for (auto [outer, inner] :
         {std::pair<int64_t, int64_t>{1, 5}, {3, 1}, {7, 4}, {6, 5}, {1, 1500001}, {3, 700001}, {4, 700001}}) {
      const Group &members = context.groups[group];
      auto x = contribution<float>(context.rank, outer * inner);
      std::vector<float> y(members.ranks.size() * outer * inner, -1);
      call(gvrt_all_gather, x.data(), y.data(), {(int64_t)group, GVRT_F32, outer, inner, kPlain, -1});
      expectSame(y, allGathered(members, outer, inner));
      if (outer % 2)
        continue;
      call(gvrt_all_gather, x.data(), y.data(), {(int64_t)group, GVRT_F32, outer, inner, kMirrored, -1});
      expectSame(y, allGathered(members, outer, inner, kMirrored));
    }
}

TEST_F(CollectivesTest, ReduceScatterGivesEachRankItsPieceOfTheSum) {
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (auto [outer, inner] :
         {std::pair<int64_t, int64_t>{1, 5}, {3, 1}, {7, 4}, {6, 5}, {1, 900001}, {3, 400001}, {4, 400001}}) {
      const Group &members = context.groups[group];
      auto x = contribution<float>(context.rank, members.ranks.size() * outer * inner);
      std::vector<float> y(outer * inner, -1);
      call(gvrt_reduce_scatter, x.data(), y.data(), {(int64_t)group, GVRT_F32, 0, outer, inner, kPlain, -1});
      expectSame(y, reduceScattered(members, outer, inner));
      if (outer % 2)
        continue;
      call(gvrt_reduce_scatter, x.data(), y.data(), {(int64_t)group, GVRT_F32, 0, outer, inner, kMirrored, -1});
      expectSame(y, reduceScattered(members, outer, inner, kMirrored));
    }
}

TEST_F(CollectivesTest, ShardTakesThisRanksPiece) {
  const Group &members = context.groups[0];
  int64_t size = members.ranks.size();
  auto x = contribution<int64_t>(0, size * 3 * 5);
  std::vector<int64_t> y(3 * 5);
  call(gvrt_shard, x.data(), y.data(), {0, 8, 3, 5, kPlain, 0});
  for (int64_t o = 0; o < 3; ++o)
    for (int64_t i = 0; i < 5; ++i)
      EXPECT_EQ(y[o * 5 + i], x[(o * size + members.position) * 5 + i]);
  call(gvrt_shard, x.data(), y.data(), {0, 8, 2, 5, kMirrored, 0});
  for (int64_t o = 0; o < 2; ++o)
    for (int64_t i = 0; i < 5; ++i)
      EXPECT_EQ(y[o * 5 + i], x[(o * size + placeOf(members.position, o, size, kMirrored)) * 5 + i]);
  std::vector<int64_t> nextOnes = {0, 8, 2, 5, kMirrored, size};
  for (int64_t r = 0; r < size; ++r)
    nextOnes.push_back((r + 1) % size);
  call(gvrt_shard, x.data(), y.data(), nextOnes);
  for (int64_t o = 0; o < 2; ++o)
    for (int64_t i = 0; i < 5; ++i)
      EXPECT_EQ(y[o * 5 + i], x[(o * size + placeOf((members.position + 1) % size, o, size, kMirrored)) * 5 + i]);
}

TEST_F(CollectivesTest, AllToAllMovesTheCutFromOneDimensionToAnother) {
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (int64_t last : {9, 9 * 181}) // the larger one needs several parts
      for (const AllToAll &each : allToAlls(context.groups[group].ranks.size(), last)) {
        if (last > 9 && each.splitOuter != each.concatOuter)
          continue;
        SCOPED_TRACE(::testing::PrintToString(each));
        auto x = contribution<float>(context.rank, each.total());
        std::vector<float> y(each.total(), -1);
        int64_t handle = each.split == 0 ? 3 : -1;
        call(gvrt_all_to_all, x.data(), y.data(), each.attributes(group, GVRT_F32, handle));
        if (handle >= 0) {
          void *buffer[] = {y.data()};
          gvrt_wait(&context, buffer, &handle);
        }
        expectSame(y, each.result(context.groups[group]));
      }
}

TEST_F(CollectivesTest, PermuteGivesEachRankTheValueOfItsSource) {
  for (size_t group = 0; group < context.groups.size(); ++group)
    for (int64_t shift : {0, 1})
      for (int64_t handle : {-1, 5}) {
        const Group &members = context.groups[group];
        int64_t size = members.ranks.size(), count = 700001;
        std::vector<int64_t> attributes = {(int64_t)group, GVRT_F32, count, size};
        for (int64_t r = 0; r < size; ++r)
          attributes.push_back((r + shift) % size);
        attributes.push_back(handle);
        auto x = contribution<float>(context.rank, count);
        std::vector<float> y(count, -1);
        call(gvrt_permute, x.data(), y.data(), attributes);
        if (handle >= 0) {
          void *buffer[] = {y.data()};
          gvrt_wait(&context, buffer, &handle);
        }
        expectSame(y, contribution<float>(members.ranks[(members.position + shift) % size], count));
      }
}

TEST_F(CollectivesTest, PermuteNeedsEachRankOnce) {
  float x[1] = {}, y[1] = {};
  std::vector<int64_t> attributes = {0, GVRT_F32, 1, context.ranks};
  attributes.resize(4 + context.ranks, context.ranks); // no rank has that number
  attributes.push_back(-1);
  try {
    call(gvrt_permute, x, y, attributes);
    ADD_FAILURE();
  } catch (const std::runtime_error &error) {
    EXPECT_NE(std::string(error.what())
                  .find("expects sources that name each of " + std::to_string(context.ranks) + " ranks once"),
              std::string::npos)
        << error.what();
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
