// Holds the place of the search's tests.
#include "galvatron/Search/Search.h"

#include <gtest/gtest.h>

TEST(Search, ToolRefusesEmptyCommandLine) { EXPECT_NE(galvatron::search::runTool(0, nullptr), 0); }
