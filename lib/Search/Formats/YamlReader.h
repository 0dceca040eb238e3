//===- YamlReader.h - The YAML that configurations use ----------*- C++ -*-===//
//
// Private to lib/Search, which depends on the standard library and JSON only.
// Reads the subset that configuration files are written in: nested mappings
// and lists by indentation, flow lists and mappings on one line, plain and
// quoted scalars, comments. Anchors, tags, multi-line scalars and several
// documents are errors that name the line.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_YAMLREADER_H
#define GALVATRON_SEARCH_FORMATS_YAMLREADER_H

#include "JsonReader.h"

namespace galvatron::search {

Result<Json> parseYaml(std::string_view text, std::string_view what);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_YAMLREADER_H
