// Tensors that no stage computes with: found by name, type and shape, or drawn, or refused.
#include "runtime/checkpoint/Carried.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <unistd.h>

using namespace galvatron;
using ::testing::EndsWith;
using ::testing::IsEmpty;

namespace {

constexpr safetensors::ElementType kF32 = safetensors::ElementType::F32;

class CarriedTest : public ::testing::Test {
protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() / ("carried-" + std::to_string(getpid()));
    std::filesystem::create_directory(folder);
    // Only the buffer is a tensor of the program's own file.
    manifest.buffers = "buffers";
    manifest.carried = {{.names = {"mask"}, .type = kF32, .shape = {2}, .init = {}, .isBuffer = true, .isRead = true},
                        {.names = {"unused", "alias"},
                         .type = kF32,
                         .shape = {3},
                         .init = random::Distribution::Constant,
                         .isBuffer = false,
                         .isRead = false}};
    write("buffers", {{"mask", {2}}});
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  void write(const std::string &name, const std::map<std::string, std::vector<int64_t>> &shapes,
             safetensors::ElementType type = kF32) {
    safetensors::Writer writer;
    std::string error;
    for (const auto &[tensor, shape] : shapes)
      writer.add(tensor, type, shape);
    ASSERT_TRUE(writer.create(folder / name, error) && writer.close(error)) << error;
  }

  std::string open(const std::string &start = "") {
    Carried carried;
    return Carried::open(manifest, start.empty() ? "" : folder / start, folder / "buffers", 0, carried).message;
  }

  std::filesystem::path folder;
  Manifest manifest;
};

TEST_F(CarriedTest, AreFoundUnderAnyOfTheirNamesOrDrawn) {
  EXPECT_THAT(open(), IsEmpty());
  write("start", {{"alias", {3}}});
  EXPECT_THAT(open("start"), IsEmpty());
  write("start", {{"mask", {2}}});
  EXPECT_THAT(open("start"), EndsWith("start has no tensor unused, which the model needs"));
}

TEST_F(CarriedTest, HaveTheProgramsTypeAndShape) {
  write("start", {{"alias", {4}}});
  EXPECT_THAT(open("start"), EndsWith("start: expects tensor unused of type F32 and shape [3], but got F32 [4]"));
  write("start", {{"alias", {3}}}, safetensors::ElementType::I64);
  EXPECT_THAT(open("start"), EndsWith("start: expects tensor unused of type F32 and shape [3], but got I64 [3]"));
}

TEST_F(CarriedTest, ThatNothingGivesAreRefused) {
  manifest.carried[1].init.reset();
  EXPECT_EQ(open(), "parameter unused has no initial distribution, so weights are needed; pass them with --weights or "
                    "--load");
  write("buffers", {{"other", {2}}});
  EXPECT_THAT(open(), EndsWith("buffers has no tensor mask; compile the program again"));
}

} // namespace
