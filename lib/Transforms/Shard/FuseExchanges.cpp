// One all-to-all where several would go to the same devices at the same time; the rule is in
// lib/Placement/ExchangeFusion.cpp, since the prices of the search follow it too.
#include "dialects/Dist/Dist.h"
#include "galvatron/Placement/ExchangeFusion.h"
#include "galvatron/Transforms/Passes.h"

namespace galvatron {
#define GEN_PASS_DEF_FUSEEXCHANGESPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {
struct FuseExchangesPass : galvatron::impl::FuseExchangesPassBase<FuseExchangesPass> {
  using Base::Base;

  void runOnOperation() override {
    for (auto layer : getOperation().getOps<graph::LayerOp>())
      numFused += fuseExchanges(layer);
  }
};
} // namespace
