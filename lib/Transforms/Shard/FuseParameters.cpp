// Products that share an operand → one product over parameters that lie one after another.
//
//   y_i = x · W_iᵀ        →  y  = x · [W_0 W_1 …]ᵀ, y_i = slices of y
//   dx  = Σ dy_i · W_i    →  dx = [dy_0 dy_1 …] · [W_0 W_1 …]
//   dW_i = dy_iᵀ · x      →  [dW_0 dW_1 …] = [dy_0 dy_1 …]ᵀ · x
//
// As in Megatron-LM's fused QKV and gate-up matrices, but a fact of memory alone: parameters, gradients and
// checkpoints keep their names and shapes.
#include "galvatron/Transforms/Passes.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Exec/Exec.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/MapVector.h"

namespace galvatron {
#define GEN_PASS_DEF_FUSEPARAMETERSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using graph::ConcatOp;
using graph::EinsumOp;
using graph::SliceOp;

namespace {

/// Indices of parameters of one layer, ascending.
using Group = SmallVector<int64_t>;

RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }

RankedTensorType withDim(RankedTensorType type, int64_t dim, int64_t extent) {
  SmallVector<int64_t> shape(type.getShape());
  shape[dim] = extent;
  return RankedTensorType::get(shape, type.getElementType());
}

class LayerFusion {
public:
  LayerFusion(dist::LayerOp layer, dist::BodyOp forward, dist::BodyOp backward)
      : layer(layer), forward(forward), backward(backward), builder(layer.getContext()) {}

  /// The number of products that are gone.
  unsigned run();

private:
  BlockArgument parameter(dist::BodyOp body, int64_t index) {
    int64_t before = layer.getInputs().size();
    if (body != forward) // the outputs' gradients, then what forward takes, then what it saved
      before += backward.getNumArguments() - forward.getNumArguments() - layer.getNumSaved();
    return body.getBody().getArgument(before + index);
  }
  bool isFusible(int64_t index);
  void findGroups();
  Value concat(ArrayRef<Value> values, int64_t dim, bool isParameters);
  Value parametersOf(dist::BodyOp body, const Group &group);
  SmallVector<Value> slicesOf(Value whole, ArrayRef<Value> parts, int64_t dim);
  void fuseForward(dist::BodyOp body, const Group &group);
  void fuseInputGradient(const Group &group);
  void fuseWeightGradient(const Group &group);
  void saveWhole();
  Value gradientConcat(ArrayRef<Value> gradients, int64_t dim);

  dist::LayerOp layer;
  dist::BodyOp forward, backward; // backward: null where nothing is differentiated
  OpBuilder builder;
  SmallVector<Group> groups;
  unsigned numFused = 0;
};

} // namespace

/// Whole rows on whole cache lines, in every type that it is kept in (bf16 is the narrowest).
bool LayerFusion::isFusible(int64_t index) {
  RankedTensorType type = tensorOf(parameter(forward, index));
  return type.getRank() == 2 && type.getNumElements() * 2 % exec::kBufferAlignment == 0;
}

/// Parameters that multiply one value in the same way, by forward.
void LayerFusion::findGroups() {
  llvm::MapVector<std::tuple<Value, Attribute, unsigned>, Group> candidates; // frozen ones apart
  llvm::DenseSet<int64_t> taken;
  int64_t numInputs = layer.getInputs().size(), numParameters = layer.getHomes().size();
  forward.walk([&](EinsumOp op) {
    auto argument = dyn_cast<BlockArgument>(op.getRhs());
    if (!argument || argument.getOwner() != &forward.getBody().front())
      return;
    int64_t index = static_cast<int64_t>(argument.getArgNumber()) - numInputs;
    if (index < 0 || index >= numParameters || !isFusible(index) || !argument.hasOneUse())
      return;
    auto [lhs, rhs, result] = op.getSubscripts();
    // Rows of the parameter must be the result's last dimension, so that slices of it are strided views.
    if (lhs.contains(rhs.front()) || result.back() != rhs.front() || result.contains(rhs.back()))
      return;
    if (taken.insert(index).second)
      candidates[{op.getLhs(), op.getEquationAttr(), layer.getGradient(index) ? 0u : 1u}].push_back(index);
  });
  for (auto &[key, group] : candidates) {
    llvm::sort(group);
    Group kept;
    auto partialAxesOf = [&](int64_t index) {
      dist::PlacementAttr gradient = layer.getGradient(index);
      return gradient ? gradient.getPartialAxes() : ArrayRef<int64_t>();
    };
    for (int64_t index : group) {
      RankedTensorType first = tensorOf(parameter(forward, group.front()));
      RankedTensorType type = tensorOf(parameter(forward, index));
      // One all-reduce must serve them all, and one matrix hold them.
      if (first.getDimSize(1) == type.getDimSize(1) && first.getElementType() == type.getElementType() &&
          partialAxesOf(group.front()) == partialAxesOf(index))
        kept.push_back(index);
    }
    if (kept.size() > 1)
      groups.push_back(kept);
  }
}

