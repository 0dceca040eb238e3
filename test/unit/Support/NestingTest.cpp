#include "galvatron/Support/Nesting.h"

#include <gtest/gtest.h>

using namespace galvatron;

namespace {

std::string repeat(const std::string &text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i)
    all += text;
  return all;
}

const std::string kDeep = "line 2 nests more than 256 deep";

TEST(Nesting, BracketsOfAllKindsCount) {
  for (const char *open : {"[", "(", "{", "<", "{a = [", "tuple<"})
    EXPECT_EQ(findDeepNesting("\n" + repeat(open, 10000)), kDeep) << open;
  EXPECT_EQ(findDeepNesting(repeat("[", 256) + repeat("]", 256) + repeat("({<>})", 1000)), "");
}

TEST(Nesting, ArrowsComparisonsStringsAndCommentsDoNot) {
  EXPECT_EQ(findDeepNesting(repeat("(i32) -> i32\n", 1000)), "");
  EXPECT_EQ(findDeepNesting(repeat("(d0 <= 3, d0 >= 1)\n", 1000)), "");
  EXPECT_EQ(findDeepNesting(repeat("\"[\\\"[\" // [[\n", 1000)), "");
  // What an arrow does not close stays open.
  EXPECT_EQ(findDeepNesting("\n" + repeat("<->", 300)), kDeep);
}

TEST(Nesting, SignsOfOneOperandCount) {
  EXPECT_EQ(findDeepNesting("\naffine_map<(d0) -> (" + repeat("- ", 300) + "d0)>"), kDeep);
  EXPECT_EQ(findDeepNesting(repeat("-1, ", 1000)), "");
}

TEST(Nesting, AliasesNestAsWhatTheyStandFor) {
  std::string chain = "#a0 = [1]\n";
  for (int i = 1; i < 100; ++i)
    chain += "#a" + std::to_string(i) + " =\n  [#a" + std::to_string(i - 1) + "]\n";
  EXPECT_EQ(findDeepNesting(chain + repeat("use(#a99)\n", 1000)), "");
  for (int i = 100; i < 300; ++i)
    chain += "#a" + std::to_string(i) + " = [#a" + std::to_string(i - 1) + "]\n";
  EXPECT_NE(findDeepNesting(chain), "");
}

} // namespace
