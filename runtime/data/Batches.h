//===- Batches.h - the inputs of each step ----------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_BATCHES_H
#define GALVATRON_RUNTIME_DATA_BATCHES_H

#include "runtime/api/Documents.h"
#include "runtime/core/Device.h"
#include "runtime/core/Manifest.h"
#include "runtime/data/Samples.h"

#include <memory>

namespace galvatron {

class Batches {
public:
  Batches(const Manifest &manifest, std::shared_ptr<const Samples> samples, const RowRules &rules)
      : manifest(manifest), samples(std::move(samples)), rules(rules) {}

  /// Writes this rank's part of a step's inputs, all micro-batches, into the arena. Row b is sample firstSample + b; of
  /// those that this rank has none of, nothing is read.
  Status fill(gvrt_context &context, const Device &device, char *arena, int64_t firstSample) const;

  /// On one rank: writes a step's whole batch to folder/step_000001.safetensors: input_ids, labels (what each position
  /// is to predict, -100 where nothing), positions and documents, I64 [global batch, sequence].
  Status dump(const std::string &folder, int64_t step, int64_t firstSample) const;

private:
  const Manifest &manifest;
  std::shared_ptr<const Samples> samples;
  RowRules rules;
};

} // namespace galvatron

#endif
