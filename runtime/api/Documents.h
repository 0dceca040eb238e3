//===- Documents.h - rows that hold several documents, and what each position is to predict ----===//
#ifndef GALVATRON_RUNTIME_API_DOCUMENTS_H
#define GALVATRON_RUNTIME_API_DOCUMENTS_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace galvatron {

/// A label that losses of packed programs ignore, as in PyTorch; the importer refuses others.
constexpr int64_t kIgnoredLabel = -100;

/// How the inputs of a row follow from its tokens.
struct RowRules {
  int64_t eod = -1;     // a token without a label; with `resets`, a document ends with it; negative: there is none
  bool resets = false;  // documents are kept apart
  bool byIndex = false; // they end where the index says, whatever `eod` is
  /// A position's label is the next token, `ignored` where there is none. Else its own, as the program shifts them.
  bool labelsAreNext = false;
  int64_t ignored = kIgnoredLabel;
};

/// The inputs of a step for one row, by the names that programs have for them, [seq] each.
template <typename T> class PackedRow {
public:
  /// `stream` has the row's `seq` tokens, and perhaps one more that the last of them is to predict. `ends[i]`: a
  /// document ends with token i; without it, with each token `eod`. `given[i]`: what position i is to predict, or
  /// kIgnoredLabel; without it, the token after it. A program that shifts labels itself gets them as they are given.
  /// `positions` count from 0
  /// in each document, `documents` from 0 in the row. The last token of a document has no label: where labels are
  /// shifted by the program, that is the first label of the next one.
  PackedRow(const std::vector<T> &stream, size_t seq, const RowRules &rules, const std::vector<bool> &ends = {},
            const std::vector<T> &given = {})
      : tokens(stream.begin(), stream.begin() + seq), labels(given.empty() || rules.labelsAreNext ? tokens : given),
        positions(seq), documents(seq) {
    auto isEod = [&](size_t i) { return rules.eod >= 0 && tokens[i] == T(rules.eod); };
    auto endsDocument = [&](size_t i) {
      return rules.resets && ((rules.eod >= 0 && !rules.byIndex) || ends.empty() ? isEod(i) : ends[i]);
    };
    auto hasLabel = [&](size_t i) { return i + 1 < stream.size() && !endsDocument(i) && !isEod(i); };
    for (size_t i = 1; i < seq; ++i) {
      bool begins = endsDocument(i - 1);
      positions[i] = begins ? T(0) : positions[i - 1] + 1;
      documents[i] = documents[i - 1] + T(begins);
      if (!rules.labelsAreNext && !hasLabel(i - 1))
        labels[i] = T(rules.ignored);
    }
    auto next = [&](size_t i) { return given.empty() ? stream[i + 1] : given[i]; };
    for (size_t i = 0; rules.labelsAreNext && i < seq; ++i)
      labels[i] = hasLabel(i) && next(i) != T(kIgnoredLabel) ? next(i) : T(rules.ignored);
  }

  /// Nothing is to be predicted.
  void dropLabels(T ignored) { labels.assign(labels.size(), ignored); }

  const std::vector<T> &input(const std::string &name) const {
    return name == "labels" ? labels : name == "positions" ? positions : name == "documents" ? documents : tokens;
  }

private:
  std::vector<T> tokens, labels, positions, documents;
};

} // namespace galvatron

#endif
