// The contract after phase `lower`: bodies are runtime calls and loops on buffers, as many and as large as their layers
// say, and every stage knows how much memory a rank takes.
#include "dialects/Dist/Dist.h"
#include "dialects/Exec/Exec.h"
#include "galvatron/Transforms/Passes.h"

namespace galvatron {
#define GEN_PASS_DEF_VERIFYLOWERPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using dist::PlacementAttr;

/// A body holds nothing but the exec dialect, and scalar arithmetic inside its loops.
static LogicalResult verifyBody(exec::FunctionOp function, int64_t groups) {
  WalkResult result = function.getBody().walk([&](Operation *op) -> WalkResult {
    if (auto call = dyn_cast<exec::CallOp>(op))
      if (std::optional<int64_t> group = call.getGroup(); group && (*group < 0 || *group >= groups))
        return call.emitOpError("expects a group below ") << groups << ", but got " << *group;
    if (!isa<exec::ExecDialect>(op->getDialect()) && !op->getParentOfType<exec::LoopsOp>())
      return op->emitOpError("expects to be gone after convert-dist-to-exec");
    return success();
  });
  return failure(result.wasInterrupted());
}

namespace {

/// A function's arguments, read one list of values after another.
class Arguments {
public:
  Arguments(dist::LayerOp layer, exec::FunctionOp function)
      : layer(layer), function(function), left(function.getArgumentTypes()) {}

  /// The next are buffers of what a device holds under these placements; a unit has none.
  LogicalResult take(StringRef what, ArrayAttr placements) {
    for (auto [index, attribute] : llvm::enumerate(placements)) {
      auto placement = dyn_cast<PlacementAttr>(attribute);
      if (!placement)
        continue;
      auto type = left.empty() ? MemRefType() : dyn_cast<MemRefType>(left.front());
      if (!type || type.getShape() != ArrayRef<int64_t>(placement.getLocalShape())) {
        InFlightDiagnostic error = layer.emitOpError("expects ")
                                   << what << " " << index << " of @" << function.getSymName() << " to be held as "
                                   << placement << ", but got ";
        return left.empty() ? error << "nothing" : error << left.front();
      }
      left = left.drop_front();
    }
    return success();
  }
  void takeSaved() { skip(layer.getNumSaved()); }
  void takeKept() { skip(layer.getNumKept()); }
  /// Scratch comes last.
  LogicalResult finish() {
    if (left.size() == 1)
      return success();
    return layer.emitOpError("expects one argument of @")
           << function.getSymName() << " after its values, its scratch, but got " << left.size();
  }

private:
  void skip(size_t count) { left = left.drop_front(std::min(left.size(), count)); }

  dist::LayerOp layer;
  exec::FunctionOp function;
  ArrayRef<Type> left;
};

} // namespace

/// Of gradients of parameters, those that the weights function leaves, or the others.
static ArrayAttr gradientsBy(dist::LayerOp layer, bool isWeights) {
  Builder builder(layer.getContext());
  SmallVector<Attribute> gradients(layer.getGradients().begin(), layer.getGradients().end());
  for (auto [index, gradient] : llvm::enumerate(gradients))
    if (layer.isPutOff(index) != isWeights)
      gradient = builder.getUnitAttr();
  return builder.getArrayAttr(gradients);
}

static LogicalResult verifyBackward(dist::LayerOp layer, StringRef name, bool isWeights, SymbolTable &symbols) {
  auto function = symbols.lookup<exec::FunctionOp>(name);
  if (!function)
    return layer.emitOpError("expects an exec.function named ") << name;
  Arguments arguments(layer, function);
  if (failed(arguments.take("output gradient", layer.getOutputGradients())) ||
      failed(arguments.take("input", layer.getInputs())) || failed(arguments.take("parameter", layer.getHomes())))
    return failure();
  arguments.takeSaved();
  if (!isWeights && failed(arguments.take("input gradient", layer.getInputGradients())))
    return failure();
  arguments.takeKept();
  if (failed(arguments.take("gradient", gradientsBy(layer, isWeights))))
    return failure();
  return arguments.finish();
}

static LogicalResult verifyLayer(dist::LayerOp layer, SymbolTable &symbols) {
  auto forward = symbols.lookup<exec::FunctionOp>(layer.getForward());
  if (!forward)
    return layer.emitOpError("expects an exec.function named ") << layer.getForward();
  Arguments arguments(layer, forward);
  if (failed(arguments.take("input", layer.getInputs())) || failed(arguments.take("parameter", layer.getHomes())) ||
      failed(arguments.take("output", layer.getOutputs())))
    return failure();
  arguments.takeSaved();
  if (failed(arguments.finish()))
    return failure();
  if (!layer.getBackward())
    return success();
  if (failed(verifyBackward(layer, *layer.getBackward(), /*isWeights=*/false, symbols)))
    return failure();
  return layer.getWeights() ? verifyBackward(layer, *layer.getWeights(), /*isWeights=*/true, symbols) : success();
}

static LogicalResult verifyStage(dist::StageOp stage) {
  auto bytes = stage->getAttrOfType<IntegerAttr>(dist::kArenaBytesAttrName);
  if (!bytes)
    return stage.emitOpError("expects the attribute ") << dist::kArenaBytesAttrName << "; run galvatron-plan-memory";
  if (bytes.getInt() < 0 || bytes.getInt() % exec::kBufferAlignment)
    return stage.emitOpError("expects an arena of whole cache lines of ")
           << exec::kBufferAlignment << " bytes, but got " << bytes.getInt();
  return success();
}

namespace {
struct VerifyLowerPass : galvatron::impl::VerifyLowerPassBase<VerifyLowerPass> {
  using Base::Base;

  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    auto groups = getOperation()->getAttrOfType<ArrayAttr>(exec::kGroups);
    for (Operation &op : *getOperation().getBody())
      if (failed(verify(op, symbols, groups ? groups.size() : 0)))
        return signalPassFailure();
    markAllAnalysesPreserved();
  }

private:
  LogicalResult verify(Operation &op, SymbolTable &symbols, int64_t groups) {
    if (auto function = dyn_cast<exec::FunctionOp>(op)) {
      ++numFunctions;
      return verifyBody(function, groups);
    }
    if (auto layer = dyn_cast<dist::LayerOp>(op))
      return verifyLayer(layer, symbols);
    if (auto stage = dyn_cast<dist::StageOp>(op))
      return verifyStage(stage);
    if (auto bodies = dyn_cast<ModuleOp>(op); bodies && bodies.getSymName() == dist::kBodiesModuleName)
      return success();
    return op.emitOpError("expects functions, layers and stages alone after phase lower");
  }
};
} // namespace
