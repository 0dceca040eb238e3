//===- TimetableRows.h - Lists of timetable.json as rows --------*- C++ -*-===//
//
// Private to lib/Search. Buffers and entries of large programs are a hundred
// thousand objects of few keys and words. As a row one is
//
//   {"kind":"forward","name":"forward model.layers.1 micro-batch 4","micro_batch":4}
//   [2, 0, [17, 4], 4]     shapes[2] is ["kind","name","micro_batch"], words[17] "forward model.layers.1 micro-batch"
//
// that is its shape, then the shape's values. Text is the number of a word, with a
// number behind it where the text ends in a space and that.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_TIMETABLEROWS_H
#define GALVATRON_SEARCH_FORMATS_TIMETABLEROWS_H

#include "JsonReader.h"

#include <map>
#include <string>
#include <vector>

namespace galvatron::search {

/// Turns objects of numbers, texts and lists into rows.
class RowPacker {
public:
  nlohmann::ordered_json pack(const nlohmann::ordered_json &object);
  const nlohmann::ordered_json &getWords() const { return words; }
  const nlohmann::ordered_json &getShapes() const { return shapes; }

private:
  nlohmann::ordered_json packText(const std::string &text);

  nlohmann::ordered_json words = nlohmann::ordered_json::array(), shapes = nlohmann::ordered_json::array();
  std::map<std::string, std::size_t> numberOfWord;
  std::map<std::vector<std::string>, std::size_t> numberOfShape;
};

/// Puts objects in the place of all rows of `timetable`, and takes its words and shapes away; says what is no row of
/// theirs, with stage and element. What has no list of stages, buffers or entries is left as it is.
std::optional<Error> unpackRows(Json &timetable);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_TIMETABLEROWS_H
