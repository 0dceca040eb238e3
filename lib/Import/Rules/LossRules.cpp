// Cross entropy, and losses of each element by their formulas. Logits keep the shape they have ([B·S, V] where the
// model flattens them). Whether a mean divides by a number that labels decide is not asked here: `form-totals` finds
// such sums, however they are written.
#include "Formula.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphShapes.h"

using namespace galvatron;
using namespace galvatron::importer;
using Results = llvm::SmallVector<Value, 1>;

namespace {

// at::Reduction
constexpr int64_t kNone = 0, kMean = 1, kSum = 2;

/// A loss as torch.nn.functional.cross_entropy defines it, with classes along the logits' last dimension.
struct CrossEntropy {
  Call &call;
  Tensor logits, labels;
  Formula f{call, logits.type};
  int64_t ignored = call.integer("ignore_index", -100), reduction = call.integer("reduction", kMean);
  double smoothing = call.number("label_smoothing", 0);

  Tensor sumOfAll(const Tensor &x) const {
    return call.importer.reshape(f.sum(x, llvm::to_vector(llvm::seq<int64_t>(0, x.rank()))), {});
  }
  Tensor sumOfClasses(const Tensor &x) const {
    return call.importer.reshape(f.sum(x, {x.rank() - 1}), ShapeRef(x.shape).drop_back());
  }

  /// Each label's loss, or their mean where `shape` is that of a scalar.
  Tensor op(ShapeRef shape) const {
    auto loss = graph::CrossEntropyOp::create(call.emitter.builder, call.emitter.location,
                                              call.emitter.type(logits.type, shape), call.importer.force(logits),
                                              call.importer.force(labels), /*count=*/mlir::Value(), uint64_t(ignored));
    if (loss.isMean() && loss.getNumValidLabels() == 0)
      throw ImportError("none of the labels " + describe(labels.shape) + " is left to predict; pass a longer --seq");
    return Tensor::of(loss, logits.type);
  }

  Tensor logSumExp() const {
    mlir::Value x = call.importer.force(logits);
    return Tensor::of(graph::LogSumExpOp::create(call.emitter.builder, call.emitter.location,
                                                 call.emitter.type(logits.type, labels.shape), x),
                      logits.type);
  }

  /// What a label counts for: nothing where it is ignored, else its class' weight.
  Tensor weights(const Tensor &rightful, const std::optional<Tensor> &classes) const {
    Tensor counted = call.importer.convert(rightful, logits.type);
    if (!classes)
      return counted;
    Importer &importer = call.importer;
    Tensor zero = Tensor::of(call.expressions.splat(labels.type, {}, 0));
    Tensor safe = importer.elementwise(Operator::Select, {rightful, labels, zero}, labels.type, labels.type);
    mlir::Value table = importer.force(importer.reshape(*classes, {classes->shape[0], 1}));
    Shape shape = labels.shape;
    shape.push_back(1);
    mlir::Value found =
        graph::EmbeddingOp::create(call.emitter.builder, call.emitter.location, call.emitter.type(logits.type, shape),
                                   table, importer.force(safe), uint64_t(-1));
    return f.multiply(importer.reshape(Tensor::of(found, logits.type), labels.shape), counted);
  }

  /// (1 - smoothing) · weight[label] · loss + smoothing · the mean over classes of weight · -log p.
  Tensor weighted() const {
    Importer &importer = call.importer;
    std::optional<Tensor> classes;
    if (call.has("weight") && call.tensor("weight").shape != Shape{logits.shape.back()})
      throw ImportError("expects a weight for each of " + std::to_string(logits.shape.back()) + " classes, but got " +
                        describe(call.tensor("weight").shape));
    if (call.has("weight"))
      classes = importer.convert(call.tensor("weight"), logits.type);
    Tensor index = Tensor::of(call.expressions.splat(labels.type, {}, double(ignored)));
    Tensor rightful = importer.elementwise(Operator::NotEqual, {labels, index}, labels.type, ElementType::Bool);
    Tensor counted = weights(rightful, classes), rows = op(labels.shape);
    if (classes)
      rows = f.multiply(rows, counted);
    if (smoothing != 0) {
      double number = double(logits.shape.back());
      Tensor sum = classes ? sumOfAll(*classes) : f.number(number);
      Tensor scores = sumOfClasses(classes ? f.multiply(logits, *classes) : logits);
      Tensor even = f.subtract(f.multiply(logSumExp(), sum), scores);
      even = f.multiply(even, importer.convert(rightful, logits.type));
      rows = f.add(f.multiply(rows, f.number(1 - smoothing)), f.multiply(even, f.number(smoothing / number)));
    }
    if (reduction == kNone)
      return rows;
    Tensor total = sumOfAll(rows);
    return reduction == kSum ? total : f.divide(total, sumOfAll(counted));
  }

