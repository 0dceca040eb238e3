// What a disk says: what is there, what is not, and what it cannot tell.
#include "runtime/core/Files.h"
#include "TemporaryFolder.h"

#include <fstream>
#include <gmock/gmock.h>
#include <unistd.h>

using namespace galvatron;
using ::testing::EndsWith;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

namespace {

class FilesTest : public TemporaryFolder {
protected:
  FilesTest() : TemporaryFolder("files") {}
  void SetUp() override {
    TemporaryFolder::SetUp();
    std::filesystem::create_symlink("loop", folder / "loop");
  }

  bool isThere = false;
  std::vector<std::filesystem::path> paths;
};

TEST_F(FilesTest, ThereOrNot) {
  EXPECT_TRUE(lookFor(folder, isThere).ok());
  EXPECT_TRUE(isThere);
  for (const char *name : {"none", "none/deeper"}) {
    EXPECT_TRUE(lookFor(folder / name, isThere).ok());
    EXPECT_FALSE(isThere);
  }
  EXPECT_THAT(lookFor(folder / "loop", isThere).message, EndsWith("loop: Too many levels of symbolic links"));
  EXPECT_THAT(lookFor(std::string(300, 'n'), isThere).message, EndsWith("nnn: File name too long"));
}

TEST_F(FilesTest, Lists) {
  EXPECT_TRUE(writeText(folder / "text", "a line\n").ok());
  EXPECT_TRUE(listFolder(folder / "none", paths).ok());
  EXPECT_TRUE(listFolder(folder / "text", paths).ok());
  EXPECT_THAT(paths, IsEmpty());
  EXPECT_TRUE(listFolder(folder, paths).ok());
  EXPECT_THAT(paths, UnorderedElementsAre(folder / "text", folder / "loop"));
  EXPECT_THAT(listFolder(folder / "loop", paths).message, EndsWith("loop: Too many levels of symbolic links"));
}

TEST_F(FilesTest, WritesAll) {
  EXPECT_TRUE(writeText(folder / "text", "longer, and replaced").ok());
  EXPECT_TRUE(writeText(folder / "text", "a line\n").ok());
  std::ifstream file(folder / "text");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "a line\n");
  EXPECT_EQ(writeText("/dev/full", "a line\n").message, "cannot write /dev/full: No space left on device");
  EXPECT_EQ(synchronize(folder).message, "");
}

} // namespace
