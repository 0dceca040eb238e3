//===- TrainingState.h - how far a run is, and what training.json says of it -------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_TRAININGSTATE_H
#define GALVATRON_RUNTIME_CHECKPOINT_TRAININGSTATE_H

#include "runtime/core/Status.h"
#include "runtime/data/DataOrder.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace galvatron {

/// Of a model: its parameters' names and shapes.
struct ModelIdentity {
  std::string hash; // 16 hexadecimal digits; empty in a checkpoint that does not say
  int64_t tensors = 0, elements = 0;
  std::string frozen = ""; // of the weights that the checkpoint leaves out (hashFrozenWeights); empty: it has all
};

/// A difference to the run before that --override accepted.
struct Overridden {
  int64_t step; // of the checkpoint that was loaded
  std::string word, text;
};

/// What gradients of an fp16 program are multiplied by (optim/LossScale.h), and for how many steps a dynamic scale has
/// neither overflowed nor grown.
struct LossScaleState {
  float scale = 1;
  int64_t steps = 0;
};

/// What options, data and program decide before the first step: the same in all checkpoints of a run, and in those that
/// it goes back to.
struct RunSetting {
  std::string optimizer;
  uint64_t seed = 0;
  std::optional<DataOrder> data;               // absent only in a checkpoint that does not say
  int64_t globalBatch = 0;                     // windows a step; 0 in a checkpoint that does not say
  std::map<std::string, std::string> settings; // `Options::updateSettings`; empty likewise
  std::string precision;                       // fp32, bf16 or fp16; empty likewise
  ModelIdentity model;
  std::vector<Overridden> overridden;
};

struct TrainingState : RunSetting {
  int64_t step = 0;
  int64_t samples = 0; // windows taken so far: the next step's first sample
  int64_t updates = 0; // steps that moved parameters: neither skipped, nor overflowed, nor without labels
  std::optional<LossScaleState> lossScale; // of fp16 alone

  /// Samples that no update came from as a step was not finite, as [first, count], ascending; and how many of them were
  /// not used up by a step, as the run went back.
  std::vector<std::pair<int64_t, int64_t>> skipped = {};
  int64_t leftOut = 0;

  /// Of a state that a run goes back to: its own setting, and the samples up to `next` left out.
  void goOnBehind(const RunSetting &own, int64_t next);
  /// Adds samples to those skipped, from the last of them on.
  void skip(int64_t first, int64_t count);
  /// The text of training.json.
  std::string toText() const;
  /// Reads it. It comes from anywhere, so every value is checked, and what is wrong is one sentence that names the key.
  static Status parse(const std::string &text, TrainingState &training);
};

} // namespace galvatron

#endif
