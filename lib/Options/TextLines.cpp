// Text cut into lines and paragraphs.
#include "TextLines.h"

#include <sstream>

namespace galvatron::options {

std::vector<std::string> lines(const std::string &text) {
  std::vector<std::string> all;
  std::istringstream rest(text);
  for (std::string line; std::getline(rest, line);)
    all.push_back(line);
  return all;
}

std::vector<std::string> paragraphs(const std::string &text) {
  std::vector<std::string> all;
  bool isNew = true;
  for (const std::string &line : lines(text)) {
    if (!line.empty() && isNew)
      all.push_back(line);
    else if (!line.empty())
      all.back() += " " + line;
    isNew = line.empty();
  }
  return all;
}

std::string wrap(const std::string &text, std::size_t width, const std::string &indent) {
  std::string wrapped, line, word;
  for (std::istringstream rest(text); rest >> word;) {
    if (!line.empty() && line.size() + 1 + word.size() > width) {
      wrapped += line + "\n" + indent;
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return wrapped + line + "\n";
}

} // namespace galvatron::options
