// Small indexed data in a folder of their own.
#ifndef GALVATRON_TEST_UNIT_RUNTIME_INDEXEDFILES_H
#define GALVATRON_TEST_UNIT_RUNTIME_INDEXEDFILES_H

#include "TemporaryFolder.h"

#include <cstring>
#include <fstream>

class IndexedFiles : public TemporaryFolder {
protected:
  IndexedFiles() : TemporaryFolder("indexed") {}

  std::string prefix(const std::string &name = "set") const { return folder / name; }

  /// `code`: the format's number of the tokens' type.
  void write(const std::vector<std::vector<int64_t>> &sequences, int code, const std::string &name = "set") const {
    constexpr int64_t kBytes[] = {0, 1, 1, 2, 4, 8, 8, 4, 2, 1};
    std::ofstream tokens(prefix(name) + ".bin", std::ios::binary), index(prefix(name) + ".idx", std::ios::binary);
    auto put = [](std::ofstream &file, int64_t value, int64_t bytes) {
      file.write(reinterpret_cast<const char *>(&value), bytes);
    };
    index.write("MMIDIDX\0\0", 9);
    put(index, 1, 8), put(index, code, 1), put(index, sequences.size(), 8), put(index, sequences.size() + 1, 8);
    for (const auto &sequence : sequences) {
      put(index, sequence.size(), 4);
      for (int64_t token : sequence)
        put(tokens, token, kBytes[code]);
    }
    int64_t at = 0;
    for (const auto &sequence : sequences) {
      put(index, at, 8);
      at += sequence.size() * kBytes[code];
    }
    for (size_t i = 0; i <= sequences.size(); ++i)
      put(index, i, 8);
  }

  /// Writes one byte of the index.
  void patch(int64_t at, int value) const {
    std::fstream file(prefix() + ".idx", std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(at);
    file.put(char(value));
  }
  void append(int value) const { std::ofstream(prefix() + ".idx", std::ios::binary | std::ios::app).put(char(value)); }
};

#endif
