// One driver, one generator for each format. An input follows from seed and number alone, so that a run goes on where
// it stopped, and what ended it is made again by its number.
#ifndef GALVATRON_TEST_FUZZ_FUZZ_H
#define GALVATRON_TEST_FUZZ_FUZZ_H

#include "Mutations.h"

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace galvatron::fuzz {

struct Format {
  /// Its folder in the corpus.
  std::string name;
  /// Another input of the kind of `example`, a file of the corpus.
  std::function<std::string(Random &, const std::string &example)> mutate;
  /// Reads it as the tools do; what is wrong, or nothing where it was accepted. Aborts where an accepted input breaks a
  /// promise.
  std::function<std::string(const std::string &input)> read;
};

/// The formats that this executable reads; `folder` is theirs to write into.
std::vector<Format> makeFormats(const std::filesystem::path &folder);

/// For Format::read: ends the run, with the input.
[[noreturn]] void breakPromise(const std::string &what);

} // namespace galvatron::fuzz

#endif
