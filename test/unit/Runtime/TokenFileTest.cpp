// What a file of tokens is taken for: types, wrong widths, headers, text; and what must not be taken for any of these.
#include "runtime/data/TokenFile.h"
#include "TemporaryFolder.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <random>

using namespace galvatron;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace {

class TokenFileTest : public TemporaryFolder {
protected:
  TokenFileTest() : TemporaryFolder("tokens") {}

  std::string write(const std::string &name, const std::string &bytes) {
    std::ofstream(folder / name, std::ios::binary) << bytes;
    return folder / name;
  }

  /// What opening the file says under a type, or under the one of the vocabulary.
  std::string messageOf(const std::string &name, const std::string &bytes, int64_t vocabulary,
                        const std::string &dtype = "") {
    warning.clear();
    return TokenFile::open(write(name, bytes), dtype, vocabulary, file, warning).message;
  }
  TokenFile file;
  std::string warning;
};

template <typename T> std::string raw(const std::vector<int64_t> &tokens, bool reversed = false) {
  std::string bytes;
  for (int64_t token : tokens) {
    T value = token;
    std::string element(sizeof value, 0);
    std::memcpy(element.data(), &value, sizeof value);
    if (reversed)
      std::reverse(element.begin(), element.end());
    bytes += element;
  }
  return bytes;
}

/// Tokens below `vocabulary`, small ones more often; every `zeros`-th is 0.
std::vector<int64_t> tokens(int64_t count, int64_t vocabulary, int64_t zeros = 50) {
  std::mt19937 generator(count + vocabulary);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<int64_t> result(count);
  for (int64_t i = 0; i < count; ++i)
    result[i] = i % zeros == zeros - 1 ? 0 : int64_t(std::pow((double)vocabulary, uniform(generator)));
  return result;
}

TEST_F(TokenFileTest, EveryTypeReadsItsTokens) {
  std::vector<int64_t> expected = tokens(500, 120), read(500);
  std::vector<std::string> all = {raw<uint8_t>(expected),  raw<uint16_t>(expected), raw<uint32_t>(expected),
                                  raw<uint64_t>(expected), raw<int8_t>(expected),   raw<int16_t>(expected),
                                  raw<int32_t>(expected),  raw<int64_t>(expected)};
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_THAT(messageOf("a.bin", all[i], 120, kTokenTypes[i].name), IsEmpty());
    EXPECT_THAT(warning, IsEmpty()) << kTokenTypes[i].name;
    ASSERT_EQ(file.numTokens(), 500);
    ASSERT_TRUE(file.read(0, 500, read.data()).ok());
    EXPECT_EQ(read, expected);
  }
}

TEST_F(TokenFileTest, NegativeTokensAreNamed) {
  std::vector<int64_t> list = tokens(100, 120);
  list[41] = -100;
  ASSERT_THAT(messageOf("a.bin", raw<int32_t>(list), 50257, "i32"), IsEmpty());
  EXPECT_THAT(file.check(0, 100).message,
              HasSubstr("token 41 is -100, outside the vocabulary of 50257 (tokens count from 0, read as "));
  ASSERT_THAT(messageOf("a.bin", raw<int8_t>(list), 256, "i8"), IsEmpty());
  EXPECT_THAT(file.check(0, 100).message, HasSubstr("token 41 is -100"));
}

TEST_F(TokenFileTest, WiderIntegersAreRefusedWithTheirType) {
  for (int64_t size : {100, 5000, 3 << 20}) { // the last one is sampled
    EXPECT_THAT(messageOf("a.bin", raw<int32_t>(tokens(size, 50257)), 50257),
                AllOf(HasSubstr("integers of 32 bits"), HasSubstr("(read as u16); pass --data-dtype i32")));
    EXPECT_THAT(messageOf("a.bin", raw<int64_t>(tokens(size, 1000)), 1000), HasSubstr("pass --data-dtype i64"));
  }
  EXPECT_THAT(messageOf("a.bin", raw<int64_t>(tokens(500, 120000)), 128256),
              HasSubstr("(read as u32); pass --data-dtype i64"));
  EXPECT_THAT(messageOf("a.bin", raw<uint16_t>(tokens(500, 256)), 256), HasSubstr("pass --data-dtype u16"));
  EXPECT_THAT(messageOf("a.bin", raw<int32_t>(tokens(500, 40000)), 256), HasSubstr("pass --data-dtype i32"));
  // Labels to ignore, and padding.
  std::vector<int64_t> list = tokens(500, 1000);
  for (int64_t i = 100; i < 450; ++i)
    list[i] = i < 300 ? -100 : 0;
  EXPECT_THAT(messageOf("a.bin", raw<int64_t>(list), 1000), HasSubstr("pass --data-dtype i64"));
}

