// What is said when a folder of stage binaries cannot be written: each file, and the linker.
#include "galvatron/Target/StageBinaries.h"
#include "../Reference/Program.h"
#include "galvatron/Transforms/PlanMemory.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <sstream>

using namespace galvatron;
using galvatron::reference::Program;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

namespace {

/// A variable of the environment, for a while.
class Environment {
public:
  Environment(const char *name, const std::string &value)
      : name(name), before(std::getenv(name) ? std::getenv(name) : "") {
    setenv(name, value.c_str(), /*overwrite=*/1);
  }
  ~Environment() { setenv(name, before.c_str(), /*overwrite=*/1); }

private:
  const char *name;
  std::string before;
};

std::string readInput(const std::string &name) {
  std::ifstream file("test/Inputs/" + name); // tests run from the source tree
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// One stage on one device, and a folder in which its parts can be missing.
class StageBinariesTest : public testing::Test {
protected:
  StageBinariesTest() : program(readInput("llama.mlir")), folder(fs::path(testing::TempDir()) / getTestName()) {
    EXPECT_TRUE(program.run("galvatron-phase-differentiate,galvatron-annotate-plan,"
                            "galvatron-phase-shard,galvatron-phase-stage,galvatron-phase-lower"));
    mlir::PassManager passes(program.context.get());
    passes.addPass(createPlanMemoryPass(timetables));
    EXPECT_TRUE(succeeded(passes.run(*program.module)));
    fs::remove_all(folder);
    for (const char *name : {"out", "runtime", "bin"})
      fs::create_directories(folder / name);
    options.directory = folder / "out";
    options.runtimeDirectory = folder / "runtime";
  }

  /// A folder of its own for each, as tests run side by side.
  static std::string getTestName() {
    return std::string("galvatron-stages-") + testing::UnitTest::GetInstance()->current_test_info()->name();
  }
  ~StageBinariesTest() override { fs::remove_all(folder); }

  /// A linker that writes an empty file, or fails.
  void makeCompiler(const std::string &script) {
    std::ofstream(folder / "bin" / "cc") << "#!/bin/sh\n" << script << "\n";
    fs::permissions(folder / "bin" / "cc", fs::perms::owner_all);
  }
  void makeRuntime(std::vector<std::string> files) {
    for (const std::string &file : files)
      std::ofstream(folder / "runtime" / file) << "@STAGES@\n";
  }

  std::string getError() {
    std::string error;
    mlir::ScopedDiagnosticHandler handler(program.context.get(), [&](mlir::Diagnostic &diagnostic) {
      if (error.empty())
        error = diagnostic.str();
    });
    Environment path("PATH", folder / "bin");
    mlir::LogicalResult result = emitStageBinaries(*program.module, *timetables, options);
    EXPECT_EQ(failed(result), !error.empty());
    return error;
  }

  Program program;
  std::shared_ptr<std::vector<Timetable>> timetables = std::make_shared<std::vector<Timetable>>();
  fs::path folder;
  StageOutputOptions options;
};

const std::vector<std::string> kRuntime = {"libgalvatron_rt.so", "libgalvatron_cpu.so", "launch.in"};

TEST_F(StageBinariesTest, AllIsThere) {
  makeCompiler(": > \"$2\"");
  makeRuntime(kRuntime);
  EXPECT_EQ(getError(), "");
  EXPECT_TRUE(fs::exists(folder / "out" / "stage0"));
  EXPECT_NE(fs::status(folder / "out" / "launch").permissions() & fs::perms::owner_exec, fs::perms::none);
}

TEST_F(StageBinariesTest, NoFolder) {
  options.directory = folder / "missing";
  EXPECT_THAT(getError(), HasSubstr("cannot write '" + options.directory + "/stage0.o': No such file"));
}

TEST_F(StageBinariesTest, NoCompiler) {
  EXPECT_EQ(getError(), "expects a C compiler named cc to link the stages; install gcc or clang");
}

TEST_F(StageBinariesTest, NoTemporaryFolder) {
  makeCompiler(":");
  Environment temporary("TMPDIR", folder / "missing");
  EXPECT_THAT(getError(), HasSubstr("could not create a temporary file: No such file"));
}

TEST_F(StageBinariesTest, LinkerFails) {
  makeCompiler("echo undefined symbol >&2; exit 1");
  EXPECT_THAT(getError(), HasSubstr("/stage0 failed: undefined symbol"));
}

TEST_F(StageBinariesTest, NoLibrary) {
  makeCompiler(":");
  makeRuntime({"libgalvatron_rt.so"});
  EXPECT_THAT(getError(), HasSubstr("could not copy " + options.runtimeDirectory + "/libgalvatron_cpu.so to "));
}

TEST_F(StageBinariesTest, NoLaunchScript) {
  makeCompiler(":");
  makeRuntime({"libgalvatron_rt.so", "libgalvatron_cpu.so"});
  EXPECT_THAT(getError(), HasSubstr("could not read " + options.runtimeDirectory + "/launch.in: No such file"));
}

TEST_F(StageBinariesTest, LaunchScriptIsInTheWay) {
  makeCompiler(":");
  makeRuntime(kRuntime);
  fs::create_directories(folder / "out" / "launch");
  EXPECT_THAT(getError(), HasSubstr("cannot write '" + options.directory + "/launch': Is a directory"));
}

} // namespace
