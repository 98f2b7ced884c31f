#include "sampler/ring.h"

namespace skos {

Ring::Ring(size_t records) : capacity_(records == 0 ? 1 : records), slots_(new Slot[capacity_]) {}

void Ring::Push(uint32_t channel, const Reading& reading) {
  const uint64_t number = head_.load(std::memory_order_relaxed);
  Slot& slot = slots_[next_slot_];
  next_slot_ = next_slot_ + 1 == capacity_ ? 0 : next_slot_ + 1;
  // The ring is larger than the cache: the next slot is on its way while the next sensor is read.
  __builtin_prefetch(&slots_[next_slot_], 1);
  slot.sequence.store(0, std::memory_order_relaxed);
  slot.value.store(reading.value, std::memory_order_release);
  slot.time_ns.store(reading.time_ns, std::memory_order_release);
  slot.channel_and_quality.store(uint64_t{channel} << 8 | static_cast<uint64_t>(reading.quality),
                                 std::memory_order_release);
  slot.sequence.store(number + 1, std::memory_order_release);
  head_.store(number + 1, std::memory_order_release);
}

// False when the record was overwritten meanwhile.
bool Ring::Take(uint64_t number, Record* out) const {
  const Slot& slot = slots_[number % capacity_];
  if (slot.sequence.load(std::memory_order_acquire) != number + 1) return false;
  out->reading.value = slot.value.load(std::memory_order_acquire);
  out->reading.time_ns = slot.time_ns.load(std::memory_order_acquire);
  const uint64_t packed = slot.channel_and_quality.load(std::memory_order_acquire);
  out->channel = static_cast<uint32_t>(packed >> 8);
  out->reading.quality = static_cast<Quality>(packed & 0xff);
  return slot.sequence.load(std::memory_order_relaxed) == number + 1;
}

size_t Ring::Drain(Record* out, size_t max) {
  uint64_t tail = tail_.load(std::memory_order_relaxed);
  uint64_t lost = 0;
  size_t taken = 0;
  while (taken < max) {
    const uint64_t head = head_.load(std::memory_order_acquire);
    if (tail == head) break;
    if (head - tail > capacity_) {
      lost += head - tail - capacity_;
      tail = head - capacity_;
    }
    if (Take(tail, out + taken)) {
      ++taken;
    } else {
      ++lost;  // The writer is just overwriting the oldest one.
    }
    ++tail;
  }
  overruns_.store(overruns_.load(std::memory_order_relaxed) + lost, std::memory_order_release);
  tail_.store(tail, std::memory_order_release);
  return taken;
}

uint64_t Ring::overruns() const {
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  const uint64_t counted = overruns_.load(std::memory_order_acquire);
  const uint64_t head = head_.load(std::memory_order_acquire);
  // What the next Drain() will find lost counts already.
  const uint64_t waiting = head > tail ? head - tail : 0;
  return counted + (waiting > capacity_ ? waiting - capacity_ : 0);
}

}  // namespace skos
