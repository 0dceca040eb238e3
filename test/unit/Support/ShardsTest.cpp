#include "galvatron/Support/Shards.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>

using namespace galvatron::safetensors;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace {

class ShardsTest : public testing::Test {
protected:
  void SetUp() override {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
  }

  /// Tensors a … e of so many floats each, tensor i filled with i.
  std::vector<std::string> write(const std::vector<int64_t> &sizes, int64_t limit, const std::string &prefix = "") {
    ShardedWriter writer;
    for (size_t i = 0; i < sizes.size(); ++i)
      writer.add(prefix + char('a' + i), ElementType::F32, {sizes[i]});
    writer.divide(folder, "model", limit);
    EXPECT_TRUE(writer.create(error)) << error;
    for (size_t i = 0; i < sizes.size(); ++i) {
      std::vector<float> values(sizes[i], i);
      EXPECT_TRUE(writer.writeFloats(prefix + char('a' + i), 0, sizes[i], values.data(), error)) << error;
    }
    EXPECT_TRUE(writer.close(error)) << error;
    return writer.files();
  }

  std::string openError(const std::string &path) {
    EXPECT_FALSE(ShardedReader::open(path, error));
    return error;
  }

  void setIndex(const std::string &text) { std::ofstream(folder / "model.safetensors.index.json") << text; }

  std::filesystem::path folder = testing::TempDir() + "/galvatron-shards";
  std::string error;
};

TEST_F(ShardsTest, OneFileWhereItFits) {
  EXPECT_THAT(write({4, 4}, 32), ElementsAre("model.safetensors"));
  EXPECT_TRUE(ShardedReader::open(folder, error)) << error;
}

TEST_F(ShardsTest, ATensorTooLargeHasAFileOfItsOwn) {
  // b is alone, and c goes on where a ended, as transformers does it.
  EXPECT_THAT(write({2, 9, 2, 5, 1}, 16),
              ElementsAre("model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                          "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                          "model.safetensors.index.json"));
  auto reader = ShardedReader::open(folder, error);
  ASSERT_TRUE(reader) << error;
  EXPECT_EQ(reader->files().size(), 5u);
  std::vector<float> values(5);
  ASSERT_TRUE(reader->readFloats("d", 0, 5, values.data(), error)) << error;
  EXPECT_THAT(values, ElementsAre(3, 3, 3, 3, 3));
  EXPECT_EQ(reader->find("c")->shape, (std::vector<int64_t>{2}));
  EXPECT_FALSE(reader->readFloats("x", 0, 1, values.data(), error));
  std::ifstream index(folder / "model.safetensors.index.json");
  std::string text(std::istreambuf_iterator<char>(index), {});
  EXPECT_THAT(text, HasSubstr("\"total_size\": 76"));
  EXPECT_THAT(text, HasSubstr("\"c\": \"model-00001-of-00004.safetensors\""));
}

TEST_F(ShardsTest, NamesOfShards) {
  EXPECT_TRUE(isShardOf("model", "model-00001-of-00003.safetensors"));
  EXPECT_TRUE(isShardOf("model", "model.safetensors.index.json"));
  for (const char *name : {"model.safetensors", "model-1-of-3.safetensors", "other-00001-of-00003.safetensors"})
    EXPECT_FALSE(isShardOf("model", name)) << name;
}

TEST_F(ShardsTest, WhatIsMissingOrTwiceIsNamed) {
  EXPECT_THAT(openError(folder), HasSubstr("has neither model.safetensors nor model.safetensors.index.json; name"));
  write({4, 4}, 16);
  std::filesystem::path first = folder / "model-00001-of-00002.safetensors";
  std::filesystem::path index = folder / "model.safetensors.index.json";
  std::filesystem::rename(first, folder / "aside");
  EXPECT_THAT(openError(folder), HasSubstr("model-00001-of-00002.safetensors is missing, but "));
  EXPECT_THAT(error, HasSubstr("says that it holds a; copy it there"));
  std::filesystem::copy(folder / "model-00002-of-00002.safetensors", first);
  EXPECT_THAT(openError(folder), HasSubstr("tensor b is in two files, "));
  std::filesystem::remove(first);
  std::filesystem::rename(folder / "aside", first);
  setIndex(R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "x": "model-00002-of-00002.safetensors"}})");
  EXPECT_THAT(openError(folder),
              HasSubstr("says that tensor x is in model-00002-of-00002.safetensors, but no file has it"));
  setIndex(R"({"weight_map": {"a": "model-00001-of-00002.safetensors"}})");
  EXPECT_TRUE(ShardedReader::open(folder, error)) << error;
  setIndex(R"({"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"}})");
  EXPECT_THAT(openError(folder), HasSubstr("but it is in "));
  ShardedWriter writer;
  writer.add("a", ElementType::F32, {1});
  writer.add("c", ElementType::F32, {1});
  writer.divide(folder, "model-00001-of-00002", kWhole);
  ASSERT_TRUE(writer.create(error) && writer.close(error)) << error;
  setIndex(R"({"weight_map": {"a": "model-00001-of-00002.safetensors"}})");
  EXPECT_THAT(openError(index), ContainsRegex("has tensor c, which .* does not name; copy the folder again"));
  setIndex("{");
  EXPECT_THAT(openError(folder), HasSubstr("model.safetensors.index.json is not valid JSON: "));
  setIndex(R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "a": "model-00002-of-00002.safetensors"}})");
  EXPECT_THAT(openError(folder), HasSubstr("key 'a' occurs twice"));
  for (const char *text : {"[]", R"({"weight_map": {"a": 1}})", R"({"weight_map": {"a": "../a"}})",
                           R"({"weight_map": {"a": ".."}})", R"({"weight_map": {"a": "/etc/passwd"}})",
                           R"({"weight_map": {}})", R"({"weight_map": {"a": ""}})", R"({"weight_map": ["a"]})"}) {
    setIndex(text);
    EXPECT_THAT(openError(folder), HasSubstr("is no index of tensors: expects a weight_map of names to files beside"));
  }
  std::filesystem::remove(index);
  EXPECT_THAT(openError(index), HasSubstr("cannot read "));
}

TEST_F(ShardsTest, NamesResolveAsInTransformers) {
  auto resolve = [&](const std::string &prefix, const std::string &wanted) {
    write({1, 1}, kWhole, prefix);
    auto reader = ShardedReader::open(folder, error);
    return reader ? reader->resolve(wanted) : error;
  };
  EXPECT_EQ(resolve("model.norm.", "model.norm.a"), "model.norm.a");
  EXPECT_EQ(resolve("norm.", "model.norm.a"), "norm.a");
  EXPECT_EQ(resolve("model.norm.", "norm.b"), "model.norm.b");
  EXPECT_EQ(resolve("model.", "model.norm.a"), "");
  EXPECT_EQ(resolve("norm.", "norm.c"), "");
  EXPECT_EQ(resolve("", "c"), "");
}

} // namespace
