// What a degree does not divide is padded where the plan asks, and trains like one device, in doubles: so padding adds
// nothing to losses, gradients, norms and updates, and is 0 after each (`removePadding`).
#include "DrawnPlans.h"

using namespace galvatron;
using namespace galvatron::reference;
using plan::StrategyValues;

namespace {

struct PaddedModel {
  std::string file;
  std::vector<int64_t> degrees; ///< none divides all of the model's heads, widths and vocabulary
};

/// Strategies of the first layers; they repeat. The last layer has the first one's.
LayerwisePlan makePlan(TrainedModel &model, int64_t stages, int64_t devices, std::vector<StrategyValues> strategies) {
  LayerwisePlan plan;
  plan.stages = stages;
  plan.devices = devices;
  plan.microBatches = 2;
  plan.schedule = stages % 2 ? "gpipe" : "1f1b";
  size_t layers = model.recomputableValues().size();
  for (size_t layer = 0; layer < layers; ++layer)
    plan.strategies.push_back(strategies[layer % strategies.size()]);
  plan.strategies.back() = strategies.front();
  plan.stageOf = halves(layers, stages);
  return plan;
}

class PaddedTest : public testing::TestWithParam<PaddedModel> {
protected:
  PaddedTest() : model(GetParam().file, /*units=*/"", /*hasDropout=*/false) {}

  LayerwisePlan makePlan(int64_t stages, int64_t devices, std::vector<StrategyValues> strategies) {
    return ::makePlan(model, stages, devices, std::move(strategies));
  }
  void expectEquivalent(const LayerwisePlan &plan) { reference::expectEquivalent(model, plan); }

  TrainedModel model;
};

TEST_P(PaddedTest, OneDegreeForAll) {
  for (int64_t stages : {1, 2})
    for (int64_t recompute : {0, 1})
      for (int64_t tp : GetParam().degrees)
        expectEquivalent(makePlan(stages, tp, {{.tp = tp, .recompute = recompute, .pad = 1}}));
}

TEST_P(PaddedTest, RanksShareStates) {
  int64_t tp = GetParam().degrees[0];
  for (int64_t stages : {1, 2})
    for (int64_t zero : {0, 1, 2, 3})
      expectEquivalent(makePlan(stages, 2 * tp, {{.tp = tp, .ulysses = 2, .zero = zero, .pad = 1}}));
}

/// Heads are cut by tp and ulysses together: some ranks have padding alone.
TEST_P(PaddedTest, MoreRanksThanHeads) {
  expectEquivalent(makePlan(1, 8, {{.tp = 4, .ulysses = 2, .zero = 3, .pad = 1}}));
  expectEquivalent(makePlan(1, 8, {{.tp = 2, .ulysses = 4, .recompute = 1, .pad = 1}}));
  expectEquivalent(makePlan(1, 8, {{.tp = 4, .sequenceParallel = 1, .ulysses = 2, .pad = 1}, {.tp = 8, .pad = 1}}));
}

/// Of one layer type with two ways of padding, and of one that is not padded; a tied table is padded for both ends.
TEST_P(PaddedTest, LayersAreMixed) {
  int64_t tp = GetParam().degrees[0];
  for (int64_t stages : {1, 2}) {
    expectEquivalent(
        makePlan(stages, 2 * tp, {{.tp = tp, .cp = 2, .pad = 1}, {.tp = 2 * tp, .recompute = 1, .pad = 1}}));
    expectEquivalent(makePlan(stages, 2 * tp, {{.tp = 2 * tp, .pad = 1}, {.tp = tp, .ulysses = 2, .pad = 1}}));
    expectEquivalent(makePlan(stages, 4, {{.tp = 4, .sequenceParallel = 1, .pad = 1}, {.tp = 2, .cp = 2, .pad = 1}}));
    expectEquivalent(makePlan(stages, 4, {{.tp = 2, .cp = 2}, {.ulysses = 4, .pad = 1}}));
  }
}

TEST(PaddedModels, DropoutOfPaddedHeadsIsRefused) {
  TrainedModel model("gpt2_ignored.mlir");
  LayerwisePlan plan;
  plan.devices = 3;
  plan.strategies.assign(model.recomputableValues().size(), {.tp = 3, .pad = 1});
  plan.stageOf.assign(model.recomputableValues().size(), 0);
  std::string complaint = errorsOf(model.context(), [&] { EXPECT_FALSE(model.stage(plan)); });
  EXPECT_NE(complaint.find("cannot pad 4 to 6: 'graph.attention' draws random numbers"), std::string::npos)
      << complaint;
}

std::string getName(const testing::TestParamInfo<PaddedModel> &info) {
  return info.param.file.substr(0, info.param.file.find('_'));
}

//===----------------------------------------------------------------------===//
// Positions
//===----------------------------------------------------------------------===//

struct PaddedPositions {
  std::string name, file;
  int64_t positions;
  int64_t rows = 32, offset = -1; ///< of a table of positions; from which row on it is read, -1: each is looked up

  enum Mask { Causal, None, Table } mask = Causal; ///< of attention; a table of 0 and -inf

