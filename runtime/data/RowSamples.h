//===- RowSamples.h - whole sequences in rows, for fine-tuning ---------------------------------===//
//
//     row      a a a a a . . .     a sequence a row, cut at its length, padded
//     packed   a a a b b c . .     sequences in order, each a document; a row ends before the first that does not fit
//
// Labels are those of a second set of indexed data with the same sequences, as Hugging Face has them: the value at a
// token is that token, or -100 where it is not to be predicted. Without one each token but a sequence's first is.
//
//===--------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_ROWSAMPLES_H
#define GALVATRON_RUNTIME_DATA_ROWSAMPLES_H

#include "runtime/data/HostTable.h"
#include "runtime/data/IndexedDataset.h"
#include "runtime/data/Samples.h"

namespace galvatron {

class RowSamples : public Samples {
public:
  struct Request {
    std::vector<std::string> data, labels; // prefixes; of labels as many or none
    bool arePacked = false, shuffle = false;
    uint64_t seed = 0; // of shuffling
    int64_t sequence, vocabulary, batch, padToken = 0;
    const char *dataOption = "--data", *labelsOption = "--labels"; // for messages
  };

  static Status open(const Request &request, RowSamples &samples);
  void build(const Host *host) override;

  Status check(int64_t first, int64_t count, int rank, int size) const override;
  int64_t numInEpoch() const override { return numRows(); }
  /// Sample n is row n modulo their number, through a permutation of this round if shuffled.
  Status read(int64_t number, Sample &sample) const override;

  /// Data, then labels.
  const std::vector<IndexedDataset> &getDatasets() const { return datasets; }
  int64_t numRows() const { return count; }
  std::string describe() const;

private:
  struct Place {
    size_t dataset;
    int64_t sequence;
  };
  bool hasLabels() const { return !request.labels.empty(); }
  Status checkLabels(size_t number) const;
  Status checkLengths() const;
  /// Calls `visit` with the first sequence of each packed row.
  template <typename Visit> void forPackedRows(Visit visit) const;
  int64_t firstOf(int64_t row) const { return request.arePacked ? packed.get()[row] : row; }
  /// Where a sequence of all is.
  Place find(int64_t sequence) const;
  Status readSequence(const Place &place, int64_t begin, int64_t count, Sample &sample) const;

  Request request;
  std::vector<IndexedDataset> datasets;
  std::vector<int64_t> bounds; // the first sequence of each of `data` among all, then their number
  int64_t count = 0;           // of rows
  std::shared_ptr<const int64_t> packed; // the first sequence of each row, then their number
};

} // namespace galvatron

#endif
