//===- Version.h - what --version prints -----------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_VERSION_H
#define GALVATRON_RUNTIME_CORE_VERSION_H

namespace galvatron {

inline constexpr const char *kVersion = "0.1.0";

} // namespace galvatron

#endif
