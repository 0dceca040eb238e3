//===- ReferenceSearchTest.cpp - Better than the reference, task by task --===//
//
// The reference's per-task answers are lower bounds: under its own score, in
// the same space and budget, an exact search finds at least as much, and is
// feasible exactly where the reference is.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/ReferenceSearch.h"
#include "TestInputs.h"

#include <gtest/gtest.h>

#include <iostream>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
class ReferenceCases : public ::testing::TestWithParam<std::string> {};

TEST_P(ReferenceCases, every_task_is_at_least_as_good) {
  Json file = readInput("galvatron-reference/" + GetParam());
  Result<ReferenceModel> model = loadModel(file["inputs"]);
  ASSERT_TRUE(model) << model.error().message;
  ReferenceSearchOptions options;
  options.referenceDivision = true;
  for (const Json &row : file["per_task"]) {
    std::string mode = row[3];
    using Mode = ReferenceTask::Mode;
    ReferenceTask task{row[0], row[1], row[2],
                       mode == "tp_only"   ? Mode::TpOnly
                       : mode == "sp_only" ? Mode::SpOnly
                                           : Mode::Both,
                       row[4]};
    double theirs = row[5];
    auto solution = searchReferenceTask(*model, task, options);
    ASSERT_TRUE(solution) << solution.error().message;
    EXPECT_EQ(solution->plan.has_value(), theirs > 0) << row << " " << solution->reason;
    if (!solution->plan)
      continue;
    EXPECT_GE(solution->price.throughput, theirs * (1 - 1e-9)) << row;
    EXPECT_TRUE(solution->price.fits) << row;
  }
}

TEST_P(ReferenceCases, the_best_plan_is_at_least_as_good) {
  Json file = readInput("galvatron-reference/" + GetParam());
  Result<ReferenceModel> model = loadModel(file["inputs"]);
  ASSERT_TRUE(model) << model.error().message;
  auto solution = searchReference(*model);
  ASSERT_TRUE(solution) << solution.error().message;
  ASSERT_TRUE(solution->plan) << solution->reason;
  double theirs = file["result"]["predicted"]["throughput_samples_per_s"];
  std::cout << GetParam() << " " << theirs << " -> " << solution->price.throughput << " ("
            << (solution->price.throughput / theirs - 1) * 100 << " %) in "
            << solution->searchSeconds << " s, opened " << solution->opened << "/"
            << solution->candidates << ", nodes " << solution->nodes << "\n";
  EXPECT_TRUE(solution->price.fits);
  // Batches that dp does not divide lose samples in the reference's score.
  if (GetParam() != "odd_m36_b56.json")
    EXPECT_GE(solution->price.throughput, theirs * (1 - 1e-9));
}

INSTANTIATE_TEST_SUITE_P(Cases, ReferenceCases, ::testing::ValuesIn(referenceCases()),
                         [](const auto &info) { return caseName(info.param); });
} // namespace
