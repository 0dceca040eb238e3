// A folder of a test's own, gone with it.
#ifndef GALVATRON_TEST_UNIT_RUNTIME_TEMPORARYFOLDER_H
#define GALVATRON_TEST_UNIT_RUNTIME_TEMPORARYFOLDER_H

#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

class TemporaryFolder : public ::testing::Test {
protected:
  /// `name`: of this kind of test.
  explicit TemporaryFolder(const std::string &name)
      : folder(std::filesystem::temp_directory_path() / (name + "-" + std::to_string(getpid()))) {}

  void SetUp() override { std::filesystem::create_directory(folder); }
  void TearDown() override { std::filesystem::remove_all(folder); }

  const std::filesystem::path folder;
};

#endif // GALVATRON_TEST_UNIT_RUNTIME_TEMPORARYFOLDER_H
