//===- TransformerModel.h - Costs of a Transformer by its shape -*- C++ -*-===//
//
// The native cost model of galvatron-search: a decoder-only Transformer given
// by its shape, on a device given by its rates (Reference/ProfiledCosts.h: by
// measured times and sizes). Collectives are those that the compiler's placement
// rules produce (AXES notes of the project, section 1):
//
//   tp           forward 2 all-reduce, backward 2 all-reduce of [b, s, h]
//   tp + SP      forward 2 gather + 2 scatter, backward 4 gather + 2 scatter
//   ulysses      forward 4 all-to-all (q, k, v, out), backward 4
//   cp           forward 2 gather (k, v), backward 2 gather + 2 scatter
//   ep           forward 2 all-to-all (dispatch, combine), backward 2
//   ZeRO 0       gradient all-reduce once a step
//   ZeRO 1, 2    gradient scatter (1: once a step, 2: every micro-batch),
//                parameter gather once a step
//   ZeRO 3       parameter gather in forward and in backward, gradient scatter,
//                every micro-batch
//
// Units: seconds, bytes. What each number counts stands beside it in the code.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_TRANSFORMERMODEL_H
#define GALVATRON_SEARCH_MODEL_TRANSFORMERMODEL_H

#include "galvatron/Search/Model/Problem.h"

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron::search {

struct TransformerShape {
  std::string name = "transformer";
  std::int64_t layers = 0, hidden = 0, heads = 0, kvHeads = 0, ffn = 0, vocab = 0, sequence = 0;
  std::int64_t experts = 0; ///< of each layer; 0: a dense model
  std::int64_t expertsPerToken = 0;
  bool gatedMlp = true;       ///< three matrices (SwiGLU) instead of two
  bool tiedEmbedding = false; ///< head and embedding share their matrix
  int bytesPerElement = 4;    ///< of compute: 2 (bf16, fp16) or 4 (fp32)
};

/// "embedding", "layers.0" …, "head".
std::vector<Layer> transformerLayers(std::int64_t blocks);

/// Costs from shape and device rates.
class ShapeCosts : public CostSource {
public:
  ShapeCosts(TransformerShape shape, DeviceKind device) : shape(std::move(shape)), device(std::move(device)) {}
  Result<LayerCost> cost(const CostQuery &query) const override;
  /// norms, qkv, attention, mlp_inner, mlp_activation.
  std::vector<std::string> recomputableValues(const Layer &layer) const override;

private:
  TransformerShape shape;
  DeviceKind device;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_TRANSFORMERMODEL_H
