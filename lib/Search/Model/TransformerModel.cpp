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

Result<LayerCost> ShapeCosts::cost(const CostQuery &query) const {
  const Strategy &s = query.strategy;
  if (s.ep > 1 && !shape.experts)
    return Error{"ep " + std::to_string(s.ep) + " needs a model with experts"};
  LayerRole role = query.layer->role;
  double h = double(shape.hidden), e = shape.bytesPerElement, v = double(shape.vocab);
  double width = shape.heads ? h / double(shape.heads) * double(shape.kvHeads) : h;
  double f = double(shape.ffn), mlp = shape.gatedMlp ? 3 : 2;
  auto divides = [&](std::int64_t whole, int parts, const char *what) -> std::optional<Error> {
    if (whole % parts)
      return Error{"degree " + std::to_string(parts) + " does not divide the " + std::to_string(whole) + " " + what};
    return std::nullopt;
  };
  std::optional<Error> refusal;
  if (role == LayerRole::Block) {
    refusal = divides(shape.heads, s.tp * s.ulysses, "heads");
    if (!refusal)
      refusal = divides(shape.ffn, s.tp, "columns of the feed-forward layer");
    if (!refusal && shape.experts)
      refusal = divides(shape.experts, s.ep, "experts");
  } else {
    refusal = divides(shape.vocab, s.tp, "words of the vocabulary");
  }
  if (!refusal)
    refusal = divides(shape.sequence, s.sequenceCut(), "positions");
  if (refusal)
    return *refusal;

  double samples = double(query.microBatchSamples) / query.dp;
  double tokens = samples * double(shape.sequence);  // of one replica
  double here = tokens / (double(s.ulysses) * s.cp); // outside of tensor regions
  double inside = here / s.tp;                       // times width, in them
  double cut = s.sequenceParallel ? inside : here;   // under Megatron-SP
  LayerCost cost;
  Body body{.boundary = tokens * h * e,
            .keysValues = 2 * tokens * width * e,
            .attention = role == LayerRole::Block,
            .bytesPerElement = shape.bytesPerElement};
  double flops = 0, traffic = 0, saved = 0, scratch = 0, weightFlops = 0, attention = 0;
  int kernels = 0;
  double again = 0, dropped = 0; // seconds and bytes of values recomputed
  if (role == LayerRole::Block) {
    // A token passes `top` of the experts; without experts, the one MLP.
    double top = shape.experts ? double(shape.expertsPerToken) : 1, experts = std::max(1.0, double(shape.experts));
    double router = shape.experts ? h * experts : 0;
    body.expertParameters = shape.experts ? experts * mlp * h * f : 0;
    body.parameters = 2 * h * h + 2 * h * width + experts * mlp * h * f + 2 * h + router;
    body.tensorForward = body.tensorBackward = 2;
    body.routed = here * top * h * e / (s.sequenceParallel ? s.tp : 1);
    // Products with parameters, and seconds of causal attention (half of s x s, twice).
    double projections = 2 * h * h + 2 * h * width, inner = top * mlp * h * f;
    weightFlops = 2 * inside * (projections + inner) + 2 * here * router;
    flops = weightFlops;
    attention = 2 * inside * double(shape.sequence) * h / device.matmulFlopsPerSecond;
    if (device.attentionPairsPerSecond > 0) // of each head, half of s x s
      attention =
          std::max(attention, inside * double(shape.sequence) / 2 * double(std::max<std::int64_t>(shape.heads, 1)) /
                                  device.attentionPairsPerSecond);
    // Norms, residual sums and rope read and write once; so does the
    // activation between the products, and tokens on their way to experts.
    double moved = shape.experts ? 4 * cut * top * h : 0;
    traffic = e * (cut * h * 8 + inside * ((h + width) * 2 + top * (mlp + 1) * f) + moved);
    kernels = shape.experts ? 20 : 14;
    // Input, both norms' results, middle residual; q, k, v, attention's result;
    // the feed-forward's inner values; what experts were given.
    saved = e * (cut * h * 4 + inside * (2 * h + 2 * width + top * mlp * f) + moved / 4);
    if (s.keepGathered) // norms' results whole, keys and values of all positions
      saved += e * ((here - cut) * h * 2 + inside * 2 * width * (s.cp - 1));
    scratch = e * (inside * (2 * h + 2 * top * f) + here * h * 2);
    // What each value is, and what making it again takes: its products, or
    // reading and writing it. Norms feed what follows, so all count on the input.
    auto drop = [&](Value value, double bytes, double products, double bytesMoved) {
      if (!(s.values >> value & 1))
        return;
      dropped += bytes;
      again += products / device.matmulFlopsPerSecond + bytesMoved / device.memoryBytesPerSecond + device.launchSeconds;
    };
    drop(kNormValues, e * cut * h * 2, 0, e * cut * h * 4);
    drop(kProjections, e * inside * (h + 2 * width), 2 * inside * (h * h + 2 * h * width), 0);
    drop(kAttention, e * inside * h, attention * device.matmulFlopsPerSecond, 0);
    double columns = shape.gatedMlp ? 2 : 1; // gate and up, or up alone
    drop(kInner, e * inside * top * columns * f, 2 * inside * top * columns * h * f, 0);
    drop(kActivation, e * inside * top * f, 0, e * inside * top * f * (columns + 1));
  } else if (role == LayerRole::Embedding) {
    body.parameters = v * h;
    body.tensorForward = 1;
    traffic = e * here * h * 3;
    kernels = 2;
    saved = 8 * here; // the words
    scratch = e * here * h;
  } else {
    body.parameters = v * h + h;
    body.tensorBackward = 1;
    flops = weightFlops = 2 * inside * v * h;
    traffic = e * cut * h * 3 + 4 * inside * v * 3;
    kernels = 5;
    saved = e * cut * h * 2 + 4 * inside * v; // logits in fp32
    if (s.keepGathered)
      saved += e * (here - cut) * h;
    scratch = 4 * inside * v + e * here * h;
  }
  double compute =
      flops / device.matmulFlopsPerSecond + traffic / device.memoryBytesPerSecond + kernels * device.launchSeconds;
  cost.forwardSeconds = compute + attention;
  // Two products for each one of forward; elementwise work reads twice.
  cost.backwardSeconds = 2 * compute + kBackwardAttention * attention;
  // One of the two is the weight's.
  cost.weightSeconds = weightFlops / device.matmulFlopsPerSecond;
  cost.savedBytes = wholeBytes(saved);
  cost.scratchBytes = wholeBytes(scratch);
  addTensor(cost, s, body, here * h * e);
  addSequence(cost, s, body, body.boundary);
  addExperts(cost, s, body);
  if (s.recompute) {
    repeatForward(cost);
    cost.scratchBytes += cost.savedBytes;
    cost.savedBytes = wholeBytes(e * cut * h);
  } else if (s.values) {
    cost.recomputeSeconds = again;
    cost.scratchBytes += wholeBytes(dropped);
    cost.savedBytes -= std::min(cost.savedBytes, std::int64_t(std::min(dropped, 1e15)));
  }
  addStates(cost, query, body, device.memoryBytesPerSecond);
  cost.boundaryBytes = wholeBytes(double(query.microBatchSamples) * double(shape.sequence) * h * e);
  if (role == LayerRole::Head && shape.tiedEmbedding) {
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