TEST_F(TokenFileTest, ATypeThatWasAskedForIsBelievedWithAWarning) {
  EXPECT_THAT(messageOf("a.bin", raw<int32_t>(tokens(500, 1000)), 1000, "u16"), IsEmpty());
  EXPECT_THAT(warning, AllOf(HasSubstr("integers of 32 bits"), HasSubstr("is read as u16, as --data-dtype says")));
  EXPECT_EQ(file.numTokens(), 1000);
  EXPECT_THAT(messageOf("a.bin", "PAR1" + std::string(96, 'x') + "PAR1", 256, "u8"), IsEmpty());
  EXPECT_THAT(warning, HasSubstr("Parquet"));
}

TEST_F(TokenFileTest, BigEndianAndNarrowIntegersAreRefused) {
  EXPECT_THAT(messageOf("a.bin", raw<int32_t>(tokens(500, 1000), true), 1000),
              AllOf(HasSubstr("big-endian integers of 32 bits"), HasSubstr("astype('<i4')")));
  EXPECT_THAT(messageOf("a.bin", raw<int64_t>(tokens(500, 200), true), 256), HasSubstr("big-endian integers of 64"));
  EXPECT_THAT(messageOf("a.bin", raw<uint16_t>(tokens(500, 1000), true), 1000), HasSubstr("big-endian integers of 16"));
  EXPECT_THAT(messageOf("a.bin", raw<float>(tokens(500, 1000)), 50257), HasSubstr("floating point of 32 bits"));
  EXPECT_THAT(messageOf("a.bin", raw<uint16_t>(tokens(500, 150), true), 50257), HasSubstr("big-endian integers of 16"));
  EXPECT_THAT(messageOf("a.bin", raw<uint32_t>(tokens(500, 90000), true), 90000),
              HasSubstr("big-endian integers of 32"));
  EXPECT_THAT(messageOf("a.bin", raw<uint16_t>(tokens(500, 60000)), 90000), HasSubstr("pass --data-dtype u16"));
}

TEST_F(TokenFileTest, NarrowTokensAreNeverTakenForWideOnes) {
  EXPECT_THAT(messageOf("a.bin", std::string(4000, 0), 1000), IsEmpty()); // zeros
  for (int64_t vocabulary : {300, 1000, 50257, 65536})
    for (int64_t zeros : {2, 3, 50})
      for (int64_t size : {1, 2, 3, 63, 500, zeros == 50 ? 3 << 20 : 5000}) {
        std::vector<int64_t> list = tokens(size, vocabulary, zeros);
        if (size > 64)
          list[size / 3] = list[size / 3 + 1] = 1; // zeros at every odd place but one
        EXPECT_THAT(messageOf("a.bin", raw<uint16_t>(list), vocabulary), IsEmpty());
        EXPECT_EQ(file.type(), "u16");
      }
  // Rows of one token and padding, at even places only; pairs of a token and a bit; one and the same token.
  std::vector<int64_t> rows(4096), pairs(4096), same(4096, 0x6161);
  for (int64_t i = 0; i < 4096; ++i) {
    rows[i] = i % 8 == 0 ? 7 + i % 500 : 0;
    pairs[i] = i % 2 ? i / 2 % 7 == 3 : 300 + i;
  }
  for (const std::vector<int64_t> &list : {rows, pairs, same})
    EXPECT_THAT(messageOf("a.bin", raw<uint16_t>(list), 50257), IsEmpty());
  // Bytes of a small vocabulary.
  for (int64_t vocabulary : {2, 4, 16, 256})
    EXPECT_THAT(messageOf("a.bin", raw<uint8_t>(tokens(5000, vocabulary)), vocabulary), IsEmpty());
}

TEST_F(TokenFileTest, TextIsRefusedWhereATokenIsWiderThanAByte) {
  std::string text;
  while (text.size() < 5001)
    text += "This licence grants you the right to copy; it grants no warranty (section 12).\n";
  EXPECT_THAT(messageOf("a.txt", text, 50257),
              AllOf(HasSubstr("a.txt is text, not token ids (read as u16)"), HasSubstr("--data-dtype u8")));
  EXPECT_THAT(messageOf("a.txt", text, 256), IsEmpty());
  text[70] = 0, text[3000] = 0x1b; // a stray one does not make tokens of it
  EXPECT_THAT(messageOf("a.txt", text, 50257), HasSubstr("is text"));
  EXPECT_THAT(messageOf("a.txt", text, 50257, "u8"), IsEmpty());
  EXPECT_THAT(warning, IsEmpty());
  std::string numbers;
  for (int64_t token : tokens(200, 50257))
    numbers += std::to_string(token) + ",";
  EXPECT_THAT(messageOf("a.csv", numbers, 50257), HasSubstr("is text"));
  std::string letters;
  for (int64_t token : tokens(4000, 4))
    letters += "ACGT"[token];
  EXPECT_THAT(messageOf("a.txt", letters, 50257), HasSubstr("is text"));
  EXPECT_THAT(messageOf("a.json", R"({"tokens": [12, 50256, 7, 21, 8, 90, 1345]})", 50257), HasSubstr("is JSON"));
  std::string greek;
  while (greek.size() < 3000)
    greek += "Η άδεια αυτή σας δίνει το δικαίωμα αντιγραφής ";
  EXPECT_THAT(messageOf("a.txt", greek.substr(1), 50257), HasSubstr("is text"));
  EXPECT_THAT(messageOf("a.txt", "short", 50257), Not(HasSubstr("is text")));
}

