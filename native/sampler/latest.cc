#include "sampler/latest.h"

namespace skos {

void LatestReadings::Store(size_t channel, const Reading& reading) {
  Slot& slot = slots_[channel];
  const uint32_t version = slot.version.load(std::memory_order_relaxed);
  slot.version.store(version + 1, std::memory_order_relaxed);
  slot.quality.store(static_cast<uint8_t>(reading.quality), std::memory_order_release);
  slot.value.store(reading.value, std::memory_order_release);
  slot.time_ns.store(reading.time_ns, std::memory_order_release);
  slot.version.store(version + 2, std::memory_order_release);
}

Reading LatestReadings::Load(size_t channel) const {
  const Slot& slot = slots_[channel];
  for (;;) {
    const uint32_t before = slot.version.load(std::memory_order_acquire);
    Reading reading;
    reading.quality = static_cast<Quality>(slot.quality.load(std::memory_order_acquire));
    reading.value = slot.value.load(std::memory_order_acquire);
    reading.time_ns = slot.time_ns.load(std::memory_order_acquire);
    // Whoever saw one new field sees the odd version too: the field's release store came after it.
    if ((before & 1) == 0 && slot.version.load(std::memory_order_relaxed) == before) return reading;
  }
}

}  // namespace skos
