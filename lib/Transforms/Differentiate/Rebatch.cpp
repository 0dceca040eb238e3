// Replaces the global batch size, everywhere at once: the batch is an axis of the program, so its
// extent can be changed where it is known and nowhere else need be looked.
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Axes/Axes.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace galvatron {
#define GEN_PASS_DEF_REBATCHPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {
struct RebatchPass : galvatron::impl::RebatchPassBase<RebatchPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    func::FuncOp step = graph::getStep(module);
    auto old = module->getAttrOfType<IntegerAttr>(graph::kBatchAttr);
    if (batch == 0 || !step || !old || old.getInt() == batch)
      return;
    if (batch < 0) {
      module.emitOpError("expects a positive global batch, but got ") << batch.getValue();
      return signalPassFailure();
    }
    if (auto holder = module->getAttrOfType<StringAttr>(graph::kBatchHeldByAttr)) {
      module.emitOpError("expects its own batch, ")
          << old.getInt() << ", but got " << batch.getValue() << ": " << holder.getValue()
          << "; import again with --batch " << batch.getValue();
      return signalPassFailure();
    }
    Axes axes(module);
    // The samples lie along the first dimension of each of the step's inputs, whatever its role.
    llvm::SmallDenseSet<AxisId> samples;
    for (BlockArgument argument : step.getArguments())
      if (const ValueAxes &dims = axes.getAxes(argument); !dims.empty() && dims[0].size() == 1)
        samples.insert(dims[0][0]);
    if (samples.empty()) {
      // Dimensions of extent one are no axes, so nothing says which of them are samples.
      if (old.getInt() == 1)
        module.emitOpError("expects a model imported with a batch of more than one to change it to ")
            << batch.getValue() << ", but got 1; import with --batch " << std::max<int64_t>(batch, 2);
      else
        module.emitOpError("expects samples that no op splits or joins with others, to change their number from ")
            << old.getInt() << " to " << batch.getValue() << "; import with --batch " << batch.getValue();
      return signalPassFailure();
    }
    if (failed(replaceTypes(axes, samples, old.getInt())))
      return signalPassFailure();
    module->setAttr(graph::kBatchAttr, Builder(&getContext()).getI64IntegerAttr(batch));
  }

  /// The type of a value when the batch has its new extent.
  Type getType(Value value, const Axes &axes, const llvm::SmallDenseSet<AxisId> &samples, int64_t old) {
    auto type = dyn_cast<RankedTensorType>(value.getType());
    if (!type)
      return value.getType();
    SmallVector<int64_t> shape(type.getShape());
    for (auto [extent, list] : llvm::zip(shape, axes.getAxes(value)))
      for (AxisId axis : list)
        if (samples.contains(axis))
          extent = extent / old * batch;
    return type.clone(shape);
  }

  LogicalResult replaceTypes(const Axes &axes, const llvm::SmallDenseSet<AxisId> &samples, int64_t old) {
    auto retype = [&](Value value) {
      Type type = getType(value, axes, samples, old);
      numTypes += type != value.getType();
      value.setType(type);
    };
    WalkResult result = getOperation().walk([&](Operation *op) -> WalkResult {
      for (Region &region : op->getRegions())
        for (Block &block : region)
          llvm::for_each(block.getArguments(), retype);
      if (isa<graph::CallOp>(op) || op->getNumResults() == 0) {
        llvm::for_each(op->getResults(), retype);
        return success();
      }
      Type before = op->getResult(0).getType();
      llvm::for_each(op->getResults(), retype);
      auto constant = dyn_cast<arith::ConstantOp>(op);
      if (!constant || constant.getType() == before)
        return success();
      auto elements = dyn_cast<DenseElementsAttr>(constant.getValue());
      if (!elements || !elements.isSplat())
        return op->emitOpError("expects a constant along the batch to have equal elements, but got ") << before;
      constant.setValueAttr(elements.resizeSplat(cast<ShapedType>(constant.getType())));
      return success();
    });
    if (result.wasInterrupted())
      return failure();
    for (auto function : getOperation().getOps<FunctionOpInterface>()) {
      Block &body = function.getFunctionBody().front();
      function.setType(
          FunctionType::get(&getContext(), body.getArgumentTypes(), body.getTerminator()->getOperandTypes()));
    }
    return success();
  }
};
} // namespace
