// Bodies on tensors → functions on buffers at fixed places. The work is in BodyLowering; this pass
// walks the layers, forward before backward, since a saved value lies as the forward left it.
#include "BodyLowering.h"
#include "ExchangedBooleans.h"
#include "Layouts.h"
#include "galvatron/Conversion/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"

namespace galvatron {
#define GEN_PASS_DEF_CONVERTDISTTOEXECPASS
#include "galvatron/Conversion/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

struct ConvertDistToExecPass : galvatron::impl::ConvertDistToExecPassBase<ConvertDistToExecPass> {
  using Base::Base;

  void runOnOperation() override {
    device = DeviceTraits::find(deviceName);
    if (!device) {
      getOperation().emitOpError("expects a device named cpu or cuda, but got ") << deviceName;
      return signalPassFailure();
    }
    SymbolTable symbols(getOperation());
    if (keepBodies)
      copyBodies(symbols);
    for (auto layer : llvm::make_early_inc_range(getOperation().getOps<dist::LayerOp>()))
      if (failed(convertLayer(layer, symbols)))
        return signalPassFailure();
    Builder builder(&getContext());
    getOperation()->setAttr(exec::kGroups, groups.getAttribute(builder));
    if (device->name != "cpu")
      getOperation()->setAttr(exec::kDevice, builder.getStringAttr(device->name));
    if (device->workspaceBytes)
      getOperation()->setAttr(exec::kWorkspaceBytes, builder.getI64IntegerAttr(device->workspaceBytes));
  }

  void copyBodies(SymbolTable &symbols) {
    OpBuilder builder(&getContext());
    auto bodies = ModuleOp::create(builder, getOperation().getLoc(), dist::kBodiesModuleName);
    bodies->setDiscardableAttrs(getOperation()->getDiscardableAttrDictionary());
    builder.setInsertionPointToStart(bodies.getBody());
    for (Operation &op : *getOperation().getBody())
      if (isa<dist::BodyOp, dist::LayerOp>(op))
        builder.clone(op);
    symbols.insert(bodies);
  }

  LogicalResult convertLayer(dist::LayerOp layer, SymbolTable &symbols) {
    auto forward = symbols.lookup<dist::BodyOp>(layer.getForward());
    if (!forward)
      return layer.emitOpError("expects a dist.body named ") << layer.getForward();
    widenBooleans(forward);
    unsigned numSaved = layer.getNumSaved();
    BodyLowering lowering(forward, 0, numSaved, {}, groups, *device, lacking);
    FailureOr<exec::FunctionOp> function = lowering.run();
    if (failed(function))
      return failure();
    ++numBodies;
    numFused += lowering.getNumFused();
    SmallVector<Strides> saved = llvm::to_vector(lowering.getResultStrides().take_back(numSaved));
    symbols.erase(forward);
    symbols.insert(*function);
    if (!layer.getBackward())
      return success();
    auto backward = symbols.lookup<dist::BodyOp>(*layer.getBackward());
    if (!backward)
      return layer.emitOpError("expects a dist.body named ") << *layer.getBackward();
    widenBooleans(backward);
    SmallVector<Strides> argumentStrides(backward.getNumArguments() - numSaved);
    llvm::append_range(argumentStrides, saved);
    BodyLowering backwardLowering(backward, layer.getTrained().size(), 0, argumentStrides, groups, *device, lacking);
    function = backwardLowering.run();
    if (failed(function))
      return failure();
    ++numBodies;
    numFused += backwardLowering.getNumFused();
    symbols.erase(backward);
    symbols.insert(*function);
    return success();
  }

  GroupTable groups;
  const DeviceTraits *device = nullptr;
};

} // namespace
