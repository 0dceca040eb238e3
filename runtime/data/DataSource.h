//===- DataSource.h - the samples that options name --------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_DATASOURCE_H
#define GALVATRON_RUNTIME_DATA_DATASOURCE_H

#include "runtime/api/Documents.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Options.h"
#include "runtime/core/World.h"
#include "runtime/data/DataOrder.h"
#include "runtime/data/GptSamples.h"
#include "runtime/data/RowSamples.h"
#include "runtime/data/TokenFile.h"

#include <memory>
#include <optional>

namespace galvatron {

/// Of indexed data: what is read of them.
enum class Share { Training, Evaluation, All }; // by --split, or whatever it says

/// Data to train or to evaluate on: what they are, in which order, and the place in it.
class DataSource {
public:
  /// `seed` is that of the run. The references outlive the source.
  DataSource(const World &world, const Manifest &manifest, const Options &options, uint64_t seed)
      : world(world), manifest(manifest), options(options), seed(seed) {}

  struct Request {
    std::vector<std::string> words;  // as --data's; none: random tokens
    std::vector<std::string> labels; // as --labels'
    Share share = Share::Training;
    int64_t count; // of samples that gpt's order is made for; -1: one epoch
    bool shuffle = false;
    const char *dataOption = "--data", *labelsOption = "--labels"; // that `words` and `labels` are of
  };
  /// Collective; the same status on every rank.
  Status open(const Request &request);
  /// Goes on where a run on `saved` stopped after `samples`; gives those of this order.
  int64_t resume(const DataOrder &saved, int64_t samples) { return goOn(saved, samples, order); }
  /// Once the place is known.
  std::shared_ptr<const Samples> samples();

  const DataOrder &getOrder() const { return order; }
  RowRules rules() const;
  /// For people; from sample `next` on, if that is given.
  std::string describe(std::optional<int64_t> next = std::nullopt) const;
  /// What may be meant otherwise; empty: nothing.
  const std::string &getWarning() const { return warning; }

private:
  Status openWords(const Request &request);
  Status openFile(const std::string &name);
  Status openNamed(const Request &request);
  Status openIndexed(const Request &request);
  Status openGpt(const DataWords &words, const Request &request);
  Status openRows(const DataWords &words, const Request &request);
  Status checkDocuments() const;

  const World &world;
  const Manifest &manifest;
  const Options &options;
  uint64_t seed;
  DataOrder order;
  std::shared_ptr<Samples> indexed;
  std::optional<data::Folder> folder; // of named inputs; none: they are drawn
  std::optional<TokenFile> file;      // its samples are known once the place is
  std::string text, warning;
};

} // namespace galvatron

#endif