Value LayerFusion::concat(ArrayRef<Value> values, int64_t dim, bool isParameters) {
  int64_t extent = 0;
  for (Value value : values)
    extent += tensorOf(value).getDimSize(dim);
  auto op =
      ConcatOp::create(builder, values.front().getLoc(), withDim(tensorOf(values.front()), dim, extent), values, dim);
  if (isParameters)
    op->setAttr(dist::kAdjacentAttrName, builder.getUnitAttr());
  return op;
}

Value LayerFusion::parametersOf(dist::BodyOp body, const Group &group) {
  return concat(llvm::map_to_vector(group, [&](int64_t index) -> Value { return parameter(body, index); }),
                /*dim=*/0, /*isParameters=*/true);
}

/// Pieces of `whole` of the types of `parts`, along `dim`.
SmallVector<Value> LayerFusion::slicesOf(Value whole, ArrayRef<Value> parts, int64_t dim) {
  SmallVector<Value> slices;
  SmallVector<int64_t> offsets(tensorOf(whole).getRank(), 0);
  for (Value part : parts) {
    auto type = withDim(tensorOf(whole), dim, tensorOf(part).getDimSize(dim));
    slices.push_back(SliceOp::create(builder, part.getLoc(), type, whole, offsets));
    offsets[dim] += type.getDimSize(dim);
  }
  return slices;
}

/// Also what backward recomputes.
void LayerFusion::fuseForward(dist::BodyOp body, const Group &group) {
  llvm::MapVector<std::pair<Value, Attribute>, SmallVector<EinsumOp>> byOperand;
  for (int64_t index : group)
    for (Operation *user : parameter(body, index).getUsers())
      if (auto op = dyn_cast<EinsumOp>(user))
        if (op.getRhs() == parameter(body, index) && op.getSubscripts()[2].contains(op.getSubscripts()[1].front()))
          byOperand[{op.getLhs(), op.getEquationAttr()}].push_back(op);
  for (auto &[key, products] : byOperand) {
    if (products.size() != group.size())
      continue;
    EinsumOp first = *llvm::min_element(products, [](EinsumOp a, EinsumOp b) { return a->isBeforeInBlock(b); });
    builder.setInsertionPoint(first);
    Value weights = parametersOf(body, group);
    SmallVector<Value> results = llvm::map_to_vector(products, [](EinsumOp op) -> Value { return op.getResult(); });
    int64_t dim = tensorOf(results.front()).getRank() - 1, extent = tensorOf(weights).getDimSize(0);
    auto type = withDim(tensorOf(results.front()), dim, extent);
    Value whole = EinsumOp::create(builder, first.getLoc(), type, key.first, weights, first.getEquation());
    for (auto [product, slice] : llvm::zip_equal(products, slicesOf(whole, results, dim))) {
      product.getResult().replaceAllUsesWith(slice);
      product.erase();
    }
    numFused += products.size() - 1;
  }
}

/// One concatenation serves input and weight gradient.
Value LayerFusion::gradientConcat(ArrayRef<Value> gradients, int64_t dim) {
  for (Operation *user : gradients.front().getUsers())
    if (auto known = dyn_cast<ConcatOp>(user))
      if (static_cast<int64_t>(known.getDim()) == dim && ValueRange(known.getInputs()) == ValueRange(gradients))
        return known;
  Operation *last = nullptr;
  for (Value gradient : gradients) {
    Operation *op = gradient.getDefiningOp();
    if (op && (!last || last->isBeforeInBlock(op)))
      last = op;
  }
  OpBuilder::InsertionGuard guard(builder);
  if (last)
    builder.setInsertionPointAfter(last);
  else
    builder.setInsertionPointToStart(&backward.getBody().front());
  return concat(gradients, dim, /*isParameters=*/false);
}

