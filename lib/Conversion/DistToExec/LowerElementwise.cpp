// Elementwise ops → `exec.loops`. A stored value pulls the elementwise ops that only it reads into
// its own loops, so that a chain is one kernel and its links are never stored; broadcasts and
// constants are free. Whatever is stored in bf16 or f16 is widened where it is read, computed with in f32 and
// rounded where it is written, so no value inside a chain is rounded. (Upstream's linalg fusion would do the same on
// `linalg.generic`, but knows nothing of the strided views that this lowering reads through.)
#include "BodyLowering.h"

#include "LoopsBuilder.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/Precision.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/TypeSwitch.h"

#include <numbers>

using namespace mlir;
using namespace galvatron;

/// The type in which scalars are computed.
static Type computeType(Type element) {
  return graph::isHalf(element) ? Type(Float32Type::get(element.getContext())) : element;
}

Value LoopsBuilder::readBuffer(Value buffer, ArrayRef<int64_t> loops) {
  Strides bufferStrides = stridesOf(buffer);
  SmallVector<int64_t> loopStrides(extents.size(), 0);
  for (auto [dim, loop] : llvm::enumerate(loops))
    if (shapeOf(buffer)[dim] != 1)
      loopStrides[loop] = bufferStrides[dim];
  for (auto [index, input] : llvm::enumerate(inputs))
    if (input == buffer && ArrayRef(strides).slice(index * extents.size(), extents.size()) == ArrayRef(loopStrides))
      return widened[index];
  inputs.push_back(buffer);
  llvm::append_range(strides, loopStrides);
  Value stored = block.addArgument(cast<MemRefType>(buffer.getType()).getElementType(), loc);
  return widened.emplace_back(widen(stored));
}

Value LoopsBuilder::widen(Value stored) {
  Type type = computeType(stored.getType());
  return type == stored.getType() ? stored : arith::ExtFOp::create(builder, loc, type, stored).getResult();
}

Value LoopsBuilder::sigmoid(Value x) {
  // 1 / (1 + exp(-x))
  Value one = constant(x.getType(), 1.0);
  Value exponential = math::ExpOp::create(builder, loc, arith::NegFOp::create(builder, loc, x));
  return arith::DivFOp::create(builder, loc, one, arith::AddFOp::create(builder, loc, one, exponential));
}

/// Normal distribution: Φ(x) = (1 + erf(x/√2))/2, or its density φ(x) = exp(-x²/2)/√(2π).
Value LoopsBuilder::gaussian(Value x, bool cumulative) {
  auto mul = [&](Value a, Value b) -> Value { return arith::MulFOp::create(builder, loc, a, b); };
  if (cumulative) {
    Value erf = math::ErfOp::create(builder, loc, mul(x, constant(x.getType(), std::numbers::sqrt2 / 2)));
    Value half = constant(x.getType(), 0.5);
    return arith::AddFOp::create(builder, loc, half, mul(half, erf));
  }
  Value exponent = mul(constant(x.getType(), -0.5), mul(x, x));
  return mul(constant(x.getType(), std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2),
             math::ExpOp::create(builder, loc, exponent));
}

/// √(2/π)·(x + 0.044715·x³), Hendrycks & Gimpel (2016).
Value LoopsBuilder::geluTanhInner(Value x) {
  auto mul = [&](Value a, Value b) -> Value { return arith::MulFOp::create(builder, loc, a, b); };
  Value cube = mul(constant(x.getType(), 0.044715), mul(x, mul(x, x)));
  return mul(constant(x.getType(), std::numbers::sqrt2 * std::numbers::inv_sqrtpi),
             arith::AddFOp::create(builder, loc, x, cube));
}

