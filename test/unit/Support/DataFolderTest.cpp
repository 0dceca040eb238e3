// Folders of named inputs: what each format may hold, and what is wrong with those that cannot be read.
#include "galvatron/Support/DataFolder.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace galvatron;
using data::Field;
using ::testing::HasSubstr;

namespace {

class DataFolderTest : public testing::Test {
protected:
  void SetUp() override {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
  }

  /// A .npy file of version 1 with this header, and elements as they are given.
  void writeNumpy(const std::string &name, const std::string &header, const std::string &elements) {
    std::string padded = header;
    while ((10 + padded.size() + 1) % 64)
      padded += ' ';
    padded += '\n';
    std::ofstream file(folder + "/" + name, std::ios::binary);
    file << "\x93NUMPY" << char(1) << char(0) << char(padded.size() & 255) << char(padded.size() >> 8) << padded
         << elements;
  }

  static std::string header(const std::string &type, const std::string &shape) {
    return "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
  }

  std::string open(const std::vector<Field> &fields) {
    std::string error;
    opened = data::Folder::open(folder, fields, error);
    EXPECT_EQ(opened.has_value(), error.empty());
    return error;
  }

  std::string folder = "data_folder_test";
  std::optional<data::Folder> opened;
  Field words = {"words", false, {2}, 10, {}}, floats = {"floats", true, {2}, 0, {}};
};

TEST_F(DataFolderTest, ReadsIntegersAndFloatsOfAnyWidth) {
  writeNumpy("words.npy", header("|u1", "(3, 2)"), std::string("\0\1\2\3\4\5", 6));
  float values[6] = {0, 1, -2, 3, 4, 5};
  writeNumpy("floats.npy", header("<f4", "(3, 2)"), std::string(reinterpret_cast<char *>(values), sizeof values));
  ASSERT_EQ(open({words, floats}), "");
  EXPECT_EQ(opened->numSamples(), 3);
  EXPECT_EQ(opened->getFiles().size(), 2u);
  EXPECT_EQ(opened->numBytes(), 6 + 24);
  int64_t integers[2];
  float numbers[2];
  std::string error;
  ASSERT_TRUE(opened->read(0, 1, reinterpret_cast<char *>(integers), error)) << error;
  EXPECT_EQ(integers[0], 2);
  EXPECT_EQ(integers[1], 3);
  ASSERT_TRUE(opened->read(1, 1, reinterpret_cast<char *>(numbers), error)) << error;
  EXPECT_EQ(numbers[0], -2);
  EXPECT_EQ(numbers[1], 3);
}

TEST_F(DataFolderTest, WhatAnIndexIsOfBoundsIt) {
  int64_t values[4] = {1, 9, 10, -100};
  writeNumpy("words.npy", header("<i8", "(2, 2)"), std::string(reinterpret_cast<char *>(values), sizeof values));
  ASSERT_EQ(open({words}), "");
  int64_t read[2];
  std::string error;
  EXPECT_TRUE(opened->read(0, 0, reinterpret_cast<char *>(read), error));
  EXPECT_FALSE(opened->read(0, 1, reinterpret_cast<char *>(read), error));
  EXPECT_THAT(error, HasSubstr("words of sample 1 has 10, but what it is an index of has 10"));
  words.below = 11;
  ASSERT_EQ(open({words}), "");
  EXPECT_FALSE(opened->read(0, 1, reinterpret_cast<char *>(read), error));
  words.ignored = -100;
  ASSERT_EQ(open({words}), "");
  EXPECT_TRUE(opened->read(0, 1, reinterpret_cast<char *>(read), error)) << error;
}

TEST_F(DataFolderTest, DamagedFilesAreNamed) {
  auto errorOf = [&](const std::string &text, const std::string &elements = "\1\2") {
    writeNumpy("words.npy", text, elements);
    return open({words});
  };
  EXPECT_EQ(errorOf(header("|u1", "(1, 2)")), "");
  EXPECT_THAT(errorOf("{'shape': (1, 2)}"), HasSubstr("has elements of type that its header does not tell"));
  EXPECT_THAT(errorOf("{'descr': '|u1', 'fortran_order': False, }"), HasSubstr("has a header without a shape"));
  EXPECT_THAT(errorOf(header("|u1", "(1, x)")), HasSubstr("has a header without a shape"));
  EXPECT_THAT(errorOf(header("|u1", "(99999999999999999999,)")), HasSubstr("has a header without a shape"));
  EXPECT_THAT(errorOf(header("<i8", "(4611686018427387904, 2)")), HasSubstr("has a shape of too many elements"));
  EXPECT_THAT(errorOf(header("|u1", "(0, 2)"), ""), HasSubstr("words has no samples"));
  EXPECT_THAT(errorOf(header("<c8", "(1, 2)")), HasSubstr("has elements of type <c8"));
  std::filesystem::remove(folder + "/words.npy");
  std::filesystem::create_directory(folder + "/words.npy");
  EXPECT_THAT(open({words}), HasSubstr("words.npy is no regular file"));
}

TEST_F(DataFolderTest, HeadersAreBounded) {
  std::ofstream(folder + "/words.npy", std::ios::binary) << "\x93NUMPY" << char(2) << char(0) << "\xff\xff\xff\x7f....";
  EXPECT_THAT(open({words}), HasSubstr("it is damaged"));
  std::ofstream(folder + "/words.npy", std::ios::binary) << "\x93NUMPY" << char(9) << char(0) << "........";
  EXPECT_THAT(open({words}), HasSubstr("is of version 9 of the format, but 1 to 3 are read"));
}

TEST_F(DataFolderTest, ShardsHaveAllInputs) {
  std::string error;
  safetensors::Writer writer;
  writer.add("words", safetensors::ElementType::I32, {3, 2});
  writer.add("floats", safetensors::ElementType::F32, {2, 2});
  ASSERT_TRUE(writer.create(folder + "/a.safetensors", error) && writer.close(error)) << error;
  EXPECT_EQ(open({words}), "");
  EXPECT_THAT(open({words, floats}), HasSubstr("has 3 samples of words, but 2 of floats"));
  words.name = "others";
  EXPECT_THAT(open({words}), HasSubstr("has no tensor others; each shard has all inputs of the program"));
}

TEST_F(DataFolderTest, AFolderIsExpected) {
  folder = "no/such/folder";
  EXPECT_THAT(open({words}), HasSubstr("cannot read the folder no/such/folder"));
}

TEST_F(DataFolderTest, DrawnSamplesAreWithinBoundsAndTheSameAgain) {
  words.shape = {1000};
  std::vector<int64_t> first(1000), again(1000), ones(1000);
  data::drawSample(words, 1, 5, reinterpret_cast<char *>(first.data()));
  data::drawSample(words, 1, 5, reinterpret_cast<char *>(again.data()));
  EXPECT_EQ(first, again);
  EXPECT_EQ(*std::max_element(first.begin(), first.end()), 9);
  EXPECT_EQ(*std::min_element(first.begin(), first.end()), 0);
  words.below = 0;
  data::drawSample(words, 1, 5, reinterpret_cast<char *>(ones.data()));
  EXPECT_EQ(ones, std::vector<int64_t>(1000, 1));
}

} // namespace
