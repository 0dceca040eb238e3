// Rows that hold several documents: positions, documents and labels from tokens.
#include "runtime/api/Documents.h"

#include <gtest/gtest.h>

using namespace galvatron;
using Row = std::vector<int64_t>;

TEST(PackedRow, EachDocumentBeginsAfterTheTokenThatEndsOne) {
  PackedRow<int64_t> row({5, 7, 3, 4, 7, 7, 9}, 7);
  EXPECT_EQ(row.input("input_ids"), (Row{5, 7, 3, 4, 7, 7, 9}));
  EXPECT_EQ(row.input("positions"), (Row{0, 1, 0, 1, 2, 0, 0}));
  EXPECT_EQ(row.input("documents"), (Row{0, 0, 1, 1, 1, 2, 3}));
  // Shifted by the program, position 1 would predict what is ignored at position 2.
  EXPECT_EQ(row.input("labels"), (Row{5, 7, -100, 4, 7, -100, -100}));
}

TEST(PackedRow, IsOneDocumentWhereNothingEndsOne) {
  PackedRow<int64_t> row({5, 7, 3}, -1);
  EXPECT_EQ(row.input("positions"), (Row{0, 1, 2}));
  EXPECT_EQ(row.input("documents"), (Row{0, 0, 0}));
  EXPECT_EQ(row.input("labels"), (Row{5, 7, 3}));
}
