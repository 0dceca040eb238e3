// Inputs that know their format: a value of a corpus with a few of its parts changed, into what readers get wrong.
#ifndef GALVATRON_TEST_FUZZ_MUTATIONS_H
#define GALVATRON_TEST_FUZZ_MUTATIONS_H

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron::fuzz {

/// SplitMix64: the same numbers everywhere, so that seed and number of an input are the input.
class Random {
public:
  Random(uint64_t seed, uint64_t number) : state(seed * 0x9E3779B97F4A7C15u ^ (number + 1) * 0xD1B54A32D192ED03u) {}

  uint64_t next();
  /// Below `end`, which is at least 1.
  uint64_t below(uint64_t end) { return next() % end; }
  bool oneIn(uint64_t count) { return below(count) == 0; }
  template <typename List> const auto &pick(const List &list) { return list[below(list.size())]; }

private:
  uint64_t state;
};

/// 0, -1, the ends of each width and their neighbours, or something like `near`.
int64_t hostileInteger(Random &random, int64_t near);

/// Changes one value, key or list somewhere in it.
void mutateJson(Random &random, nlohmann::ordered_json &root);

/// Of a text: bytes, brackets, numbers and lines; now and then an end in the middle, or nesting without end.
void mutateText(Random &random, std::string &text);

/// One to four mutations of a JSON document, seldom some of its text.
std::string mutateDocument(Random &random, const std::string &document);

/// A little-endian integer of `bytes` at `at`, where there is one.
void mutateInteger(Random &random, std::string &data, size_t at, size_t bytes);

} // namespace galvatron::fuzz

#endif