  /// Labels that are probabilities: Σ p · -log p̂ of each row; their mean divides by the number of rows.
  Tensor ofProbabilities() const {
    if (call.has("weight") || smoothing != 0)
      throw ImportError("labels that are probabilities with class weights or smoothing are unsupported; fold both "
                        "into the probabilities");
    Tensor p = call.importer.convert(labels, logits.type);
    CrossEntropy rowsOnly = *this;
    rowsOnly.labels.shape.pop_back();
    Shape column = rowsOnly.labels.shape;
    column.push_back(1);
    Tensor logs = f.subtract(call.importer.reshape(rowsOnly.logSumExp(), column), logits);
    Tensor rows = sumOfClasses(f.multiply(p, logs));
    if (reduction == kNone)
      return rows;
    Tensor total = sumOfAll(rows);
    return reduction == kSum ? total : f.divide(total, f.number(double(numElements(rows.shape))));
  }

  Tensor loss() const {
    if (!isFloat(logits.type) || logits.rank() < 1)
      throw ImportError("expects logits in floating point with a dimension of classes, but got " +
                        std::string(describe(logits.type)) + " " + describe(logits.shape));
    if (isFloat(labels.type) && labels.rank() < 1)
      throw ImportError("expects labels of rows, but got a single number");
    if (isFloat(labels.type))
      return ofProbabilities();
    if (ShapeRef(logits.shape).drop_back() != ShapeRef(labels.shape))
      throw ImportError("logits " + describe(logits.shape) + " do not fit labels " + describe(labels.shape));
    if (call.has("weight") || smoothing != 0)
      return weighted();
    if (reduction == kMean)
      return op({});
    Tensor rows = op(labels.shape);
    return reduction == kNone ? rows : sumOfAll(rows);
  }
};

/// The class dimension is the second; `graph.cross_entropy` has it last.
Value crossEntropyOf(Call &call, Tensor logits, Tensor labels) {
  auto classesLast = [&](const Tensor &x) {
    llvm::SmallVector<int64_t> order{0};
    for (int64_t d = 2; d < x.rank(); ++d)
      order.push_back(d);
    order.push_back(1);
    return call.importer.transpose(x, order);
  };
  if (isFloat(labels.type) && labels.rank() > 2)
    labels = classesLast(labels);
  if (logits.rank() > 2)
    logits = classesLast(logits);
  return CrossEntropy{call, logits, labels}.loss();
}

Results crossEntropy(Call &call) { return {crossEntropyOf(call, call.tensor("self"), call.tensor("target"))}; }

Results negativeLogLikelihood(Call &call) {
  Tensor input = call.tensor("self");
  // Rows that were flattened meanwhile are flattened logits.
  auto view = input.lazy ? graph::ReshapeOp() : input.data.getDefiningOp<graph::ReshapeOp>();
  if (auto whole = view ? call.importer.logSoftmaxSources.find(view.getX()) : call.importer.logSoftmaxSources.end();
      whole != call.importer.logSoftmaxSources.end()) {
    auto [logits, dim] = whole->second;
    Shape shape = shapeOf(logits);
    if (dim == int64_t(shape.size()) - 1 && input.rank() == 2 && input.shape[1] == shape.back())
      return {crossEntropyOf(call, call.importer.reshape(Tensor::of(logits, input.type), input.shape),
                             call.tensor("target"))};
  }
  auto source = call.importer.logSoftmaxSources.find(input.data);
  if (input.lazy || source == call.importer.logSoftmaxSources.end())
    throw ImportError("expects the result of log_softmax; use cross_entropy on the logits");
  auto [logits, dim] = source->second;
  if (dim != std::min<int64_t>(1, input.rank() - 1))
    throw ImportError("expects the log_softmax of the classes, but got one over dimension " + std::to_string(dim) +
                      " of " + describe(input.shape));
  return {crossEntropyOf(call, Tensor::of(logits, input.type), call.tensor("target"))};
}

//===----------------------------------------------------------------------===//
// Losses of each element
//===----------------------------------------------------------------------===//

/// Operands of one shape and floating type, and the reduction of what is computed of them.
struct Elements {
  Call &call;
  Tensor x, y;
  Formula f;

