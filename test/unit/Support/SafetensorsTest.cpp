#include "galvatron/Support/Safetensors.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

using namespace galvatron::safetensors;

namespace {

std::string temporaryFile(const std::string &name) { return testing::TempDir() + "/galvatron-" + name; }

void writeText(const std::string &path, const std::string &header, const std::string &data) {
  uint64_t length = header.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char *>(&length), 8);
  file << header << data;
}

std::string openError(const std::string &path) {
  std::string error;
  EXPECT_FALSE(Reader::open(path, error).has_value());
  return error;
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  std::string path = temporaryFile("whole.safetensors"), error;
  std::map<std::string, FloatTensor> tensors = {{"a.weight", {{2, 3}, {1, 2, 3, 4, 5, 6}}}, {"b", {{}, {7}}}};
  ASSERT_TRUE(writeAll(path, tensors, error)) << error;
  std::map<std::string, FloatTensor> read;
  ASSERT_TRUE(readAll(path, read, error)) << error;
  EXPECT_EQ(read.at("a.weight").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(read.at("a.weight").values, tensors.at("a.weight").values);
  EXPECT_EQ(read.at("b").values, std::vector<float>{7});
}

TEST(Safetensors, RangesAreReadAndWritten) {
  std::string path = temporaryFile("range.safetensors"), error;
  Writer first;
  first.add("a", ElementType::F32, {4});
  first.setMetadata("step", "12");
  Writer second = first;
  float low[] = {1, 2}, high[] = {3, 4}, middle[2];
  ASSERT_TRUE(first.create(path, error) && first.writeFloats("a", 0, 2, low, error)) << error;
  ASSERT_TRUE(second.openExisting(path, error) && second.writeFloats("a", 2, 2, high, error)) << error;
  ASSERT_TRUE(first.close(error) && second.close(error)) << error;
  auto reader = Reader::open(path, error);
  ASSERT_TRUE(reader) << error;
  EXPECT_EQ(reader->metadata().at("step"), "12");
  ASSERT_TRUE(reader->readFloats("a", 1, 2, middle, error)) << error;
  EXPECT_EQ(middle[0], 2);
  EXPECT_EQ(middle[1], 3);
  EXPECT_FALSE(reader->readFloats("a", 3, 2, middle, error));
  EXPECT_NE(error.find("has 16 bytes, but bytes 12 to 20 were asked for"), std::string::npos) << error;
  EXPECT_FALSE(reader->readFloats("b", 0, 1, middle, error));
  EXPECT_NE(error.find("has no tensor b"), std::string::npos) << error;
}

TEST(Safetensors, OtherTypesAreConverted) {
  std::string path = temporaryFile("types.safetensors"), error;
  uint16_t bfloat[] = {0x3FC0, 0xC000}, half[] = {0x3E00, 0x0001}; // 1.5, -2; 1.5, 2^-24
  int64_t integer[] = {-3};
  Writer writer;
  writer.add("bf16", ElementType::BF16, {2});
  writer.add("f16", ElementType::F16, {2});
  writer.add("i64", ElementType::I64, {1});
  writer.add("u16", ElementType::U16, {2});
  ASSERT_TRUE(writer.create(path, error) && writer.writeBytes("bf16", 0, 4, bfloat, error) &&
              writer.writeBytes("f16", 0, 4, half, error) && writer.writeBytes("i64", 0, 8, integer, error) &&
              writer.writeBytes("u16", 0, 4, bfloat, error) && writer.close(error))
      << error;
  std::map<std::string, FloatTensor> read;
  ASSERT_TRUE(readAll(path, read, error)) << error;
  EXPECT_EQ(read.at("bf16").values, (std::vector<float>{1.5f, -2.0f}));
  EXPECT_EQ(read.at("f16").values, (std::vector<float>{1.5f, 0x1p-24f}));
  EXPECT_EQ(read.at("i64").values, std::vector<float>{-3});
  EXPECT_EQ(read.at("u16").values, (std::vector<float>{0x3FC0, 0xC000}));
}

TEST(Safetensors, TypesHaveTheirNames) {
  for (ElementType type : {ElementType::F64, ElementType::I8, ElementType::U64, ElementType::Bool, ElementType::C64})
    EXPECT_EQ(parseElementType(name(type)), type);
  EXPECT_EQ(parseElementType("F7"), std::nullopt);
}

TEST(Safetensors, ComplexNumbersAreNoFloats) {
  std::string path = temporaryFile("complex.safetensors"), error;
  float number[2] = {1, 2};
  Writer writer;
  writer.add("c", ElementType::C64, {1});
  ASSERT_TRUE(writer.create(path, error) && writer.writeBytes("c", 0, 8, number, error) && writer.close(error))
      << error;
  std::optional<Reader> reader = Reader::open(path, error);
  ASSERT_TRUE(reader) << error;
  EXPECT_FALSE(reader->readFloats("c", 0, 1, number, error));
  EXPECT_NE(error.find("tensor c holds complex numbers, but real ones are needed"), std::string::npos) << error;
}

TEST(Safetensors, FilesThatChangeAndWhatHasNoPlaceAreRefused) {
  std::string path = temporaryFile("short.safetensors"), error;
  float numbers[2] = {1, 2};
  Writer writer;
  writer.add("a", ElementType::F32, {2});
  ASSERT_TRUE(writer.create(path, error)) << error;
  EXPECT_FALSE(writer.writeFloats("b", 0, 2, numbers, error));
  EXPECT_NE(error.find("tensor b was never added"), std::string::npos) << error;
  EXPECT_FALSE(writer.writeFloats("a", 1, 2, numbers, error));
  EXPECT_NE(error.find("tensor a is smaller than what is written to it"), std::string::npos) << error;
  ASSERT_TRUE(writer.close(error)) << error;
  std::optional<Reader> reader = Reader::open(path, error);
  ASSERT_TRUE(reader) << error;
  std::filesystem::resize_file(path, reader->find("a")->offset);
  EXPECT_FALSE(reader->readFloats("a", 0, 2, numbers, error));
  EXPECT_EQ(error, "cannot read tensor a of " + path + ": the file ends early");
}

TEST(Safetensors, ForeignAndBrokenFilesAreRefused) {
  std::string path = temporaryFile("broken.safetensors"), error;
  EXPECT_NE(openError(temporaryFile("missing")).find("cannot open"), std::string::npos);
  std::ofstream(path) << "not at all such a file";
  EXPECT_NE(openError(path).find("is not a safetensors file, or is truncated"), std::string::npos);
  writeText(path, "[1, 2]", "");
  EXPECT_NE(openError(path).find("its header is not a JSON object"), std::string::npos);
  writeText(path, R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "1234");
  EXPECT_NE(openError(path).find("may be truncated"), std::string::npos);
  writeText(path, R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "12345678");
  EXPECT_NE(openError(path).find("as many bytes as its shape needs"), std::string::npos);
  writeText(path, R"({"a":{"dtype":"F7","shape":[],"data_offsets":[0,0]}})", "");
  EXPECT_NE(openError(path).find("unknown dtype F7"), std::string::npos);
  writeText(path, R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "12345678");
  EXPECT_NE(openError(path).find("expects extents that are not negative"), std::string::npos);
  writeText(path, R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", "12345678");
  EXPECT_NE(openError(path).find("expects data_offsets that are not negative"), std::string::npos);
  writeText(path, R"({"a":{"shape":[]}})", "");
  EXPECT_NE(openError(path).find("expects dtype, shape and data_offsets"), std::string::npos);
  writeText(path, R"({"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,0]}})", "");
  EXPECT_NE(openError(path).find("overflows"), std::string::npos);
  std::map<std::string, FloatTensor> tensors;
  EXPECT_FALSE(writeAll(temporaryFile("no/such/folder"), tensors, error));
  EXPECT_NE(error.find(" for writing: "), std::string::npos) << error;
}

