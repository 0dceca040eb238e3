//===- MachineProfile.cpp - What was measured of a machine ----------------===//

#include "galvatron/Search/Model/MachineProfile.h"

#include <cstdio>

namespace galvatron::search {

std::string MachineProfile::fingerprintHash() const {
  std::uint64_t hash = 14695981039346656037ull; // FNV-1a, 64 bits: offset basis and prime
  for (const auto &[name, value] : fingerprint)
    for (char c : name + "=" + value + "\n")
      hash = (hash ^ std::uint8_t(c)) * 1099511628211ull;
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
  return text;
}

} // namespace galvatron::search
