// Rows that hold several documents: positions, documents and labels from tokens.
#include "runtime/api/Documents.h"

#include <gtest/gtest.h>

using namespace galvatron;
using Row = std::vector<int64_t>;

TEST(PackedRow, EachDocumentBeginsAfterTheTokenThatEndsOne) {
  PackedRow<int64_t> row({5, 7, 3, 4, 7, 7, 9}, 7, {.eod = 7, .resets = true});
  EXPECT_EQ(row.input("input_ids"), (Row{5, 7, 3, 4, 7, 7, 9}));
  EXPECT_EQ(row.input("positions"), (Row{0, 1, 0, 1, 2, 0, 0}));
  EXPECT_EQ(row.input("documents"), (Row{0, 0, 1, 1, 1, 2, 3}));
  // Shifted by the program, position 1 would predict what is ignored at position 2.
  EXPECT_EQ(row.input("labels"), (Row{5, 7, -100, 4, 7, -100, -100}));
}

TEST(PackedRow, IsOneDocumentWhereNothingEndsOne) {
  PackedRow<int64_t> row({5, 7, 3}, 3, {});
  EXPECT_EQ(row.input("positions"), (Row{0, 1, 2}));
  EXPECT_EQ(row.input("documents"), (Row{0, 0, 0}));
  EXPECT_EQ(row.input("labels"), (Row{5, 7, 3}));
}

TEST(PackedRow, NextLabelsAreTheTokensToPredict) {
  RowRules rules{.eod = 7, .resets = true, .labelsAreNext = true, .ignored = -1};
  PackedRow<int64_t> row({5, 7, 3, 4, 9}, 4, rules);
  EXPECT_EQ(row.input("labels"), (Row{7, -1, 4, 9}));
  EXPECT_EQ(row.input("positions"), (Row{0, 1, 0, 1}));
  // Without the token after it the last position has none.
  EXPECT_EQ(PackedRow<int64_t>({5, 7, 3, 4}, 4, rules).input("labels"), (Row{7, -1, 4, -1}));
}

TEST(PackedRow, TheTokenAloneOnlyDropsItsLabel) {
  PackedRow<int64_t> row({5, 7, 3, 4, 9}, 4, {.eod = 7, .labelsAreNext = true});
  EXPECT_EQ(row.input("labels"), (Row{7, -100, 4, 9}));
  EXPECT_EQ(row.input("positions"), (Row{0, 1, 2, 3}));
  EXPECT_EQ(row.input("documents"), (Row{0, 0, 0, 0}));
}

TEST(PackedRow, TheIndexTellsWhereDocumentsEnd) {
  std::vector<bool> ends = {false, true, false, true, false};
  PackedRow<int64_t> row({5, 6, 3, 4, 9}, 4, {.resets = true, .labelsAreNext = true}, ends);
  EXPECT_EQ(row.input("labels"), (Row{6, -100, 4, -100}));
  EXPECT_EQ(row.input("documents"), (Row{0, 0, 1, 1}));
  // Where a token tells, the index does not; and nobody where documents are not kept apart.
  RowRules byToken{.eod = 3, .resets = true, .labelsAreNext = true};
  EXPECT_EQ(PackedRow<int64_t>({5, 6, 3, 4, 9}, 4, byToken, ends).input("labels"), (Row{6, 3, -100, 9}));
  EXPECT_EQ(PackedRow<int64_t>({5, 6, 3, 4, 9}, 4, {.labelsAreNext = true}, ends).input("labels"), (Row{6, 3, 4, 9}));
}

TEST(PackedRow, GivenLabelsAreTaken) {
  RowRules rules{.eod = 6, .resets = true, .byIndex = true, .labelsAreNext = true, .ignored = -1};
  PackedRow<int64_t> row({5, 6, 3, 4}, 4, rules, {false, false, true, false}, {2, 3, 8, -100});
  EXPECT_EQ(row.input("labels"), (Row{2, -1, -1, -1}));
  EXPECT_EQ(row.input("documents"), (Row{0, 0, 0, 1}));
}