void LayerFusion::fuseInputGradient(const Group &group) {
  SmallVector<EinsumOp> products;
  graph::SumOp sum;
  for (int64_t index : group)
    for (Operation *user : parameter(backward, index).getUsers()) {
      auto op = dyn_cast<EinsumOp>(user);
      if (!op || op.getRhs() != parameter(backward, index) || !op.getResult().hasOneUse())
        continue;
      auto [lhs, rhs, result] = op.getSubscripts();
      auto total = dyn_cast<graph::SumOp>(*op.getResult().user_begin());
      bool contractsRows = lhs.back() == rhs.front() && !result.contains(rhs.front());
      if (!total || !contractsRows || (sum && total != sum))
        continue;
      sum = total;
      products.push_back(op);
    }
  if (products.size() != group.size() || llvm::any_of(products, [&](EinsumOp op) {
        return op.getEquation() != products.front().getEquation() ||
               op.getResult().getType() != products.front().getResult().getType();
      }))
    return;
  SmallVector<Value> gradients = llvm::map_to_vector(products, [](EinsumOp op) -> Value { return op.getLhs(); });
  Value whole = gradientConcat(gradients, tensorOf(gradients.front()).getRank() - 1);
  builder.setInsertionPoint(sum);
  Value result = EinsumOp::create(builder, products.front().getLoc(), products.front().getResult().getType(), whole,
                                  parametersOf(backward, group), products.front().getEquation());
  SmallVector<Value> terms = {result};
  for (Value term : sum.getInputs())
    if (!llvm::is_contained(products, term.getDefiningOp()))
      terms.push_back(term);
  Value replacement =
      terms.size() == 1 ? result : graph::SumOp::create(builder, sum.getLoc(), sum.getType(), terms).getResult();
  sum.getResult().replaceAllUsesWith(replacement);
  sum.erase();
  for (EinsumOp product : products)
    product.erase();
  numFused += products.size() - 1;
}

void LayerFusion::fuseWeightGradient(const Group &group) {
  if (!layer.getGradient(group.front()))
    return;
  Operation *terminator = backward.getBody().front().getTerminator();
  SmallVector<unsigned> trained = layer.getTrained();
  auto gradientOf = [&](int64_t index) -> OpOperand & {
    int64_t fromEnd = trained.end() - llvm::find(trained, index);
    return terminator->getOpOperand(terminator->getNumOperands() - fromEnd);
  };
  SmallVector<EinsumOp> products;
  for (int64_t index : group)
    if (auto op = gradientOf(index).get().getDefiningOp<EinsumOp>(); op && op.getResult().hasOneUse())
      products.push_back(op);
  if (products.size() != group.size())
    return;
  EinsumOp first = products.front();
  auto [lhs, rhs, result] = first.getSubscripts();
  bool isOuter = result.front() == lhs.back() && !rhs.contains(lhs.back());
  if (!isOuter || llvm::any_of(products, [&](EinsumOp op) {
        return op.getEquation() != first.getEquation() || op.getRhs() != first.getRhs();
      }))
    return;
  SmallVector<Value> gradients = llvm::map_to_vector(products, [](EinsumOp op) -> Value { return op.getLhs(); });
  Value whole = gradientConcat(gradients, tensorOf(gradients.front()).getRank() - 1);
  EinsumOp last = *llvm::max_element(products, [](EinsumOp a, EinsumOp b) { return a->isBeforeInBlock(b); });
  builder.setInsertionPointAfter(last);
  int64_t extent = tensorOf(whole).getShape().back();
  Value all = EinsumOp::create(builder, first.getLoc(), withDim(tensorOf(first.getResult()), 0, extent), whole,
                               first.getRhs(), first.getEquation());
  all.getDefiningOp()->setAttr(dist::kAdjacentAttrName, builder.getUnitAttr());
  SmallVector<Value> results = llvm::map_to_vector(products, [](EinsumOp op) -> Value { return op.getResult(); });
  for (auto [index, slice] : llvm::zip_equal(group, slicesOf(all, results, /*dim=*/0)))
    gradientOf(index).set(slice);
  for (EinsumOp product : products)
    product.erase();
  numFused += products.size() - 1;
}

