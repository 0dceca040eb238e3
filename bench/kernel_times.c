/* Times every call that a stage makes into its device library, without a change to either:
 *
 *   cc -O2 -shared -fPIC -I <tree> bench/kernel_times.c -o kernel_times.so
 *   LD_PRELOAD=./kernel_times.so model/stage0 --steps 5
 *
 * At exit it writes `function calls seconds` lines to the file named by KERNEL_TIMES. What is left of a step are the loops
 * that the compiler wrote into the stage itself, and the runtime's bookkeeping.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef void (*Function)(void *context, void *const *buffers, const int64_t *attributes);

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

enum {
#define GVRT_FUNCTION(name, buffers, attributes) k_##name,
#include "runtime/api/Functions.def"
#undef GVRT_FUNCTION
  kCount
};

static const char *const kNames[] = {
#define GVRT_FUNCTION(name, buffers, attributes) #name,
#include "runtime/api/Functions.def"
#undef GVRT_FUNCTION
};
static double total[kCount];
static long calls[kCount];

#define GVRT_FUNCTION(name, buffers, attributes)                                                                       \
  void gvrt_##name(void *context, void *const *buffer, const int64_t *attribute) {                                     \
    static Function next;                                                                                              \
    if (!next)                                                                                                         \
      next = (Function)dlsym(RTLD_NEXT, "gvrt_" #name);                                                                \
    double start = seconds();                                                                                          \
    next(context, buffer, attribute);                                                                                  \
    total[k_##name] += seconds() - start;                                                                              \
    ++calls[k_##name];                                                                                                 \
  }
#include "runtime/api/Functions.def"
#undef GVRT_FUNCTION

__attribute__((destructor)) static void writeTimes(void) {
  // Helpers that MPI starts inherit the environment, and call nothing.
  long all = 0;
  for (int i = 0; i < kCount; ++i)
    all += calls[i];
  const char *path = getenv("KERNEL_TIMES");
  FILE *file = path && all ? fopen(path, "w") : NULL;
  if (!file)
    return;
  for (int i = 0; i < kCount; ++i)
    if (calls[i])
      fprintf(file, "%s %ld %.9f\n", kNames[i], calls[i], total[i]);
  fclose(file);
}
