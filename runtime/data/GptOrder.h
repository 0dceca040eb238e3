//===- GptOrder.h - the samples of one dataset as Megatron's GPTDataset orders them ------------===//
//
// Sequences are shuffled and put one after another, epoch after epoch; a sample is sequence + 1 tokens of that, the
// next one beginning at its last; then samples are shuffled:
//
//     order         7      2        5   …       sequences, some in part
//     tokens    a b c d | e f | g h i j k …
//     samples   a b c d   e                     of 4 tokens and the label of the last
//                         e   f g h i
//                                   i j k …
//
// Everything is drawn from one generator, in an order that the numbers depend on.
//
//===--------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_GPTORDER_H
#define GALVATRON_RUNTIME_DATA_GPTORDER_H

#include "runtime/data/IndexedDataset.h"

namespace galvatron {

class GptOrder {
public:
  /// What is to be ordered.
  struct Request {
    int64_t first, last; // sequences first … last - 1
    int64_t samples;     // at least as many; -1: those of one epoch
    int64_t sequence;    // tokens of a sample, without the label of the last
    uint32_t seed;
  };
  /// Where a sample begins.
  struct Place {
    uint32_t entry; // of the order
    int32_t offset; // token of that sequence
  };

  static Status build(const IndexedDataset &dataset, const Request &request, GptOrder &order);

  int64_t numSamples() const { return shuffled.size(); }
  int64_t numTokens() const { return tokens; } // of an epoch
  int64_t numEpochs() const { return epochs; }
  /// Whether the last epoch is shuffled for itself, as too little of it is needed to be spread over all.
  bool isLastApart() const { return apart; }
  Place place(int64_t sample) const { return places[shuffled[sample]]; }
  /// The sequence at a place of the order.
  int64_t sequenceAt(uint32_t entry) const { return entries[entry]; }

private:
  void chooseEpochs(const Request &request);
  void findPlaces(const IndexedDataset &dataset, int64_t sequence);

  int64_t tokens = 0, epochs = 1;
  bool apart = false;
  std::vector<uint32_t> entries; // sequences, of all epochs
  std::vector<Place> places;
  std::vector<uint32_t> shuffled;
};

} // namespace galvatron

#endif
