#include "sampler/latest.h"

namespace skos {

void LatestSlot::Store(const Reading& reading) {
  const uint32_t version = version_.load(std::memory_order_relaxed);
  version_.store(version + 1, std::memory_order_relaxed);
  quality_.store(static_cast<uint8_t>(reading.quality), std::memory_order_release);
  value_.store(reading.value, std::memory_order_release);
  time_ns_.store(reading.time_ns, std::memory_order_release);
  version_.store(version + 2, std::memory_order_release);
}

bool LatestSlot::TryLoad(Reading* out) const {
  const uint32_t before = version_.load(std::memory_order_acquire);
  out->quality = static_cast<Quality>(quality_.load(std::memory_order_acquire));
  out->value = value_.load(std::memory_order_acquire);
  out->time_ns = time_ns_.load(std::memory_order_acquire);
  // Whoever saw one new field sees the odd version too: the field's release store came after it.
  return (before & 1) == 0 && version_.load(std::memory_order_relaxed) == before;
}

Reading LatestSlot::Load() const {
  Reading reading;
  while (!TryLoad(&reading)) {
  }
  return reading;
}

}  // namespace skos
