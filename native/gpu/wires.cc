#include "gpu/wires.h"

#include <algorithm>
#include <utility>

namespace skos::gpu {

void Wires::Set(const std::vector<Wire>& wires) {
  std::vector<Armed> next;
  next.reserve(wires.size());
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Wire& wire : wires) {
    const auto known = std::find_if(armed_.begin(), armed_.end(), [&wire](const Armed& each) { return each.spec == wire; });
    if (known != armed_.end()) {
      next.push_back(std::move(*known));
      continue;
    }
    TripwireSpec spec;
    spec.channel = wire.channel;
    spec.raise = wire.raise;
    spec.clear = wire.clear;
    spec.samples = wire.samples;
    next.push_back({wire, Tripwire(spec)});
  }
  armed_.swap(next);
  any_.store(!armed_.empty(), std::memory_order_relaxed);
}

bool Wires::Look(uint32_t channel, const Reading& reading) {
  if (!any_.load(std::memory_order_relaxed)) return false;
  const std::lock_guard<std::mutex> lock(mutex_);
  bool crossed = false;
  for (Armed& each : armed_) {
    if (each.spec.channel == channel && each.tripwire.Update(reading)) crossed = true;
  }
  if (crossed && crossed_.size() < kMaxWires) crossed_.push_back({channel, reading.time_ns});
  return crossed;
}

std::vector<Crossed> Wires::Take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(crossed_, {});
}

}  // namespace skos::gpu