Value LoopsBuilder::activation(graph::ActivationKind kind, Value x) {
  auto mul = [&](Value a, Value b) -> Value { return arith::MulFOp::create(builder, loc, a, b); };
  Type type = x.getType();
  switch (kind) {
  case graph::ActivationKind::Relu:
    return arith::MaximumFOp::create(builder, loc, x, constant(type, 0.0));
  case graph::ActivationKind::Relu2: {
    Value positive = arith::MaximumFOp::create(builder, loc, x, constant(type, 0.0));
    return mul(positive, positive);
  }
  case graph::ActivationKind::Gelu:
    return mul(x, gaussian(x, true));
  case graph::ActivationKind::GeluTanh: {
    Value tanh = math::TanhOp::create(builder, loc, geluTanhInner(x));
    Value half = constant(type, 0.5);
    return mul(x, arith::AddFOp::create(builder, loc, half, mul(half, tanh)));
  }
  case graph::ActivationKind::Silu:
    return mul(x, sigmoid(x));
  case graph::ActivationKind::Sigmoid:
    return sigmoid(x);
  case graph::ActivationKind::Tanh:
    return math::TanhOp::create(builder, loc, x);
  }
  llvm_unreachable("all kinds are handled");
}

Value LoopsBuilder::activationDerivative(graph::ActivationKind kind, Value x) {
  auto mul = [&](Value a, Value b) -> Value { return arith::MulFOp::create(builder, loc, a, b); };
  auto add = [&](Value a, Value b) -> Value { return arith::AddFOp::create(builder, loc, a, b); };
  auto sub = [&](Value a, Value b) -> Value { return arith::SubFOp::create(builder, loc, a, b); };
  Type type = x.getType();
  Value one = constant(type, 1.0), zero = constant(type, 0.0);
  switch (kind) {
  case graph::ActivationKind::Relu: {
    Value positive = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OGT, x, zero);
    return arith::SelectOp::create(builder, loc, positive, one, zero);
  }
  case graph::ActivationKind::Relu2:
    return mul(constant(type, 2.0), arith::MaximumFOp::create(builder, loc, x, zero));
  case graph::ActivationKind::Gelu: // Φ(x) + x·φ(x)
    return add(gaussian(x, true), mul(x, gaussian(x, false)));
  case graph::ActivationKind::GeluTanh: {
    // t = tanh(u): (1 + t)/2 + x/2·(1 - t²)·u', u' = √(2/π)·(1 + 3·0.044715·x²)
    Value tanh = math::TanhOp::create(builder, loc, geluTanhInner(x));
    Value half = constant(type, 0.5);
    Value slope = mul(constant(type, std::numbers::sqrt2 * std::numbers::inv_sqrtpi),
                      add(one, mul(constant(type, 3 * 0.044715), mul(x, x))));
    return add(mul(half, add(one, tanh)), mul(mul(half, x), mul(sub(one, mul(tanh, tanh)), slope)));
  }
  case graph::ActivationKind::Silu: { // s·(1 + x·(1 - s))
    Value s = sigmoid(x);
    return mul(s, add(one, mul(x, sub(one, s))));
  }
  case graph::ActivationKind::Sigmoid: {
    Value s = sigmoid(x);
    return mul(s, sub(one, s));
  }
  case graph::ActivationKind::Tanh: {
    Value t = math::TanhOp::create(builder, loc, x);
    return sub(one, mul(t, t));
  }
  }
  llvm_unreachable("all kinds are handled");
}

/// Under --precision bf16 or fp16 what is not stored stays wide. In fp32 the model itself asks for 16 bits: every
/// result is rounded.
static bool rounds(Operation *op) {
  auto module = op->getParentOfType<ModuleOp>();
  return module && module->hasAttr(graph::kRoundsAttr);
}

FailureOr<SmallVector<Value>> LoopsBuilder::scalarsOf(Operation *op, ArrayRef<int64_t> loops) {
  FailureOr<SmallVector<Value>> scalars = wideScalarsOf(op, loops);
  if (failed(scalars) || !rounds(op))
    return scalars;
  for (auto [scalar, result] : llvm::zip(*scalars, op->getResults()))
    if (Type type = getElementTypeOrSelf(result.getType());
        graph::isHalf(type) && !isa<arith::ConstantOp, graph::BroadcastOp>(op))
      scalar = widen(arith::TruncFOp::create(builder, loc, type, scalar));
  return scalars;
}

