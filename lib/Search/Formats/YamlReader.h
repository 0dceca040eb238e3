//===- YamlReader.h - YAML as JSON ------------------------------*- C++ -*-===//
//
// Private to lib/Search. Configurations come in YAML or in JSON; one strict reader
// (JsonReader.h) serves both.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_YAMLREADER_H
#define GALVATRON_SEARCH_FORMATS_YAMLREADER_H

#include "JsonReader.h"

namespace galvatron::search {

/// The one document of a text; an empty text is an empty object. Error: names the line; a key that occurs twice,
/// several documents, and nesting without end (aliases) are errors too.
Result<Json> parseYaml(std::string_view text, std::string_view what);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_YAMLREADER_H
