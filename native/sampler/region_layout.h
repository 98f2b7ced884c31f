// What a region holds, in this order, each part directly behind the one before: RegionHeader, LatestSlot[channels],
// RingSlot[ring_records], the description. Both sides are of one release and one machine: there is no other byte order.
#ifndef SKOS_SAMPLER_REGION_LAYOUT_H_
#define SKOS_SAMPLER_REGION_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "sampler/latest.h"
#include "sampler/region.h"
#include "sampler/ring.h"

namespace skos {

constexpr uint64_t kRegionMagic = 0x31474552534f4b53;  // "SKOSREG1"
constexpr uint32_t kRegionVersion = 1;                 // Of everything in this file, latest.h and ring.h.
constexpr int64_t kMaxHungAfterNs = 600 * int64_t{1'000'000'000};  // The longest read deadline of the config.

// Written once, before anyone else sees the region.
struct RegionShape {
  uint64_t magic = kRegionMagic;
  uint32_t version = kRegionVersion;
  uint32_t unused = 0;
  uint64_t channels = 0;
  uint64_t ring_records = 0;
  uint64_t description_bytes = 0;
  uint64_t total_bytes = 0;
  int64_t hung_after_ns = 0;
};
static_assert(std::is_trivially_copyable_v<RegionShape>);

struct RegionHeader {
  RegionShape shape;
  // On cache lines of their own: one is written by another thread than the other.
  alignas(64) std::atomic<int64_t> heartbeat_ns{0};
  alignas(64) std::atomic<uint64_t> ring_head{0};
};
static_assert(sizeof(RegionHeader) == 192 && sizeof(RegionHeader) % alignof(LatestSlot) == 0);

struct RegionOffsets {
  explicit RegionOffsets(const RegionShape& shape)
      : ring(latest + shape.channels * sizeof(LatestSlot)),
        description(ring + shape.ring_records * sizeof(RingSlot)),
        total(description + shape.description_bytes) {}

  size_t latest = sizeof(RegionHeader);
  size_t ring;
  size_t description;
  size_t total;
};

}  // namespace skos

#endif  // SKOS_SAMPLER_REGION_LAYOUT_H_
