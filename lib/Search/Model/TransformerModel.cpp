//===- TransformerModel.cpp - Costs of a Transformer by its shape ---------===//

#include "galvatron/Search/Model/TransformerModel.h"

#include "TransformerRules.h"

#include <algorithm>
#include <cmath>

namespace galvatron::search {

namespace {
/// Names of ShapeCosts::recomputableValues, by bit.
enum Value { kNormValues, kProjections, kAttention, kInner, kActivation, kValues };
const char *const kValueNames[kValues] = {"norms", "qkv", "attention", "mlp_inner", "mlp_activation"};
} // namespace

std::vector<Layer> transformerLayers(std::int64_t blocks) {
  std::vector<Layer> layers = {{"embedding", "embedding", LayerRole::Embedding}};
  for (std::int64_t block = 0; block < blocks; ++block)
    layers.push_back({"layers." + std::to_string(block), "layer", LayerRole::Block});
  layers.push_back({"head", "head", LayerRole::Head});
  return layers;
}

namespace {
std::optional<Error> expectDivides(std::int64_t whole, int parts, const char *what) {
  if (whole % parts)
    return Error{"degree " + std::to_string(parts) + " does not divide the " + std::to_string(whole) + " " + what};
  return std::nullopt;
}

/// The degrees of `query` must divide what they cut.
std::optional<Error> expectDegreesFit(const TransformerShape &shape, const CostQuery &query) {
  const Strategy &s = query.strategy;
  if (s.ep > 1 && !shape.experts)
    return Error{"ep " + std::to_string(s.ep) + " needs a model with experts"};
  std::optional<Error> refusal;
  if (query.layer->role == LayerRole::Block) {
    refusal = expectDivides(shape.heads, s.tp * s.ulysses, "heads");
    if (!refusal)
      refusal = expectDivides(shape.ffn, s.tp, "columns of the feed-forward layer");
    if (!refusal && shape.experts)
      refusal = expectDivides(shape.experts, s.ep, "experts");
  } else {
    refusal = expectDivides(shape.vocab, s.tp, "words of the vocabulary");
  }
  return refusal ? refusal : expectDivides(shape.sequence, s.sequenceCut(), "positions");
}

/// What a device computes, moves and holds of one layer in one micro-batch, forward.
struct LayerWork {
  LayerWork(const TransformerShape &shape, const DeviceKind &device, const CostQuery &query);

  Body body;
  double flops = 0;   ///< of products with parameters
  double traffic = 0; ///< bytes that elementwise work reads and writes
  int kernels = 0;
  double attention = 0; ///< seconds
  double saved = 0, scratch = 0;
  double weightSaved = 0;        ///< what gradients of weights read: products' operands, gradients of their results
  double again = 0, dropped = 0; ///< seconds and bytes of values recomputed
  double input = 0;              ///< bytes of the layer's input as it lies between layers
  double local = 0;              ///< bytes of the boundary value before tp cuts it

private:
  void addBlock();
  void addAttention();
  void addValues(double top);
  void addEmbedding();
  void addHead();
  void drop(Value value, double bytes, double products, double bytesMoved);

