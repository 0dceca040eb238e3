// A prepared folder: of one model, programs of its layers for every length, which galvatron-opt compiled.
//
//   FOLDER/seq4096/made_of       what it was made of: another model, version, target or precision makes it anew
//   FOLDER/seq4096/bodies.json   galvatron/Search/Formats/PreparedModel.h, and its libraries beside it
#ifndef GALVATRON_LIB_PROFILE_PREPARE_H
#define GALVATRON_LIB_PROFILE_PREPARE_H

#include "Bodies.h"
#include "Options.h"

#include <string>
#include <vector>

namespace galvatron::profile {

bool isPreparedFolder(const std::string &path);

/// Where the options' model is prepared: itself, the folder of --prepare, or DIR/prepared.
std::string preparedFolder(const Options &options);

/// Compiles what is not there yet, for groups of up to `ranks` ranks, with the tools beside this one. A folder that is
/// prepared already stays as it is. The error names what is missing or what the compiler said.
std::optional<search::Error> prepareModel(const Options &options, std::int64_t ranks);

/// What a prepared folder holds of the options' lengths and samples, all of it without them.
struct Prepared {
  search::ProfiledModel model; ///< of the first length
  std::vector<BodyGroup> groups;
  std::vector<search::PlannedBody> planned;
  std::vector<std::string> leftOut; ///< what the compiler refused, and why
};
search::Result<Prepared> readPrepared(const Options &options, std::int64_t ranks);

} // namespace galvatron::profile

#endif
