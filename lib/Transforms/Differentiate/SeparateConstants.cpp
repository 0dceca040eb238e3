// A constant of equal elements has whatever axes its reader gives it. Shared by two readers it would tell the axes of
// one to be those of the other, and no strategy could then cut one alone.
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

namespace galvatron {
#define GEN_PASS_DEF_SEPARATECONSTANTSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

struct SeparateConstants : galvatron::impl::SeparateConstantsPassBase<SeparateConstants> {
  using Base::Base;

  void runOnOperation() override {
    SmallVector<arith::ConstantOp> shared;
    getOperation()->walk([&](arith::ConstantOp constant) {
      if (isa<SplatElementsAttr>(constant.getValue()) && !constant->hasOneUse())
        shared.push_back(constant);
    });
    for (arith::ConstantOp constant : shared)
      separate(constant);
  }

  /// The first use keeps the constant; others have one of their own, just before them.
  void separate(arith::ConstantOp constant) {
    for (OpOperand &use :
         llvm::make_early_inc_range(llvm::drop_begin(llvm::make_range(constant->use_begin(), constant->use_end())))) {
      OpBuilder builder(use.getOwner());
      use.set(builder.clone(*constant)->getResult(0));
      ++numSeparated;
    }
  }
};

} // namespace
