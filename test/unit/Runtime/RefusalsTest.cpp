// What the runtime says to a program or a device that it cannot serve: types, indices, memory, entries, a full disk.
#include "RuntimeFixture.h"

#include "runtime/api/Abi.h"
#include "runtime/comm/Pieces.h"
#include "runtime/core/Report.h"
#include "runtime/core/Timetable.h"
#include "runtime/data/FileSample.h"
#include "runtime/kernels/Gemm.h"

#include <fcntl.h>
#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::test;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

namespace {

class RefusalsTest : public RuntimeTest {
protected:
  void refuses(gvrt_function function, std::vector<const void *> buffers, std::vector<int64_t> attributes,
               const char *text) {
    EXPECT_THAT([&] { call(function, buffers, attributes); }, ThrowsMessage<std::runtime_error>(HasSubstr(text)));
  }

  float x[4] = {}, y[4] = {};
  int64_t indices[1] = {7};
};

TEST_F(RefusalsTest, TypesThatTheProcessorHasNoKernelFor) {
  refuses(gvrt_softmax, {x, y}, {GVRT_BF16, 1, 4}, "expects f32 data (type 0) on this device, but got type 2");
  refuses(gvrt_iota, {x}, {GVRT_BF16, 0, 1, 4}, "expects f32 or i64 (type 0 or 1) on this device, but got type 2");
  refuses(gvrt_convert, {x, y}, {GVRT_I64, GVRT_F32, 4}, "expects f32, bf16 or f16 (type 0, 2 or 3), but got type 1");
}

TEST_F(RefusalsTest, IndicesOutsideTheVocabulary) {
  refuses(gvrt_embedding, {x, indices, y}, {GVRT_F32, 4, 1, 1, 1, 4, -1}, "expects token ids below 4, but got 7");
  refuses(gvrt_target_logit, {x, indices, y}, {GVRT_F32, 1, 4, -100, 1, 4, -1}, "expects labels below 4, but got 7");
}

TEST_F(RefusalsTest, ProductsThatTheLibraryDoesNotTake) {
  auto product = [&] { gemm(&context, {x, /*ld=*/1, false}, {x, 2, false}, y, 2, 2, 2, 2, 1, 0); };
  EXPECT_THAT(product, ThrowsMessage<std::runtime_error>(HasSubstr("dnnl_sgemm refuses a product of 2x2 and 2x2")));
}

/// [2][3] of 6 cut from outside to inside, as [3][2] from inside: neither's pieces hold whole ones of the other.
TEST_F(RefusalsTest, CutsOfOneDimensionThatDoNotNest) {
  AllToAllPieces pieces;
  const int64_t extents[] = {12};
  EXPECT_EQ(allToAllPieces(1, extents, /*size=*/2, 0, /*splitOuter=*/2, 0, /*concatOuter=*/3, pieces),
            "expects cuts of dimension 0 that nest, but got 3 and 2");
}

TEST_F(RefusalsTest, MoreWorkspaceThanAnyKernelNeeds) {
  EXPECT_THAT([&] { context.workspace.bytes(Workspace::kLimitBytes + 1); },
              ThrowsMessage<std::length_error>("a kernel asked for 16777217 bytes of workspace"));
}

/// Entry 1 of two is spoilt, a word at a time.
TEST_F(RefusalsTest, EntriesThatNameWhatIsNotThere) {
  Manifest manifest;
  manifest.names = {"a"};
  manifest.units = {"layer"};
  manifest.arenaBytes = 64;
  manifest.results = {{{/*buffer=*/0, GVRT_F32, /*count=*/1}}};
  const gvrt_function functions[] = {gvrt_fill_zero};
  const std::vector<int64_t> entry = {8, 0, 0, -1, 0, 1, /*offset=*/0, /*bytes=*/4};
  auto check = [&](size_t word, int64_t value) {
    std::vector<int64_t> words = entry;
    words.insert(words.end(), entry.begin(), entry.end());
    words[entry.size() + word] = value;
    gvrt_program program = {kAbi, "", functions, 1, words.data(), (int64_t)words.size(), nullptr, 0};
    return Timetable(program, manifest, Timetable::training(program)).check().message;
  };
  EXPECT_EQ(check(GVRT_ENTRY_MICRO_BATCH, 0), "");
  for (auto [word, value] : {std::pair<size_t, int64_t>{GVRT_ENTRY_WORDS, 9},
                             {GVRT_ENTRY_WORDS, 5},
                             {GVRT_ENTRY_FUNCTION, 1},
                             {GVRT_ENTRY_NAME, 1},
                             {GVRT_ENTRY_LAYER, 1},
                             {GVRT_ENTRY_NUM_BUFFERS, 3},
                             {GVRT_ENTRY_NUM_BUFFERS, 0}, // the function's result has none
                             {GVRT_ENTRY_FIRST_BUFFER, 65}})
    EXPECT_EQ(check(word, value), "entry 1 of this program's timetable is not sound; compile it again") << word;
}

TEST_F(RefusalsTest, ALogOnAFullDisk) {
  LogFile log;
  ASSERT_TRUE(log.open("/dev/full", /*evaluates=*/false, std::nullopt).ok());
  EXPECT_EQ(log.add("1\n").message,
            "cannot write the log /dev/full: No space left on device; what it lacks is kept and tried again");
  EXPECT_TRUE(log.add("2\n").ok()); // told once
}

TEST_F(RefusalsTest, WhatIsNoFileCannotBeCut) {
  AppendedFile file;
  ASSERT_TRUE(file.open("the log", "/dev/null", 0).ok());
  EXPECT_EQ(file.cut(0).message, "cannot cut the log /dev/null: Invalid argument");
}

TEST_F(RefusalsTest, AFileThatBecameShorter) {
  unsigned char byte;
  int descriptor = open("/dev/null", O_RDONLY);
  EXPECT_EQ(readBytes(descriptor, "tokens.bin", 0, 1, &byte).message, "cannot read tokens.bin: it became shorter");
  close(descriptor);
}

} // namespace