FailureOr<SmallVector<Value>> LoopsBuilder::wideScalarsOf(Operation *op, ArrayRef<int64_t> loops) {
  if (auto constantOp = dyn_cast<arith::ConstantOp>(op)) {
    auto splat = cast<SplatElementsAttr>(constantOp.getValue()).getSplatValue<TypedAttr>();
    if (graph::isHalf(splat.getType()))
      return SmallVector<Value>{constant(builder.getF32Type(), cast<FloatAttr>(splat).getValueAsDouble())};
    return SmallVector<Value>{arith::ConstantOp::create(builder, loc, splat)};
  }
  if (auto broadcast = dyn_cast<graph::BroadcastOp>(op)) {
    SmallVector<int64_t> inner;
    for (int64_t dim : broadcast.getDims())
      inner.push_back(loops[dim]);
    FailureOr<Value> scalar = scalarOf(broadcast.getX(), inner);
    if (failed(scalar))
      return failure();
    return SmallVector<Value>{*scalar};
  }
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    FailureOr<Value> scalar = scalarOf(operand, loops);
    if (failed(scalar))
      return failure();
    operands.push_back(*scalar);
  }
  return computeScalars(op, operands);
}

/// The results of `op` from one element of each operand.
SmallVector<Value> LoopsBuilder::computeScalars(Operation *op, ArrayRef<Value> operands) {
  auto mul = [&](Value a, Value b) -> Value { return arith::MulFOp::create(builder, loc, a, b); };
  return TypeSwitch<Operation *, SmallVector<Value>>(op)
      .Case([&](graph::SumOp) {
        Value total = operands.front();
        for (Value operand : operands.drop_front())
          total = arith::AddFOp::create(builder, loc, total, operand);
        return SmallVector<Value>{total};
      })
      .Case([&](graph::ActivationOp activationOp) {
        return SmallVector<Value>{activation(activationOp.getKind(), operands[0])};
      })
      .Case([&](graph::ActivationBackwardOp backward) {
        return SmallVector<Value>{mul(operands[0], activationDerivative(backward.getKind(), operands[1]))};
      })
      .Case([&](graph::GatedActivationOp gated) {
        return SmallVector<Value>{mul(activation(gated.getKind(), operands[0]), operands[1])};
      })
      .Case([&](graph::GatedActivationBackwardOp gated) {
        Value dy = operands[0], gate = operands[1], up = operands[2];
        return SmallVector<Value>{mul(mul(dy, up), activationDerivative(gated.getKind(), gate)),
                                  mul(dy, activation(gated.getKind(), gate))};
      })
      .Case<arith::ExtFOp, arith::TruncFOp>([&](Operation *conversion) {
        Type type = computeType(getElementTypeOrSelf(conversion->getResult(0).getType()));
        if (type == operands[0].getType())
          return SmallVector<Value>(operands);
        return SmallVector<Value>{
            builder.create(loc, conversion->getName().getIdentifier(), operands, type)->getResult(0)};
      })
      .Default([&](Operation *arithmetic) {
        assert(!isa<graph::GraphDialect>(arithmetic->getDialect()) && "its scalars stand above");
        SmallVector<Type> types;
        for (Type type : arithmetic->getResultTypes())
          types.push_back(computeType(getElementTypeOrSelf(type)));
        Operation *scalar =
            builder.create(loc, arithmetic->getName().getIdentifier(), operands, types, arithmetic->getAttrs());
        return llvm::to_vector_of<Value>(scalar->getResults());
      });
}

FailureOr<Value> LoopsBuilder::scalarOf(Value value, ArrayRef<int64_t> loops, bool root) {
  auto key = std::make_pair(value, Attribute(builder.getDenseI64ArrayAttr(loops)));
  if (Value known = seen.lookup(key))
    return known;
  Value scalar;
  if (isInlined(value)) {
    FailureOr<SmallVector<Value>> scalars = scalarsOf(value.getDefiningOp(), loops);
    if (failed(scalars))
      return failure();
    scalar = scalars->front();
  } else {
    Value buffer = lowering.bufferOf(value);
    if (!buffer)
      return failure();
    scalar = readBuffer(buffer, loops);
  }
  seen[key] = scalar;
  return scalar;
}

