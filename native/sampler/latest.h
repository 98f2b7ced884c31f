// The latest reading of each channel: one seqlock per channel, written by the thread that reads it, read by anyone.
//
// The payload is atomics with release stores and acquire loads instead of fences, so that there is no data race in the
// language's sense (and for TSan); on x86 these are plain moves.
#ifndef SKOS_SAMPLER_LATEST_H_
#define SKOS_SAMPLER_LATEST_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "sampler/reading.h"

namespace skos {

class LatestReadings {
 public:
  explicit LatestReadings(size_t channels) : slots_(new Slot[channels]) {}

  // The thread that samples, one at a time.
  void Store(size_t channel, const Reading& reading);
  // Any thread. Tries again while a write is under way, which takes nanoseconds.
  Reading Load(size_t channel) const;

 private:
  struct Slot {
    std::atomic<uint32_t> version{0};  // Odd while a write is under way.
    std::atomic<uint8_t> quality{static_cast<uint8_t>(Quality::kNoData)};
    std::atomic<int64_t> value{0};
    std::atomic<int64_t> time_ns{0};
  };

  std::unique_ptr<Slot[]> slots_;
};

}  // namespace skos

#endif  // SKOS_SAMPLER_LATEST_H_
