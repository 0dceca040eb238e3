//===- Carried.h - tensors of a checkpoint that no stage computes with ----------------------===//
//
// Persistent buffers, and parameters that the loss does not reach: part of state_dict(), so a checkpoint holds them.
// The first rank streams them from the file that they came from, which it keeps open; they take no memory.
//
//===----------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_CARRIED_H
#define GALVATRON_RUNTIME_CHECKPOINT_CARRIED_H

#include "galvatron/Support/Shards.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Status.h"

namespace galvatron {

class Carried {
public:
  /// Finds each tensor: in `start`, the file of start values, if there is one; else a buffer in `buffers`, beside the
  /// program, while a parameter is drawn from `seed`. An error where the program was made with other values of a
  /// buffer than `start` has.
  static Status open(const Manifest &manifest, const std::string &start, const std::string &buffers, uint64_t seed,
                     Carried &carried);

  /// Lays out a file, after what is there.
  static void add(const Manifest &manifest, safetensors::ShardedWriter &writer);
  Status write(safetensors::ShardedWriter &writer) const;

private:
  struct Source {
    CarriedInfo tensor;
    std::shared_ptr<const safetensors::ShardedReader> file; // null: drawn
    std::string name;                                // in the file
  };
  Status writeOne(const Source &source, safetensors::ShardedWriter &writer) const;

  std::vector<Source> sources;
  uint64_t seed = 0;
};

} // namespace galvatron

#endif
