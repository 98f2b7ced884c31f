// Where a sampler puts its readings: the latest of each channel, and the ring of all. In memory of its own, or in a region
// that other processes map (region.h); the sampler does not know which.
#ifndef SKOS_SAMPLER_MEMORY_H_
#define SKOS_SAMPLER_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "sampler/latest.h"
#include "sampler/ring.h"

namespace skos {

// Constant once it is made; what it points at is written as latest.h and ring.h say, and lives as long as this.
struct SampleMemory {
  virtual ~SampleMemory() = default;

  LatestSlot* latest = nullptr;  // latest[channels]
  size_t channels = 0;
  WritableRing ring;
};

// Of this process. A ring of no records is given one.
std::shared_ptr<SampleMemory> MakeOwnMemory(size_t channels, size_t ring_records);

}  // namespace skos

#endif  // SKOS_SAMPLER_MEMORY_H_
