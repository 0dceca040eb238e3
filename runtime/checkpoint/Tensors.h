//===- Tensors.h - the model's tensors in files, each rank its slices ------------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_TENSORS_H
#define GALVATRON_RUNTIME_CHECKPOINT_TENSORS_H

#include "galvatron/Support/Shards.h"
#include "runtime/core/Device.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/World.h"

#include <functional>
#include <map>
#include <set>

namespace galvatron {

class Carried;

/// What files and norms see of a rank's arena.
struct ModelState {
  gvrt_context &context;
  const Device &device;
  const Manifest &manifest;
  char *arena;
};

/// One of the tensors that exist for each parameter; for a frozen one the weight alone.
struct TensorKind {
  const char *suffix;             // after the parameter's name in the file
  int64_t ParameterInfo::*offset; // where in the arena
};
inline constexpr TensorKind kWeight = {"", &ParameterInfo::parameter};
inline constexpr TensorKind kGradient = {"", &ParameterInfo::gradient};
inline constexpr TensorKind kFirstMoment = {".exp_avg", &ParameterInfo::firstMoment};
inline constexpr TensorKind kSecondMoment = {".exp_avg_sq", &ParameterInfo::secondMoment};

/// Where a rank has such a tensor of a parameter, and in which type; without a master the weight is its copy. -1: it has none.
struct TensorPlace {
  int64_t offset;
  gvrt_type type;
};
TensorPlace placeOf(const Manifest &manifest, const ParameterInfo &parameter, const TensorKind &kind);

/// Elements of 16 or 32 bits as floats.
void widen(gvrt_type type, const void *elements, int64_t count, float *out);

/// Names and shapes of all parameters of all stages, the same list on every rank.
class Catalog {
public:
  struct Entry {
    std::string name;
    std::vector<int64_t> shape;
    bool isTrained;

    int64_t numElements() const;
  };

  /// Collective.
  static Status gather(const World &world, const Manifest &manifest, const gvrt_context &context, Catalog &catalog);

  const std::vector<Entry> &entries() const { return list; }
  /// Of the parameters of all stages, tied ones under each of theirs, and of what is carried.
  const std::set<std::string> &allNames() const { return names; }
  /// The name that files have of a parameter or of what is carried, by any of its names; empty where there is none.
  std::string canonicalName(const std::string &name) const;
  /// Of parameters, tied ones under each of theirs.
  const std::set<std::string> &parameterNames() const { return parameters; }

private:
  std::vector<Entry> list;
  std::set<std::string> names, parameters;
  std::map<std::string, std::string> canonical; // of all names
};

/// "[2, 3]"
std::string shapeText(const std::vector<int64_t> &shape);

/// Floats of this rank's piece of a tensor: `count` from `local` on, from the device or from a copy of it. Gradients are
/// divided by the loss scale.
using ReadPiece = std::function<void(const ParameterInfo &, const TensorKind &, int64_t local, int64_t count, float *)>;
ReadPiece readDevice(const ModelState &state);

/// Whether files hold the weights that are not trained, and which in any case.
struct KeptWeights {
  bool areFrozen = true;
  std::set<std::string> named = {};
};

/// The list of these kinds' tensors, the same on every rank, and of what is carried, where `carried` names it.
safetensors::ShardedWriter layOutTensors(const Catalog &catalog, const std::vector<TensorKind> &kinds,
                                         const Manifest *carried = nullptr, const KeptWeights &kept = {});

/// Of the weights that are not trained: 16 hexadecimal digits by the values of one element in 61, whatever the plan; empty where
/// all are trained. Collective.
std::string hashFrozenWeights(const World &world, const Catalog &catalog, const ModelState &state);

/// Writes the slices that this rank answers for to files that are there, what is `carried`, if anything, and flushes.
/// Not collective.
Status writeOwnTensors(const ModelState &state, const ReadPiece &read, safetensors::ShardedWriter &writer,
                       const std::vector<TensorKind> &kinds, const Carried *carried = nullptr);

/// Reads this rank's pieces; a tied parameter is found under any of its names, and where the file has several they must
/// be equal. `path` is a file, an index, or a folder of weights; names resolve as ShardedReader does it. `trainedAlone`: what
/// is not trained stays as it is.
Status readTensors(const ModelState &state, const std::string &path, const std::vector<TensorKind> &kinds,
                   bool trainedAlone = false);

/// A sentence that names weights in the file that no parameter of the program takes; empty where there are none, or no
/// such file.
std::string describeUnknownWeights(const Catalog &catalog, const std::string &path);

/// Draws this rank's pieces of all parameters from their initial distributions.
Status drawInitialValues(const ModelState &state);

} // namespace galvatron

#endif
