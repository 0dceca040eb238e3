// What compiled code and the runtime must agree on, as one number: the version of GalvatronRuntime.h and a hash of
// Functions.def, whose constants are read by place.
#ifndef GALVATRON_RUNTIME_API_ABI_H
#define GALVATRON_RUNTIME_API_ABI_H

#include "GalvatronRuntime.h"

#include <string>
#include <string_view>

namespace galvatron {

/// FNV-1a, 32 bits.
constexpr uint32_t hashOf(std::string_view text) {
  uint32_t hash = 2166136261u;
  for (char byte : text)
    hash = (hash ^ (unsigned char)byte) * 16777619u;
  return hash;
}

#define GVRT_FUNCTION(name, buffers, attributes) #name "(" buffers ";" attributes ")"
inline constexpr int64_t kAbi = int64_t(GVRT_ABI_VERSION) << 32 | hashOf(
#include "Functions.def"
                                                                  );
#undef GVRT_FUNCTION

/// "3.1f00c0de": version and functions.
inline std::string abiText(int64_t abi) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string functions;
  for (int shift = 28; shift >= 0; shift -= 4)
    functions += kDigits[abi >> shift & 15];
  return std::to_string(abi >> 32) + "." + functions;
}

} // namespace galvatron

#endif
