// One GPU as its vendor's reader shows it to skos-gpu: what it is, its channels, and what its driver says of it as a whole.
// One implementation a vendor: nvml.h, amdgpu.h. All calls may block for ever: each is made in a thread or process that may be
// given up.
#ifndef SKOS_PROBES_GPU_DEVICE_H_
#define SKOS_PROBES_GPU_DEVICE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "probes/probe.h"

namespace skos {

// In the canonical unit of the channel's quantity.
struct GpuLimits {
  std::optional<int64_t> min;
  std::optional<int64_t> max;
  std::optional<int64_t> critical;
  std::optional<int64_t> emergency;
};

enum class GpuRate : uint8_t {
  kFast,    // The sampling rate of the config: temperatures, power, throttle reasons.
  kMedium,  // 1 Hz: clocks, utilisation, memory, energy.
  kSlow,    // 0.1 Hz: counters, limits, modes.
};

// One quantity of the GPU. Names and quantities: native/gpu/README.md.
struct GpuChannel {
  std::string name;
  std::string label;
  std::string quantity;  // A key of QUANTITIES in src/core/units.ts.
  GpuRate rate = GpuRate::kMedium;
  GpuLimits limits;
  std::string path;  // The call or file that it comes from, for people.
  bool thermal_default = false;
  // Reads it in canonical units. All probes of a device are used in one thread at a time (the sampler's), and share what one
  // call or file gives: a batch is asked for anew when it is older than half its period.
  std::shared_ptr<Probe> probe;
};

// What is fixed about it. `id` is the raw device part of its channels' ids: the UUID, else "pci-0000:3b:00.0".
struct GpuIdentity {
  std::string id;
  std::string source;   // "nvml", "amdgpu", "i915", …: first segment of its channels' ids.
  std::string vendor;   // "nvidia", "amd", "intel".
  std::string address;  // PCI, lower case, four-digit domain: "0000:3b:00.0".
  std::string name;
  std::map<std::string, std::string> more;  // uuid, serial, vbios, driver, architecture …
};

enum class GpuCondition : uint8_t {
  kServing,
  kLost,           // NVML_ERROR_GPU_IS_LOST: only some getters answer, until a reset or reboot.
  kResetRequired,  // The driver asks for a reset and wants every user of the device gone.
  kDriverGone,     // Unloaded, mismatched or the device is no more: the worker leaves and is started again.
};

// Something that the driver announced. `json` is the object of `event` in native/gpu/README.md, such as {"kind":"xid","code":79}.
using GpuEventSink = std::function<void(const std::string& json)>;

class GpuDevice {
 public:
  virtual ~GpuDevice() = default;
  virtual const GpuIdentity& identity() const = 0;
  // Once, after opening: asks the driver which channels this GPU has. One that it does not support is left out. Caller's thread.
  virtual std::vector<GpuChannel> Discover() = 0;
  // Processes, MIG instances and modes as the JSON object `details` of native/gpu/README.md, at most 6 KiB (the largest
  // processes first). A thread of its own; "" when the vendor has none.
  virtual std::string Details() = 0;
  // Blocks for at most a second, hands what happened to `sink`. False: there are no events, do not call again. A thread of its own.
  virtual bool WaitEvents(const GpuEventSink& sink) = 0;
  // Any thread: the latest that the probes learned.
  virtual GpuCondition condition() const = 0;
};

// What came of opening one.
struct GpuOpening {
  std::unique_ptr<GpuDevice> device;
  // Without a device: one line for people with the vendor's own error, such as "nvmlInit_v2: Driver Not Loaded (9)".
  std::string why;
  bool library_absent = false;
  std::string library_version;  // NVML's and the driver's, where known.
};

// A PCI address in the kernel's form: lower case, four-digit domain ("00000000:3B:00.0" → "0000:3b:00.0"). "" for anything else.
std::string NormalPciAddress(const std::string& text);

}  // namespace skos

#endif  // SKOS_PROBES_GPU_DEVICE_H_
