//===- GalvatronRuntime.h - the C ABI between stage binaries and runtime --===//
//
// All that a compiled stage sees. A stage object defines one constant `gvrt_program` and a `main` that hands it to
// `gvrt_main`. Every function a stage may call, bodies that the compiler generated and functions of the device library
// alike, has one signature (`gvrt_function`), so that the timetable is a constant table and a device is a shared
// library that exports the names of Functions.def.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_API_GALVATRONRUNTIME_H
#define GALVATRON_RUNTIME_API_GALVATRONRUNTIME_H

#include "ElementType.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GVRT_ABI_VERSION 4

/// A cache line, in bytes: the arena, every buffer of it, and every value in scratch and in what a layer saves begin at a
/// multiple of it. Kernels rely on it.
#define GVRT_BUFFER_ALIGNMENT 64

/// Of one rank: its place in the mesh, communicators, step counters, device state. Opaque to compiled code.
typedef struct gvrt_context gvrt_context;

/// `buffers`: device addresses, in the order that Functions.def (or the body's signature) gives; null where an optional
/// one is absent. `attributes`: constants, 64 bits each; a double travels as its bit pattern. A backward body gets one
/// for each parameter: whether its gradient is added to what is there (1) or written (0). Asynchronous where the
/// device has streams. Reports a failure through the context (the rank ends with a message naming stage and op), never
/// by returning.
typedef void (*gvrt_function)(gvrt_context *context, void *const *buffers, const int64_t *attributes);

/// The words of an entry of the timetable, in order; buffers' offsets follow, then attributes.
enum gvrt_entry_word {
  GVRT_ENTRY_WORDS, /* of the whole entry */
  GVRT_ENTRY_FUNCTION,
  GVRT_ENTRY_NAME,
  GVRT_ENTRY_MICRO_BATCH,
  GVRT_ENTRY_LAYER,
  GVRT_ENTRY_NUM_BUFFERS,
  GVRT_ENTRY_FIRST_BUFFER
};

/// What one stage executes. Everything is constant and position independent.
typedef struct {
  int64_t abi_version;
  /// JSON, docs/runtime.md says its fields: place in the pipeline, arena, parameters, inputs, groups, names.
  const char *manifest;
  /// Called by index from the timetable.
  const gvrt_function *functions;
  int64_t num_functions;
  /// One step up to the reduced gradients, as a flat list of entries, each the words of `gvrt_entry_word`, then
  ///   offset…, attribute…
  /// `offset` is in bytes from the start of the arena, -1 for null; `name` indexes the manifest's "names" and `layer`
  /// its "units" (-1: none).
  const int64_t *timetable;
  int64_t timetable_words;
  /// Device code that the compiler generated for this stage: PTX text, its null included in the count, or a cubin. Null
  /// where the device is the processor. Kernel k is named `kernel_<k>`; its parameters are 64-bit device pointers.
  const char *kernels;
  int64_t kernels_bytes;
  /// The forwards of a step alone, up to the loss, as `timetable` has its entries: on the same arena, in which it leaves
  /// alone all that lives between steps. Null: the program cannot evaluate.
  const int64_t *evaluation;
  int64_t evaluation_words;
} gvrt_program;

/// The `main` of every stage binary: parses options, trains, returns the process' exit code.
int gvrt_main(int argc, char **argv, const gvrt_program *program);

#ifdef __cplusplus
}
#endif

#endif
