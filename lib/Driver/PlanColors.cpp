// Colours are backgrounds, as in the report: their contrast with a dark ink does not depend on the terminal's own.
#include "PlanColors.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/WithColor.h"

#include <cstdlib>

using namespace galvatron;
using llvm::StringRef;

/// Of strategies, .s-0 to .s-9.
static constexpr unsigned kOfStrategies[] = {0x8db8e8, 0xf0c350, 0x8fd0a5, 0xe8a0c8, 0xc9a3e6,
                                             0xe3a37f, 0xb5bdc6, 0xc3dd82, 0x6fd0d6, 0xd9c2ac};
/// Of causes, .c-forward and so on.
static constexpr std::pair<StringRef, unsigned> kOfCauses[] = {
    {"forward", 0x8db8e8}, {"backward", 0x8fd0a5}, {"recompute", 0xd7d36a}, {"communication", 0xf0c350}};
static constexpr unsigned kInk = 0x111111;

bool galvatron::isInColor(llvm::raw_ostream &out) {
  const auto &options = llvm::cl::getRegisteredOptions();
  auto color = options.find("color");
  bool isSaid = color != options.end() && color->second->getNumOccurrences() > 0;
  if (const char *none = std::getenv("NO_COLOR"); none && *none && !isSaid)
    return false;
  return llvm::WithColor::defaultAutoDetectFunction()(out);
}

static std::string paint(StringRef word, unsigned color) {
  auto channels = [](unsigned rgb) { return llvm::formatv("{0};{1};{2}", rgb >> 16, rgb >> 8 & 255, rgb & 255).str(); };
  return "\033[38;2;" + channels(kInk) + "m\033[48;2;" + channels(color) + "m" + word.str() + "\033[0m";
}

/// A word of a line stands between blanks, punctuation or the line's ends.
static size_t findWord(StringRef line, StringRef word, size_t from) {
  auto isEdge = [&](size_t at) { return at >= line.size() || line[at] == ' ' || line[at] == ':' || line[at] == ','; };
  for (size_t at = line.find(word, from); at != StringRef::npos; at = line.find(word, at + 1))
    if ((at == 0 || isEdge(at - 1)) && isEdge(at + word.size()))
      return at;
  return StringRef::npos;
}

std::string galvatron::colorPlanText(StringRef text, const search::Plan &plan) {
  llvm::SmallVector<std::pair<std::string, unsigned>> words;
  for (const search::PlannedLayer &layer : plan.layers) {
    std::string strategy = search::describe(layer.strategy, layer.dp);
    if (llvm::none_of(words, [&](const auto &known) { return known.first == strategy; }))
      words.emplace_back(strategy, kOfStrategies[words.size() % std::size(kOfStrategies)]);
  }
  for (auto [cause, color] : kOfCauses)
    words.emplace_back(cause.str(), color);
  // Of words that begin at one place the longest: "dp=4" is no part of "dp=4 zero1".
  llvm::sort(words, [](const auto &a, const auto &b) {
    return std::pair(b.first.size(), a.first) < std::pair(a.first.size(), b.first);
  });
  std::string colored;
  for (StringRef rest = text; !rest.empty();) {
    auto [line, next] = rest.split('\n');
    size_t from = 0;
    while (from < line.size()) {
      size_t first = StringRef::npos;
      const std::pair<std::string, unsigned> *found = nullptr;
      for (const auto &word : words)
        if (size_t at = findWord(line, word.first, from); at < first)
          first = at, found = &word;
      if (!found)
        break;
      colored += line.slice(from, first).str() + paint(found->first, found->second);
      from = first + found->first.size();
    }
    colored += line.substr(from).str();
    if (rest.size() > line.size())
      colored += "\n";
    rest = next;
  }
  return colored;
}
