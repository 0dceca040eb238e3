//===- YamlReader.cpp - YAML as JSON --------------------------------------===//
//
// yaml-cpp throws; nothing of that leaves this file. It leaves open what a plain
// scalar is: YAML 1.2's core schema, and Python's None, True and False.
//
//===----------------------------------------------------------------------===//

#include "YamlReader.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

namespace galvatron::search {

namespace {
/// An alias may name what it stands in, or multiply what it names.
constexpr int kMostLevels = 32, kMostValues = 100000;
/// Configurations have a few kilobytes; yaml-cpp keeps a thousand bytes for each value.
constexpr std::size_t kMostBytes = 1 << 20;

[[noreturn]] void fail(const YAML::Node &node, const std::string &message) {
  throw YAML::Exception(node.Mark(), message);
}

Json readScalar(const YAML::Node &node) {
  const std::string &text = node.Scalar();
  if (node.Tag() == "!") // quoted
    return text;
  if (node.Tag() != "?" && !node.Tag().empty())
    fail(node, "has the tag '" + node.Tag() + "', which says nothing here; remove it");
  for (const char *word : {"", "~", "null", "Null", "NULL", "None"})
    if (text == word)
      return nullptr;
  for (const char *word : {"true", "True", "TRUE"})
    if (text == word)
      return true;
  for (const char *word : {"false", "False", "FALSE"})
    if (text == word)
      return false;
  const char *begin = text.data() + (text[0] == '+'), *end = text.data() + text.size();
  std::int64_t whole = 0;
  if (auto [stop, code] = std::from_chars(begin, end, whole); code == std::errc() && stop == end)
    return whole;
  double real = 0;
  if (auto [stop, code] = std::from_chars(begin, end, real); code == std::errc() && stop == end && std::isfinite(real))
    return real;
  return text;
}

Json readNode(const YAML::Node &node, int level, int &values) {
  if (level > kMostLevels || ++values > kMostValues)
    fail(node, "is nested too deeply or has too many values; write aliases out");
  if (node.IsScalar())
    return readScalar(node);
  if (node.IsSequence()) {
    Json list = Json::array();
    for (const YAML::Node &each : node)
      list.push_back(readNode(each, level + 1, values));
    return list;
  }
  if (!node.IsMap())
    return nullptr;
  Json object = Json::object();
  for (const auto &member : node) {
    const YAML::Node &key = member.first;
    if (!key.IsScalar())
      fail(key, "expects a word as key");
    if (!object.emplace(key.Scalar(), readNode(member.second, level + 1, values)).second)
      fail(key, "repeats the key '" + key.Scalar() + "'; keep one");
  }
  return object;
}

/// Whether a document has anything, and where that begins.
class Glance : public YAML::EventHandler {
public:
  void OnDocumentStart(const YAML::Mark &) override { hasValue = false; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark &, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark &mark, YAML::anchor_t) override { note(mark); }
  void OnScalar(const YAML::Mark &mark, const std::string &, YAML::anchor_t, const std::string &) override {
    note(mark);
  }
  void OnSequenceStart(const YAML::Mark &mark, const std::string &, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    note(mark);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark &mark, const std::string &, YAML::anchor_t, YAML::EmitterStyle::value) override {
    note(mark);
  }
  void OnMapEnd() override {}

  YAML::Mark begin;
  bool hasValue = false;

private:
  void note(const YAML::Mark &mark) {
    begin = hasValue ? begin : mark;
    hasValue = true;
  }
};

/// Refuses a second document. `YAML::LoadAll` would do, but there are texts of which it makes documents without end.
void checkDocuments(const std::string &text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  Glance document;
  bool isSecond = false;
  while (parser.HandleNextDocument(document) && document.hasValue) {
    if (isSecond)
      throw YAML::Exception(document.begin, "begins a second document; keep one");
    isSecond = true;
  }
}

/// yaml-cpp sees an illegal value where a tab indents.
bool isIndentedWithTab(std::string_view text, int line) {
  for (; line > 0; --line)
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  std::size_t first = text.find_first_not_of(' ');
  return first != std::string_view::npos && text[first] == '\t';
}
} // namespace

Result<Json> parseYaml(std::string_view text, std::string_view what) {
  if (text.size() > kMostBytes)
    return Error{std::string(what) + " has more than " + std::to_string(kMostBytes >> 20) +
                 " MiB, which no YAML here has"};
  try {
    checkDocuments(std::string(text));
    int values = 0;
    Json json = readNode(YAML::Load(std::string(text)), 0, values);
    return json.is_null() ? Json::object() : json;
  } catch (const YAML::Exception &exception) {
    int line = exception.mark.line;
    // The parser recurses, and ends itself before the stack does.
    if (dynamic_cast<const YAML::DeepRecursion *>(&exception))
      return Error{std::string(what) + " line " + std::to_string(line + 1) + ": is nested too deeply"};
    bool isTab = isIndentedWithTab(text, line);
    return Error{std::string(what) + " line " + std::to_string(line + 1) + ": " +
                 (isTab ? "is indented with a tab; use spaces" : exception.msg)};
  }
}

} // namespace galvatron::search
