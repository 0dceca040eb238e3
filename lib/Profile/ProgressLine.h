// What is measured now and how long it will take, for people: a bar on a terminal, else a line now and then.
#ifndef GALVATRON_LIB_PROFILE_PROGRESSLINE_H
#define GALVATRON_LIB_PROFILE_PROGRESSLINE_H

#include <chrono>
#include <cstddef>
#include <string>

namespace galvatron::profile {

class ProgressLine {
public:
  ProgressLine(bool isQuiet, bool isTerminal) : isQuiet(isQuiet), isTerminal(isTerminal) {}
  ~ProgressLine() { clear(); }

  /// `secondsLeft`: at most, of the time limit.
  void show(std::size_t done, std::size_t total, const std::string &what, double secondsLeft);
  void clear();

private:
  using Clock = std::chrono::steady_clock;
  bool isQuiet, isTerminal, isShown = false;
  Clock::time_point begin = Clock::now(), last = begin - std::chrono::hours(1);
  std::size_t doneBefore = ~std::size_t(0);
};

} // namespace galvatron::profile

#endif
