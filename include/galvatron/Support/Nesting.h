// How deep the text of a program nests, before MLIR's parser sees it: the parser, its printer and its walks recurse.
#ifndef GALVATRON_SUPPORT_NESTING_H
#define GALVATRON_SUPPORT_NESTING_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace galvatron {

/// Brackets of all kinds, signs of one operand, and aliases (#a, !a) of what nests itself. Programs of this compiler
/// have up to some 20.
inline constexpr int kMaxNesting = 256;

/// Programs name their weights; a text of constants alone has no more.
inline constexpr int64_t kMaxProgramBytes = int64_t(1) << 30;

/// The text of a program, of at most kMaxProgramBytes that nest no deeper than kMaxNesting; "-" is standard input. Or
/// nothing, and a sentence in `error` that names the file.
std::optional<std::string> readProgram(const std::string &path, std::string &error);

/// "line 3 nests more than 256 deep", or nothing. Strings and comments do not count.
std::string findDeepNesting(std::string_view program);

} // namespace galvatron

#endif // GALVATRON_SUPPORT_NESTING_H
