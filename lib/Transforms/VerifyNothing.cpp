// Holds the place of the first real pass.
#include "galvatron/Transforms/Passes.h"

#include "mlir/IR/BuiltinOps.h"

namespace galvatron {
#define GEN_PASS_DEF_VERIFYNOTHINGPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

namespace {
struct VerifyNothingPass : galvatron::impl::VerifyNothingPassBase<VerifyNothingPass> {
  using Base::Base;

  void runOnOperation() override {
    getOperation()->walk([&](mlir::Operation *) { ++numOps; });
    markAllAnalysesPreserved();
  }
};
} // namespace
