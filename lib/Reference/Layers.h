// The callees of `graph.call`, seen alike whether they are on global shapes, with placements, or cut
// into bodies for one device.
#ifndef GALVATRON_REFERENCE_LAYERS_H
#define GALVATRON_REFERENCE_LAYERS_H

#include "Interpreter.h"

#include "dialects/Graph/GraphStructure.h"

#include <memory>

namespace galvatron::reference {

/// One layer type.
class Layer {
public:
  virtual ~Layer() = default;
  /// The callee of a call; null, with a diagnostic, if it is no layer.
  static std::unique_ptr<Layer> lookup(graph::CallOp call) { return lookup(call, call.getCalleeAttr()); }
  static std::unique_ptr<Layer> lookup(graph::TotalOp total) { return lookup(total, total.getCalleeAttr()); }

  virtual bool hasBackward() const = 0;
  /// Placements of the layer's values; null where everything is local.
  virtual dist::PlacementAttr inputPlacement(unsigned i) const = 0;
  virtual dist::PlacementAttr outputPlacement(unsigned i) const = 0;
  virtual dist::PlacementAttr home(unsigned parameter) const = 0;
  /// What has a gradient; a parameter's may be partial.
  virtual bool hasInputGradient(unsigned i) const = 0;
  virtual bool hasOutputGradient(unsigned i) const = 0;
  virtual bool hasGradient(unsigned parameter) const = 0;
  virtual dist::PlacementAttr gradientPlacement(unsigned parameter) const = 0;
  /// Global shape of a parameter without padding, where the layer itself knows it.
  virtual std::optional<Shape> parameterShape(unsigned parameter) const = 0;
  /// `graph.init` of a parameter, or null.
  virtual mlir::Attribute init(unsigned parameter) const { return {}; }
  /// Which elements of a parameter are the model's own; null: all.
  virtual graph::PaddingAttr padding(unsigned parameter) const { return {}; }

  /// Runs the forward; the frame keeps what the backward needs.
  virtual mlir::FailureOr<std::vector<DeviceTensors>>
  forward(const Interpreter &interpreter, llvm::ArrayRef<DeviceTensors> arguments, Frame &frame) const = 0;

  /// Runs the backward on the gradients of those results that have one: the gradients of inputs, then of
  /// parameters, likewise.
  virtual mlir::FailureOr<std::vector<DeviceTensors>>
  backward(const Interpreter &interpreter, llvm::ArrayRef<DeviceTensors> gradients, Frame &frame) const = 0;

private:
  static std::unique_ptr<Layer> lookup(mlir::Operation *op, mlir::FlatSymbolRefAttr callee);
};

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_LAYERS_H
