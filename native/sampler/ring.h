// The ring of all readings: preallocated, one writer, readers with a cursor each, also in other processes. A writer that laps
// a reader overwrites the oldest records, which that reader counts; it never waits.
#ifndef SKOS_SAMPLER_RING_H_
#define SKOS_SAMPLER_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "sampler/sampler.h"

namespace skos {

// Each slot is a seqlock of its own (see latest.h).
class RingSlot {
 public:
  // The thread that samples. `number` counts all records from 0.
  void Put(uint64_t number, uint32_t channel, const Reading& reading);
  // Any thread. False when it does not hold that record, or is just being overwritten.
  bool Take(uint64_t number, Record* out) const;

 private:
  std::atomic<uint64_t> sequence_{0};  // The number of the record that it holds, plus one; 0 while it is being written.
  std::atomic<int64_t> value_{0};
  std::atomic<int64_t> time_ns_{0};
  std::atomic<uint64_t> channel_and_quality_{0};
};

static_assert(sizeof(RingSlot) == 32 && alignof(RingSlot) == 8);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

// Where the records are; owned by somebody else. At least one record.
template <typename Slot, typename Head>
struct RingMemory {
  Slot* slots = nullptr;
  size_t capacity = 0;
  Head* head = nullptr;  // Records written.
};
using WritableRing = RingMemory<RingSlot, std::atomic<uint64_t>>;
using ReadableRing = RingMemory<const RingSlot, const std::atomic<uint64_t>>;

// The thread that samples, one at a time.
class RingWriter {
 public:
  explicit RingWriter(const WritableRing& ring);
  void Push(uint32_t channel, const Reading& reading);

 private:
  const WritableRing ring_;
  size_t next_slot_;  // *ring_.head modulo the capacity, without the division.
};

class RingReader {
 public:
  enum class From { kOldest, kNow };
  RingReader(const ReadableRing& ring, From from);

  // Any one thread at a time. Whatever the memory holds, it looks at each slot once at most.
  size_t Drain(Record* out, size_t max);
  // Any thread.
  uint64_t overruns() const;

 private:
  const ReadableRing ring_;
  std::atomic<uint64_t> tail_{0};      // Records taken or lost.
  std::atomic<uint64_t> overruns_{0};  // Records lost before tail_.
};

}  // namespace skos

#endif  // SKOS_SAMPLER_RING_H_