  // Printed by GoogleTest where a test fails.
  friend void PrintTo(const PaddedPositions &model, std::ostream *os) { *os << model.name; }
};

/// The program of a file of 16 positions with others.
std::string withPositions(const PaddedPositions &model) {
  std::string text = TrainedModel::withoutDropout(readInput(model.file)), number = std::to_string(model.positions);
  auto replace = [&](const char *from, const std::string &to) {
    text = std::regex_replace(text, std::regex(from), to);
  };
  std::string table = "tensor<" + std::to_string(model.rows) + "x24xf32>";
  replace("%positions: tensor<32x24xf32>", "%positions: " + table);
  if (model.offset >= 0)
    replace("graph.embedding %positions, %v1 : .*", "graph.slice %positions offsets [" + std::to_string(model.offset) +
                                                        ", 0] : " + table + " -> tensor<16x24xf32>");
  std::string scores = "tensor<" + number + "x" + number;
  if (model.mask != PaddedPositions::Causal)
    replace(", causal\\}", "}");
  if (model.mask == PaddedPositions::Table) {
    replace("( *)(%v12, .*)(%v9)( .*xf32>)\\) ->",
            "$1%rows = graph.iota {dim = 0 : i64} : " + scores + "xi64>\n" +
                "$1%columns = graph.iota {dim = 1 : i64} : " + scores + "xi64>\n" +
                "$1%sees = arith.cmpi sle, %columns, %rows : " + scores + "xi64>\n" +
                "$1%zero = arith.constant dense<0.0> : " + scores + "xf32>\n" +
                "$1%hidden = arith.constant dense<0xFF800000> : " + scores + "xf32>\n" +
                "$1%mask = arith.select %sees, %zero, %hidden : " + scores + "xi1>, " + scores + "xf32>\n" +
                "$1$2$3 bias %mask$4, " + scores + "xf32>) ->");
  }
  replace("graph.seq = 16", "graph.seq = " + number);
  replace("tensor<8x16x", "tensor<8x" + number + "x");
  replace("tensor<8x([0-9])x16x", "tensor<8x$1x" + number + "x");
  replace("tensor<16xi64>", "tensor<" + number + "xi64>");
  replace("(-> |dims \\[1, 2\\] : )tensor<16x24xf32>", "$1tensor<" + number + "x24xf32>");
  return text;
}

class PaddedPositionsTest : public testing::TestWithParam<PaddedPositions> {
protected:
  PaddedPositionsTest() : model(Program(withPositions(GetParam()))) {}

  void expectEquivalent(int64_t stages, int64_t devices, std::vector<StrategyValues> strategies) {
    reference::expectEquivalent(model, makePlan(model, stages, devices, std::move(strategies)));
  }

  TrainedModel model;
};

TEST_P(PaddedPositionsTest, OneStrategyForAll) {
  for (int64_t stages : {1, 2}) {
    expectEquivalent(stages, 2, {{.cp = 2, .pad = 1}});
    expectEquivalent(stages, 2, {{.cp = 2, .cpKind = kRing, .cpZigzag = kZigzag, .pad = 1}});
    expectEquivalent(stages, 2, {{.ulysses = 2, .pad = 1}});
    expectEquivalent(stages, 2, {{.tp = 2, .sequenceParallel = 1, .pad = 1}});
  }
}

TEST_P(PaddedPositionsTest, StrategiesAreMixed) {
  expectEquivalent(1, 4, {{.tp = 2, .cp = 2, .pad = 1}});
  expectEquivalent(1, 4, {{.tp = 2, .sequenceParallel = 1, .ulysses = 2, .recompute = 1, .pad = 1}});
  expectEquivalent(2, 4, {{.dp = 2, .cp = 2, .zero = 3, .pad = 1}});
  expectEquivalent(1, 4, {{.dp = 2, .cp = 2, .cpZigzag = kZigzag, .pad = 1}, {.dp = 4}, {.ulysses = 4, .pad = 1}});
}

/// Heads, widths and vocabulary too, and positions cut by 3: 6 for all layers.
TEST_P(PaddedPositionsTest, EverythingIsPadded) {
  expectEquivalent(1, 6, {{.tp = 3, .sequenceParallel = 1, .cp = 2, .pad = 1}, {.tp = 6, .pad = 1}});
}

std::string getPositionsName(const testing::TestParamInfo<PaddedPositions> &info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Models, PaddedPositionsTest,
    testing::Values(PaddedPositions{"llama15", "llama_ignored.mlir", 15},
                    PaddedPositions{"llama21", "llama_ignored.mlir", 21},
                    PaddedPositions{"gpt15", "gpt2_ignored.mlir", 15},
                    // A table's third row and what follows; its second half; all of it.
                    PaddedPositions{"rows", "gpt2_ignored.mlir", 21, 32, 2},
                    PaddedPositions{"half", "gpt2_ignored.mlir", 15, 30, 15},
                    PaddedPositions{"whole", "gpt2_ignored.mlir", 15, 15, 0},
                    PaddedPositions{"bidirectional", "llama_ignored.mlir", 15, 32, -1, PaddedPositions::None},
                    PaddedPositions{"table", "llama_ignored.mlir", 15, 32, -1, PaddedPositions::Table}),
    getPositionsName);

INSTANTIATE_TEST_SUITE_P(Models, PaddedTest,
                         testing::Values(PaddedModel{"llama_ignored.mlir", {3, 5, 6}},
                                         PaddedModel{"gpt2_ignored.mlir", {3, 5, 6}},
                                         PaddedModel{"sixths_ignored.mlir", {4, 5, 8}}),
                         getName);

} // namespace
