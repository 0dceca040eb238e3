// A product of a nonlinearity and another tensor is one op, which keeps neither factor's result: silu(x) · y of Llama's
// feed-forward part.
#include "Raise.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

namespace galvatron {
#define GEN_PASS_DEF_RAISEGATEDACTIVATIONSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

/// The nonlinearity whose result `value` is, if nothing else reads it.
static ActivationOp gateOf(Value value) {
  auto gate = value.getDefiningOp<ActivationOp>();
  return gate && value.hasOneUse() ? gate : nullptr;
}

static bool raiseGate(arith::MulFOp multiply) {
  for (auto [gateSide, up] :
       {std::pair(multiply.getLhs(), multiply.getRhs()), std::pair(multiply.getRhs(), multiply.getLhs())}) {
    ActivationOp gate = gateOf(gateSide);
    // A factor that is no activation's equal (a constant, a repeated vector) is a scale.
    if (!gate || splatOf(up) || up.getDefiningOp<BroadcastOp>())
      continue;
    // x · f(a·x) is a nonlinearity of x alone, and none that has a name.
    Operation *inner = gate.getX().getDefiningOp();
    if (inner && isElementwise(inner) && llvm::is_contained(inner->getOperands(), up))
      continue;
    bool isRaised = replaceIfLegal(multiply, [&](OpBuilder &builder) {
      return GatedActivationOp::create(builder, multiply.getLoc(), multiply.getType(), gate.getX(), up, gate.getKind());
    });
    if (isRaised)
      return true;
  }
  return false;
}

namespace {

struct RaiseGatedActivationsPass : galvatron::impl::RaiseGatedActivationsPassBase<RaiseGatedActivationsPass> {
  using Base::Base;

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation())) {
      for (auto multiply : llvm::make_early_inc_range(function.getBody().front().getOps<arith::MulFOp>()))
        numGates += raiseGate(multiply);
      eraseDead(function);
    }
  }
};

} // namespace
