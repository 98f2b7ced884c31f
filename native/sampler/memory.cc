#include "sampler/memory.h"

namespace skos {
namespace {

struct OwnMemory : SampleMemory {
  std::unique_ptr<LatestSlot[]> latest_slots;
  std::unique_ptr<RingSlot[]> ring_slots;
  std::atomic<uint64_t> head{0};
};

}  // namespace

std::shared_ptr<SampleMemory> MakeOwnMemory(size_t channels, size_t ring_records) {
  const size_t capacity = ring_records == 0 ? 1 : ring_records;
  auto memory = std::make_shared<OwnMemory>();
  memory->latest_slots.reset(new LatestSlot[channels]);
  memory->ring_slots.reset(new RingSlot[capacity]);
  memory->latest = memory->latest_slots.get();
  memory->channels = channels;
  memory->ring = {memory->ring_slots.get(), capacity, &memory->head};
  return memory;
}

}  // namespace skos
