//===- InputNames.h - what a step can be given, by the names that compiler, runtime and files have for it ----===//
#ifndef GALVATRON_RUNTIME_API_INPUTNAMES_H
#define GALVATRON_RUNTIME_API_INPUTNAMES_H

#include <string_view>

namespace galvatron {

/// In the order of the arguments of `@step`. The last two, of packed rows: the place of a token in its document, and
/// the document in its row, from 0; a program has both or neither.
inline constexpr std::string_view kInputNames[] = {"input_ids", "labels", "positions", "documents"};

} // namespace galvatron

#endif
