#include "galvatron/Support/Files.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <thread>
#include <unistd.h>

using namespace galvatron;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

namespace {

class SupportFiles : public ::testing::Test {
protected:
  SupportFiles() : folder(fs::temp_directory_path() / ("support-files-" + std::to_string(getpid()))) {}
  void SetUp() override { fs::create_directory(folder); }
  void TearDown() override { fs::remove_all(folder); }

  std::string path(const std::string &name) const { return folder / name; }
  static std::string contents(const std::string &path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  int numFiles() const { return std::distance(fs::directory_iterator(folder), fs::directory_iterator()); }

  const fs::path folder;
  std::string error;
};

TEST_F(SupportFiles, TextIsReadUpToALimit) {
  std::ofstream(path("a")) << "12345678";
  EXPECT_EQ(readTextFile(path("a"), error, 8), "12345678");
  EXPECT_EQ(readTextFile(path("a"), error, 7), std::nullopt);
  EXPECT_THAT(error, HasSubstr("a': it has more than 0 MiB, which no such text has"));
  EXPECT_EQ(readTextFile("/dev/zero", error, 1 << 20), std::nullopt);
  EXPECT_THAT(error, HasSubstr("'/dev/zero': it has more than 1 MiB"));
  EXPECT_EQ(readTextFile(path("none"), error), std::nullopt);
  EXPECT_THAT(error, HasSubstr("none': No such file or directory"));
  EXPECT_EQ(readTextFile(folder, error), std::nullopt);
  EXPECT_THAT(error, HasSubstr("Is a directory"));
}

TEST_F(SupportFiles, PipesAreRead) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(path("pipe")) << "through"; });
  EXPECT_EQ(readTextFile(path("pipe"), error), "through");
  writer.join();
}

TEST(BaseNames, StayInTheirFolder) {
  for (const char *name : {"model.safetensors", "a b", "größe.weights", "model-00001-of-00002.safetensors"})
    EXPECT_EQ(whyNoBaseName(name), "") << name;
  for (const char *name : {"", ".", "..", "../x", "/etc/passwd", "evil/launch", "a/", ".hidden", "a\nb", "\xff", "\x7f"})
    EXPECT_NE(whyNoBaseName(name), "") << name;
  EXPECT_NE(whyNoBaseName(std::string("a\0b", 3)), "");
  EXPECT_NE(whyNoBaseName(std::string(256, 'a')), "");
}

TEST(Utf8, IsWellFormed) {
  for (const char *text : {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"})
    EXPECT_TRUE(isUtf8(text)) << text;
  for (const char *text : {"\x80", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88", "\xe2\x82"})
    EXPECT_FALSE(isUtf8(text)) << text;
}

TEST_F(SupportFiles, OutputReplacesAFileAndKeepsItsRights) {
  ASSERT_TRUE(writeOutputFile(path("a"), "one", error)) << error;
  fs::permissions(path("a"), fs::perms::owner_all);
  ASSERT_TRUE(writeOutputFile(path("a"), "two", error)) << error;
  EXPECT_EQ(contents(path("a")), "two");
  EXPECT_EQ(fs::status(path("a")).permissions(), fs::perms::owner_all);
  EXPECT_EQ(numFiles(), 1);
}

TEST_F(SupportFiles, OutputGoesThroughALink) {
  fs::create_directory(path("other"));
  std::ofstream(path("other/target")) << "old";
  fs::create_symlink("other/target", path("link"));
  ASSERT_TRUE(writeOutputFile(path("link"), "new", error)) << error;
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(contents(path("other/target")), "new");
  fs::create_symlink("other/none yet", path("dangling"));
  ASSERT_TRUE(writeOutputFile(path("dangling"), "new", error)) << error;
  EXPECT_TRUE(fs::is_symlink(path("dangling")));
  EXPECT_EQ(contents(path("other/none yet")), "new");
  fs::create_symlink("circle", path("circle"));
  EXPECT_FALSE(writeOutputFile(path("circle"), "new", error));
  EXPECT_THAT(error, HasSubstr("Too many levels of symbolic links"));
}

TEST_F(SupportFiles, OutputGoesIntoAPipe) {
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = contents(path("pipe")); });
  ASSERT_TRUE(writeOutputFile(path("pipe"), "through", error)) << error;
  reader.join();
  EXPECT_EQ(got, "through");
  EXPECT_TRUE(fs::is_fifo(path("pipe")));
}

TEST_F(SupportFiles, OutputLeavesADeviceInPlace) {
  if (mknod(path("null").c_str(), S_IFCHR | 0600, makedev(1, 3)) != 0 ||
      mknod(path("full").c_str(), S_IFCHR | 0600, makedev(1, 7)) != 0)
    GTEST_SKIP() << "needs the right to make devices";
  ASSERT_TRUE(writeOutputFile(path("null"), "x", error)) << error;
  EXPECT_FALSE(writeOutputFile(path("full"), "x", error));
  EXPECT_THAT(error, HasSubstr("full': No space left on device"));
  EXPECT_TRUE(fs::is_character_file(path("null")) && fs::is_character_file(path("full")));
}

TEST_F(SupportFiles, WhatCannotBeWrittenLeavesNothing) {
  fs::create_directory(path("folder"));
  EXPECT_FALSE(writeOutputFile(path("folder"), "x", error));
  EXPECT_THAT(error, HasSubstr("Is a directory"));
  EXPECT_FALSE(writeOutputFile(path("none/a"), "x", error));
  EXPECT_THAT(error, HasSubstr("none/a': No such file or directory"));
  EXPECT_EQ(numFiles(), 1);
}

} // namespace
