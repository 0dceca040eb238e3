//===- PlanFile.h - The two file formats of a plan --------------*- C++ -*-===//
//
// A plan is read and written in two formats:
//
// * this project's `plan.json`: `ranks`, `global_batch`, `micro_batches`,
//   `pipeline`, `schedule`, `units` (`path`, `layer_type`, `stage`,
//   `strategy`), `peak_bytes_per_rank`,
//   `reserved_bytes_per_rank`, `predicted_step_seconds`, `estimated_step_seconds`,
//   `reasons`;
// * Hetu-Galvatron's flat object: `pp_deg`, `tp_sizes_enc`, `use_sp`, …, which
//   numbers layers and gives both ends one strategy. It cannot say everything;
//   writing tells what would be lost.
//
// Reading is strict: an unknown key, a wrong type, a wrong number of layers or
// a degree that does not divide is an error that names key, value, layer and
// remedy.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_PLANFILE_H
#define GALVATRON_SEARCH_FORMATS_PLANFILE_H

#include "galvatron/Search/Model/Plan.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace galvatron::search {

/// What a plan is read against. `ranks` or `globalBatch` 0: take the plan's.
struct PlanTarget {
  std::vector<Layer> layers;
  std::int64_t ranks = 0;
  std::int64_t globalBatch = 0;
  /// Refuse what the lowering lacks, naming layer and key.
  bool supportedOnly = false;
  /// Accept degrees dp that do not divide the micro-batch. Hetu-Galvatron's
  /// search writes such plans (and prices them with samples missing), so
  /// pricing them needs to read them; nothing else should.
  bool unevenBatch = false;
  /// With `default_dp_type` zero3, take a 0 of `dp_types_enc` for ZeRO-2, which is
  /// what Hetu-Galvatron's search means by it; its runtime takes ZeRO-3.
  bool asSearched = false;
  /// Of a plan that says none, where none is asked for; 0: such a plan is refused.
  std::int64_t defaultGlobalBatch = 0;

  /// What a plan means that does not say it; nothing: it has to.
  std::optional<std::int64_t> impliedRanks() const { return ranks ? std::optional(ranks) : std::nullopt; }
  std::optional<std::int64_t> impliedGlobalBatch() const {
    std::int64_t implied = globalBatch ? globalBatch : defaultGlobalBatch;
    return implied ? std::optional(implied) : std::nullopt;
  }
};

/// Reads either format (recognised by `units` or `pp_deg`).
Result<Plan> parsePlan(std::string_view json, const PlanTarget &target);

/// The names of layers in a plan of this project's format, whatever else is in it; none of anything else.
std::vector<std::string> readLayerNames(std::string_view json);

/// A submodule of a layer, as a plan names it that gives it a strategy of its own.
struct LayerPart {
  const Layer *layer;
  std::string name; ///< below the layer's path
};

/// What "model.layers.3.mlp", or "layers.3.mlp" by number, is part of. Nothing where a layer has that name, or none has
/// a name that it begins with.
std::optional<LayerPart> findPart(const std::string &name, const std::vector<Layer> &layers);

/// Whether a plan means a layer by a name: its path, or its number as in "layers.3".
bool isNameOf(const std::string &name, const Layer &layer, const std::vector<Layer> &layers);

/// This project's format, two-space indented, one layer a line.
std::string writePlan(const Plan &plan, const std::vector<std::int64_t> &hostBytesPerRank = {});

/// The reference's format. Error: what it cannot express (cp and ep written as
/// its runtime reads them; stages that cut an end off, ends that differ).
Result<std::string> writeReferencePlan(const Plan &plan);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_PLANFILE_H
