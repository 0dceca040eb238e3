// Text cut into lines and paragraphs. Private to lib/Options.
#ifndef GALVATRON_LIB_OPTIONS_TEXTLINES_H
#define GALVATRON_LIB_OPTIONS_TEXTLINES_H

#include <string>
#include <vector>

namespace galvatron::options {

/// Without the newlines, and without an empty last one.
std::vector<std::string> lines(const std::string &text);

/// What stands between empty lines, each as one line.
std::vector<std::string> paragraphs(const std::string &text);

/// Words in lines of at most `width` characters where that can be; all but the first begin with `indent`, which does
/// not count.
std::string wrap(const std::string &text, std::size_t width, const std::string &indent = "");

} // namespace galvatron::options

#endif // GALVATRON_LIB_OPTIONS_TEXTLINES_H
