// The one clock of the sampler: CLOCK_MONOTONIC, the same as process.hrtime() in Node.js.
#ifndef SKOS_SAMPLER_CLOCK_H_
#define SKOS_SAMPLER_CLOCK_H_

#include <time.h>

#include <cstdint>

namespace skos {

constexpr int64_t kNsPerSecond = 1'000'000'000;

inline int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * kNsPerSecond + now.tv_nsec;
}

inline timespec ToTimespec(int64_t ns) {
  timespec out;
  out.tv_sec = static_cast<time_t>(ns / kNsPerSecond);
  out.tv_nsec = static_cast<long>(ns % kNsPerSecond);
  return out;
}

}  // namespace skos

#endif  // SKOS_SAMPLER_CLOCK_H_
