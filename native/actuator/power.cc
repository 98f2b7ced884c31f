#include "actuator/power.h"

#include "sampler/clock.h"

namespace skos::actuator {
namespace {

constexpr int64_t kMinSpanNs = kNsPerSecond;
// A counter of 262 kJ, the least that Intel has, goes round in some minutes of the largest load: within this span at most once.
constexpr int64_t kMaxSpanNs = 60 * kNsPerSecond;
constexpr int64_t kStaleNs = 5 * kNsPerSecond;
// No package takes 10 kW: such a jump is a counter that was reset, not one that went round.
constexpr int64_t kMaxMilliwatts = 10'000'000;
constexpr double kMilliwattsPerMicrojoulePerNs = 1e6;  // 1 µJ in 1 ns is 1 kW.

}  // namespace

void AveragePower::Take(const Reading& energy_uj) {
  if (energy_uj.time_ns == 0) return;  // A sampler that has just been started.
  const int64_t span_ns = energy_uj.time_ns - from_ns_;
  if (energy_uj.quality != Quality::kOk || energy_uj.value < 0 || energy_uj.value > max_uj_) {
    average_.quality = energy_uj.quality == Quality::kOk ? Quality::kFault : energy_uj.quality;
    average_.time_ns = energy_uj.time_ns;
    average_.value = 0;
    known_ = false;
    return;
  }
  if (known_ && span_ns < kMinSpanNs) return;
  int64_t grown_uj = energy_uj.value - from_uj_;
  if (grown_uj < 0) grown_uj += max_uj_;
  const bool comparable = known_ && span_ns <= kMaxSpanNs;
  known_ = true;
  from_uj_ = energy_uj.value;
  from_ns_ = energy_uj.time_ns;
  average_.time_ns = energy_uj.time_ns;
  const double milliwatts =
      static_cast<double>(grown_uj) / static_cast<double>(comparable ? span_ns : 1) * kMilliwattsPerMicrojoulePerNs;
  const bool plausible = comparable && milliwatts <= static_cast<double>(kMaxMilliwatts);
  average_.quality = plausible ? Quality::kOk : Quality::kNoData;
  average_.value = plausible ? static_cast<int64_t>(milliwatts + 0.5) : 0;
}

Reading AveragePower::At(int64_t now_ns) const {
  Reading reading = average_;
  if (reading.quality == Quality::kOk && now_ns - reading.time_ns > kStaleNs) reading.quality = Quality::kStale;
  return reading;
}

}  // namespace skos::actuator
