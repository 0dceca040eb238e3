//===- Files.h - what a disk is asked, without exceptions ----------------------------------------===//
//
// std::filesystem throws where a disk cannot tell (no right, a loop of links, a name too long, a failing disk), which
// is not the same as that nothing is there. Here the first is an error with its reason.
//
//===---------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_FILES_H
#define GALVATRON_RUNTIME_CORE_FILES_H

#include "runtime/core/World.h"

#include <filesystem>

namespace galvatron {

/// Whether something has this name, links followed.
Status lookFor(const std::filesystem::path &path, bool &isThere);

/// Collective: likewise, and an error where only some ranks see it, so that all do the same next.
Status lookTogether(const World &world, const std::filesystem::path &path, bool &isThere);

/// The paths in a folder in any order; none where there is no folder.
Status listFolder(const std::filesystem::path &folder, std::vector<std::filesystem::path> &paths);

/// Brings what was written to a file, or the names in a folder, to the disk.
Status synchronize(const std::filesystem::path &path);

/// The text of a file; empty where there is none.
std::string readText(const std::filesystem::path &path);

/// A new file of this text, on the disk.
Status writeText(const std::filesystem::path &path, const std::string &text);

} // namespace galvatron

#endif
