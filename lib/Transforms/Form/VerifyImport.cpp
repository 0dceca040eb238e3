// The contract of phase `import` (docs/IR.md): what every later pass may rely on.
#include "FormLayers.h"

#include "galvatron/Transforms/Passes.h"

#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphStructure.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/OperationSupport.h"

namespace galvatron {
#define GEN_PASS_DEF_VERIFYIMPORTPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

/// Larger constants belong beside the model, in its safetensors file.
static constexpr int64_t kMaximumConstantBytes = 64 << 10;

static LogicalResult verifyStatic(Operation *op, TypeRange types) {
  for (Type type : types)
    if (auto shaped = dyn_cast<ShapedType>(type); shaped && !shaped.hasStaticShape())
      return op->emitOpError("expects static shapes, but got ")
             << type << "; import with --batch and --seq, which fix every shape";
  return success();
}

static LogicalResult verifyBodyOp(Operation *op) {
  if (failed(verifyStatic(op, op->getOperandTypes())) || failed(verifyStatic(op, op->getResultTypes())))
    return failure();
  if (isa<ParameterOp>(op))
    return op->emitOpError("expects parameters to be arguments of their layer; run --galvatron-form-layers");
  if (!isa<GraphDialect, arith::ArithDialect, math::MathDialect>(op->getDialect()))
    return op->emitOpError("expects graph ops and elementwise arithmetic in a layer, but got dialect '")
           << op->getName().getDialectNamespace() << "'";
  if (auto loss = dyn_cast<CrossEntropyOp>(op); loss && loss.isMean() && !loss.getCount() && !loss.hasStaticCount())
    return op->emitOpError("expects a count, as its labels decide how many of them are ignored; run "
                           "--galvatron-form-totals");
  if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    auto elements = dyn_cast<ElementsAttr>(constant.getValue());
    if (!elements)
      return success();
    int64_t bytes = elements.isSplat() ? 0
                                       : elements.getNumElements() *
                                             llvm::divideCeil(elements.getElementType().getIntOrFloatBitWidth(), 8);
    if (bytes > kMaximumConstantBytes)
      return op->emitOpError("expects constants of at most ") << kMaximumConstantBytes << " bytes, but got " << bytes
                                                              << "; make it a parameter, or compute it from positions";
  }
  return success();
}

/// Equal bodies have equal hashes; names and locations do not count.
static llvm::hash_code hashOf(LayerOp layer) {
  llvm::hash_code hash = llvm::hash_combine(layer.getFunctionType(), layer.getArgAttrsAttr(), layer.getResAttrsAttr());
  layer.getBody().walk([&](Operation *op) {
    hash = llvm::hash_combine(hash, OperationEquivalence::computeHash(op, OperationEquivalence::ignoreHashValue,
                                                                      OperationEquivalence::ignoreHashValue,
                                                                      OperationEquivalence::IgnoreLocations));
  });
  return hash;
}

namespace {

struct VerifyImportPass : galvatron::impl::VerifyImportPassBase<VerifyImportPass> {
  using Base::Base;

  void runOnOperation() override {
    if (failed(verifyStep()) || failed(verifyLayers()))
      signalPassFailure();
    markAllAnalysesPreserved();
  }

  LogicalResult verifyStep() {
    FailureOr<func::FuncOp> step = expectStep(getOperation());
    if (failed(step) || failed(verifyStatic(*step, step->getArgumentTypes())))
      return failure();
    for (Operation &op : step->getBody().front().without_terminator()) {
      auto call = dyn_cast<CallOp>(op);
      if (!call && !isa<TotalOp>(op))
        return op.emitOpError("expects only graph.call and graph.total in @step; run --galvatron-form-layers");
      if (call && failed(verifyGradients(call)))
        return failure();
      numCalls += bool(call);
    }
    return success();
  }

  /// A value between layers has a gradient for both of them, or for none.
  LogicalResult verifyGradients(CallOp call) {
    auto layerOf = [&](CallOp op) { return getOperation().lookupSymbol<LayerOp>(op.getCallee()); };
    LayerOp reader = layerOf(call);
    for (auto [index, input] : llvm::enumerate(call.getInputs())) {
      auto producer = input.getDefiningOp<CallOp>();
      LayerOp writer = producer ? layerOf(producer) : LayerOp();
      unsigned result = producer ? cast<OpResult>(input).getResultNumber() : 0;
      if (reader && writer && reader.hasGradient(index) != writer.hasResultGradient(result))
        return call.emitOpError("expects input ")
               << index << " to be frozen in @" << reader.getSymName() << " if it is as result " << result << " of @"
               << writer.getSymName() << ", and not otherwise";
    }
    return success();
  }

  LogicalResult verifyLayers() {
    llvm::DenseMap<uint64_t, SmallVector<LayerOp, 1>> buckets;
    for (auto layer : getOperation().getOps<LayerOp>()) {
      WalkResult result = layer.getBody().walk(
          [](Operation *op) { return failed(verifyBodyOp(op)) ? WalkResult::interrupt() : WalkResult::advance(); });
      if (result.wasInterrupted())
        return failure();
      SmallVector<LayerOp, 1> &bucket = buckets[uint64_t(hashOf(layer))];
      for (LayerOp other : bucket)
        if (layers::isSameLayer(layer, other)) {
          InFlightDiagnostic diagnostic =
              layer.emitOpError("expects one body per layer type, but got two that are equal; "
                                "run --galvatron-form-layers on the step as imported");
          diagnostic.attachNote(other.getLoc()) << "the other is @" << other.getSymName();
          return diagnostic;
        }
      bucket.push_back(layer);
    }
    return success();
  }
};

} // namespace