  const TransformerShape &shape;
  const DeviceKind &device;
  const Strategy &s;
  double h, e, v, f; ///< hidden size, bytes of an element, words, columns of the feed-forward layer
  double width;      ///< of keys, or of values
  /// Tokens outside of tensor regions; those times width in them; under Megatron-SP, those of either.
  double here, inside, cut;
};
} // namespace

LayerWork::LayerWork(const TransformerShape &shape, const DeviceKind &device, const CostQuery &query)
    : shape(shape), device(device), s(query.strategy), h(double(shape.hidden)), e(shape.bytesPerElement),
      v(double(shape.vocab)), f(double(shape.ffn)),
      width(shape.heads ? h / double(shape.heads) * double(shape.kvHeads) : h) {
  LayerRole role = query.layer->role;
  double samples = double(query.microBatchSamples) / query.dp;
  double tokens = samples * double(shape.sequence); // of one replica
  here = tokens / (double(s.ulysses) * s.cp);
  inside = here / s.tp;
  cut = s.sequenceParallel ? inside : here;
  local = here * h * e;
  input = e * cut * h;
  body = {.boundary = tokens * h * e,
          .keysValues = 2 * tokens * width * e,
          .attention = role == LayerRole::Block,
          .bytesPerElement = shape.bytesPerElement};
  if (role == LayerRole::Block)
    addBlock();
  else if (role == LayerRole::Embedding)
    addEmbedding();
  else
    addHead();
}

void LayerWork::addBlock() {
  // A token passes `top` of the experts; without experts, the one MLP.
  double top = shape.experts ? double(shape.expertsPerToken) : 1, experts = std::max(1.0, double(shape.experts));
  double router = shape.experts ? h * experts : 0, mlp = shape.gatedMlp ? 3 : 2;
  body.expertParameters = shape.experts ? experts * mlp * h * f : 0;
  body.parameters = 2 * h * h + 2 * h * width + experts * mlp * h * f + 2 * h + router;
  body.tensorForward = body.tensorBackward = 2;
  body.routed = here * top * h * e / (s.sequenceParallel ? s.tp : 1);
  double projections = 2 * h * h + 2 * h * width, inner = top * mlp * h * f;
  flops = 2 * inside * (projections + inner) + 2 * here * router;
  addAttention();
  // Norms, residual sums and rope read and write once; so does the
  // activation between the products, and tokens on their way to experts.
  double moved = shape.experts ? 4 * cut * top * h : 0;
  traffic = e * (cut * h * 8 + inside * ((h + width) * 2 + top * (mlp + 1) * f) + moved);
  kernels = shape.experts ? 20 : 14;
  // Input, both norms' results, middle residual; q, k, v, attention's result;
  // the feed-forward's inner values; what experts were given.
  saved = e * (cut * h * 4 + inside * (2 * h + 2 * width + top * mlp * f) + moved / 4);
  // Of each product its operand and the gradient of its result: those of norms' results, q, k, v, attention's result,
  // the residuals, the inner values and what experts were given. As much as forward saves.
  weightSaved = saved;
  if (s.keepGathered)
    weightSaved += e * (here - cut) * h * 2;
  if (s.keepGathered) // norms' results whole, keys and values of all positions
    saved += e * ((here - cut) * h * 2 + inside * 2 * width * (s.cp - 1));
  scratch = e * (inside * (2 * h + 2 * top * f) + here * h * 2);
  addValues(top);
}

/// Causal: half of s x s, twice.
void LayerWork::addAttention() {
  attention = 2 * inside * double(shape.sequence) * h / device.matmulFlopsPerSecond;
  if (device.attentionPairsPerSecond > 0) // of each head, half of s x s
    attention =
        std::max(attention, inside * double(shape.sequence) / 2 * double(std::max<std::int64_t>(shape.heads, 1)) /
                                device.attentionPairsPerSecond);
}

/// What each value is, and what recomputing it takes: its products, or reading and writing it. Norms feed what follows,
/// so all count on the input.
void LayerWork::addValues(double top) {
  drop(kNormValues, e * cut * h * 2, 0, e * cut * h * 4);
  drop(kProjections, e * inside * (h + 2 * width), 2 * inside * (h * h + 2 * h * width), 0);
  drop(kAttention, e * inside * h, attention * device.matmulFlopsPerSecond, 0);
  double columns = shape.gatedMlp ? 2 : 1; // gate and up, or up alone
  drop(kInner, e * inside * top * columns * f, 2 * inside * top * columns * h * f, 0);
  drop(kActivation, e * inside * top * f, 0, e * inside * top * f * (columns + 1));
}

void LayerWork::drop(Value value, double bytes, double products, double bytesMoved) {
  if (!(s.values >> value & 1))
    return;
  dropped += bytes;
  again += products / device.matmulFlopsPerSecond + bytesMoved / device.memoryBytesPerSecond + device.launchSeconds;
}

void LayerWork::addEmbedding() {
  body.parameters = v * h;
  body.tensorForward = 1;
  traffic = e * here * h * 3;
  kernels = 2;
  saved = 8 * here; // the words
  scratch = e * here * h;
}

void LayerWork::addHead() {
  body.parameters = v * h + h;
  body.tensorBackward = 1;
  flops = 2 * inside * v * h;
  traffic = e * cut * h * 3 + 4 * inside * v * 3;
  kernels = 5;
  saved = e * cut * h * 2 + 4 * inside * v;   // logits in fp32
  weightSaved = e * cut * h + 4 * inside * v; // the norm's result, the gradient of logits
  if (s.keepGathered) {
    saved += e * (here - cut) * h;
    weightSaved += e * (here - cut) * h;
  }
  scratch = 4 * inside * v + e * here * h;
}

Result<LayerCost> ShapeCosts::cost(const CostQuery &query) const {
  if (auto refusal = expectDegreesFit(shape, query))
    return *refusal;
  const Strategy &s = query.strategy;
  LayerWork work(shape, device, query);
  LayerCost cost;
  double compute = work.flops / device.matmulFlopsPerSecond + work.traffic / device.memoryBytesPerSecond +
                   work.kernels * device.launchSeconds;
  cost.forwardSeconds = compute + work.attention;
  // Two products for each one of forward; elementwise work reads twice.
  cost.backwardSeconds = 2 * compute + kBackwardAttention * work.attention;
  // One of the two is the weight's.
  cost.weightSeconds = work.flops / device.matmulFlopsPerSecond;
  cost.savedBytes = wholeBytes(work.saved);
  cost.weightSavedBytes = wholeBytes(work.weightSaved);
  cost.scratchBytes = wholeBytes(work.scratch);
  addTensor(cost, s, work.body, work.local);
  addSequence(cost, s, work.body, work.body.boundary);
  addExperts(cost, s, work.body);
  if (s.recompute) {
    repeatForward(cost);
    cost.scratchBytes += cost.savedBytes;
    cost.savedBytes = wholeBytes(work.input);
  } else if (s.values) {
    cost.recomputeSeconds = work.again;
    cost.scratchBytes += wholeBytes(work.dropped);
    cost.savedBytes -= std::min(cost.savedBytes, std::int64_t(std::min(work.dropped, 1e15)));
  }
  addStates(cost, query, work.body, device.memoryBytesPerSecond);
  double h = double(shape.hidden), v = double(shape.vocab);
  cost.boundaryBytes =
      wholeBytes(double(query.microBatchSamples) * double(shape.sequence) * h * double(shape.bytesPerElement));
  if (query.layer->role == LayerRole::Head && shape.tiedEmbedding) {
    // The matrix is the embedding's; it is held twice only on two stages.
    cost.tiedStateBytes = std::int64_t(double(cost.stateBytes) * (v * h) / (v * h + h));
  }
  return cost;
}

std::vector<std::string> ShapeCosts::recomputableValues(const Layer &layer) const {
  if (layer.role != LayerRole::Block)
    return {};
  return {std::begin(kValueNames), std::end(kValueNames)};
}

} // namespace galvatron::search
