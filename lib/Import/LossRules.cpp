// Cross entropy. Logits keep the shape they have ([B·S, V] where the model flattens them).
#include "Importer.h"

#include "dialects/Graph/GraphLoss.h"

using namespace galvatron;
using namespace galvatron::importer;
using Results = llvm::SmallVector<Value, 1>;

namespace {

constexpr int64_t kMean = 1; // at::Reduction::Mean

/// The class dimension is the second; `graph.cross_entropy` has it last.
Value crossEntropyOf(Call &call, Tensor logits, const Tensor &labels) {
  Importer &importer = call.importer;
  if (call.has("weight"))
    throw ImportError("class weights are unsupported; leave weight out");
  if (call.integer("reduction", kMean) != kMean)
    throw ImportError("expects reduction 'mean', as losses of micro-batches are averaged; use reduction='mean'");
  if (call.number("label_smoothing", 0) != 0)
    throw ImportError("label smoothing is unsupported; use 0");
  if (isFloat(labels.type))
    throw ImportError("expects labels to be class indices, but got probabilities");
  if (logits.rank() > 2) {
    llvm::SmallVector<int64_t> order{0};
    for (int64_t d = 2; d < logits.rank(); ++d)
      order.push_back(d);
    order.push_back(1);
    logits = importer.transpose(logits, order);
  }
  if (ShapeRef(logits.shape).drop_back() != ShapeRef(labels.shape))
    throw ImportError("logits " + describe(logits.shape) + " do not fit labels " + describe(labels.shape));
  mlir::OpBuilder &builder = call.emitter.builder;
  auto loss = graph::CrossEntropyOp::create(builder, call.emitter.location, call.emitter.type(logits.type, {}),
                                            importer.force(logits), importer.force(labels),
                                            uint64_t(call.integer("ignore_index", -100)));
  if (loss.getNumValidLabels() == 0)
    throw ImportError("none of the labels " + describe(labels.shape) + " is left to predict; pass a longer --seq");
  return Tensor::of(loss, logits.type);
}

Results crossEntropy(Call &call) { return {crossEntropyOf(call, call.tensor("self"), call.tensor("target"))}; }

/// The class dimension of the log_softmax before it was checked by its shape alone: it must be the
/// one nll_loss reads, which a mismatch of extents shows.
Results negativeLogLikelihood(Call &call) {
  Tensor input = call.tensor("self");
  auto source = call.importer.logSoftmaxSources.find(input.data);
  if (input.lazy || source == call.importer.logSoftmaxSources.end())
    throw ImportError("expects the result of log_softmax; use cross_entropy on the logits");
  return {crossEntropyOf(call, Tensor::of(source->second, input.type), call.tensor("target"))};
}

} // namespace

void galvatron::importer::addLossRules(RuleTable &table) {
  table.add("aten::cross_entropy_loss", crossEntropy);
  table.add("aten::nll_loss", negativeLogLikelihood);
  table.add("aten::nll_loss_nd", negativeLogLikelihood);
}