/// Slices that are all kept for backward are kept as the whole: one buffer, written in place.
void LayerFusion::saveWhole() {
  Operation *terminator = forward.getBody().front().getTerminator();
  int64_t numSaved = layer.getNumSaved(), firstSaved = terminator->getNumOperands() - numSaved;
  Block &backwardBlock = backward.getBody().front();
  int64_t firstArgument = backwardBlock.getNumArguments() - numSaved;
  llvm::MapVector<Value, SmallVector<int64_t>> bySource; // whole → indices of saved values
  for (int64_t i = 0; i < numSaved; ++i)
    if (auto slice = terminator->getOperand(firstSaved + i).getDefiningOp<SliceOp>())
      if (slice.getX().getDefiningOp())
        bySource[slice.getX()].push_back(i);
  llvm::BitVector gone(numSaved);
  for (auto &[whole, indices] : bySource) {
    int64_t kept = 0;
    for (int64_t i : indices)
      kept += tensorOf(terminator->getOperand(firstSaved + i)).getNumElements();
    if (indices.size() < 2 || kept != tensorOf(whole).getNumElements())
      continue;
    // The first index holds the whole from now on.
    BlockArgument argument = backwardBlock.getArgument(firstArgument + indices.front());
    builder.setInsertionPointToStart(&backwardBlock);
    Value placeholder = backwardBlock.addArgument(whole.getType(), argument.getLoc());
    for (int64_t i : indices) {
      auto slice = terminator->getOperand(firstSaved + i).getDefiningOp<SliceOp>();
      Value piece = SliceOp::create(builder, slice.getLoc(), slice.getType(), placeholder, slice.getOffsets());
      backwardBlock.getArgument(firstArgument + i).replaceAllUsesWith(piece);
    }
    argument.setType(whole.getType());
    placeholder.replaceAllUsesWith(argument);
    backwardBlock.eraseArgument(backwardBlock.getNumArguments() - 1);
    terminator->setOperand(firstSaved + indices.front(), whole);
    for (int64_t i : ArrayRef(indices).drop_front())
      gone.set(i);
  }
  for (int64_t i = numSaved - 1; i >= 0; --i)
    if (gone.test(i)) {
      terminator->eraseOperand(firstSaved + i);
      backwardBlock.eraseArgument(firstArgument + i);
    }
  layer.setNumSaved(numSaved - gone.count());
  // Saved arguments and results are the last ones and carry no attributes.
  auto resized = [](ArrayAttr attributes, size_t size) {
    return attributes && attributes.size() > size
               ? ArrayAttr::get(attributes.getContext(), attributes.getValue().take_front(size))
               : attributes;
  };
  if (ArrayAttr attributes = resized(backward.getArgAttrsAttr(), backwardBlock.getNumArguments()))
    backward.setArgAttrsAttr(attributes);
  if (ArrayAttr attributes = resized(forward.getResAttrsAttr(), terminator->getNumOperands()))
    forward.setResAttrsAttr(attributes);
  for (dist::BodyOp body : {forward, backward}) {
    Block &block = body.getBody().front();
    body.setFunctionType(builder.getFunctionType(block.getArgumentTypes(), block.getTerminator()->getOperandTypes()));
  }
}

unsigned LayerFusion::run() {
  findGroups();
  for (const Group &group : groups) {
    fuseForward(forward, group);
    if (!backward)
      continue;
    fuseForward(backward, group);
    fuseInputGradient(group);
    fuseWeightGradient(group);
  }
  if (backward)
    saveWhole();
  if (groups.empty())
    return numFused;
  SmallVector<Attribute> adjacent;
  for (const Group &group : groups)
    adjacent.push_back(builder.getDenseI64ArrayAttr(group));
  layer->setAttr(dist::kAdjacentAttrName, builder.getArrayAttr(adjacent));
  return numFused;
}

namespace {
struct FuseParameters : galvatron::impl::FuseParametersPassBase<FuseParameters> {
  using Base::Base;

  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    for (auto layer : getOperation().getOps<dist::LayerOp>()) {
      auto forward = symbols.lookup<dist::BodyOp>(layer.getForward());
      auto backward = layer.getBackward() ? symbols.lookup<dist::BodyOp>(*layer.getBackward()) : dist::BodyOp();
      if (forward && !layer->hasAttr(dist::kAdjacentAttrName))
        numFused += LayerFusion(layer, forward, backward).run();
    }
  }
};
} // namespace
