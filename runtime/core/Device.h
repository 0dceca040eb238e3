//===- Device.h - what the core asks of a device library beside Functions.def --------------------===//
//
// The core does not link a device: a stage binary links both, and the core finds the device's symbols at start. So one
// core serves every device, and a device is one shared library.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_DEVICE_H
#define GALVATRON_RUNTIME_CORE_DEVICE_H

#include "runtime/core/Context.h"
#include "runtime/core/Status.h"

namespace galvatron {

struct Manifest;
struct Options;

/// What one rank knows after a timetable: its share of the global loss and of Σ g² of scaled gradients, its memory, and
/// what of the batch there is to learn from: Σ |total| over the program's totals, negative on a rank that has none; and
/// whether it wants to end.
struct StepSums {
  double loss = 0, squares = 0, labels = -1;
  int64_t peakBytes = 0;
  int64_t wantedEnd = 0;   // gvrt_context::wantedEnd
  bool overflowed = false; // of all ranks: there is no update, as scaled gradients are not finite
};

/// From device memory to memory of `DeviceHooks::allocateHost`.
struct DeviceCopy {
  char *to;
  const char *from;
  int64_t bytes;
};

/// When an entry ran on the device, in nanoseconds of the host's steady clock; what it started beside compute, if
/// anything.
struct EntryTime {
  int64_t begin = 0, end = 0;
  int64_t besideBegin = 0, besideEnd = 0; // 0: nothing
};

struct DeviceHooks {
  /// One line for people: device, libraries, the kernels they chose. Valid for the process' life.
  const char *(*describe)();
  /// The one way to device memory: counts into the context; aligned to a huge page where that can help. Null if
  /// refused.
  void *(*allocate)(gvrt_context *context, int64_t bytes);
  void (*release)(gvrt_context *context, void *memory, int64_t bytes);
  /// `from` may be written again once this returns; of `allocateHost`, once what was issued is done.
  void (*copyToDevice)(gvrt_context *context, void *to, const void *from, int64_t bytes);
  void (*copyToHost)(gvrt_context *context, void *to, const void *from, int64_t bytes);
  /// Waits for everything issued.
  void (*synchronize)(gvrt_context *context);
  /// Makes and frees the communicators of context->groups and the two pipeline channels. Collective.
  void (*connect)(gvrt_context *context);
  void (*disconnect)(gvrt_context *context);

  // All null on a device where the core drives every entry and every update from the host.

  /// Collective, before anything is allocated: whether this machine can run the program, else a sentence for the user.
  Status (*prepare)(gvrt_context *context, const Manifest &manifest, const Options &options) = nullptr;
  /// Once the arena and the communicators are there.
  void (*start)(gvrt_context *context, const Manifest &manifest, const Options &options, char *arena) = nullptr;
  /// Issues one timetable, step context->step with learning rate `rate`. walk(argument) calls all its entries in order;
  /// this may happen several times, or not at all where the device repeats what it recorded.
  void (*run)(gvrt_context *context, double rate, void (*walk)(void *argument), void *argument) = nullptr;
  /// Likewise, but entry by entry from the host, and what an entry computes is there when the next one is called.
  void (*runOneByOne)(gvrt_context *context, double rate, void (*walk)(void *argument), void *argument) = nullptr;
  /// Sums, clipping and the update of all parameters, after `run`; waits for every rank's sums and gives them, while
  /// the update may still run. Where one of them is not finite, or no rank knows of a label, nothing is updated.
  /// Collective.
  std::vector<StepSums> (*update)(gvrt_context *context) = nullptr;
  /// Host memory that the device copies to beside compute; null if there is none.
  void *(*allocateHost)(gvrt_context *context, int64_t bytes) = nullptr;
  void (*releaseHost)(gvrt_context *context, void *memory) = nullptr;
  /// Starts copying what is there once all that was issued is done, beside what comes; the next update waits for it.
  void (*startCopies)(gvrt_context *context, const DeviceCopy *copies, int64_t count) = nullptr;
  /// Whether those are done.
  bool (*areCopied)(gvrt_context *context) = nullptr;
  /// For --trace, null where the host's clock says when entries ran: waits for all that is under way, and the next `run`
  /// is of a traced step. Then, once that is over, the times of its entries by number; returns by how much they may be
  /// off against the host's clock, in nanoseconds.
  void (*traceNext)(gvrt_context *context) = nullptr;
  double (*readTimes)(gvrt_context *context, std::vector<EntryTime> &times) = nullptr;
  /// What this process takes of the device's memory, as the device reports it, in bytes; `allocate`'s included.
  int64_t (*bytesInUse)(gvrt_context *context) = nullptr;
};

/// Functions that the core calls by name; null where the device has none.
struct Device {
  const DeviceHooks *hooks = nullptr;
  gvrt_function squareSum = nullptr, adamw = nullptr, sgd = nullptr, convert = nullptr;

  /// Finds the device among the loaded libraries; false if there is none.
  static bool find(Device &device);
};

} // namespace galvatron

/// Exported by every device library.
extern "C" const galvatron::DeviceHooks *gvrt_device_hooks(void);

#endif
