// How fast a worker tells events. A driver in trouble announces thousands a second, often the same one; the supervisor drops a client that
// cannot follow, and with it the readings of all GPUs. So the same event is told once in a second, and others wait: what waits
// longer than the library keeps it is in the kernel's log. One thread.
#ifndef SKOS_GPU_EVENT_PACE_H_
#define SKOS_GPU_EVENT_PACE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "sampler/clock.h"

namespace skos::gpu {

constexpr size_t kMaxEventsPerSecond = 32;  // Of one GPU; a client's queue holds a thousand packets of all of them.

class EventPace {
 public:
  // 0: tell it now. Else look again after so many nanoseconds. Nothing: it was told a moment ago.
  std::optional<int64_t> DelayNs(const std::string& event, int64_t now_ns) {
    if (now_ns - began_ns_ >= kNsPerSecond) {
      began_ns_ = now_ns;
      told_.clear();
    }
    if (told_.count(event) != 0) return std::nullopt;
    if (told_.size() >= kMaxEventsPerSecond) return began_ns_ + kNsPerSecond - now_ns;
    told_.insert(event);
    return 0;
  }

 private:
  int64_t began_ns_ = -kNsPerSecond;
  std::set<std::string> told_;  // Since began_ns_.
};

}  // namespace skos::gpu

#endif  // SKOS_GPU_EVENT_PACE_H_
