// Bodies on tensors → functions on buffers at fixed places. The work is in BodyLowering; this pass
// walks the layers, forward before backward, since a saved value lies as the forward left it, and backward before
// weights, for what it keeps for them.
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

  /// One body, whose last results are so many values for a later one and so many gradients of parameters. Returns how
  /// the former lie.
  FailureOr<SmallVector<Strides>> convertBody(dist::LayerOp layer, StringRef name, unsigned numGradients,
                                              unsigned numSaved, ArrayRef<Strides> argumentStrides,
                                              SymbolTable &symbols) {
    auto body = symbols.lookup<dist::BodyOp>(name);
    if (!body)
      return layer.emitOpError("expects a dist.body named ") << name;
    widenBooleans(body);
    SmallVector<Strides> strides(body.getNumArguments() - argumentStrides.size());
    llvm::append_range(strides, argumentStrides);
    BodyLowering lowering(body, numGradients, numSaved, strides, groups, *device, lacking);
    FailureOr<exec::FunctionOp> function = lowering.run();
    if (failed(function))
      return failure();
    ++numBodies;
    numFused += lowering.getNumFused();
    symbols.erase(body);
    symbols.insert(*function);
    return llvm::to_vector(lowering.getResultStrides().drop_back(numGradients).take_back(numSaved));
  }

  LogicalResult convertLayer(dist::LayerOp layer, SymbolTable &symbols) {
    auto saved = convertBody(layer, layer.getForward(), 0, layer.getNumSaved(), {}, symbols);
    if (failed(saved) || !layer.getBackward())
      return saved;
    auto kept = convertBody(layer, *layer.getBackward(), layer.getTrainedBy(/*inWeights=*/false).size(),
                            layer.getNumKept(), *saved, symbols);
    if (failed(kept) || !layer.getWeights())
      return kept;
    llvm::append_range(*saved, *kept);
    return convertBody(layer, *layer.getWeights(), layer.getTrainedBy(/*inWeights=*/true).size(), 0, *saved, symbols);
  }

  GroupTable groups;
  const DeviceTraits *device = nullptr;
};

} // namespace
