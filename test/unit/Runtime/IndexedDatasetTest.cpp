// Megatron's indexed data: what is read, and each way in which the two files may not be what they should.
#include "runtime/data/IndexedDataset.h"
#include "IndexedFiles.h"

#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::AllOf;
using ::testing::HasSubstr;

namespace {

class IndexedDatasetTest : public IndexedFiles {
protected:
  /// What opening and checking says.
  std::string messageOf(int64_t vocabulary = 100) {
    Status status = IndexedDataset::open(prefix(), vocabulary, dataset);
    return (status.ok() ? dataset.checkIndex() : status).message;
  }

  IndexedDataset dataset;
};

TEST_F(IndexedDatasetTest, SequencesAreRead) {
  for (int code : {1, 2, 3, 4, 5, 8}) {
    write({{1, 2, 3}, {}, {4, 5}}, code);
    ASSERT_EQ(messageOf(), "");
    EXPECT_EQ(dataset.numSequences(), 3);
    EXPECT_EQ(dataset.numTokens(0, 3), 5);
    std::vector<int64_t> tokens(2);
    ASSERT_TRUE(dataset.read(0, 1, 2, tokens.data()).ok());
    EXPECT_EQ(tokens, (std::vector<int64_t>{2, 3}));
    ASSERT_TRUE(dataset.read(2, 0, 2, tokens.data()).ok());
    EXPECT_EQ(tokens, (std::vector<int64_t>{4, 5}));
  }
}

TEST_F(IndexedDatasetTest, TokensOutsideTheVocabularyAreNamed) {
  write({{1, 2, 3}, {4, 50}}, 8);
  ASSERT_EQ(messageOf(50), "");
  EXPECT_THAT(dataset.checkTokens(0, 2).message,
              HasSubstr(prefix() + ": token 1 of sequence 1 is 50, outside the vocabulary of 50 (both count from 0); "
                                   "write the data with the model's tokenizer"));
  EXPECT_TRUE(dataset.checkTokens(0, 1).ok());
}

TEST_F(IndexedDatasetTest, HeadersAreChecked) {
  EXPECT_THAT(messageOf(), AllOf(HasSubstr("cannot open"), HasSubstr("indexed data are two files, ")));
  std::filesystem::create_directory(prefix() + ".idx");
  EXPECT_THAT(messageOf(), HasSubstr("cannot map " + prefix() + ".idx: "));
  std::filesystem::remove(prefix() + ".idx");
  write({{1, 2}}, 7);
  EXPECT_THAT(messageOf(), HasSubstr("names the type f32, but tokens are integers; write them as u16 or i32"));
  write({{1, 2}}, 9);
  EXPECT_THAT(messageOf(), HasSubstr("names the type 9 of tokens, but there are only 1 to 8"));
  write({{1, 2}}, 8);
  patch(9, 2);
  EXPECT_THAT(messageOf(), HasSubstr("has version 2 of the format, but only 1 can be read"));
  patch(0, 'X');
  EXPECT_THAT(messageOf(), HasSubstr("is no index: it does not begin with MMIDIDX"));
  write({}, 8);
  EXPECT_THAT(messageOf(), HasSubstr("has no sequences"));
  write({{1, 2}}, 8);
  append(1);
  EXPECT_THAT(messageOf(), HasSubstr("is one of a multimodal dataset"));
  append(1);
  EXPECT_THAT(messageOf(), HasSubstr("has 64 bytes, but one of 1 sequences and 2 document bounds has 62; it was cut"));
  for (int64_t last : {25, 33}) { // bytes of the two counts
    write({{1, 2}}, 8);
    for (int value : {0x7f, 0xff}) {
      patch(last, value);
      EXPECT_THAT(messageOf(),
                  AllOf(HasSubstr("has 62 bytes, but is said to be of "), HasSubstr("; it was damaged, or")));
    }
  }
}

TEST_F(IndexedDatasetTest, PointersLengthsAndBoundsAreChecked) {
  write({{1, 2}, {3}}, 8); // lengths from byte 34, pointers from 42, documents from 58
  patch(38, 2);
  EXPECT_THAT(messageOf(), HasSubstr(".idx: sequence 1 has 2 u16 tokens from byte 4 on, beyond the 6 bytes of"));
  patch(38, 1), patch(50, 6);
  EXPECT_THAT(messageOf(), HasSubstr("sequence 1 has 1 u16 tokens from byte 6 on"));
  patch(50, 4), patch(41, 0xff);
  EXPECT_THAT(messageOf(), HasSubstr("sequence 1 has -16777215 tokens"));
  patch(41, 0), patch(66, 3);
  EXPECT_THAT(messageOf(),
              HasSubstr("document bound 1 is 3 after 0, but they rise from 0 to the number of sequences, 2"));
  patch(66, 1);
  EXPECT_EQ(messageOf(), "");
}

} // namespace
