//===- TimetableRows.cpp - Lists of timetable.json as rows ----------------===//

#include "TimetableRows.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace galvatron::search {

using OrderedJson = nlohmann::ordered_json;

/// Keys of buffers and entries whose values are text.
static constexpr std::array<std::string_view, 6> kTexts = {"kind", "name", "unit", "stream", "category", "body"};
/// Digits of a number behind a word.
static constexpr std::size_t kMostDigits = 9;

static bool isText(std::string_view key) { return std::find(kTexts.begin(), kTexts.end(), key) != kTexts.end(); }

/// Where a number begins that `text` ends in, after a space; npos: it ends in none that is written so.
static std::size_t findNumber(const std::string &text) {
  std::size_t space = text.rfind(' ');
  if (space == std::string::npos)
    return space;
  std::size_t digits = text.size() - space - 1;
  bool isNumber = digits > 0 && digits <= kMostDigits && (digits == 1 || text[space + 1] != '0') &&
                  std::all_of(text.begin() + std::ptrdiff_t(space) + 1, text.end(),
                              [](unsigned char each) { return std::isdigit(each); });
  return isNumber ? space + 1 : std::string::npos;
}

OrderedJson RowPacker::packText(const std::string &text) {
  std::size_t number = findNumber(text);
  std::string word = number == std::string::npos ? text : text.substr(0, number - 1);
  auto [at, isNew] = numberOfWord.try_emplace(word, words.size());
  if (isNew)
    words.push_back(word);
  if (number == std::string::npos)
    return at->second;
  return OrderedJson::array({at->second, std::stoll(text.substr(number))});
}

OrderedJson RowPacker::pack(const OrderedJson &object) {
  std::vector<std::string> keys;
  OrderedJson row = OrderedJson::array({0});
  for (const auto &item : object.items()) {
    keys.push_back(item.key());
    row.push_back(isText(item.key()) ? packText(item.value().get<std::string>()) : item.value());
  }
  auto [at, isNew] = numberOfShape.try_emplace(keys, shapes.size());
  if (isNew)
    shapes.push_back(keys);
  row[0] = at->second;
  return row;
}

namespace {
class RowUnpacker {
public:
  explicit RowUnpacker(Json &timetable) : timetable(timetable) {}
  std::optional<Error> run();

private:
  std::optional<Error> takeTexts(const char *key, Json &list);
  std::optional<Error> takeTables();
  std::optional<std::string> findText(const Json &value) const;
  std::optional<Error> unpack(Json &row, const std::string &where) const;

  Json &timetable;
  Json words, shapes;
};

bool areTexts(const Json &list) {
  return list.is_array() && std::all_of(list.begin(), list.end(), [](const Json &each) { return each.is_string(); });
}

/// The element of `list` that `number` is the number of; null: of none.
const Json *findElement(const Json &list, const Json &number) {
  bool isThere = number.is_number_integer() && number >= 0 && number < list.size();
  return isThere ? &list[number.get<std::size_t>()] : nullptr;
}
} // namespace

std::optional<Error> RowUnpacker::takeTables() {
  auto take = [&](const char *key, Json &list) {
    auto at = timetable.find(key);
    if (at == timetable.end())
      return false;
    list = std::move(*at);
    timetable.erase(at);
    return true;
  };
  if (!take("words", words) || !areTexts(words))
    return Error{"timetable key 'words' expects a list of texts, but got " + describeJson(words)};
  if (!take("shapes", shapes) || !shapes.is_array() || !std::all_of(shapes.begin(), shapes.end(), areTexts))
    return Error{"timetable key 'shapes' expects lists of keys, but got " + describeJson(shapes)};
  return std::nullopt;
}

std::optional<std::string> RowUnpacker::findText(const Json &value) const {
  bool hasNumber = value.is_array() && value.size() == 2 && value[1].is_number_integer() && value[1] >= 0;
  const Json *word = findElement(words, hasNumber ? value[0] : value);
  if (!word)
    return std::nullopt;
  return word->get<std::string>() + (hasNumber ? " " + value[1].dump() : "");
}

std::optional<Error> RowUnpacker::unpack(Json &row, const std::string &where) const {
  const Json *shape = row.is_array() && !row.empty() ? findElement(shapes, row[0]) : nullptr;
  if (!shape || row.size() != shape->size() + 1)
    return Error{where + " expects a row: the number of one of " + std::to_string(shapes.size()) +
                 " shapes, then its values, but got " + describeJson(row)};
  Json object = Json::object();
  for (std::size_t at = 0; at < shape->size(); ++at) {
    const std::string &key = (*shape)[at].get_ref<const std::string &>();
    Json &value = row[at + 1];
    if (isText(key)) {
      std::optional<std::string> text = findText(value);
      if (!text)
        return Error{where + " key '" + key + "' expects the number of one of " + std::to_string(words.size()) +
                     " words, but got " + describeJson(value)};
      value = std::move(*text);
    }
    if (!object.emplace(key, std::move(value)).second)
      return Error{where + " has a shape with the key '" + key + "' twice"};
  }
  row = std::move(object);
  return std::nullopt;
}

std::optional<Error> RowUnpacker::run() {
  if (std::optional<Error> error = takeTables())
    return error;
  auto stages = timetable.find("stages");
  for (std::size_t stage = 0; stages != timetable.end() && stages->is_array() && stage < stages->size(); ++stage)
    for (auto [key, element] : {std::pair{"buffers", "buffer"}, std::pair{"entries", "entry"}}) {
      Json &owner = (*stages)[stage];
      auto list = owner.is_object() ? owner.find(key) : owner.end();
      for (std::size_t at = 0; list != owner.end() && list->is_array() && at < list->size(); ++at)
        if (std::optional<Error> error = unpack((*list)[at], "timetable stage " + std::to_string(stage) + " " +
                                                                 element + " " + std::to_string(at)))
          return error;
    }
  return std::nullopt;
}

std::optional<Error> unpackRows(Json &timetable) { return RowUnpacker(timetable).run(); }

} // namespace galvatron::search
