//===- DataSource.h - the samples that options name --------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_DATASOURCE_H
#define GALVATRON_RUNTIME_DATA_DATASOURCE_H

#include "runtime/api/Documents.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Options.h"
#include "runtime/data/DataOrder.h"
#include "runtime/data/GptSamples.h"
#include "runtime/data/RowSamples.h"
#include "runtime/data/TokenFile.h"

#include <memory>
#include <optional>

namespace galvatron {

/// Shares of --split.
enum : int64_t { kTrainingShare, kEvaluationShare };

/// Data to train or to evaluate on: what they are, in which order, and the place in it.
class DataSource {
public:
  /// `seed` is that of the run. Both references outlive the source.
  DataSource(const Manifest &manifest, const Options &options, uint64_t seed)
      : manifest(manifest), options(options), seed(seed) {}

  /// Opens what `words` name, as --data's do; none: random tokens. Of gpt's the `share` of --split, in an order made
  /// for `count` samples.
  Status open(const std::vector<std::string> &words, int64_t share, int64_t count);
  /// Goes on where a run on `saved` stopped after `samples`, which are then those of this order; an error where these
  /// are other data. `checkpoint` is how messages call where that is from.
  Status resume(const std::string &checkpoint, const DataOrder &saved, int64_t &samples);
  /// Once the place is known.
  std::shared_ptr<const Samples> samples();

  const DataOrder &getOrder() const { return order; }
  RowRules rules() const;
  /// For people; from sample `next` on, if that is given.
  std::string describe(std::optional<int64_t> next = std::nullopt) const;
  /// What may be meant otherwise; empty: nothing.
  const std::string &getWarning() const { return warning; }

private:
  Status openFile(const std::string &name);
  Status openIndexed(const std::vector<std::string> &words, int64_t share, int64_t count);
  Status openGpt(const DataWords &words, int64_t share, int64_t count);
  Status openRows(const DataWords &words);
  Status checkDocuments() const;

  const Manifest &manifest;
  const Options &options;
  uint64_t seed;
  DataOrder order;
  std::shared_ptr<const Samples> indexed;
  std::optional<TokenFile> file; // its samples are known once the place is
  std::string text, warning;
};

} // namespace galvatron

#endif
