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

const Loops *const *supportedLoops() {
  static const Loops *tables[4] = {};
  int count = 0;
#ifdef GALVATRON_X86_LOOPS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    tables[count++] = &avx512::kLoops;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    tables[count++] = &avx2::kLoops;
#endif
  tables[count] = &baseline::kLoops;
  return tables;
}

const Loops &loops() {
  static const Loops &best = *supportedLoops()[0];
  return best;
}

} // namespace galvatron
