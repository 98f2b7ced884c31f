// The ring of all readings: preallocated, one writer, one reader. A writer that laps the reader overwrites the oldest
// records, which are counted; it never waits.
#ifndef SKOS_SAMPLER_RING_H_
#define SKOS_SAMPLER_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "sampler/sampler.h"

namespace skos {

class Ring {
 public:
  explicit Ring(size_t records);

  // The thread that samples, one at a time.
  void Push(uint32_t channel, const Reading& reading);
  // Any one thread at a time.
  size_t Drain(Record* out, size_t max);
  // Any thread.
  uint64_t overruns() const;

 private:
  // Each slot is a seqlock of its own (see latest.h): `sequence` is the number of the record that it holds, plus one;
  // 0 while it is being written.
  struct Slot {
    std::atomic<uint64_t> sequence{0};
    std::atomic<int64_t> value{0};
    std::atomic<int64_t> time_ns{0};
    std::atomic<uint64_t> channel_and_quality{0};
  };

  bool Take(uint64_t number, Record* out) const;

  const size_t capacity_;
  std::unique_ptr<Slot[]> slots_;
  size_t next_slot_ = 0;               // head_ modulo capacity_, without the division. Writer.
  std::atomic<uint64_t> head_{0};      // Records written. Writer.
  std::atomic<uint64_t> tail_{0};      // Records taken or lost. Reader.
  std::atomic<uint64_t> overruns_{0};  // Records lost before tail_. Reader.
};

}  // namespace skos

#endif  // SKOS_SAMPLER_RING_H_
