// Small models trained under plans, by the timetables of all ranks and on one device, in doubles.
#ifndef GALVATRON_TEST_UNIT_EQUIVALENCE_TRAINEDPLAN_H
#define GALVATRON_TEST_UNIT_EQUIVALENCE_TRAINEDPLAN_H

#include "../Placement/PlannedModel.h"
#include "../Reference/Program.h"

#include "galvatron/Pipelines/Phases.h"
#include "galvatron/Placement/Recomputation.h"
#include "galvatron/Reference/TimetableRun.h"
#include "galvatron/Schedule/VerifyTimetable.h"
#include "galvatron/Transforms/Passes.h"

#include <cmath>
#include <optional>
#include <random>
#include <regex>

namespace galvatron::reference {

/// A strategy for every layer of a model, and its stages.
struct LayerwisePlan {
  int64_t stages = 1, devices = 1, microBatches = 1; ///< devices: of one stage
  std::string schedule = "gpipe";
  std::vector<plan::StrategyValues> strategies;
  std::vector<int64_t> stageOf;      ///< by layer, ascending
  plan::Mesh mesh = {};              ///< empty: ascending prime factors of `devices`
  int64_t virtualStages = 1;         ///< parts of a stage
  std::vector<int64_t> chunkOf = {}; ///< by layer, which of its stage's parts; empty: the first
  /// By layer, whether its backward is split, where the plan says so; empty: it says so of none.
  std::vector<std::optional<bool>> splitBackward = {};

  std::string describe() const {
    std::string text = std::to_string(stages) + " stages of " + std::to_string(devices) + ", " +
                       std::to_string(microBatches) + " micro-batches, " + schedule + ", mesh";
    for (int64_t size : mesh)
      text += " " + std::to_string(size);
    text += ":";
    for (size_t i = 0; i < strategies.size(); ++i)
      text += " <" + plan::describe(strategies[i]) + " on " + std::to_string(stageOf[i]) +
              (chunkOf.empty() ? "" : "." + std::to_string(chunkOf[i])) + ", values " +
              std::to_string(strategies[i].values) +
              (splitBackward.empty() || !splitBackward[i] ? ""
               : *splitBackward[i]                        ? ", split"
                                                          : ", whole") +
              ">";
    return text;
  }
};

/// What three steps leave.
struct Training {
  std::vector<double> losses, norms;
  std::vector<NamedTensors> gradients; // by step
  NamedTensors parameters;
};

/// A model of test/Inputs, and what it comes to on one device.
class TrainedModel {
public:
  static constexpr int kSteps = 3;

  /// `units`: names of a plan's layers, separated by commas; those that name halves cut a layer in two.
  explicit TrainedModel(const std::string &file, const std::string &units = "", bool hasDropout = true)
      : TrainedModel(Program(hasDropout ? readInput(file) : withoutDropout(readInput(file))), units) {}

  explicit TrainedModel(Program &&text, const std::string &units = "") : program(std::move(text)) {
    EXPECT_TRUE(units.empty() || program.run("galvatron-form-sublayers{units=" + units + "},galvatron-verify-import"));
    EXPECT_TRUE(program.run(kTrain));
    program.context->printOpOnDiagnostic(false);
    program.context->loadDialect<plan::PlanDialect>();
    ProgramTrainee single(*program.module, /*seed=*/1, /*exact=*/true);
    drawData(single);
    expected = train(single);
  }

  mlir::ModuleOp module() { return *program.module; }
  mlir::MLIRContext *context() { return program.context.get(); }
  /// By layer, a bit for each value that it can recompute.
  std::vector<int64_t> recomputableValues() {
    std::vector<int64_t> bits;
    module().walk([&](graph::CallOp call) {
      auto layer = module().lookupSymbol<graph::LayerOp>(call.getCallee());
      bits.push_back((int64_t(1) << getRecomputableValues(layer).size()) - 1);
    });
    return bits;
  }

