// What the device library says of calls, timetables and kernels that it cannot take. It looks before it asks the GPU:
// but for the last test, none is needed.
#include "CudaFixture.h"
#include "runtime/cuda/Communication.h"
#include "runtime/cuda/Launch.h"
#include "runtime/cuda/Pieces.h"
#include "runtime/cuda/Update.h"
#include "runtime/cuda/kernels/AttentionProblem.h"

#include <bit>
#include <cmath>
#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::test;
using ::testing::AnyOf;
using ::testing::HasSubstr;

namespace {

class CudaRefusalsTest : public ::testing::Test {
protected:
  CudaRefusalsTest() {
    MPI_Comm_rank(MPI_COMM_WORLD, &context.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &context.ranks);
    context.program = &program;
    context.deviceState = &state;
    context.groups = {{{context.rank}, 0, MPI_COMM_NULL}};
    context.coordinates = {0};
    state.communication = std::make_unique<cuda::Communication>();
  }

  template <typename F> std::string errorOf(F &&call) {
    try {
      call();
    } catch (const std::runtime_error &error) {
      return error.what();
    }
    return "no error";
  }
  std::string errorOf(gvrt_function function, std::vector<int64_t> attributes) {
    char memory[64] = "";
    std::vector<void *> buffers(100, memory);
    return errorOf([&] { function(&context, buffers.data(), attributes.data()); });
  }
  /// Of connecting stages of one device each, one more than there are ranks; each sends to `stage`.
  std::string errorOfSendTo(int64_t stage) {
    context.devices = 1;
    context.stage = context.rank;
    context.stages = context.ranks + 1;
    gvrt_function functions[] = {gvrt_send};
    int64_t entry[] = {11, 0, 0, -1, -1, 1, /*buffer=*/0, stage, /*tag=*/0, /*bytes=*/16, /*handle=*/-1};
    program.functions = functions;
    program.timetable = entry;
    program.timetable_words = std::size(entry);
    return errorOf([&] { cuda::connect(&context); });
  }

  gvrt_context context;
  gvrt_program program = {};
  cuda::State state;
};

TEST_F(CudaRefusalsTest, ElementTypes) {
  EXPECT_THAT(errorOf(gvrt_all_reduce, {0, /*type=*/9, 0, 4, -1}),
              HasSubstr("expects an element type from 0 to 3, but got 9"));
  EXPECT_THAT(errorOf(gvrt_dropout, {GVRT_I64, 0, 0, /*rank=*/1, 4, 1, 4, -1}),
              HasSubstr("expects element type 0 (f32), 2 (bf16) or 3 (f16), but got 1"));
}

TEST_F(CudaRefusalsTest, GeneratedKernels) {
  EXPECT_THAT(errorOf(gvrt_launch, {/*kernel=*/7, 1, 1, 0}),
              HasSubstr("expects a generated kernel below 0, but got 7"));
  state.kernels.push_back(nullptr);
  EXPECT_THAT(errorOf(gvrt_launch, {0, 1, 1, /*buffers=*/65}), HasSubstr("expects at most 64 buffers, but got 65"));
  program.kernels = "no PTX";
  EXPECT_THAT(errorOf([&] { cuda::loadKernels(&context); }),
              AnyOf(HasSubstr("the program's kernels cannot be loaded on this GPU: "),
                    HasSubstr("cannot be loaded on this GPU: there is none in them")));
}

TEST_F(CudaRefusalsTest, Stages) {
  EXPECT_THAT(errorOf(gvrt_send, {/*stage=*/3, 0, 16, -1}),
              HasSubstr("expects a connection with stage 3, but there is none"));
  EXPECT_THAT(errorOf(gvrt_receive, {/*stage=*/2, 0, 16, -1}),
              HasSubstr("expects a connection with stage 2, but there is none"));
  std::string stages = std::to_string(context.ranks + 1);
  EXPECT_THAT(errorOfSendTo(9), HasSubstr("expects another stage below " + stages + " to exchange with, but got 9"));
  // Nobody receives there.
  EXPECT_THAT(errorOfSendTo(context.ranks), HasSubstr("expects stages 0 and " + std::to_string(context.ranks) +
                                                      " to agree on whether the first sends to the second"));
}

TEST_F(CudaRefusalsTest, LoopsOverPieces) {
  PieceLoops loops;
  for (int64_t stride = 1; loops.size() < 9; stride *= 3) // none goes on where the next ends
    loops.insert(loops.begin(), {2, stride, stride});
  EXPECT_THAT(errorOf([&] { cuda::copyPieces(&context, nullptr, &context, &state, 4, loops); }),
              HasSubstr("expects at most 8 loops over pieces, but got 9"));
}

/// What libraries say is told with the call that said it.
TEST_F(CudaRefusalsTest, Libraries) {
  EXPECT_THAT(errorOf([&] { cuda::failCublas(&context, CUBLAS_STATUS_NOT_SUPPORTED, "call()", "a/file", 1); }),
              HasSubstr("cuBLASLt: the requested functionality is not supported in call() [file:1]"));
  EXPECT_THAT(errorOf([&] { cuda::failCudnn(&context, CUDNN_STATUS_NOT_SUPPORTED, "call()", "a/file", 1); }),
              HasSubstr("cuDNN: CUDNN_STATUS_NOT_SUPPORTED in call()"));
}

TEST_F(CudaRefusalsTest, TablesOfTheOptimizer) {
  if (hasGpus())
    GTEST_SKIP() << "there is a GPU, which has memory for them";
  EXPECT_THAT(errorOf([&] { cuda::startUpdates(&context, Manifest(), Options(), nullptr); }),
              HasSubstr("bytes for the optimizer's tables"));
}

int64_t bits(double x) { return std::bit_cast<int64_t>(x); }

/// Of attention's backward pass: sums over keys need more than nothing.
TEST_F(CudaRefusalsTest, AttentionWithoutAWorkspace) {
  if (!hasGpus())
    GTEST_SKIP() << "needs a GPU for each rank";
  constexpr int64_t kHeads = 2, kPositions = 128, kSize = 64, kCount = kHeads * kPositions * kSize;
  Rank rank(context.ranks, gvrt_program{}, 1 << 24, /*workspaceBytes=*/1 << 20);
  rank.start();
  std::vector<int64_t> attributes = {GVRT_BF16,  /*scratch=*/0,
                                     1,          kHeads,
                                     kHeads,     kPositions,
                                     kPositions, kSize,
                                     kSize,      bits(1 / std::sqrt(kSize)),
                                     1,          0,
                                     bits(0),    bits(0),
                                     0};
  std::vector<int64_t> strides = {kCount, kSize, kHeads * kSize};
  auto append = [&](const std::vector<int64_t> &words) {
    attributes.insert(attributes.end(), words.begin(), words.end());
  };
  for (int tensor = 0; tensor < 4; ++tensor)
    append(strides);
  append({0, 0, 0, 0}); // no bias
  for (int tensor = 0; tensor < 4; ++tensor)
    append(strides);
  for (int64_t extent : {int64_t(1), kHeads, kPositions, kPositions})
    append({1, extent, -1});
  auto half = [&] { return rank.allocate<uint16_t>(kCount); };
  std::vector<void *> buffers = {half(),  half(), half(), half(), half(), rank.allocate<float>(kHeads * kPositions),
                                 nullptr, half(), half(), half(), nullptr};
  EXPECT_THAT(errorOf([&] { rank.call(gvrt_attention_backward, buffers, attributes); }),
              HasSubstr("cuDNN's attention needs a workspace of "));
}

} // namespace
