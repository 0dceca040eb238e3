//===- TransformerModel.h - Costs of a Transformer by its shape -*- C++ -*-===//
//
// The native cost model of galvatron-search: a decoder-only Transformer given
// by its shape, on a device given by its rates, or, where the reference's
// profiles are at hand, by measured times and sizes. Collectives are those that
// the compiler's placement rules produce (AXES notes of the project, section 1):
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

#ifndef GALVATRON_SEARCH_TRANSFORMERMODEL_H
#define GALVATRON_SEARCH_TRANSFORMERMODEL_H

#include "galvatron/Search/Problem.h"
#include "galvatron/Search/ReferenceProfile.h"

#include <memory>
#include <optional>
#include <string_view>
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

/// Reads a Hugging Face `config.json` (hidden_size, num_hidden_layers,
/// num_attention_heads, num_key_value_heads, intermediate_size, vocab_size,
/// tie_word_embeddings; GPT-2's n_embd, n_layer, n_head, n_inner) with its own
/// many other keys. `sequence` 0 takes max_position_embeddings.
Result<TransformerShape> parseTransformerShape(std::string_view json, std::int64_t sequence, int bytesPerElement);

/// "embedding", "layers.0" …, "head".
std::vector<Unit> transformerUnits(std::int64_t layers);

/// Costs from shape and device rates.
class ShapeCosts : public CostSource {
public:
  ShapeCosts(TransformerShape shape, DeviceKind device) : shape(std::move(shape)), device(std::move(device)) {}
  Result<UnitCost> cost(const CostQuery &query) const override;
  /// norms, qkv, attention, mlp_inner, mlp_activation.
  std::vector<std::string> recomputableValues(const Unit &unit) const override;

private:
  TransformerShape shape;
  DeviceKind device;
};

/// Costs from the reference's profiles: measured compute, parameters and
/// activations; collectives as above. Refuses what was not measured.
class ProfiledCosts : public CostSource {
public:
  ProfiledCosts(ReferenceArguments arguments, ReferenceProfile profile)
      : arguments(std::move(arguments)), profile(std::move(profile)) {}
  Result<UnitCost> cost(const CostQuery &query) const override;

private:
  Result<bool> measured(const CostQuery &query) const;
  ReferenceArguments arguments;
  ReferenceProfile profile;
};

/// Communication from the reference's hardware profiles: the measured table by
/// message size where the group was measured (interpolated, latency included),
/// else the measured bandwidth of its arrangement plus that latency.
class ProfiledCommunication : public CommunicationModel {
public:
  ProfiledCommunication(ReferenceArguments arguments, ReferenceProfile profile, double speedUp = 1)
      : arguments(std::move(arguments)), profile(std::move(profile)), speedUp(speedUp) {}
  double seconds(CollectiveKind kind, double bytes, int groupSize, int stride) const override;
  double sendSeconds(double bytesPerRank, int distance) const override;

private:
  ReferenceArguments arguments;
  ReferenceProfile profile;
  double speedUp; ///< what faster links would do
};

/// The native problem for a reference configuration. Device: overlaps
/// communication with compute; memory as configured, whole (no 20 % reserve).
struct ProfiledProblem {
  std::unique_ptr<ProfiledCosts> costs;
  std::unique_ptr<ProfiledCommunication> communication;
  Problem problem;
};
Result<ProfiledProblem> makeProfiledProblem(const ReferenceArguments &arguments, const ReferenceProfile &profile,
                                            int batch);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_TRANSFORMERMODEL_H
