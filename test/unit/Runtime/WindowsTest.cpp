// Windows of a long file: what is looked at before the first step.
#include "runtime/data/Windows.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <unistd.h>

using namespace galvatron;
using ::testing::HasSubstr;

TEST(Windows, OfALongFileTheFirstStepIsChecked) {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("long-" + std::to_string(getpid()));
  constexpr int64_t kTokens = (1 << 28) + 4096;
  std::ofstream(path, std::ios::binary).seekp(2 * 1000000).write("\xff\xff", 2);
  std::filesystem::resize_file(path, 2 * kTokens); // sparse
  TokenFile file;
  std::string warning;
  ASSERT_EQ(TokenFile::open(path, "u16", 1000, file, warning).message, "");
  Manifest manifest;
  manifest.globalBatch = 4, manifest.sequence = 100, manifest.vocabulary = 1000;
  DataOrder order;
  order.sequence = 100, order.tokens = kTokens, order.file = path;
  Windows windows(manifest, file, order);
  EXPECT_EQ(windows.check(0, 1000000, 0, 1).message, "");
  const char *message = "token 1000000 is 65535, outside the vocabulary of 1000 (tokens count from 0, read as u16)";
  EXPECT_THAT(windows.check(9998, 4, 0, 1).message, HasSubstr(message));
  Sample sample;
  EXPECT_THAT(windows.read(10000, sample).message, HasSubstr(message));
  std::filesystem::remove(path);
}
