// Norms, softmax and dropout.
#include "Formula.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphReductions.h"

#include <limits>

using namespace galvatron;
using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

/// `graph.norm` works over one last dimension; several normalised dimensions are flattened into one.
Results norm(Call &call, graph::NormKind kind, double epsilon) {
  Importer &importer = call.importer;
  mlir::OpBuilder &builder = call.emitter.builder;
  Tensor x = call.tensor("input");
  Shape normalized = call.integers("normalized_shape");
  if (normalized.size() > x.shape.size() || ShapeRef(x.shape).take_back(normalized.size()) != ShapeRef(normalized))
    throw ImportError("expects normalized_shape to be the last dimensions of " + describe(x.shape) + ", but got " +
                      describe(normalized));
  Shape outer(x.shape.begin(), x.shape.end() - normalized.size()), flat = outer;
  flat.push_back(numElements(normalized));
  auto optional = [&](llvm::StringRef name) -> mlir::Value {
    return call.has(name) ? importer.force(importer.reshape(call.tensor(name), {flat.back()})) : mlir::Value();
  };
  mlir::Value input = importer.force(importer.reshape(x, flat)), weight = optional("weight"), bias = optional("bias");
  mlir::Type statistic = call.emitter.type(x.type, outer);
  auto op = graph::NormOp::create(builder, call.emitter.location, input.getType(), statistic, statistic, input, weight,
                                  bias, kind, llvm::APFloat(epsilon), llvm::APFloat(0.0));
  return {Value(importer.reshape(Tensor::of(op.getResult(), x.type), x.shape))};
}

Results layerNorm(Call &call) { return norm(call, graph::NormKind::Layer, call.number("eps", 1e-5)); }

Results rmsNorm(Call &call) {
  return norm(call, graph::NormKind::Rms, call.number("eps", std::numeric_limits<float>::epsilon()));
}

/// The channels of x [N, C, …] in groups, each with all its positions normalised as one; then a weight and a bias a
/// channel.
Results normOfGroups(Call &call, const Tensor &x, int64_t groups) {
  Importer &importer = call.importer;
  mlir::OpBuilder &builder = call.emitter.builder;
  if (x.rank() < 2 || groups <= 0 || x.shape[1] % groups != 0 || numElements(x.shape) == 0)
    throw ImportError("expects [samples, channels, ...] with channels in " + std::to_string(groups) +
                      " equal groups, but got " + describe(x.shape));
  Shape flat{x.shape[0], groups, numElements(x.shape) / (x.shape[0] * groups)};
  mlir::Value input = importer.force(importer.reshape(x, flat));
  mlir::Type statistic = call.emitter.type(x.type, ShapeRef(flat).drop_back());
  auto op = graph::NormOp::create(builder, call.emitter.location, input.getType(), statistic, statistic, input,
                                  mlir::Value(), mlir::Value(), graph::NormKind::Layer,
                                  llvm::APFloat(call.number("eps", 1e-5)), llvm::APFloat(0.0));
  Tensor result = importer.reshape(Tensor::of(op.getResult(), x.type), x.shape);
  Shape channels(x.rank(), 1);
  channels[1] = x.shape[1];
  for (auto [name, operation] : {std::pair("weight", Operator::Multiply), std::pair("bias", Operator::Add)})
    if (call.has(name))
      result = importer.elementwise(operation, {result, importer.reshape(call.tensor(name), channels)}, x.type, x.type);
  return {Value(result)};
}

Results groupNorm(Call &call) { return normOfGroups(call, call.tensor("input"), call.integer("num_groups")); }

Results instanceNorm(Call &call) {
  Tensor x = call.tensor("input");
  if (!call.flag("use_input_stats", true) || call.has("running_mean") || call.has("running_var"))
    throw ImportError("keeps running statistics, which is unsupported; use track_running_stats=False");
  return normOfGroups(call, x, x.rank() < 2 ? 1 : x.shape[1]);
}

/// By the statistics that the module has kept, each channel is scaled and shifted.
Results batchNorm(Call &call) {
  if (call.flag("training", true) || !call.has("running_mean") || !call.has("running_var"))
    throw ImportError("normalises over the samples of a micro-batch, so that the result depends on the plan; use "
                      "layer_norm or group_norm, or call eval() on the submodule");
  Tensor x = call.tensor("input");
  if (x.rank() < 1)
    throw ImportError("expects channels, but got a single number");
  Formula f{call, x.type};
  int64_t dim = std::min<int64_t>(1, x.rank() - 1);
  Shape channels(x.rank(), 1);
  channels[dim] = x.shape[dim];
  auto perChannel = [&](llvm::StringRef name) { return call.importer.reshape(call.tensor(name), channels); };
  Tensor deviation = f.squareRoot(f.add(perChannel("running_var"), f.number(call.number("eps", 1e-5))));
  Tensor y = f.divide(f.subtract(x, perChannel("running_mean")), deviation);
  if (call.has("weight"))
    y = f.multiply(y, perChannel("weight"));
  return {Value(call.has("bias") ? f.add(y, perChannel("bias")) : y)};
}

