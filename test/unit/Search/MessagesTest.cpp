//===- MessagesTest.cpp - What is said of problems that are not one -------===//
//
// Of what only a program can get wrong: tools and files are checked where they are read.

#include "RandomProblem.h"
#include "TestInputs.h"
#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Reference/ReferenceSearch.h"
#include "galvatron/Search/Solver/Solver.h"

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
template <typename Value> std::string messageOf(const Result<Value> &result) {
  return result ? "" : result.error().message;
}

TEST(Messages, of_a_host) {
  EXPECT_EQ(messageOf(hostCluster(0, 0, "cpu")), "expects at least 1 rank, but got 0");
  EXPECT_EQ(messageOf(hostCluster(1, -1, "cpu")), "expects a memory budget above 0, but got -1");
}

TEST(Messages, of_a_problem) {
  RandomCosts costs(0);
  auto complaint = [&](auto change) {
    Problem problem = randomProblem(costs, 4, 4, 6, 8000000, 1);
    change(problem);
    return messageOf(solve(problem, {}));
  };
  EXPECT_EQ(complaint([](Problem &) {}), "");
  EXPECT_EQ(complaint([](Problem &problem) { problem.layers.clear(); }), "the problem has no layers to plan");
  EXPECT_EQ(complaint([](Problem &problem) { problem.cluster.interOfNode.resize(problem.cluster.nodes + 1); }),
            "expects one link for each of 1 nodes, but got 2");
  EXPECT_EQ(complaint([](Problem &problem) { problem.space.stages = 3; }),
            "expects a number of stages that divides 4 ranks, but got 3");
  EXPECT_EQ(complaint([](Problem &problem) { problem.space.microBatches = kMostMicroBatches + 1; }),
            "expects at most 65536 micro-batches, which a timetable can list, but got 65537");
}

TEST(Messages, of_a_plan_of_another_problem) {
  RandomCosts costs(0);
  Problem problem = randomProblem(costs, 4, 4, 6, 8000000, 1), other = randomProblem(costs, 4, 3, 6, 8000000, 1);
  Result<Solution> solution = solve(problem, {});
  ASSERT_TRUE(solution && solution->plan);
  EXPECT_EQ(messageOf(evaluatePlan(other, *solution->plan)),
            "expects a plan of 3 layers for 4 ranks and batch 6, but got one of 4 layers for 4 ranks and batch 6");
}

TEST(Messages, of_the_reference) {
  Result<ReferenceModel> model = loadModel(readInput("galvatron-reference/full_8g_m24_b64.json")["inputs"]);
  ASSERT_TRUE(model) << messageOf(model);
  ReferenceArguments arguments = model->args();
  arguments.layers = 0;
  EXPECT_EQ(messageOf(validateArguments(arguments)), "config expects num_layers and hidden_size above 0");
  EXPECT_EQ(messageOf(searchReferenceTask(*model, {.batch = 64, .chunks = 3, .stages = 1, .bufferTp = 1}, {})),
            "expects a task whose chunks divide its batch and whose stages divide the devices");
  Plan plan;
  plan.ranks = 4;
  EXPECT_EQ(messageOf(model->fromPlan(plan)),
            "expects a plan for 8 devices (nodes x devices per node), but got one for 4");
  plan.ranks = 8;
  EXPECT_EQ(messageOf(model->fromPlan(plan)), "expects a plan of 32 layers, but got one of 0");
}
} // namespace
