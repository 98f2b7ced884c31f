// Readings that one process writes and others read: a sealed memfd with a description, the latest readings and the ring.
//
// The writer is a worker of skos-gpu, the reader the addon; several may read one region, each with a cursor of its own. The
// reader trusts nothing: the memfd must be sealed against shrinking (a file that shrinks under a map is a SIGBUS), every size
// is checked against the file's, and every number that the writer may still change is checked each time it is read. No
// content makes a reader wait, loop or crash.
#ifndef SKOS_SAMPLER_REGION_H_
#define SKOS_SAMPLER_REGION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "sampler/sampler.h"

namespace skos {

constexpr size_t kMaxRegionChannels = 4096;
constexpr size_t kMaxRegionRecords = 65536;
constexpr size_t kMaxDescriptionBytes = 1 << 20;

struct RegionSpec {
  std::string description;
  size_t channels = 0;         // At most kMaxRegionChannels.
  size_t ring_records = 0;     // 1 to kMaxRegionRecords.
  int64_t hung_after_ns = 0;   // A heartbeat older than this means that the writer hangs. Up to ten minutes.
};

class RegionWriter {
 public:
  // nullptr and an errno in *error. The memfd is sealed against growing and shrinking already, and has beaten once.
  static std::unique_ptr<RegionWriter> Create(const RegionSpec& spec, int* error);
  ~RegionWriter();
  RegionWriter(const RegionWriter&) = delete;
  RegionWriter& operator=(const RegionWriter&) = delete;

  // For SCM_RIGHTS; stays the writer's.
  int fd() const;
  // Any thread. `now_ns` is CLOCK_MONOTONIC.
  void Beat(int64_t now_ns);
  // For SamplerOptions::memory. Keeps the region mapped for as long as anyone holds it, also without the writer.
  std::shared_ptr<SampleMemory> memory() const;

 private:
  struct State;
  explicit RegionWriter(std::shared_ptr<State> state);
  const std::shared_ptr<State> state_;
};

// One thread at a time, all of it.
class RegionReader {
 public:
  // Maps it read-only; takes `fd` over in any case. nullptr and the reason in *why.
  static std::unique_ptr<RegionReader> Open(int fd, std::string* why);
  ~RegionReader();
  RegionReader(const RegionReader&) = delete;
  RegionReader& operator=(const RegionReader&) = delete;

  std::string_view description() const;
  size_t channel_count() const;
  // The latest reading of each channel into out[channel_count()]. kHung for all while the writer does not beat; an ok reading that is
  // overdue (two periods and one deadline, as Sampler::Latest) is kStale. A quality that there is not, or a time to come, is kFault.
  void Latest(int64_t now_ns, Reading* out);
  // As Sampler::Drain: first the latest reading of each channel at Open() (one that is read every minute would be unknown for as
  // long), then what was written since. When the writer stops beating, each channel gives one kHung record, after what was
  // written before; then nothing until it beats again.
  size_t Drain(int64_t now_ns, Record* out, size_t max);
  // Records that never come out of Drain(): overwritten, older than the kHung that was told, or of a channel that is not there.
  uint64_t overruns() const;

 private:
  struct State;
  explicit RegionReader(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

// The latest readings alone, a page or two of the region: for a program that locks its memory. Trusts as little as RegionReader.
// One thread at a time.
class LatestReader {
 public:
  // Maps it read-only; takes `fd` over in any case. nullptr and the reason in *why. *description is refused beyond `max_description`.
  static std::unique_ptr<LatestReader> Open(int fd, size_t max_description, std::string* description, std::string* why);
  ~LatestReader();
  LatestReader(const LatestReader&) = delete;
  LatestReader& operator=(const LatestReader&) = delete;

  size_t channel_count() const;
  // As RegionReader::Latest, of one channel, which must be there.
  Reading Read(int64_t now_ns, size_t channel);

 private:
  struct State;
  explicit LatestReader(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace skos

#endif  // SKOS_SAMPLER_REGION_H_