SmallVector<int64_t> swapWithLast(int64_t dim, int64_t rank) {
  SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq<int64_t>(0, rank));
  std::swap(permutation[dim], permutation.back());
  return permutation;
}

Results softmax(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  x = importer.convert(x, call.elementType("dtype", x.type));
  SmallVector<int64_t> order = swapWithLast(call.dim("dim", x.rank()), x.rank());
  mlir::Value input = importer.force(importer.transpose(x, order));
  mlir::Value y = graph::SoftmaxOp::create(call.emitter.builder, call.emitter.location, input.getType(), input);
  return {Value(importer.transpose(Tensor::of(y, x.type), order))};
}

/// x - max - log Σ exp(x - max); an nll_loss that follows takes the logits instead.
Results logSoftmax(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  x = importer.convert(x, call.elementType("dtype", x.type));
  int64_t dim = call.dim("dim", x.rank());
  Shape kept = x.shape;
  kept[dim] = 1;
  mlir::Value input = importer.force(x);
  auto reduced = [&](mlir::Value value, bool maximum) {
    return importer.reshape(Tensor::of(call.emitter.reduce(value, maximum, {dim}), x.type), kept);
  };
  auto apply = [&](Operator op, llvm::ArrayRef<Tensor> operands) {
    return importer.elementwise(op, operands, x.type, x.type);
  };
  Tensor shifted = apply(Operator::Subtract, {Tensor::of(input, x.type), reduced(input, true)});
  Tensor sum = reduced(importer.force(apply(Operator::Exponential, {shifted})), false);
  Tensor result = apply(Operator::Subtract, {shifted, apply(Operator::Logarithm, {sum})});
  importer.logSoftmaxSources[result.data] = {input, dim};
  return {Value(result)};
}

/// Of an element to be dropped: 0 in evaluation.
double probability(Call &call) {
  double p = call.flag("train", true) ? call.number("p") : 0;
  if (!(p >= 0 && p < 1))
    throw ImportError("expects a dropout probability in [0, 1), but got " + std::to_string(p));
  return p;
}

Results dropout(Call &call) {
  Tensor x = call.tensor(call.has("input") ? "input" : "self");
  double p = probability(call);
  if (p == 0)
    return {Value(x)};
  mlir::Value input = call.importer.force(x);
  mlir::Value y = graph::DropoutOp::create(call.emitter.builder, call.emitter.location, input.getType(), input,
                                           llvm::APFloat(p), uint64_t(call.importer.dropoutId(call.source)));
  return {Value(Tensor::of(y, x.type))};
}

/// dropout1d and its like: one number for each channel of each sample, repeated.
Results featureDropout(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("input");
  double p = probability(call);
  if (p == 0)
    return {Value(x)};
  Shape channels = x.shape;
  for (int64_t d = 2; d < x.rank(); ++d)
    channels[d] = 1;
  mlir::Value ones = call.emitter.splat(x.type, channels, 1);
  mlir::Value kept = graph::DropoutOp::create(call.emitter.builder, call.emitter.location, ones.getType(), ones,
                                              llvm::APFloat(p), uint64_t(importer.dropoutId(call.source)));
  return {Value(importer.elementwise(Operator::Multiply, {x, Tensor::of(kept, x.type)}, x.type, x.type))};
}

} // namespace

void galvatron::importer::addNormalizationRules(RuleTable &table) {
  table.add("aten::layer_norm", layerNorm);
  table.add("aten::rms_norm", rmsNorm);
  for (const char *name : {"aten::softmax", "aten::_softmax"})
    table.add(name, softmax);
  for (const char *name : {"aten::log_softmax", "aten::_log_softmax"})
    table.add(name, logSoftmax);
  table.add("aten::dropout", dropout);
  table.add("aten::feature_dropout", featureDropout);
  table.add("aten::group_norm", groupNorm);
  table.add("aten::instance_norm", instanceNorm);
  table.add("aten::batch_norm", batchNorm);
}
