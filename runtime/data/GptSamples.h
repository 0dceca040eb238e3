//===- GptSamples.h - the order of samples that Megatron's GPTDataset has ----------------------===//
#ifndef GALVATRON_RUNTIME_DATA_GPTSAMPLES_H
#define GALVATRON_RUNTIME_DATA_GPTSAMPLES_H

#include "runtime/data/Blend.h"
#include "runtime/data/GptOrder.h"
#include "runtime/data/HostTable.h"
#include "runtime/data/Samples.h"

namespace galvatron {

/// What --data names: prefixes, or a weight before each, as Megatron's --data-path.
struct DataWords {
  std::vector<std::string> prefixes;
  std::vector<double> weights; // as many, or none

  /// `option`: the one that has the words.
  static Status parse(const std::vector<std::string> &words, DataWords &data, const char *option = "--data");
};

/// Sequences of each share of a dataset: bounds[i] … bounds[i + 1] - 1. `shares` are any three numbers, not all 0; the
/// running sums of them, normalized, times the number of sequences are rounded half to even.
std::vector<int64_t> splitSequences(const std::vector<double> &shares, int64_t sequences);

class GptSamples : public Samples {
public:
  struct Request {
    DataWords data;
    std::vector<double> split = {1, 0, 0};
    int64_t share = 0; // of `split`: 0 training, 1 evaluation
    int64_t samples;   // of all datasets together; -1: an epoch of each, which weights do not allow
    int64_t sequence, vocabulary, batch;
    uint32_t seed;
    const char *dataOption = "--data", *countOption = "--steps or --train-samples"; // for messages
  };
  struct Dataset {
    IndexedDataset data;
    int64_t first, last; // its sequences of this share
    double weight;       // of all samples
    GptOrder order;
  };

  static Status open(const Request &request, GptSamples &samples);
  void build(const Host *host) override;

  Status check(int64_t first, int64_t count, int rank, int size) const override;
  /// Of an order made for one epoch.
  int64_t numInEpoch() const override { return request.samples; }
  Status read(int64_t number, Sample &sample) const override;

  const std::vector<Dataset> &getDatasets() const { return datasets; }
  int64_t numSamples() const { return request.samples; }
  /// A line for each dataset: its sequences, tokens, share of all samples, and the epochs which that share makes.
  std::string describe() const;

private:
  Status openDataset(const std::string &prefix);
  Status planOrders();
  Status readPieces(const Dataset &dataset, int64_t number, Sample &sample) const;

  Request request;
  std::vector<Dataset> datasets;
  mutable Blend blend; // remembers where it is
};

} // namespace galvatron

#endif
