// The tripwires of one GPU. They are looked at in the thread that reads, as those of a sampler of its own are, but can be
// exchanged while it runs: a new sampler would interrupt the readings.
#ifndef SKOS_GPU_WIRES_H_
#define SKOS_GPU_WIRES_H_

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "gpu/protocol.h"
#include "sampler/tripwire.h"

namespace skos::gpu {

// A channel whose reading of `time_ns` raised or cleared a wire.
struct Crossed {
  uint32_t channel = 0;
  int64_t time_ns = 0;
};

class Wires {
 public:
  // Main thread. A wire that was there already keeps its state.
  void Set(const std::vector<Wire>& wires);
  // Sampler thread. True when it crossed one.
  bool Look(uint32_t channel, const Reading& reading);
  // Main thread: what crossed since the last call, at most one a wire.
  std::vector<Crossed> Take();

 private:
  struct Armed {
    Wire spec;
    Tripwire tripwire;
  };

  std::atomic<bool> any_{false};  // Spares the lock where there are none.
  std::mutex mutex_;
  std::vector<Armed> armed_;      // Guarded by mutex_.
  std::vector<Crossed> crossed_;  // Guarded by mutex_. At most kMaxWires: the oldest are told anyway.
};

}  // namespace skos::gpu

#endif  // SKOS_GPU_WIRES_H_