  explicit Elements(Call &call)
      : call(call), x(call.tensor("self")), y(call.tensor("target")), f{call, isFloat(x.type) ? x.type : y.type} {}

  Results reduced(const Tensor &elements) const {
    int64_t reduction = call.integer("reduction", kMean);
    if (reduction == kNone)
      return {Value(elements)};
    auto all = llvm::to_vector(llvm::seq<int64_t>(0, elements.rank()));
    Tensor sum = call.importer.reshape(f.sum(elements, all), {});
    return {Value(reduction == kSum ? sum : f.multiply(sum, 1 / double(numElements(elements.shape))))};
  }
};

Results squaredError(Call &call) {
  Elements e(call);
  Tensor d = e.f.subtract(e.x, e.y);
  return e.reduced(e.f.multiply(d, d));
}

Results absoluteError(Call &call) {
  Elements e(call);
  return e.reduced(e.f.absolute(e.f.subtract(e.x, e.y)));
}

/// Squares up to a distance, and from there the tangent: both losses differ by the factor `scale`.
Results squareThenLine(const Elements &e, double distance, double scale) {
  const Formula &f = e.f;
  Tensor d = f.subtract(e.x, e.y), size = f.absolute(d);
  Tensor square = f.multiply(f.multiply(d, d), 0.5 * scale);
  Tensor line = f.multiply(f.subtract(size, f.number(0.5 * distance)), distance * scale);
  return e.reduced(f.choose(f.less(size, f.number(distance)), square, line));
}

Results smoothAbsoluteError(Call &call) {
  double beta = call.number("beta", 1);
  return beta == 0 ? absoluteError(call) : squareThenLine(Elements(call), beta, 1 / beta);
}

Results huber(Call &call) { return squareThenLine(Elements(call), call.number("delta", 1), 1); }

/// (1 - t) x + (1 + (weight - 1) t) log(1 + exp(-x)), where the weight is that of positive examples.
Results binaryCrossEntropyWithLogits(Call &call) {
  Elements e(call);
  const Formula &f = e.f;
  Tensor softplus = f.add(f.softplus(f.negate(f.absolute(e.x)), 20), f(Operator::Relu, {f.negate(e.x)}));
  if (call.has("pos_weight")) {
    Tensor extra = f.subtract(call.tensor("pos_weight"), f.number(1));
    softplus = f.multiply(softplus, f.add(f.multiply(extra, e.y), f.number(1)));
  }
  Tensor loss = f.add(f.multiply(f.subtract(f.number(1), e.y), e.x), softplus);
  if (call.has("weight"))
    loss = f.multiply(loss, call.tensor("weight"));
  return e.reduced(loss);
}

/// t (log t - x), 0 where t is; or of logarithms, exp(t) (t - x).
Results divergence(Call &call) {
  Elements e(call);
  const Formula &f = e.f;
  if (call.flag("log_target", false))
    return e.reduced(f.multiply(f.exponential(e.y), f.subtract(e.y, e.x)));
  Tensor none = f.equal(e.y, f.number(0));
  Tensor logs = f.logarithm(f.choose(none, f.number(1), e.y));
  return e.reduced(f.multiply(e.y, f.subtract(logs, e.x)));
}

} // namespace

void galvatron::importer::addLossRules(RuleTable &table) {
  table.add("aten::cross_entropy_loss", crossEntropy);
  table.add("aten::mse_loss", squaredError);
  table.add("aten::l1_loss", absoluteError);
  table.add("aten::smooth_l1_loss", smoothAbsoluteError);
  table.add("aten::huber_loss", huber);
  table.add("aten::binary_cross_entropy_with_logits", binaryCrossEntropyWithLogits);
  table.add("aten::kl_div", divergence);
  table.add("aten::nll_loss", negativeLogLikelihood);
  table.add("aten::nll_loss_nd", negativeLogLikelihood);
}
