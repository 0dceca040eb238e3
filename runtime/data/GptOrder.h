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

#include <memory>

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

  /// What can be known, and refused, without its tables.
  static Status plan(const IndexedDataset &dataset, const Request &request, GptOrder &order);
  /// Of its tables.
  int64_t numBytes() const;
  /// Writes the tables.
  void fill(const IndexedDataset &dataset, char *tables) const;
  /// Takes tables that were written, by whatever process.
  void use(std::shared_ptr<const char> tables);

  int64_t numSamples() const { return samples; }
  int64_t numTokens() const { return tokens; } // of an epoch
  int64_t numEpochs() const { return epochs; }
  /// Whether the last epoch is shuffled for itself, as too little of it is needed to be spread over all.
  bool isLastApart() const { return apart; }
  Place place(int64_t sample) const { return places[shuffled[sample]]; }
  /// The sequence at a place of the order.
  int64_t sequenceAt(uint32_t entry) const { return entries[entry]; }

private:
  void chooseEpochs();
  int64_t numSequences() const { return request.last - request.first; }
  int64_t numEntries() const { return epochs * numSequences(); }
  void findPlaces(const IndexedDataset &dataset, const uint32_t *entries, Place *places) const;

  Request request{};
  int64_t tokens = 0, epochs = 1, samples = 0;
  bool apart = false;
  // The tables, in this order in one piece.
  std::shared_ptr<const char> tables;
  const Place *places = nullptr;
  const uint32_t *entries = nullptr; // sequences, of all epochs
  const uint32_t *shuffled = nullptr;
};

} // namespace galvatron

#endif