  /// The program after phase stage, or null.
  mlir::OwningOpRef<mlir::ModuleOp> stage(const LayerwisePlan &plan) {
    mlir::OwningOpRef<mlir::ModuleOp> planned(module().clone());
    mlir::Builder builder(context());
    auto mesh = plan.mesh.empty() ? mlir::DenseI64ArrayAttr() : builder.getDenseI64ArrayAttr(plan.mesh);
    (*planned)->setAttr(plan::kPipelineAttrName,
                        plan::PipelineAttr::get(context(), plan.stages, plan.devices, plan.microBatches,
                                                *plan::symbolizeSchedule(plan.schedule), plan.virtualStages, mesh));
    planned->walk([](graph::LayerOp body) { tagRecomputableValues(body); });
    size_t layer = 0;
    planned->walk([&](graph::CallOp call) {
      call->setAttr(plan::kStrategyAttrName, plan::StrategyAttr::get(context(), plan.strategies[layer]));
      call->setAttr(plan::kStageAttrName, builder.getI64IntegerAttr(plan.stageOf[layer]));
      plan::setChunk(call, plan.chunkOf.empty() ? 0 : plan.chunkOf[layer]);
      if (!plan.splitBackward.empty() && plan.splitBackward[layer])
        call->setAttr(plan::kSplitBackwardAttrName, builder.getBoolAttr(*plan.splitBackward[layer]));
      ++layer;
    });
    mlir::PassManager passes(context());
    passes.addPass(createPadDimensionsPass());
    buildShardPhase(passes, {});
    buildStagePhase(passes, {});
    return succeeded(passes.run(*planned)) ? std::move(planned) : mlir::OwningOpRef<mlir::ModuleOp>();
  }

  /// A program after phase stage, lowered, with its timetables; or null.
  static mlir::OwningOpRef<mlir::ModuleOp> lower(mlir::ModuleOp staged, std::vector<Timetable> &timetables) {
    mlir::OwningOpRef<mlir::ModuleOp> lowered(staged.clone());
    mlir::PassManager passes(staged.getContext());
    LowerPhaseOptions options;
    options.timetables = std::make_shared<std::vector<Timetable>>();
    buildLowerPhase(passes, options);
    if (failed(passes.run(*lowered)))
      return {};
    timetables = std::move(*options.timetables);
    return lowered;
  }
  /// Timetables of a program after phase stage, proved; empty if it cannot be lowered.
  static std::vector<Timetable> lower(mlir::ModuleOp staged) {
    std::vector<Timetable> timetables;
    mlir::OwningOpRef<mlir::ModuleOp> lowered = lower(staged, timetables);
    if (!lowered || failed(verifyTimetables(*lowered, timetables)))
      return {};
    return timetables;
  }

  /// Runs all steps; of a failure what was there before.
  Training train(Trainee &trainee) {
    Training training;
    Optimizer optimizer;
    optimizer.lr = 1e-2;
    optimizer.weightDecay = 0.1;
    optimizer.clipGrad = 0.25;
    optimizer.exact = true;
    if (failed(trainee.setParameters(initial)))
      return training;
    for (int step = 1; step <= kSteps; ++step) {
      auto result = trainee.runStep(data[step - 1], step);
      if (failed(result))
        return training;
      auto norm = trainee.finishStep(*result, optimizer);
      if (failed(norm))
        return training;
      training.losses.push_back(result->loss);
      training.norms.push_back(*norm);
      training.gradients.push_back(std::move(result->gradients));
    }
    if (auto parameters = trainee.getParameters(); succeeded(parameters))
      training.parameters = std::move(*parameters);
    return training;
  }

  Training train(mlir::ModuleOp staged, llvm::ArrayRef<Timetable> timetables) {
    TimetableRun run(staged, timetables, /*seed=*/1, /*exact=*/true);
    return train(run);
  }

  /// The first thing in which a training differs from one device's, or nothing.
  std::string differenceOf(const Training &training) {
    if (training.losses.size() != kSteps)
      return "step " + std::to_string(training.losses.size() + 1) + " failed";
    for (int step = 0; step < kSteps; ++step) {
      if (!(std::abs(training.losses[step] - expected.losses[step]) <= kTolerance * expected.losses[step]))
        return "the loss of step " + std::to_string(step + 1);
      std::string worst = firstDifference(training.gradients[step], expected.gradients[step]);
      if (!worst.empty())
        return "the gradient of " + worst + " in step " + std::to_string(step + 1);
    }
    std::string worst = firstOtherElement(training.parameters);
    return worst.empty() ? "" : "the value of " + worst;
  }

