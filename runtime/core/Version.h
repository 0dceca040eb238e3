//===- Version.h - what --version prints -----------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_VERSION_H
#define GALVATRON_RUNTIME_CORE_VERSION_H

namespace galvatron {

inline constexpr const char *kVersion = "0.1.0";
/// When it was, on the pages of the manual.
inline constexpr const char *kVersionDate = "December 1, 2026";

} // namespace galvatron

#endif
