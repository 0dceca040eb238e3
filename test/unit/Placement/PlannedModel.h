// Models of test/Inputs under plans written by hand, and the passes up to one device's share.
#ifndef GALVATRON_TEST_UNIT_DIST_PLANNEDMODEL_H
#define GALVATRON_TEST_UNIT_DIST_PLANNEDMODEL_H

#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/BuiltinOps.h"

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace galvatron {

inline constexpr const char *kTrain = "galvatron-flatten-sums,galvatron-differentiate,"
                                      "galvatron-expand-cross-entropy,cse,canonicalize";
inline constexpr const char *kPlace = "galvatron-assign-placements,galvatron-verify-placements";
inline constexpr const char *kCollect = "galvatron-insert-collectives,galvatron-verify-placements";
inline constexpr const char *kSplit = "galvatron-plan-recomputation,galvatron-fuse-exchanges,"
                                      "galvatron-verify-placements,galvatron-split-tensors,galvatron-insert-rings,"
                                      "galvatron-verify-shard";
inline constexpr const char *kFuse = "galvatron-fuse-slices,galvatron-fuse-parameters,galvatron-verify-shard";

inline std::string readInput(const std::string &name) {
  std::ifstream file("test/Inputs/" + name); // tests run from the source tree
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Plan {
  // Printed by GoogleTest where a test fails.
  friend void PrintTo(const Plan &plan, std::ostream *os) {
    *os << plan.model << ", " << plan.devices << " devices, " << plan.microBatches << " micro-batches:";
    for (const std::string &strategy : plan.strategies)
      *os << " <" << strategy << ">";
  }

  std::string model;
  int64_t devices, microBatches;
  /// For each unit its degrees; the last one for all that follow.
  std::vector<std::string> strategies;
};

inline void annotate(mlir::ModuleOp module, const Plan &plan) {
  mlir::Builder builder(module.getContext());
  auto parse = [&](const std::string &text) { return mlir::parseAttribute(text, module.getContext()); };
  module->setAttr(plan::kPipelineAttrName,
                  parse("#plan.pipeline<stages = 1, devices = " + std::to_string(plan.devices) +
                        ", micro_batches = " + std::to_string(plan.microBatches) + ", schedule = \"gpipe\">"));
  size_t unit = 0;
  module.walk([&](graph::CallOp call) {
    const std::string &strategy = plan.strategies[std::min(unit++, plan.strategies.size() - 1)];
    call->setAttr(plan::kStrategyAttrName, parse("#plan.strategy<" + strategy + ">"));
    call->setAttr(plan::kStageAttrName, builder.getI64IntegerAttr(0));
  });
}

} // namespace galvatron

#endif // GALVATRON_TEST_UNIT_DIST_PLANNEDMODEL_H