TEST(Safetensors, HeadersOfAttackersAreRefused) {
  std::string path = temporaryFile("hostile.safetensors");
  auto errorOf = [&](const std::string &header, const std::string &data) {
    writeText(path, header, data);
    return openError(path);
  };
  auto tensor = [](const std::string &name, int begin, int end) {
    return "\"" + name + R"(":{"dtype":"U8","shape":[)" + std::to_string(end - begin) + R"(],"data_offsets":[)" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  EXPECT_NE(errorOf("{" + tensor("a", 0, 4) + "," + tensor("b", 2, 6) + "}", "123456").find("tensor b overlaps a"),
            std::string::npos);
  EXPECT_NE(errorOf("{" + tensor("a", 0, 4) + "," + tensor("b", 0, 4) + "}", "1234").find("tensor b overlaps a"),
            std::string::npos);
  EXPECT_NE(errorOf("{" + tensor("a", 0, 2) + "," + tensor("b", 4, 6) + "}", "123456")
                .find("before tensor b are 2 bytes of no tensor"),
            std::string::npos);
  EXPECT_NE(errorOf("{" + tensor("a", 0, 4) + "}", "123456").find("the last 2 bytes are of no tensor"),
            std::string::npos);
  EXPECT_NE(errorOf("{" + tensor("a", 0, 4) + "," + tensor("a", 0, 4) + "}", "1234").find("key 'a' occurs twice"),
            std::string::npos);
  EXPECT_NE(errorOf(std::string(1000000, '['), "").find("nests lists and objects more than 8 deep"), std::string::npos);
  EXPECT_NE(errorOf(R"({"a":[)" + std::string(5000000, ',') + "]}", "").find("has more than 4000000 values"),
            std::string::npos);
  EXPECT_NE(errorOf(R"({"__metadata__":{"a":1}})", "").find("expects __metadata__ to be an object of texts, but a"),
            std::string::npos);
  EXPECT_NE(errorOf(R"({"__metadata__":3})", "").find("expects __metadata__ to be an object of texts"),
            std::string::npos);
  EXPECT_NE(errorOf(R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,4]}})", "1234")
                .find("has a shape that overflows"),
            std::string::npos);
}

} // namespace
