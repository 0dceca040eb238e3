//===- Strategy.h - the rows of Strategy.def as data ----------------------===//
//
// Without MLIR, so that the search may read it too.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_DIALECTS_PLAN_STRATEGY_H
#define GALVATRON_DIALECTS_PLAN_STRATEGY_H

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace galvatron::plan {

/// One number for each row: degrees 1 and others 0 where they are not in use. A choice is 1 for its first word, and so
/// on.
struct StrategyValues {
#define STRATEGY_REST(FIELD, ...) std::int64_t FIELD = 1;
#define STRATEGY_DEGREE(FIELD, ...) std::int64_t FIELD = 1;
#define STRATEGY_PART(FIELD, ...) std::int64_t FIELD = 1;
#define STRATEGY_FLAG(FIELD, ...) std::int64_t FIELD = 0;
#define STRATEGY_ASKED(FIELD, ...) std::int64_t FIELD = 0;
#define STRATEGY_LEVEL(FIELD, ...) std::int64_t FIELD = 0;
#define STRATEGY_CHOICE(FIELD, ...) std::int64_t FIELD = 0;
#define STRATEGY_SET(FIELD, ...) std::int64_t FIELD = 0;
#include "dialects/Plan/Strategy.def"

  auto operator<=>(const StrategyValues &) const = default;
};

enum class DimensionKind { Rest, Degree, Part, Flag, Level, Choice, Set };

/// Words between blanks.
constexpr std::int64_t countWords(std::string_view words) {
  std::int64_t count = words.empty() ? 0 : 1;
  for (char letter : words)
    count += letter == ' ';
  return count;
}
/// The `number`-th of them, from 1.
constexpr std::string_view getWord(std::string_view words, std::int64_t number) {
  while (--number > 0)
    words.remove_prefix(words.find(' ') + 1);
  return words.substr(0, words.find(' '));
}

/// A row; see Strategy.def. Of a choice `word` and `clone` are lists.
struct Dimension {
  DimensionKind kind;
  std::int64_t StrategyValues::*value;
  std::string_view key, word, clone;
  int order;
  std::int64_t most;
  std::string_view option, remedy;

  /// A number of ranks.
  constexpr bool isDegree() const { return kind <= DimensionKind::Part; }
  constexpr std::int64_t unused() const { return isDegree() ? 1 : 0; }
  /// Of a choice: whether plan files have true and false.
  constexpr bool isBoolean() const { return word == "false true"; }
  bool isUsed(const StrategyValues &values) const { return values.*value != unused(); }
};

inline constexpr Dimension kDimensions[] = {
#define STRATEGY_REST(FIELD, NAME, KEY, ORDER, WANTS, SPACE, OPTION)                                                   \
  {DimensionKind::Rest, &StrategyValues::FIELD, KEY, KEY, KEY, ORDER, 0, OPTION, ""},
#define STRATEGY_DEGREE(FIELD, NAME, KEY, ORDER, WANTS, SPACE, MOST, OPTION, REMEDY)                                   \
  {DimensionKind::Degree, &StrategyValues::FIELD, KEY, KEY, KEY, ORDER, 0, OPTION, REMEDY},
#define STRATEGY_PART(FIELD, NAME, KEY, ORDER, OF, WANTS, SPACE, MOST, OPTION, REMEDY)                                 \
  {DimensionKind::Part, &StrategyValues::FIELD, KEY, KEY, KEY, ORDER, 0, OPTION, REMEDY},
#define STRATEGY_FLAG(FIELD, NAME, KEY, WORD, CLONE, OF, WANTS, SPACE, OPTION, REMEDY)                                 \
  {DimensionKind::Flag, &StrategyValues::FIELD, KEY, WORD, CLONE, 0, 1, OPTION, REMEDY},
#define STRATEGY_ASKED(FIELD, NAME, KEY, WORD, CLONE, REMEDY)                                                          \
  {DimensionKind::Flag, &StrategyValues::FIELD, KEY, WORD, CLONE, 0, 1, "", REMEDY},
#define STRATEGY_LEVEL(FIELD, NAME, KEY, MOST, REMEDY)                                                                 \
  {DimensionKind::Level, &StrategyValues::FIELD, KEY, KEY, KEY, 0, MOST, "", REMEDY},
#define STRATEGY_CHOICE(FIELD, NAME, KEY, OF, WORDS, TEXTS)                                                            \
  {DimensionKind::Choice, &StrategyValues::FIELD, KEY, WORDS, TEXTS, 0, countWords(WORDS), "", ""},
#define STRATEGY_SET(FIELD, NAME, KEY, SPACE, REMEDY)                                                                  \
  {DimensionKind::Set, &StrategyValues::FIELD, KEY, "", "." #FIELD, 0, 0, "", REMEDY},
#include "dialects/Plan/Strategy.def"
};

/// Index of a row in `kDimensions`.
enum class DimensionId {
#define STRATEGY_REST(FIELD, NAME, ...) NAME,
#define STRATEGY_DEGREE(FIELD, NAME, ...) NAME,
#define STRATEGY_PART(FIELD, NAME, ...) NAME,
#define STRATEGY_FLAG(FIELD, NAME, ...) NAME,
#define STRATEGY_ASKED(FIELD, NAME, ...) NAME,
#define STRATEGY_LEVEL(FIELD, NAME, ...) NAME,
#define STRATEGY_CHOICE(FIELD, NAME, ...) NAME,
#define STRATEGY_SET(FIELD, NAME, ...) NAME,
#include "dialects/Plan/Strategy.def"
};

/// How context parallelism works, where there is any.
inline constexpr DimensionId kContextChoices[] = {DimensionId::CpKind, DimensionId::CpZigzag};

/// Calls `visit` with each row that is in use, in the order of texts: degrees of ranks from slow to fast, then their
/// parts, then the others as in the table.
template <typename Visit> void forEachUsed(const StrategyValues &values, Visit visit) {
  int last = 0;
  for (const Dimension &row : kDimensions)
    last = row.order > last ? row.order : last;
  for (int order = 0; order <= last; ++order)
    for (const Dimension &row : kDimensions)
      if (row.kind <= DimensionKind::Degree && row.order == order && row.isUsed(values))
        visit(row);
  for (bool parts : {true, false})
    for (const Dimension &row : kDimensions)
      if (row.kind > DimensionKind::Degree && (row.kind == DimensionKind::Part) == parts && row.isUsed(values))
        visit(row);
}

/// "dp=4 tp=2 sp zero3 recompute": what is in use.
inline std::string describe(const StrategyValues &values) {
  std::string text;
  forEachUsed(values, [&](const Dimension &row) {
    std::int64_t value = values.*row.value;
    text += text.empty() ? "" : " ";
    if (row.kind == DimensionKind::Choice)
      text += getWord(row.clone, value);
    else if (row.kind == DimensionKind::Set)
      text += "recompute-" + std::to_string(std::popcount(std::uint64_t(value))) + "-values";
    else
      text += std::string(row.word) + (row.isDegree() ? "=" : "") +
              (row.kind == DimensionKind::Flag ? "" : std::to_string(value));
  });
  return text.empty() ? "one device" : text;
}

/// "dp4tp2spzero3.recompute": the same as a part of a name; a set as its bits in decimal, ".values5".
inline std::string getCloneSuffix(const StrategyValues &values) {
  std::string name, ending;
  forEachUsed(values, [&](const Dimension &row) {
    std::string word(row.clone);
    if (row.kind == DimensionKind::Choice)
      word = getWord(row.clone, values.*row.value);
    else if (row.kind != DimensionKind::Flag)
      word += std::to_string(values.*row.value);
    (word.starts_with('.') ? ending : name) += word;
  });
  return (name.empty() ? "dp1" : name) + ending;
}

/// What the lowering cannot run, and the remedy; empty: it runs all of it.
inline std::string whyUnsupported(const StrategyValues &values) {
  for (const Dimension &row : kDimensions)
    if (!row.remedy.empty() && row.isUsed(values))
      return "'" + std::string(row.key) + "' is not supported by the lowering yet; " + std::string(row.remedy);
  return "";
}

/// Whether keys and values go round the ranks of context parallelism chunk by chunk.
inline bool isRing(const StrategyValues &values) { return values.cpKind == 2; }

/// Whether ranks of context parallelism have one stretch of positions each, and someone has said so.
inline bool isContiguous(const StrategyValues &values) { return values.cpZigzag == 1; }

/// Whether gradients of parameters are reduced after each micro-batch's backward, against once a step: as the strategy
/// says, else where ZeRO would have to keep them whole until then.
inline bool reducesEveryMicroBatch(const StrategyValues &values) {
  return values.reduceEveryMicroBatch ? values.reduceEveryMicroBatch == 2 : values.zero >= 2;
}

/// "tp x ulysses x cp": keys of the degrees whose product divides a stage's ranks.
inline std::string joinDegrees(std::string_view separator) {
  std::string text;
  for (const Dimension &row : kDimensions)
    if (row.kind == DimensionKind::Degree)
      text += (text.empty() ? "" : std::string(separator)) + std::string(row.key);
  return text;
}

} // namespace galvatron::plan

#endif // GALVATRON_DIALECTS_PLAN_STRATEGY_H
