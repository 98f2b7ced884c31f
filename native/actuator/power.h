// Average power from an energy counter, and nothing finer: who watches such a counter closely learns what the CPU computes, keys
// of a crypto library included (CVE-2020-8694, "PLATYPUS"), which is why only root may read it. So a reading is not told, and
// no average over less than a second; a new one comes once in a second, however often it is asked for.
#ifndef SKOS_ACTUATOR_POWER_H_
#define SKOS_ACTUATOR_POWER_H_

#include <cstdint>

#include "sampler/reading.h"

namespace skos::actuator {

// A little more than the second that an average spans at least, so that the sampler's jitter never makes it two.
constexpr int64_t kEnergyPeriodNs = 1'100'000'000;

// Main thread.
class AveragePower {
 public:
  // `max_uj`: where the counter starts again from 0.
  explicit AveragePower(int64_t max_uj) : max_uj_(max_uj) {}

  // The counter's latest reading, as often as one likes: one that was taken within a second of the last used one changes nothing.
  void Take(const Reading& energy_uj);
  // In milliwatts; kNoData before the second reading, kStale when none came for kStaleNs, else the quality of the counter.
  Reading At(int64_t now_ns) const;

 private:
  const int64_t max_uj_;
  bool known_ = false;     // The counter stood at from_uj_ at from_ns_.
  int64_t from_uj_ = 0;
  int64_t from_ns_ = 0;
  Reading average_;
};

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_POWER_H_
