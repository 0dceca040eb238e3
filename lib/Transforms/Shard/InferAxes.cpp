// Writes what the analysis of axes found beside layers' arguments and results, for people and tests.
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Axes/Axes.h"
#include "galvatron/Transforms/Passes.h"

namespace galvatron {
#define GEN_PASS_DEF_INFERAXESPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {
constexpr StringLiteral kAxesAttrName = "graph.axes";

struct InferAxesPass : galvatron::impl::InferAxesPassBase<InferAxesPass> {
  using Base::Base;

  void runOnOperation() override {
    Axes axes(getOperation());
    numAxes += axes.size();
    Builder builder(&getContext());
    auto describe = [&](Value value) {
      SmallVector<Attribute> dims;
      for (const auto &dim : axes.getAxes(value)) {
        std::string text;
        for (AxisId axis : dim)
          text += (text.empty() ? "" : " * ") + axes.getName(axis);
        dims.push_back(builder.getStringAttr(text.empty() ? "1" : text));
      }
      return builder.getArrayAttr(dims);
    };
    for (auto layer : getOperation().getOps<graph::LayerOp>()) {
      Block &body = layer.getBody().front();
      for (BlockArgument argument : body.getArguments())
        layer.setArgAttr(argument.getArgNumber(), kAxesAttrName, describe(argument));
      for (auto [index, value] : llvm::enumerate(body.getTerminator()->getOperands()))
        layer.setResultAttr(index, kAxesAttrName, describe(value));
    }
  }
};
} // namespace
