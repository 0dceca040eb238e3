//===- Loops.cpp - picks the instruction set ----------------------------------===//
#include "runtime/kernels/Loops.h"

namespace galvatron {

namespace baseline {
extern const Loops kLoops;
}
#ifdef GALVATRON_X86_LOOPS
namespace avx2 {
extern const Loops kLoops;
}
namespace avx512 {
extern const Loops kLoops;
}
#endif

static const Loops &choose() {
#ifdef GALVATRON_X86_LOOPS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return avx512::kLoops;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return avx2::kLoops;
#endif
  return baseline::kLoops;
}

const Loops &loops() {
  static const Loops &chosen = choose();
  return chosen;
}

} // namespace galvatron
