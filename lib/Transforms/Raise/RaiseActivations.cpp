// Recognizes nonlinearities by what they compute, not by how they are written.
//
// Any tree of elementwise arithmetic over one tensor and constants is a function of one number. It
// is evaluated at a few points and compared with every known nonlinearity, so that associations,
// commutations and spellings (x / (1 + exp(-x)), x * sigmoid(x)) need no pattern each.
#include "Raise.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

namespace galvatron {
#define GEN_PASS_DEF_RAISEACTIVATIONSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

/// Ops that one spelling may have: GPT-2's tanh has 8.
static constexpr unsigned kMaximumSpelling = 16;

/// Far enough out to tell erf from tanh (they differ by 4e-4 near 2), near enough not to overflow.
static constexpr double kSamples[] = {-8,   -5,  -3.1, -2.2, -1.5, -1,  -0.7, -0.3, -0.1, 0,
                                      0.05, 0.2, 0.5,  0.9,  1.3,  2.1, 3.3,  4.7,  7.5};

/// f(x) of the function that `ops` (in program order) build on `input`; none where an op is unknown.
static std::optional<double> evaluate(ArrayRef<Operation *> ops, Value input, double x) {
  llvm::SmallDenseMap<Value, double> values;
  values[input] = x;
  for (Operation *op : ops) {
    SmallVector<double, 3> operands;
    for (Value operand : op->getOperands()) {
      auto it = values.find(operand);
      operands.push_back(it != values.end() ? it->second : *splatOf(operand));
    }
    std::optional<double> value = evaluateElement(op, operands);
    if (!value)
      return std::nullopt;
    values[op->getResult(0)] = *value;
  }
  return values[ops.back()->getResult(0)];
}

/// The derivative at 0 of the function that `ops` build on `input`, as those ops are differentiated; none where an
/// op may not be part of a hinge.
static std::optional<double> slopeAtZero(ArrayRef<Operation *> ops, Value input) {
  llvm::SmallDenseMap<Value, std::pair<double, double>> values; // and derivatives
  values[input] = {0, 1};
  for (Operation *op : ops) {
    SmallVector<double, 3> x, d;
    for (Value operand : op->getOperands()) {
      auto it = values.find(operand);
      x.push_back(it != values.end() ? it->second.first : *splatOf(operand));
      d.push_back(it != values.end() ? it->second.second : 0);
    }
    double slope = 0; // of comparisons and what is made of them
    if (isa<arith::SelectOp>(op))
      slope = x[0] != 0 ? d[1] : d[2];
    else if (isa<arith::MulFOp>(op))
      slope = x[0] * d[1] + x[1] * d[0];
    else if (isa<arith::MaximumFOp, arith::MaxNumFOp>(op))
      slope = x[0] == x[1] ? (d[0] + d[1]) / 2 : x[0] > x[1] ? d[0] : d[1];
    else if (isa<ActivationOp>(op))
      slope = cast<ActivationOp>(op).getKind() == ActivationKind::Relu ? 0 : NAN;
    else if (!isa<arith::CmpFOp, arith::UIToFPOp, arith::SIToFPOp>(op))
      return std::nullopt;
    values[op->getResult(0)] = {*evaluateElement(op, x), slope};
  }
  return values[ops.back()->getResult(0)].second;
}

/// Where the function is looked at: the samples, and on both sides of each number in it that they do not reach, where a
/// bound or a guard (max(x, 1e-12)) would show.
static SmallVector<double> samplesOf(ArrayRef<Operation *> ops) {
  SmallVector<double> samples(std::begin(kSamples), std::end(kSamples));
  for (Operation *op : ops)
    for (Value operand : op->getOperands())
      if (std::optional<double> number = splatOf(operand))
        if (double size = std::abs(*number); size > 5 || size < 0.05)
          samples.append({-1.5 * size, -0.5 * size, 0.5 * size, 1.5 * size});
  return samples;
}

/// The nonlinearity that `ops` compute of `input`.
static std::optional<ActivationKind> recognize(ArrayRef<Operation *> ops, Value input) {
  SmallVector<double> samples = samplesOf(ops), results;
  for (double x : samples) {
    std::optional<double> y = evaluate(ops, input, x);
    if (!y || !std::isfinite(*y))
      return std::nullopt;
    results.push_back(*y);
  }
  for (uint32_t kind = 0; std::optional<ActivationKind> known = symbolizeActivationKind(kind); ++kind) {
    auto matches = [&](double x, double y) {
      double expected = activate(*known, x);
      return std::abs(y - expected) <= 1e-6 * (std::min(std::abs(x), 1.0) + std::abs(expected));
    };
    // Of the known ones, only this has a derivative that jumps: 0 at 0, not 1 as clamp's, nor 1/2 as maximum's.
    bool isAnotherHinge = *known == ActivationKind::Relu && slopeAtZero(ops, input) != 0;
    if (llvm::all_of_zip(samples, results, matches) && !isAnotherHinge)
      return known;
  }
  return std::nullopt;
}

namespace {
struct Match {
  Value input;
  ActivationKind kind;
  llvm::SmallPtrSet<Operation *, 16> ops;
};
} // namespace

/// Grows a tree down from `root` until what it computes of its only leaf is known.
static std::optional<Match> match(Operation *root) {
  llvm::SmallSetVector<Operation *, 16> tree;
  llvm::SmallSetVector<Value, 8> leaves;
  leaves.insert(root->getResult(0));
  while (tree.size() < kMaximumSpelling) {
    // The leaf that no other leaf can be below: the last in program order.
    Operation *last = nullptr;
    for (Value leaf : leaves)
      if (Operation *op = leaf.getDefiningOp(); op && (!last || last->isBeforeInBlock(op)))
        last = op;
    if (!last || !isElementwise(last) || isa<DropoutOp>(last))
      return std::nullopt;
    tree.insert(last);
    leaves.remove(last->getResult(0));
    for (Value operand : last->getOperands())
      if (!splatOf(operand))
        leaves.insert(operand);
    if (leaves.size() > 3)
      return std::nullopt;
    if (leaves.size() != 1 || leaves[0].getType() != root->getResult(0).getType())
      continue;
    SmallVector<Operation *> ops(llvm::reverse(tree.getArrayRef()));
    if (std::optional<ActivationKind> kind = recognize(ops, leaves[0]))
      return Match{leaves[0], *kind, {ops.begin(), ops.end()}};
  }
  return std::nullopt;
}

static unsigned raiseActivations(func::FuncOp function) {
  unsigned numRaised = 0;
  llvm::DenseSet<Operation *> taken;
  SmallVector<Operation *> ops;
  for (Operation &op : function.getBody().front())
    if (isElementwise(&op) && isa<FloatType>(getElementTypeOrSelf(op.getResult(0).getType())))
      ops.push_back(&op);
  // Outermost first, so that a spelling is taken whole.
  for (Operation *op : llvm::reverse(ops)) {
    if (taken.contains(op) || op->use_empty())
      continue;
    std::optional<Match> found = match(op);
    if (!found || (isa<ActivationOp>(op) && found->ops.size() == 1))
      continue;
    bool isRaised = replaceIfLegal(op, [&](OpBuilder &builder) {
      return ActivationOp::create(builder, op->getLoc(), op->getResult(0).getType(), found->input, found->kind);
    });
    if (!isRaised)
      continue;
    taken.insert(found->ops.begin(), found->ops.end());
    ++numRaised;
  }
  return numRaised;
}

namespace {

struct RaiseActivationsPass : galvatron::impl::RaiseActivationsPassBase<RaiseActivationsPass> {
  using Base::Base;

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation())) {
      numActivations += raiseActivations(function);
      eraseDead(function);
    }
  }
};

} // namespace
