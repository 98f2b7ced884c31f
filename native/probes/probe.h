// A probe reads one value from the system. What to read is plain data (ProbeSpec), made from a channel's `probe` in
// src/core/channel.ts or from a line of the actuator's allow-list.
//
// Every probe keeps its file open and reads it with pread() from offset 0, which makes the kernel produce a fresh
// value. A file that is missing is tried again at a low rate, so that a sensor may come and go.
#ifndef SKOS_PROBES_PROBE_H_
#define SKOS_PROBES_PROBE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sampler/reading.h"

namespace skos {

enum class ProbeKind : uint8_t { kInteger, kField, kCpuBusy, kStatvfs, kWord, kHexadecimal };
enum class StatvfsField : uint8_t { kTotalBytes, kAvailableBytes, kUsedPpm, kInodesUsedPpm };

struct ProbeSpec {
  ProbeKind kind = ProbeKind::kInteger;
  std::string path;  // Absolute.
  std::string key;   // kField: first word of the line, "" is the first line. kCpuBusy: "cpu", "cpu0", …
  int column = 0;    // kField: white-space separated, 0 is the first word; "avg10=0.25" yields the decimal behind '='.
  StatvfsField field = StatvfsField::kTotalBytes;
  std::vector<std::string> words;  // kWord: the value is the text's place among them; any other text is a fault.
  double multiplier = 1;   // value = round(raw * multiplier + offset)
  double offset = 0;
  bool per_second = false;  // Counter to rate; no_data at the first read, or when the counter fell.
  std::string fault_path;   // 1 in this file makes the quality kFault; "" is none.
};

class Probe {
 public:
  virtual ~Probe() = default;
  // Sampler thread of the probe's domain, never two at once. May block as long as the driver does.
  // `now_ns` is CLOCK_MONOTONIC at the call; the reading's time is taken when the read returned.
  virtual Reading Read(int64_t now_ns) = 0;
};

// Never fails: a file that is not there is a reading (kNoData), not an error. Opens nothing yet.
std::unique_ptr<Probe> MakeProbe(const ProbeSpec& spec);

// Makes the probes of one hazard domain. Those that read the same text file, or the same mount point, share one read per
// tick. Not thread-safe: made in the owner's thread, then used in the thread of the domain together with its probes.
class ProbeFactory {
 public:
  ProbeFactory();
  ~ProbeFactory();
  std::unique_ptr<Probe> Make(const ProbeSpec& spec);
  // The next Read() of each shared file is a fresh one.
  void BeginTick();

  struct Sources;  // Defined in probe.cc.

 private:
  std::shared_ptr<Sources> sources_;  // Shared with the probes that it made.
};

}  // namespace skos

#endif  // SKOS_PROBES_PROBE_H_
