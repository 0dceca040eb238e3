//===- Status.h - success, or one sentence for the user ----------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_STATUS_H
#define GALVATRON_RUNTIME_CORE_STATUS_H

#include <sstream>
#include <string>
#include <utility>

namespace galvatron {

/// Empty message: success.
struct [[nodiscard]] Status {
  std::string message;
  bool isForGood = false; // of an error: to try again would give it again

  bool ok() const { return message.empty(); }

  /// error("expects ", a, ", but got ", b)
  template <typename... Parts> static Status error(const Parts &...parts) {
    std::ostringstream text;
    (text << ... << parts);
    return {text.str()};
  }
  static Status success() { return {}; }
  /// Of an error in what an option names: says which, unless it begins with an option itself.
  Status about(const std::string &option) && {
    if (!ok() && !message.starts_with("--"))
      message = option + ": " + message;
    return std::move(*this);
  }
  Status forGood() && {
    isForGood = true;
    return std::move(*this);
  }
};

} // namespace galvatron

#endif
