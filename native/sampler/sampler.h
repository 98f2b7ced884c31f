// The sampler: reads channels at their rates in native threads, keeps the latest reading and a ring of all readings,
// and watches tripwires in the thread that reads.
//
// Design: a hazard domain is one driver. All healthy domains share one thread on an absolute timer (timerfd). When a read
// does not return before its deadline, the stuck thread keeps that domain (quarantine: its channels become kHung) and a
// fresh thread carries on with the others; their gap is one deadline. Nothing ever waits for a stuck thread: it owns its
// state (shared ownership), and when its read returns after all, the domain rejoins the shared thread.
#ifndef SKOS_SAMPLER_SAMPLER_H_
#define SKOS_SAMPLER_SAMPLER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "probes/probe.h"
#include "sampler/reading.h"

namespace skos {

struct SampleMemory;

struct ChannelSpec {
  ProbeSpec probe;
  int64_t period_ns = 100'000'000;  // 1 ms … 60 s; other periods are clamped.
  std::string domain;               // Channels of one domain share its fate.
  // A ready-made probe, used instead of `probe`. Shared, because a thread that is stuck in it may outlive the sampler. All
  // probe objects that share state belong into one domain: then no two of them are read at once.
  std::shared_ptr<Probe> probe_object;
};

// Raised after `samples` consecutive readings with value > raise; cleared after `samples` consecutive ok readings with
// value < clear. A reading that is not kOk neither raises nor clears and does not break a run, unless `loss_raises`:
// then it counts as a reading above raise (standing orders: a sensor that cannot be read counts as hot).
struct TripwireSpec {
  uint32_t channel = 0;
  int64_t raise = 0;
  int64_t clear = 0;
  uint32_t samples = 1;
  bool loss_raises = false;
  bool raised = false;  // Its state at the start, taken over from an earlier sampler: it then waits for `clear`.
};

struct Crossing {
  uint32_t tripwire = 0;
  uint32_t channel = 0;
  bool raised = false;  // false: cleared.
  Reading reading;
};

struct Record {
  uint32_t channel = 0;
  Reading reading;
};

struct SamplerOptions {
  size_t ring_records = 16384;               // Oldest are overwritten and counted; 25 s of 64 channels at 10 Hz.
  int64_t read_deadline_ns = 1'000'000'000;  // A read that takes longer quarantines its domain.
  size_t stack_bytes = 256 * 1024;           // Of each thread. The actuator locks its memory and wants it small.
  int realtime_priority = 0;                 // SCHED_RR priority of each thread; 0 leaves the scheduling class alone.
  // Called in a sampler thread on each crossing (and by the thread that notices a hang). Must not block or allocate.
  std::function<void(const Crossing&)> on_crossing;
  // Where the readings go: RegionWriter::memory(), for one sampler only, made for as many channels; its ring counts instead of
  // ring_records. Absent: memory of the sampler's own.
  std::shared_ptr<SampleMemory> memory;
};

class Sampler {
 public:
  // Any thread. Copies the specs; starts nothing. A tripwire on a channel that does not exist is a programmer's error.
  Sampler(std::vector<ChannelSpec> channels, std::vector<TripwireSpec> tripwires, SamplerOptions options);
  ~Sampler();  // Stops. Abandons a stuck thread.
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Owner's thread. Returns 0 or an errno (timerfd or thread creation); after a failure nothing runs. A sampler runs
  // once: EALREADY when it was started before. A kernel that refuses realtime_priority does not prevent the start.
  int Start();
  // Owner's thread, after Start(): the kernel refused SCHED_RR (EPERM); the threads run in the ordinary class.
  bool realtime_refused() const;
  // Owner's thread. Idempotent. Returns within milliseconds, also with a thread stuck in a read. After it returns,
  // on_crossing is not called again, not even by a stuck thread that comes back.
  void Stop();

  size_t channel_count() const;
  // Any thread, never blocks for long: the latest reading of channel i into out[i]. `out` holds channel_count().
  // An ok reading that is older than two periods and one deadline is given as kStale, so also after Stop().
  void Latest(Reading* out) const;
  // Any one thread at a time: moves up to `max` records, oldest first; returns how many. Per channel in order of time.
  size_t Drain(Record* out, size_t max);
  // Records overwritten before they were drained, since Start().
  uint64_t overruns() const;

 private:
  struct Shared;  // Owned by the sampler and by every thread of it, so that an abandoned thread finds its state alive.
  std::shared_ptr<Shared> shared_;
};

}  // namespace skos

#endif  // SKOS_SAMPLER_SAMPLER_H_
