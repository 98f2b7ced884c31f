// One reading of one channel, and its quality. Plain data, shared by every native program; no N-API, no allocation.
#ifndef SKOS_SAMPLER_READING_H_
#define SKOS_SAMPLER_READING_H_

#include <cstdint>

namespace skos {

// The order is the contract with QUALITIES in src/core/channel.ts.
enum class Quality : uint8_t {
  kOk = 0,      // The only quality that carries a value.
  kNoData = 1,  // Absent: no such file, sensor switched off (ENODATA, ENXIO), device gone (ENODEV).
  kStale = 2,   // Was read once, is overdue now.
  kFault = 3,   // The device or driver says it is broken (EIO, *_fault), or what it says is no number.
  kHung = 4,    // The read did not return before its deadline; its hazard domain is quarantined.
};

struct Reading {
  int64_t value = 0;    // Canonical integer; 0 and meaningless unless quality is kOk.
  int64_t time_ns = 0;  // CLOCK_MONOTONIC when the read returned (when it was given up, for kHung). 0: never read.
  Quality quality = Quality::kNoData;
};

}  // namespace skos

#endif  // SKOS_SAMPLER_READING_H_
