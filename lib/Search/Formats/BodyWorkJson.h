//===- BodyWorkJson.h - What a body calls, as JSON --------------*- C++ -*-===//
//
//   {"kernels": [{"count": 2, "flops": 1e9, "bytes": 1e6, "product": true}, …],
//    "messages": [{"kind": "all_reduce", "count": 2, "bytes": 1e6, "ranks": 2}, …]}
//
// What is 0, false or 1 (of count) need not stand there.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_BODYWORKJSON_H
#define GALVATRON_SEARCH_FORMATS_BODYWORKJSON_H

#include "JsonReader.h"
#include "galvatron/Search/Model/BodyWork.h"

namespace galvatron::search {

nlohmann::ordered_json writeWork(const BodyWork &work);
/// The member `key`; what is wrong there fails `parent`.
BodyWork readWork(JsonReader &parent, const char *key);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_BODYWORKJSON_H
