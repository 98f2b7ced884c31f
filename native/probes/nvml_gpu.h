// One GPU of a loaded library: its handle, what its driver makes of it as a whole, and the calls that exist in several versions.
#ifndef SKOS_PROBES_NVML_GPU_H_
#define SKOS_PROBES_NVML_GPU_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "probes/gpu_device.h"
#include "probes/nvml_library.h"

namespace skos::nvml {

// What a return code says about a reading. Absent: not supported, not ready, no driver. Everything else that failed is a fault.
Quality QualityOf(int code);
// Whether a channel is worth having after this answer at discovery. What this GPU or this driver does not have is left out; what has
// merely failed stays. INVALID_ARGUMENT is how a driver refuses a field, link or location that is newer than itself.
bool IsSupported(int code);
// Whether another version of the same call is to be asked: this one is not in the library, or its structure is too new for it.
bool IsUnknownCall(int code);

// Of one getter, so that the health of the GPU knows which of them had failed.
struct GetterState {
  bool lost = false;
  bool reset_required = false;
};

// What the answers of all getters say about the GPU. Any thread; a GetterState belongs to one thread.
class Health {
 public:
  GpuCondition condition() const;

  // Lost is sticky until a getter that had failed answers again: on a lost GPU some getters go on to answer from memory.
  void Note(int code, GetterState* state);
  // Field 230, and how many processes use the GPU (-1: not known). "Reset" is obeyed only where it takes work from nobody.
  void NoteRecoveryAction(int action) { recovery_action_.store(action, std::memory_order_relaxed); }
  void NoteProcesses(int count) { processes_.store(count, std::memory_order_relaxed); }
  void NoteUnavailable() { unavailable_.store(true, std::memory_order_relaxed); }

 private:
  std::atomic<bool> lost_{false};
  std::atomic<bool> reset_required_{false};
  std::atomic<bool> driver_gone_{false};
  std::atomic<bool> unavailable_{false};
  std::atomic<int> recovery_action_{kRecoveryNone};
  std::atomic<int> processes_{-1};
};

// Shared by the device, its probes and its threads. All calls from any thread.
struct Gpu {
  Gpu(std::unique_ptr<Library> loaded, Device device) : library(std::move(loaded)), handle(device) {}

  // Each with its fall-back for drivers that lack the newer call; they return NVML's code.
  int Temperature(int64_t* celsius) const;  // INT64_MIN: the driver's marker for "none".
  int EventReasons(unsigned long long* reasons) const;
  // `reserved` stays kNotAvailable64 where the driver counts it as used.
  int Memory(MemoryV2* memory) const;
  int FanPercent(unsigned fan, unsigned* percent) const;
  // Two calls, because the list may grow in between. kInsufficientSize: it is longer than anyone believes, or grows at each call.
  int Processes(bool compute, std::vector<ProcessInfo>* processes) const;
  // The instances that exist; a place without one is left out.
  std::vector<Device> MigDevices() const;

  const std::unique_ptr<Library> library;
  const Device handle;
  mutable Health health;
};

}  // namespace skos::nvml

#endif  // SKOS_PROBES_NVML_GPU_H_
