//===- Manifest.h - what a stage binary says about itself; fields in docs/runtime.md ---------===//
#ifndef GALVATRON_RUNTIME_CORE_MANIFEST_H
#define GALVATRON_RUNTIME_CORE_MANIFEST_H

#include "galvatron/Support/DataFolder.h"
#include "galvatron/Support/Safetensors.h"
#include "runtime/api/CounterRandom.h"
#include "runtime/api/ElementType.h"
#include "runtime/core/PositionMap.h"
#include "runtime/core/Status.h"

#include <optional>
#include <vector>

namespace galvatron {

/// Words of a PositionMap.
using Placement = std::vector<int64_t>;

/// ZeRO: ranks that differ in `axes` share the states of several parameters, which lie one after another in one list of
/// elements. Each has a piece of it, in the order of ranks, the last axis fastest.
struct ShardInfo {
  std::vector<int64_t> axes;
  int64_t piece;                      // elements
  int64_t first;                      // where the parameter begins in the list
  bool isParameterWhole, isCopyWhole; // the list is there, not only this rank's piece; gradient and moments never are
};

/// A factor of a dimension's index, as in mixed radix: values of its own, then padding.
struct PaddedFactor {
  int64_t own, padding;
};

struct ParameterInfo {
  std::vector<std::string> names;                 // canonical first
  std::vector<int64_t> shape;                     // global, as in files: without padding
  Placement placement;                            // with it
  std::vector<std::vector<PaddedFactor>> padding; // by dimension, factors major first; empty: there is none
  std::optional<random::Distribution> init;
  double initA = 0, initB = 0;
  int64_t parameter = -1; // bytes from the start of the arena, in f32; -1: frozen, and its copy alone is read
  int64_t gradient = -1, firstMoment = -1, secondMoment = -1; // likewise; -1: none, as the parameter is frozen
  int64_t copy = -1; // likewise, the copy of 16 bits that bodies read; -1: none
  int64_t count;     // local elements that this rank updates
  int64_t begin = 0; // the first of them, in the local piece
  std::optional<ShardInfo> shard;
  bool counted;

  const std::string &name() const { return names.front(); }
  bool isTrained() const { return gradient >= 0; }
  bool isCopyAlone() const { return parameter < 0; }
  int64_t numElements() const;
  /// Of a dimension with padding.
  int64_t paddedExtent(size_t dim) const;
  /// The index in `shape` of an index with padding, or -1 where it is padding; such elements are 0 and stay so.
  int64_t withoutPadding(size_t dim, int64_t index) const;
};

/// A tensor that only files know (checkpoint/Carried.h).
struct CarriedInfo {
  std::vector<std::string> names; // canonical first
  safetensors::ElementType type;
  std::vector<int64_t> shape;
  std::optional<random::Distribution> init;
  double initA = 0, initB = 0;
  bool isBuffer, isRead; // read: the program has its values

  const std::string &name() const { return names.front(); }
  int64_t numElements() const;
};

struct InputInfo {
  std::string name;
  int64_t offset, bytesPerMicroBatch;
  std::vector<int64_t> shape;
  Placement placement;
};

struct LossInfo {
  int64_t offset;
  std::vector<int64_t> partialAxes;
};

/// A sum over the whole batch that its labels decide, such as how many count; f32, equal on every rank that has it.
struct TotalInfo {
  std::string name;
  int64_t offset;
};

/// Floats that an entry computes: in which of its buffers, of what type (api/ElementType.h), how many.
struct ResultInfo {
  int64_t buffer, type, count;
};

struct GroupInfo {
  std::vector<int64_t> axes, stages; // one of them is empty
};

/// A fixed piece of the arena for the device's libraries.
struct WorkspaceInfo {
  int64_t offset = 0, bytes = 0;
};

struct Manifest {
  std::string device; // "cpu" or "cuda"
  int64_t stage, stages, devices;
  std::vector<int64_t> mesh;
  std::string schedule, model, program, weights, buffers, summary;
  int64_t globalBatch, microBatches, sequence, vocabulary;
  std::string precision;     // of activations and products: fp32, bf16 or fp16
  bool isPacked = false;     // the program has positions and documents
  bool countsLabels = false; // data may say of any label that it does not count
  /// The reader gives each position the token that it is to predict, this one where there is none; none: the program
  /// shifts its labels itself.
  std::optional<int64_t> ignoredLabel;
  int64_t arenaBytes;
  WorkspaceInfo workspace;
  std::vector<ParameterInfo> parameters;
  std::vector<CarriedInfo> carried;
  std::vector<InputInfo> inputs;
  /// All that the program reads of other data than tokens, on whatever stage; empty where it reads tokens.
  std::vector<data::Field> fields;
  std::vector<LossInfo> losses; // terms of the step's loss, their sum
  std::vector<TotalInfo> totals;
  std::vector<GroupInfo> groups;
  std::vector<std::string> names, units;
  std::vector<std::vector<ResultInfo>> results; // by function; empty where the program does not say

  /// The type of parameters' copies (api/ElementType.h).
  int64_t copyType() const { return precision == "fp16" ? GVRT_F16 : GVRT_BF16; }

  bool readsTokens() const { return fields.empty(); }
  /// Whether any label may be one that does not count.
  bool takesIgnoredLabels() const { return isPacked || ignoredLabel || countsLabels; }
  /// Whether `sequence` counts something.
  bool hasTokens() const { return readsTokens() || findField("input_ids"); }
  /// The field of that name, or none.
  std::optional<size_t> findField(const std::string &name) const;

  static Status parse(const char *text, Manifest &manifest);

  /// Narrows parameters whose states ranks share to what the rank with these coordinates has of them: `count` elements
  /// from `begin` on, whose states lie one after another at their offsets; none of them, perhaps.
  void takeShards(const std::vector<int64_t> &coordinates);

  /// Equal for the stages of one compilation: of everything that they share.
  uint64_t programHash() const;
};

} // namespace galvatron

#endif
