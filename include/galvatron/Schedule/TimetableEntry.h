// What a stage does, one thing after another: the kinds of entries of a timetable, with the memory that they touch.
#ifndef GALVATRON_SCHEDULE_TIMETABLEENTRY_H
#define GALVATRON_SCHEDULE_TIMETABLEENTRY_H

#include "runtime/api/ElementType.h"

#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace galvatron {

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// A piece of memory with one use and one life.
struct Buffer {
  std::string name;
  int64_t bytes = 0;
  /// Entries of first and last use; the whole step for what lives between steps.
  int64_t first = -1, last = -1;
  bool persistent = false;
  /// In bytes from the start of the arena; set by `planArena`.
  int64_t offset = -1;
};

/// A place in a buffer, or none (`buffer` < 0): an argument that is absent.
struct BufferReference {
  int buffer = -1;    // index into Timetable::buffers
  int64_t offset = 0; // bytes from the buffer's start
  explicit operator bool() const { return buffer >= 0; }
};

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

/// Floats that a body computes and hands on, for whoever looks for what is not finite.
struct BodyResult {
  int64_t argument; // of the body
  gvrt_type type;
  int64_t count;
  bool operator==(const BodyResult &) const = default;
};

/// A body (`exec.function`) runs. Its arguments are `reads`, `writes`, `scratch`, in this order:
///   forward   inputs, parameters → outputs, saved values
///   backward  gradients of outputs, inputs, parameters, saved values → gradients of inputs, kept values, gradients of
///             parameters
///   weights   gradients of outputs, inputs, parameters, saved values, kept values → gradients of parameters
///   total     data → one micro-batch's part of a sum over the batch
struct Compute {
  enum class Kind { Forward, Backward, Weights, Total } kind = Kind::Forward;
  std::string function;
  std::vector<BufferReference> reads = {}, writes = {};
  BufferReference scratch = {};
  /// Of a backward or weights, for each gradient of a parameter: added to what is there, or written over it.
  std::vector<bool> adds = {};
  /// Of a forward its outputs, of a backward all it writes; the same for every entry of a body.
  std::vector<BodyResult> results = {};
};

/// Zeroes what is added up later.
struct FillZero {
  BufferReference buffer;
  int64_t bytes = 0;
};

/// Writes the gradient of the loss, with which every backward of the step begins: 1, or the loss scale.
struct StartBackward {
  BufferReference gradient;
  bool isScaled = false;
};

/// sum += addend, elementwise.
struct Accumulate {
  BufferReference addend, sum;
  gvrt_type type = GVRT_F32;
  int64_t count = 0;
};

/// A collective: buffer = the sum of the group's, in place.
struct AllReduce {
  BufferReference buffer;
  int64_t group = 0; // index into Timetable::groups
  int64_t count = 0; // f32
  /// Under way until the wait of this handle; none: done at once.
  std::optional<int64_t> handle;
};

/// A collective: `to` = this rank's piece of the sum of the group's `from`, which has a piece for each of its ranks,
/// one after another.
struct ReduceScatter {
  BufferReference from, to;
  int64_t group = 0; // index into Timetable::groups
  int64_t count = 0; // f32 of one piece
  /// Under way until the wait of this handle; none: done at once.
  std::optional<int64_t> handle;
};

/// A collective: `whole` = the pieces of the group's ranks, one after another.
struct AllGather {
  BufferReference piece; // none: it lies at its place in `whole`
  BufferReference whole;
  int64_t group = 0; // index into Timetable::groups
  gvrt_type type = GVRT_F32;
  int64_t count = 0; // elements of one piece
  /// Under way until the wait of this handle; none: done at once.
  std::optional<int64_t> handle;
};

/// What kind of values travel between two stages. Values from one stage to another are received in the order they are
/// sent, whatever their lane: the runtime has one channel for both.
enum class Lane { Activation, Gradient };

/// What a send and its receive agree on.
struct Channel {
  int64_t stage = 0; // the other one
  Lane lane = Lane::Activation;
  int64_t value = 0; // the tag of `dist.send`
  int64_t bytes = 0;
  /// The number by which the runtime tells values of both lanes apart.
  int64_t tag() const { return value + (lane == Lane::Gradient ? int64_t(1) << 20 : 0); }
};

/// Starts a transfer; the wait of `handle` ends it, and the buffer is free again.
struct Send {
  BufferReference buffer;
  Channel channel;
  int64_t handle = 0;
};

/// Blocks until the value is there; with a handle it only starts, and the wait of the handle ends it.
struct Receive {
  BufferReference buffer;
  Channel channel;
  std::optional<int64_t> handle;
};

/// The end of what began with this handle; `buffer` lives until here.
struct Wait {
  BufferReference buffer;
  int64_t handle = 0;
};

using Action = std::variant<Compute, FillZero, StartBackward, Accumulate, AllReduce, ReduceScatter, AllGather, Send,
                            Receive, Wait>;

struct TimetableEntry {
  Action action;
  /// For messages: "forward model.layers.3 micro-batch 1".
  std::string name;
  int64_t microBatch = -1;
  /// Index of the layer in the whole model, or -1.
  int64_t layerIndex = -1;

  template <typename Kind> Kind *getIf() { return std::get_if<Kind>(&action); }
  template <typename Kind> const Kind *getIf() const { return std::get_if<Kind>(&action); }
};

/// Every buffer that an entry touches, in the order of the runtime function's or body's arguments.
std::vector<BufferReference> buffersOf(const Action &action);
/// The handle of what is under way after this entry, of whatever kind; none where it is done.
std::optional<int64_t> startedHandle(const Action &action);
/// The group that a collective joins; none of what is no collective.
std::optional<int64_t> groupOf(const Action &action);

/// An entry as the runtime walks it: a body or function (`gvrt_…`) by name, its buffers and its constants, in the order
/// of runtime/api/Functions.def.
struct RuntimeCall {
  std::string function;
  std::vector<BufferReference> buffers;
  std::vector<int64_t> constants;
};
RuntimeCall getRuntimeCall(const Action &action);

/// The body after `StartBackward` of 1, which no layer of the program has: whoever emits an object adds it.
inline constexpr llvm::StringLiteral kStartBackwardFunction = "loss_gradient";

} // namespace galvatron

#endif // GALVATRON_SCHEDULE_TIMETABLEENTRY_H
