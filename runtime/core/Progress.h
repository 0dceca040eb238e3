//===- Progress.h - what a rank's main thread tells its watchdog ----------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_PROGRESS_H
#define GALVATRON_RUNTIME_CORE_PROGRESS_H

#include <atomic>
#include <cstdint>

namespace galvatron {

/// Written by one thread, read by another.
class Progress {
public:
  /// An entry, a collective, a piece of a file is done.
  void beat() { beats.store(beats.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
  int64_t count() const { return beats.load(std::memory_order_relaxed); }
  /// What is waited for that other ranks do, null if nothing is.
  const char *waitsFor() const { return wait.load(std::memory_order_relaxed); }

private:
  friend class Waiting;

  std::atomic<int64_t> beats{0};
  std::atomic<const char *> wait{nullptr};
};

/// While it lives, the thread waits for other ranks: what it does with its core then is no progress.
class Waiting {
public:
  Waiting(Progress &progress, const char *forWhat) : progress(progress), before(progress.waitsFor()) {
    progress.wait.store(forWhat, std::memory_order_relaxed);
  }
  ~Waiting() {
    progress.beat();
    progress.wait.store(before, std::memory_order_relaxed);
  }
  Waiting(const Waiting &) = delete;

private:
  Progress &progress;
  const char *before;
};

} // namespace galvatron

#endif
