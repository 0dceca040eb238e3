// What is measured now and how long it will take.
#include "ProgressLine.h"

#include <algorithm>
#include <cstdio>

namespace galvatron::profile {

void ProgressLine::show(std::size_t done, std::size_t total, const std::string &what, double secondsLeft) {
  Clock::time_point now = Clock::now();
  if (doneBefore == ~std::size_t(0))
    doneBefore = done; // what was resumed took no time
  double since = std::chrono::duration<double>(now - last).count();
  if (isQuiet || since < (isTerminal ? 0.1 : 10))
    return;
  last = now;
  double spent = std::chrono::duration<double>(now - begin).count(), left = secondsLeft;
  if (done > doneBefore)
    left = std::min(left, spent / double(done - doneBefore) * double(total - done));
  int minutes = int(left) / 60, seconds = int(left) % 60;
  if (!isTerminal) {
    std::printf("%zu of %zu, %d:%02d left: %s\n", done, total, minutes, seconds, what.c_str());
    std::fflush(stdout);
    return;
  }
  constexpr int kWidth = 20;
  int full = total ? int(done * kWidth / total) : kWidth;
  std::printf("\r[%s%s] %zu of %zu, %d:%02d left: %s\033[K", std::string(full, '#').c_str(),
              std::string(kWidth - full, ' ').c_str(), done, total, minutes, seconds, what.c_str());
  std::fflush(stdout);
  isShown = true;
}

void ProgressLine::clear() {
  if (isShown)
    std::printf("\r\033[K");
  isShown = false;
}

} // namespace galvatron::profile
