#include "sampler/ring.h"

namespace skos {
namespace {

// No writer gets so far ahead in years (2^48 records at a million a second are nine); the other half of the numbers is a
// head that went backwards. Only a broken writer of a region does either.
constexpr uint64_t kMaxAhead = uint64_t{1} << 48;

}  // namespace

void RingSlot::Put(uint64_t number, uint32_t channel, const Reading& reading) {
  sequence_.store(0, std::memory_order_relaxed);
  value_.store(reading.value, std::memory_order_release);
  time_ns_.store(reading.time_ns, std::memory_order_release);
  channel_and_quality_.store(uint64_t{channel} << 8 | static_cast<uint64_t>(reading.quality),
                             std::memory_order_release);
  sequence_.store(number + 1, std::memory_order_release);
}

bool RingSlot::Take(uint64_t number, Record* out) const {
  if (sequence_.load(std::memory_order_acquire) != number + 1) return false;
  out->reading.value = value_.load(std::memory_order_acquire);
  out->reading.time_ns = time_ns_.load(std::memory_order_acquire);
  const uint64_t packed = channel_and_quality_.load(std::memory_order_acquire);
  out->channel = static_cast<uint32_t>(packed >> 8);
  out->reading.quality = static_cast<Quality>(packed & 0xff);
  return sequence_.load(std::memory_order_relaxed) == number + 1;
}

RingWriter::RingWriter(const WritableRing& ring)
    : ring_(ring), next_slot_(ring.head->load(std::memory_order_relaxed) % ring.capacity) {}

void RingWriter::Push(uint32_t channel, const Reading& reading) {
  const uint64_t number = ring_.head->load(std::memory_order_relaxed);
  RingSlot& slot = ring_.slots[next_slot_];
  next_slot_ = next_slot_ + 1 == ring_.capacity ? 0 : next_slot_ + 1;
  // The ring is larger than the cache: the next slot is on its way while the next sensor is read.
  __builtin_prefetch(&ring_.slots[next_slot_], 1);
  slot.Put(number, channel, reading);
  ring_.head->store(number + 1, std::memory_order_release);
}

RingReader::RingReader(const ReadableRing& ring, From from) : ring_(ring) {
  if (from == From::kNow) tail_.store(ring.head->load(std::memory_order_acquire), std::memory_order_relaxed);
}

size_t RingReader::Drain(Record* out, size_t max) {
  const uint64_t head = ring_.head->load(std::memory_order_acquire);
  uint64_t tail = tail_.load(std::memory_order_relaxed);
  uint64_t lost = 0;
  if (head - tail > kMaxAhead) {
    // Nobody can say what was lost: it counts as one, and goes on from where the writer says it is.
    lost = 1;
    tail = head;
  } else if (head - tail > ring_.capacity) {
    lost = head - tail - ring_.capacity;
    tail = head - ring_.capacity;
  }
  size_t taken = 0;
  for (; taken < max && tail != head; ++tail) {
    if (ring_.slots[tail % ring_.capacity].Take(tail, out + taken)) {
      ++taken;
    } else {
      ++lost;  // The writer has just overwritten it.
    }
  }
  overruns_.store(overruns_.load(std::memory_order_relaxed) + lost, std::memory_order_release);
  tail_.store(tail, std::memory_order_release);
  return taken;
}

uint64_t RingReader::overruns() const {
  const uint64_t tail = tail_.load(std::memory_order_acquire);
  const uint64_t counted = overruns_.load(std::memory_order_acquire);
  const uint64_t waiting = ring_.head->load(std::memory_order_acquire) - tail;
  // What the next Drain() will find lost counts already.
  return counted + (waiting > ring_.capacity && waiting <= kMaxAhead ? waiting - ring_.capacity : 0);
}

}  // namespace skos
