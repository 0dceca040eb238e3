// DIR/profile.journal: a line for each measurement as soon as it is done, so that nothing is measured twice.
#ifndef GALVATRON_LIB_PROFILE_JOURNAL_H
#define GALVATRON_LIB_PROFILE_JOURNAL_H

#include "galvatron/Search/Model/MachineProfile.h"
#include "galvatron/Search/Model/Result.h"

#include <optional>
#include <string>

namespace galvatron::profile {

/// A file written at once: beside its place, synced, renamed. The error names it.
std::optional<search::Error> replaceFile(const std::string &path, const std::string &text);

/// Of rank 0 alone. The first line says of which machine it is; a last line that is torn is dropped.
class Journal {
public:
  Journal() = default;
  Journal(const Journal &) = delete;
  ~Journal();

  /// Opens or begins it in `folder`, which it makes. `profile` is of this machine, without figures, with the model that
  /// is measured, if one is; it gets figures that a finished profile and the journal there have. `restart` drops both.
  /// Errors: another machine's or model's, a folder that cannot be written, somebody else's who measures there now.
  std::optional<search::Error> open(const std::string &folder, search::MachineProfile &profile, bool restart);
  /// A line, on the disk when this returns.
  std::optional<search::Error> add(const std::string &line);
  /// Everything is elsewhere, or nothing is to be kept.
  void remove();

private:
  std::optional<search::Error> readLines(const search::MachineProfile &machine, search::MachineProfile &profile);

  bool wasRestarted() const;

  std::string path;
  int file = -1;
  bool isAnew = false; ///< a finished profile does not count
};

} // namespace galvatron::profile

#endif