LogicalResult LoopsBuilder::finish(ArrayRef<Value> results, ArrayRef<Value> outputs, size_t numColumnSums) {
  for (auto [index, output] : llvm::enumerate(outputs)) {
    Strides outputStrides = stridesOf(output);
    if (index + numColumnSums >= outputs.size()) {
      outputStrides.assign(extents.size(), 0);
      outputStrides.back() = 1;
    }
    // A row's value has no innermost dimension.
    outputStrides.resize(extents.size(), 0);
    for (auto [extent, stride] : llvm::zip_equal(extents, outputStrides))
      strides.push_back(extent == 1 ? 0 : stride);
  }
  SmallVector<Value> stored(results);
  for (auto [value, output] : llvm::zip_equal(stored, outputs))
    if (Type type = cast<MemRefType>(output.getType()).getElementType(); type != value.getType())
      value = arith::TruncFOp::create(builder, loc, type, value);
  exec::YieldOp::create(builder, loc, stored);
  auto loops = exec::LoopsOp::create(lowering.getBuilder(), loc, inputs, outputs, extents, strides, numColumnSums);
  Block *target = lowering.getBuilder().createBlock(&loops.getBody());
  SmallVector<Value> arguments;
  for (BlockArgument argument : block.getArguments())
    arguments.push_back(target->addArgument(argument.getType(), loc));
  for (auto [from, to] : llvm::zip(block.getArguments(), arguments))
    from.replaceAllUsesWith(to);
  target->getOperations().splice(target->end(), block.getOperations());
  lowering.getBuilder().setInsertionPointAfter(loops);
  return success();
}

/// Dimensions by falling stride: the order in which the first operand of the same shape lies.
static SmallVector<int64_t> orderOfOperands(BodyLowering &lowering, Operation *op) {
  ArrayRef<int64_t> shape = shapeOf(op->getResult(0));
  for (Value operand : op->getOperands()) {
    if (shapeOf(operand) != shape || isInlined(operand))
      continue;
    Strides strides = stridesOf(lowering.bufferOf(operand));
    SmallVector<int64_t> order = llvm::to_vector(llvm::seq<int64_t>(shape.size()));
    llvm::stable_sort(order, [&](int64_t a, int64_t b) { return strides[a] > strides[b]; });
    return order;
  }
  return {};
}

LogicalResult galvatron::lowerElementwise(BodyLowering &lowering, Operation *op) {
  Location loc = op->getLoc();
  SmallVector<int64_t> extents(shapeOf(op->getResult(0)));
  LoopsBuilder loops(lowering, loc, extents);
  auto identity = llvm::to_vector(llvm::seq<int64_t>(extents.size()));
  SmallVector<int64_t> order = orderOfOperands(lowering, op);
  FailureOr<SmallVector<Value>> scalars = loops.scalarsOf(op, identity);
  if (failed(scalars))
    return failure();
  SmallVector<Value> outputs;
  for (auto [result, scalar] : llvm::zip_equal(op->getResults(), *scalars)) {
    Value output = lowering.createResult(result, order);
    if (lowering.isAccumulated(result))
      scalar = arith::AddFOp::create(loops.getBuilder(), loc, loops.readOutput(output), scalar);
    outputs.push_back(output);
  }
  return loops.finish(*scalars, outputs);
}

void BodyLowering::convert(Location loc, Value from, Value to) {
  SmallVector<int64_t> extents(shapeOf(from));
  LoopsBuilder loops(*this, loc, extents);
  Value scalar = loops.readOutput(from);
  [[maybe_unused]] LogicalResult result = loops.finish(scalar, to);
  assert(succeeded(result) && "one read, one write");
}
