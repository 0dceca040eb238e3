#include "Mutations.h"

#include <cstring>
#include <limits>

using Json = nlohmann::ordered_json;

namespace galvatron::fuzz {

uint64_t Random::next() {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

int64_t hostileInteger(Random &random, int64_t near) {
  uint64_t value = 0;
  switch (random.below(6)) {
  case 0:
    return int64_t(random.below(5)) - 2;
  case 1: // the end of a width
    value = uint64_t(1) << random.pick(std::vector<int>{7, 8, 15, 16, 24, 31, 32, 40, 53, 62, 63});
    return int64_t(value + random.below(3) - 1);
  case 2:
    return int64_t(uint64_t(near) + random.below(3) - 1);
  case 3:
    return int64_t(uint64_t(near) * (random.below(16) + 2));
  case 4:
    return int64_t(-uint64_t(near));
  default:
    return int64_t(random.next() >> random.below(64));
  }
}

static Json hostileValue(Random &random, const Json &old) {
  switch (random.below(12)) {
  case 0:
    return nullptr;
  case 1:
    return random.oneIn(2);
  case 2:
    return Json::array();
  case 3:
    return Json::object();
  case 4:
    return std::string(random.below(300), 'a');
  case 5: {
    const std::vector<std::string> words = {"", ".", "..", "../../x", "/etc/passwd", "a/b", "\n", "\x7f", "F32", "u8",
                                            "cpu", "1,2,3", "-1", "99999999999999999999", "2,,2", "nan", "é", "0"};
    return random.pick(words);
  }
  case 6: {
    const std::vector<double> reals = {0.5, -0.0, 1e308, -1e308, 5e-324, 3.7, 1e18, 9223372036854775808.0};
    return random.pick(reals);
  }
  case 7:
    return std::numeric_limits<uint64_t>::max() - random.below(2);
  case 8: { // as deep as some limits
    Json nested = old;
    for (uint64_t depth = random.below(120); depth > 0; --depth)
      nested = random.oneIn(2) ? Json::array({nested}) : Json{{"x", nested}};
    return nested;
  }
  default:
    return hostileInteger(random, old.is_number_integer() ? old.get<int64_t>() : 1);
  }
}

static void collect(Json &value, std::vector<Json *> &all) {
  all.push_back(&value);
  if (value.is_structured())
    for (Json &inner : value)
      collect(inner, all);
}

static void changeMembers(Random &random, Json &object, const Json &other) {
  auto member = object.begin();
  std::advance(member, random.below(object.size()));
  switch (random.below(4)) {
  case 0:
    object.erase(member);
    return;
  case 1:
    object["unknown"] = other;
    return;
  case 2: { // another name for it
    Json value = *member;
    std::string name = member.key();
    object.erase(member);
    object[name.empty() ? "x" : name.substr(1)] = value;
    return;
  }
  default:
    *member = other;
  }
}

static void changeElements(Random &random, Json &list, const Json &other) {
  size_t at = random.below(list.size());
  switch (random.below(4)) {
  case 0:
    list.erase(at);
    return;
  case 1:
    list.insert(list.begin() + at, list[at]);
    return;
  case 2:
    for (uint64_t count = random.below(50); count > 0; --count)
      list.push_back(list[at]);
    return;
  default:
    list[at] = other;
  }
}

void mutateJson(Random &random, Json &root) {
  std::vector<Json *> all;
  collect(root, all);
  Json &target = *random.pick(all);
  Json other = *random.pick(all); // a copy: it may hold the target
  bool isSmall = other.dump().size() < 2000;
  if (target.is_object() && !target.empty() && random.oneIn(2))
    return changeMembers(random, target, isSmall ? other : Json());
  if (target.is_array() && !target.empty() && random.oneIn(2))
    return changeElements(random, target, isSmall ? other : Json());
  Json value = random.oneIn(4) && isSmall ? other : hostileValue(random, target);
  target = value;
}

void mutateText(Random &random, std::string &text) {
  size_t at = random.below(text.size() + 1);
  auto lineAt = [&](size_t place) {
    size_t begin = place == 0 ? std::string::npos : text.rfind('\n', place - 1);
    begin = begin == std::string::npos ? 0 : begin + 1;
    size_t end = text.find('\n', place);
    return text.substr(begin, (end == std::string::npos ? text.size() : end + 1) - begin);
  };
  const std::vector<std::string> pieces = {"[", "]", "{", "}", "<", ">", "(", ")", "\"", "\\", ",", ":", "- ", "? ", "&a ",
                                           "*a", "#", "!", "\n", "\t", "  ", "-", "0", "e9", "\xff", std::string(1, 0),
                                           "\xed\xa0\x80", "null", "true", "->", "%", "@", "=", "...", "---\n", "|\n"};
  switch (random.below(9)) {
  case 0:
    text.resize(at);
    return;
  case 1:
    if (at < text.size())
      text[at] = char(random.below(256));
    return;
  case 2:
    if (at < text.size())
      text.erase(at, 1 + random.below(16));
    return;
  case 3: { // nested further than it should be
    std::string piece = random.pick(pieces), many;
    for (uint64_t count = uint64_t(1) << random.below(13); count > 0; --count)
      many += piece;
    text.insert(at, many);
    return;
  }
  case 4: // a line twice
    text.insert(at, lineAt(at));
    return;
  case 5: { // a number
    size_t digit = text.find_first_of("0123456789", at), end = text.find_first_not_of("0123456789", digit);
    if (digit != std::string::npos)
      text.replace(digit, (end == std::string::npos ? text.size() : end) - digit,
                   std::to_string(hostileInteger(random, std::atoll(text.c_str() + digit))));
    return;
  }
  case 6: { // a part of it elsewhere
    std::string part = text.substr(at, random.below(200));
    text.insert(random.below(text.size() + 1), part);
    return;
  }
  default:
    text.insert(at, random.pick(pieces));
  }
}

std::string mutateDocument(Random &random, const std::string &document) {
  std::string text = document;
  if (!random.oneIn(6)) {
    Json root = Json::parse(document);
    for (uint64_t count = 1 + random.below(4); count > 0; --count)
      mutateJson(random, root);
    text = root.dump(random.oneIn(2) ? -1 : 1, ' ', false, Json::error_handler_t::replace);
    if (!random.oneIn(8))
      return text;
  }
  for (uint64_t count = 1 + random.below(4); count > 0; --count)
    mutateText(random, text);
  return text;
}

void mutateInteger(Random &random, std::string &data, size_t at, size_t bytes) {
  if (at + bytes > data.size())
    return;
  int64_t value = 0;
  std::memcpy(&value, &data[at], bytes);
  value = hostileInteger(random, value);
  std::memcpy(&data[at], &value, bytes);
}

} // namespace galvatron::fuzz
