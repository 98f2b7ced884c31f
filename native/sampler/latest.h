// The latest reading of one channel: a seqlock, written by the thread that samples, read by anyone, also in another process.
//
// The payload is atomics with release stores and acquire loads instead of fences, so that there is no data race in the
// language's sense (and for TSan); on x86 these are plain moves.
#ifndef SKOS_SAMPLER_LATEST_H_
#define SKOS_SAMPLER_LATEST_H_

#include <atomic>
#include <cstdint>

#include "sampler/reading.h"

namespace skos {

class LatestSlot {
 public:
  // The thread that samples, one at a time.
  void Store(const Reading& reading);
  // Any thread. False while a write is under way. Nothing is said of what the numbers mean: see RegionReader.
  bool TryLoad(Reading* out) const;
  // Any thread of the writer's process. Tries again while a write is under way, which takes nanoseconds.
  Reading Load() const;

  // Owner's thread, before sampling begins.
  void set_stale_after_ns(int64_t ns) { stale_after_ns_.store(ns, std::memory_order_relaxed); }
  // Any thread. An ok reading that is older than this is overdue.
  int64_t stale_after_ns() const { return stale_after_ns_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint32_t> version_{0};  // Odd while a write is under way.
  std::atomic<uint8_t> quality_{static_cast<uint8_t>(Quality::kNoData)};
  std::atomic<int64_t> value_{0};
  std::atomic<int64_t> time_ns_{0};
  std::atomic<int64_t> stale_after_ns_{0};
};

// Both sides of a region must agree on it, and a lock inside would be no lock between processes.
static_assert(sizeof(LatestSlot) == 32 && alignof(LatestSlot) == 8);
static_assert(std::atomic<uint8_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free &&
              std::atomic<int64_t>::is_always_lock_free);

// `reading`, or kStale in its place when it is ok and overdue.
inline Reading OrStale(const Reading& reading, int64_t now_ns, int64_t stale_after_ns) {
  const bool overdue = reading.quality == Quality::kOk && now_ns - reading.time_ns > stale_after_ns;
  return overdue ? Reading{0, reading.time_ns, Quality::kStale} : reading;
}

}  // namespace skos

#endif  // SKOS_SAMPLER_LATEST_H_
