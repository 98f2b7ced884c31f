// Lines of the kernel's log that tell of hardware: which kind, which device, which code. A line is an event only when its
// whole shape fits, so that text which merely mentions an Xid is none. No allocation; a line that is no event costs a few
// comparisons of its beginning.
//
// The shapes are those of the NVIDIA driver (open-gpu-kernel-modules), of amdgpu and of the kernel's own subsystems; the
// tests hold lines as they are found in public reports. Details are named below; those marked "key" tell two occurrences
// apart, the others say more about one.
#ifndef SKOS_PROBES_KERNEL_EVENT_H_
#define SKOS_PROBES_KERNEL_EVENT_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace skos {

constexpr size_t kMaxEventTextBytes = 512;    // A line of the kernel's log is rarely longer than 200.
constexpr size_t kMaxEventDetails = 16;       // The richest shape, an Xid of NVLink 5, has nine.
constexpr size_t kMaxEventDetailBytes = 128;  // Longer is prose, and the text has it.
constexpr size_t kMaxEventAddressBytes = 16;  // "10000:3b:00.0": a domain of up to eight digits.

enum class KernelEventKind : uint8_t {
  kXid,           // code; pid, process, channel, cause (key: the Xid that led to it), message;
                  // 144–150: unit, severity, link, subcode (key), status; 154: from, recovery, recovery_code (key)
  kSxid,          // code; severity, link (key), message
  kGpuLost,       // an NVIDIA GPU that is off the bus, said without an Xid
  kDriverLoad,    // version
  kDriverUnload,  //
  kDriverFailed,  // status: RmInitAdapter's own words
  kAmdRing,       // ring (key)
  kAmdReset,      // state (key): begin, succeeded, failed
  kAmdVramLost,   //
  kAmdRas,        // severity (key): corrected, uncorrected, deferred; block (key), errors
  kMce,           // severity (key): logged, corrected, deferred, uncorrected, fatal; cpu, bank
  kEdac,          // severity (key): corrected, uncorrected; controller (key), errors, place
  kAer,           // severity (key): corrected, nonfatal, fatal, unrecovered
  kOom,           // scope (key): node, cgroup; pid, process
  kNvme,          // device, state (key): timeout, down, not_ready, removed
  kBlock,         // device, error (key)
  kFileSystem,    // device, type, state (key): error, corrupt, read_only, shutdown
  kCpuThrottle,   // cpu, scope (key): core, package
  kHungTask,      // process, pid
  kLockup,        // state (key): soft, hard, rcu; cpu, process
  kWatchdog,      // device
};
constexpr size_t kKernelEventKinds = 21;

// "xid", "sxid", "gpu_lost" …: the words that src/core/ports.ts names.
const char* KernelEventWord(KernelEventKind kind);

struct EventDetail {
  const char* name = "";
  std::string_view value;  // Into the text, or into KernelEvent::made.
  bool key = false;
};

// Not copied: details may point into it.
struct KernelEvent {
  KernelEvent() = default;
  KernelEvent(const KernelEvent&) = delete;
  KernelEvent& operator=(const KernelEvent&) = delete;

  std::string_view Address() const { return std::string_view(address, address_length); }
  // The detail of this name; empty without one.
  std::string_view Detail(std::string_view name) const;

  KernelEventKind kind = KernelEventKind::kXid;
  bool has_code = false;
  uint32_t code = 0;
  size_t address_length = 0;
  size_t detail_count = 0;
  char address[kMaxEventAddressBytes] = {};  // "0000:3b:00.0", lower case; no terminator.
  EventDetail details[kMaxEventDetails];
  char made[16] = {};  // A detail that had to be computed.
};

// `text` is unescaped (UnescapeKmsg) and outlives `event`. False: nothing that we know.
bool ClassifyKernelLine(std::string_view text, KernelEvent* event);

}  // namespace skos

#endif  // SKOS_PROBES_KERNEL_EVENT_H_
