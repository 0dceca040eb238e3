// What happens to an output folder while it is written: each move that fails is told, with the remedy.
#include "lib/Driver/OutputFolder.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <unistd.h>

using namespace galvatron;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

namespace fs = std::filesystem;

namespace {

class OutputFolderTest : public testing::Test {
protected:
  void SetUp() override {
    parent = fs::temp_directory_path() / ("output-" + std::to_string(getpid()));
    path = parent / "out";
    fs::create_directories(parent);
  }
  void TearDown() override { fs::remove_all(parent); }

  /// An earlier output, with a file of its user's in a folder.
  void makeEarlier() {
    fs::create_directories(path / "checkpoint");
    for (const char *name : {"plan.json", "launch", "checkpoint/weights"})
      std::ofstream(path / name) << name;
  }

  fs::path parent, path;
};

TEST_F(OutputFolderTest, WhatItsUserKeptThereMovesAlong) {
  makeEarlier();
  OutputFolder folder(path.string());
  ASSERT_THAT(folder.create(), IsEmpty());
  ASSERT_THAT(folder.commit(), IsEmpty());
  EXPECT_TRUE(fs::exists(path / "checkpoint/weights"));
  EXPECT_FALSE(fs::exists(path / "plan.json"));
}

TEST_F(OutputFolderTest, ListedPlansAreReplacedAsAWhole) {
  makeEarlier();
  fs::create_directories(path / "plans");
  for (const char *name : {"plans/01.json", "plans/02.json"})
    std::ofstream(path / name) << name;
  {
    OutputFolder plans((path / "plans").string());
    ASSERT_THAT(plans.create(), IsEmpty());
    ASSERT_THAT(plans.writeFile("01.json", "{}"), IsEmpty());
    ASSERT_THAT(plans.commit(), IsEmpty());
  }
  EXPECT_TRUE(fs::exists(path / "plans/01.json"));
  EXPECT_FALSE(fs::exists(path / "plans/02.json"));
  EXPECT_TRUE(fs::exists(path / "plan.json"));

  OutputFolder program(path.string());
  ASSERT_THAT(program.create(), IsEmpty());
  ASSERT_THAT(program.createFolder("new"), IsEmpty());
  EXPECT_THAT(program.createFolder("absent/new"),
              AllOf(StartsWith("cannot create the folder '"), HasSubstr("name another")));
  ASSERT_THAT(program.commit(), IsEmpty());
  EXPECT_FALSE(fs::exists(path / "plans")) << "plans of the program before";
  EXPECT_TRUE(fs::exists(path / "checkpoint/weights"));
}

TEST_F(OutputFolderTest, PlansBesideAFileOfItsUsersAreKept) {
  fs::create_directories(path);
  for (const char *name : {"01.json", "thesis.json"})
    std::ofstream(path / name) << name;
  EXPECT_THAT(OutputFolder(path.string()).create(), HasSubstr("it holds other files"));
}

TEST_F(OutputFolderTest, FailuresNameFolderAndRemedy) {
  OutputFolder folder(path.string());
  ASSERT_THAT(folder.create(), IsEmpty());
  EXPECT_THAT(OutputFolder(path.string()).create(),
              AllOf(StartsWith("cannot write to the folder '" + parent.string()), HasSubstr("; name another with -o")));
  EXPECT_THAT(folder.addFile("copy", (parent / "nowhere").string()),
              StartsWith("cannot copy '" + (parent / "nowhere").string() + "' to '"));
  fs::remove_all(folder.getTemporaryPath());
  EXPECT_THAT(folder.commit(),
              AllOf(StartsWith("cannot name the folder '" + path.string()), HasSubstr("; name another with -o")));
}

TEST_F(OutputFolderTest, AnEarlierOutputThatCannotMove) {
  makeEarlier();
  OutputFolder folder(path.string());
  ASSERT_THAT(folder.create(), IsEmpty());
  fs::path old = folder.getTemporaryPath() + ".old";
  fs::create_directories(old / "full");
  EXPECT_THAT(folder.commit(),
              AllOf(StartsWith("cannot replace the folder '" + path.string()), HasSubstr("; name another with -o")));
  EXPECT_TRUE(fs::exists(path / "plan.json"));
  fs::remove_all(old);
  fs::create_directories(fs::path(folder.getTemporaryPath()) / "checkpoint/full");
  EXPECT_THAT(folder.commit(), AllOf(StartsWith("cannot move '"), HasSubstr("; move it by hand")));
  EXPECT_TRUE(fs::exists(old / "checkpoint/weights"));
}

} // namespace