  Training expected;

  static std::string withoutDropout(std::string text) {
    return std::regex_replace(text, std::regex("(p|dropout) = 1.0e-1"), "$1 = 0.0");
  }

private:
  /// What an order of additions may differ by in doubles, after three steps: far below the 1e-5 that is asked for.
  static constexpr double kTolerance = 1e-8;

  /// Token 3 counts for no label: rows and steps have different numbers of those that count.
  void drawData(Trainee &trainee) {
    auto parameters = trainee.initialParameters(1);
    ASSERT_TRUE(succeeded(parameters));
    for (auto &[name, value] : *parameters) {
      Tensor normal = randomTensor(value.shape, name);
      for (int64_t i = 0; i < normal.size(); ++i)
        normal[i] = (value.rank() == 1 ? 1.0 : 0.0) + 0.3 * normal[i];
      initial[name] = normal;
    }
    std::mt19937 generator(5);
    for (int step = 0; step < kSteps; ++step)
      for (const auto &[name, shape] : trainee.inputShapes()) {
        Tensor &input = data[step].try_emplace(name, shape).first->second;
        for (int64_t i = 0; i < input.size(); ++i) {
          int64_t row = i / shape[1];
          bool isIgnored = name == "labels" && int64_t(generator() % shape[0]) < row;
          input[i] = isIgnored ? 3 : generator() % 32;
        }
      }
  }

  static double norm(const Tensor &tensor) {
    double sum = 0;
    for (double value : tensor.data)
      sum += value * value;
    return std::sqrt(sum);
  }

  /// In units of the larger of a parameter's own norm and 1e-5 of all.
  static std::string firstDifference(const NamedTensors &tensors, const NamedTensors &expected) {
    double all = 0;
    for (auto &[name, tensor] : expected)
      all += norm(tensor) * norm(tensor);
    for (auto &[name, tensor] : expected) {
      auto other = tensors.find(name);
      if (other == tensors.end() || other->second.shape != tensor.shape)
        return name + " (there is none)";
      Tensor difference = tensor;
      for (int64_t i = 0; i < tensor.size(); ++i)
        difference[i] -= other->second[i];
      double unit = std::max(norm(tensor), 1e-5 * std::sqrt(all));
      if (!(norm(difference) <= kTolerance * unit))
        return name + " (by " + std::to_string(norm(difference) / unit) + ")";
    }
    return "";
  }

  /// Element by element: of weights of about 1, which three steps of 1e-2 have moved.
  std::string firstOtherElement(const NamedTensors &parameters) {
    for (auto &[name, tensor] : expected.parameters) {
      auto other = parameters.find(name);
      if (other == parameters.end() || other->second.shape != tensor.shape)
        return name + " (there is none)";
      for (int64_t i = 0; i < tensor.size(); ++i)
        if (!(std::abs(other->second[i] - tensor[i]) <= kTolerance))
          return name + " at " + std::to_string(i) + " (" + std::to_string(other->second[i]) + " instead of " +
                 std::to_string(tensor[i]) + ")";
    }
    return "";
  }

  Program program;
  NamedTensors initial, data[kSteps];
};

/// That the model trains under a plan like on one device. Errors are failures of the test.
inline void expectEquivalent(TrainedModel &model, const LayerwisePlan &plan) {
  mlir::ScopedDiagnosticHandler handler(model.context(), [&](mlir::Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error)
      ADD_FAILURE() << plan.describe() << "\n" << diagnostic.str();
    return mlir::success();
  });
  auto staged = model.stage(plan);
  ASSERT_TRUE(staged) << plan.describe();
  std::vector<Timetable> timetables = TrainedModel::lower(*staged);
  ASSERT_EQ(int64_t(timetables.size()), plan.stages) << plan.describe();
  EXPECT_EQ(model.differenceOf(model.train(*staged, timetables)), "") << plan.describe();
}

} // namespace galvatron::reference

#endif // GALVATRON_TEST_UNIT_EQUIVALENCE_TRAINEDPLAN_H