std::string numpyFile(const std::string &type, const std::string &data) {
  std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (500,), }";
  header.resize(117, ' ');
  return std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + "\n" + data;
}

TEST_F(TokenFileTest, HeadersAreRefusedWithTheWayOut) {
  std::string data = raw<int64_t>(tokens(500, 200));
  EXPECT_THAT(messageOf("a.npy", numpyFile("<i8", data), 256),
              AllOf(HasSubstr("of int64"), HasSubstr("a.npy').tofile("), HasSubstr("a.bin --data-dtype i64")));
  EXPECT_THAT(messageOf("a.npy", numpyFile("|u1", data), 256), AllOf(HasSubstr("of uint8"), HasSubstr("dtype u8")));
  EXPECT_THAT(messageOf("a.npy", numpyFile(">i4", data), 256), HasSubstr(".astype('<i4').tofile("));
  EXPECT_THAT(messageOf("a.npy", numpyFile("<f4", data), 256), HasSubstr("of type <f4"));
  EXPECT_THAT(messageOf("a",
                        std::string("\x41\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"}", 40) +
                            std::string(32, ' ') + " }" + data,
                        256),
              HasSubstr("safetensors"));
  const std::pair<const char *, std::string> kPacked[] = {{"gzip", std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03", 10)},
                                                          {"zstd", "\x28\xb5\x2f\xfd"},
                                                          {"xz", std::string("\xfd\x37zXZ\0", 6)},
                                                          {"bzip2", "BZh91AY&SY"}};
  for (const auto &[program, begin] : kPacked)
    EXPECT_THAT(messageOf("a", begin + data, 256), AllOf(HasSubstr(std::string("is compressed (") + program + ")"),
                                                         HasSubstr(program + std::string(" -dc"))));
  EXPECT_THAT(messageOf("a", "LITPKDS" + data, 256), HasSubstr("is a packed data set of lit-gpt, with a header"));
  EXPECT_THAT(messageOf("a", "\x89HDF\r\n\x1a\n" + data, 256), HasSubstr("is an HDF5 file"));
  EXPECT_THAT(messageOf("a", std::string("ARROW1\0\0", 8) + data, 256), HasSubstr("is an Arrow file"));
  EXPECT_THAT(messageOf("a.npz", std::string("PK\x03\x04\x14\0\0\0\x08\0", 10) + data, 256), HasSubstr("zip archive"));
  EXPECT_THAT(messageOf("a", "PAR1" + data + "PAR1", 256), HasSubstr("Parquet"));
  EXPECT_THAT(messageOf("a", std::string("\xff\xff\xff\xff\x98\x01\0\0\x10\0\0\0\0\0\x0a\0", 16) + data, 256),
              HasSubstr("Arrow"));
  EXPECT_THAT(messageOf("a", std::string("\xff\xfeT\0e\0x\0t\0", 10) + data, 256), HasSubstr("UTF-16"));
  std::vector<int64_t> words(256);
  words[0] = 20240520, words[1] = 1, words[2] = 500;
  EXPECT_THAT(messageOf("a", raw<int32_t>(words) + raw<uint16_t>(tokens(500, 50257)), 50257),
              AllOf(HasSubstr("llm.c"), HasSubstr("--data-dtype u16")));
}

TEST_F(TokenFileTest, TheIndexBesideItNamesTheType) {
  auto index = [](char code) { return std::string("MMIDIDX\0\0\x01\0\0\0\0\0\0\0", 17) + code + std::string(40, 1); };
  std::string data = raw<int32_t>(tokens(500, 120000));
  write("a.idx", index(4));
  EXPECT_THAT(messageOf("a.bin", data, 50257),
              HasSubstr("its tokens are of type i32 (read as u16); pass --data-dtype i32"));
  EXPECT_THAT(messageOf("a.bin", data, 128256), IsEmpty()); // u32: the same bytes
  EXPECT_THAT(messageOf("a.bin", data, 50257, "u16"), IsEmpty());
  EXPECT_THAT(warning, HasSubstr("its tokens are of type i32"));
  write("a.idx", index(8));
  EXPECT_THAT(messageOf("a.bin", raw<uint16_t>(tokens(500, 1000)), 1000), IsEmpty());
  EXPECT_THAT(messageOf("a.bin", raw<uint16_t>(tokens(500, 1000)), 128256), HasSubstr("of type u16"));
  EXPECT_THAT(messageOf("a.idx", index(4), 256), AllOf(HasSubstr("index of a Megatron"), HasSubstr("a.bin")));
  write("a.idx", index(6)); // float
  EXPECT_THAT(messageOf("a.bin", data, 50257), HasSubstr("says that it holds no integers"));
  write("a.idx", "something else, and longer than a header");
  EXPECT_THAT(messageOf("a.bin", raw<uint16_t>(tokens(500, 1000)), 1000), IsEmpty());
  EXPECT_THAT(TokenFile::open(folder / "a", "", 1000, file, warning).message, HasSubstr("; there is"));
}

} // namespace
