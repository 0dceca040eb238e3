//===- Documents.h - rows that hold several documents -------------------------------------------===//
#ifndef GALVATRON_RUNTIME_API_DOCUMENTS_H
#define GALVATRON_RUNTIME_API_DOCUMENTS_H

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron {

/// A label that losses of packed programs ignore, as in PyTorch; the importer refuses others.
constexpr int64_t kIgnoredLabel = -100;

/// The inputs of a step for one row, by the names that programs have for them, [seq] each.
template <typename T> class PackedRow {
public:
  /// A document ends with each token `eod`; negative: the row is one document. `positions` count from 0 in each
  /// document, `documents` from 0 in the row. The first label of a later document is ignored, so that the last position
  /// of the one before has none: labels are shifted by the program.
  PackedRow(std::vector<T> row, int64_t eod)
      : tokens(std::move(row)), labels(tokens), positions(tokens.size()), documents(tokens.size()) {
    for (size_t i = 1; i < tokens.size(); ++i) {
      bool begins = eod >= 0 && tokens[i - 1] == T(eod);
      positions[i] = begins ? T(0) : positions[i - 1] + 1;
      documents[i] = documents[i - 1] + T(begins);
      if (begins)
        labels[i] = T(kIgnoredLabel);
    }
  }

  const std::vector<T> &input(const std::string &name) const {
    return name == "labels" ? labels : name == "positions" ? positions : name == "documents" ? documents : tokens;
  }

private:
  std::vector<T> tokens, labels, positions, documents;
};

} // namespace galvatron

#endif
