#include "galvatron/Support/Json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace galvatron;
using ::testing::HasSubstr;

namespace {

std::string errorOf(std::string_view text, const JsonLimits &limits = {}) {
  std::string error;
  EXPECT_FALSE(parseJson(text, "a.json", error, limits)) << text.substr(0, 100);
  return error;
}

std::string repeat(const std::string &text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i)
    all += text;
  return all;
}

TEST(Json, IsReadAsItStands) {
  std::string error;
  EXPECT_EQ(parseJson(R"({"a": [1, {"b": "]["}], "a2": 2})", "a.json", error)->dump(), R"({"a":[1,{"b":"]["}],"a2":2})");
  EXPECT_EQ(parseOrderedJson(R"({"b": 1, "a": 2})", "a.json", error)->dump(), R"({"b":1,"a":2})");
}

TEST(Json, DepthHasALimit) {
  std::string error;
  EXPECT_TRUE(parseJson(repeat("[", 100) + repeat("]", 100), "a.json", error)) << error;
  EXPECT_EQ(errorOf(repeat("[", 101) + repeat("]", 101)), "a.json nests lists and objects more than 100 deep");
  EXPECT_THAT(errorOf(R"({"x":)" + repeat("[", 1000000) + repeat("]", 1000000) + "}"), HasSubstr("100 deep"));
  EXPECT_THAT(errorOf(repeat(R"({"x":)", 1000000)), HasSubstr("100 deep"));
  // Brackets in a string are none, whatever is escaped there.
  EXPECT_TRUE(parseJson(R"(["\\\"[[[[", "\\"])", "a.json", error, {.depth = 1})) << error;
  EXPECT_THAT(errorOf(R"(["\\", [1]])", {.depth = 1}), HasSubstr("1 deep"));
}

TEST(Json, ValuesHaveALimit) {
  std::string error;
  EXPECT_TRUE(parseJson("[1,2,3]", "a.json", error, {.values = 4})) << error;
  EXPECT_EQ(errorOf("[1,2,3,4]", {.values = 4}), "a.json has more than 4 values");
  EXPECT_EQ(errorOf("[[[[]]]]", {.values = 4}), "a.json has more than 4 values");
}

TEST(Json, WhatIsTwiceOrNoJsonIsNamed) {
  EXPECT_EQ(errorOf(R"({"x": {"a": 1, "a": 2}})"), "a.json: key 'a' occurs twice; keep one");
  EXPECT_EQ(errorOf(R"({"": 1, "": 2})"), "a.json: key '' occurs twice; keep one");
  EXPECT_THAT(errorOf("{\n \"a\": }"), HasSubstr("a.json is not valid JSON: parse error at line 2, column 7"));
  EXPECT_THAT(errorOf("\"\xff\""), HasSubstr("ill-formed UTF-8 byte"));
  EXPECT_THAT(errorOf(std::string("1\0", 2)), HasSubstr("a zero byte"));
  EXPECT_THAT(errorOf("[1e999]"), HasSubstr("number overflow"));
}

} // namespace
