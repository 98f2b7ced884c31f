#include "probes/nvml_gpu.h"

#include <algorithm>

namespace skos::nvml {
namespace {

constexpr unsigned kMaxProcesses = 4096;     // 96 KiB; a GPU has at most 48 clients of MPS for each of its instances.
constexpr unsigned kProcessSlack = 16;       // Processes that may start between the two calls.
constexpr int kMaxListAttempts = 4;          // A list that grows faster than this is asked for at the next period.
constexpr unsigned kMaxMigDevices = 64;      // An H100 has 7.

bool IsDriverGone(int code) {
  return code == kUninitialized || code == kDriverNotLoaded || code == kLibRmVersionMismatch || code == kGpuNotFound;
}

}  // namespace

Quality QualityOf(int code) {
  if (code == kSuccess) return Quality::kOk;
  const bool absent = code == kNotSupported || code == kFunctionNotFound || code == kNoDataCode || code == kNotReady;
  return absent || IsDriverGone(code) ? Quality::kNoData : Quality::kFault;
}

bool IsSupported(int code) {
  switch (code) {
    case kNotSupported:
    case kFunctionNotFound:
    case kInvalidArgument:
    case kVgpuEccNotSupported:
    case kArgumentVersionMismatch:
    case kDeprecated:
      return false;
    default:
      return true;
  }
}

bool IsUnknownCall(int code) {
  return code == kFunctionNotFound || code == kArgumentVersionMismatch || code == kDeprecated;
}

GpuCondition Health::condition() const {
  constexpr auto relaxed = std::memory_order_relaxed;
  if (driver_gone_.load(relaxed)) return GpuCondition::kDriverGone;
  const int action = recovery_action_.load(relaxed);
  const bool wants_reset = (action == kRecoveryReset || action == kRecoveryDrainAndReset) && processes_.load(relaxed) == 0;
  if (reset_required_.load(relaxed) || unavailable_.load(relaxed) || wants_reset) return GpuCondition::kResetRequired;
  return lost_.load(relaxed) ? GpuCondition::kLost : GpuCondition::kServing;
}

void Health::Note(int code, GetterState* state) {
  constexpr auto relaxed = std::memory_order_relaxed;
  if (code == kSuccess) {
    if (state->lost) lost_.store(false, relaxed);
    if (state->reset_required) reset_required_.store(false, relaxed);
    *state = GetterState();
  } else if (code == kGpuIsLost) {
    state->lost = true;
    lost_.store(true, relaxed);
  } else if (code == kResetRequired) {
    state->reset_required = true;
    reset_required_.store(true, relaxed);
  } else if (IsDriverGone(code)) {
    driver_gone_.store(true, relaxed);
  }
}

int Gpu::Temperature(int64_t* celsius) const {
  nvml::Temperature now;
  int code = library->temperature_v(handle, &now);
  if (!IsUnknownCall(code)) {
    *celsius = now.celsius == INT32_MIN ? INT64_MIN : now.celsius;
    return code;
  }
  unsigned old = kNotAvailable32;
  code = library->temperature(handle, kSensorGpu, &old);
  *celsius = old == kNotAvailable32 ? INT64_MIN : static_cast<int64_t>(old);
  return code;
}

int Gpu::EventReasons(unsigned long long* reasons) const {
  const int code = library->event_reasons(handle, reasons);
  return IsUnknownCall(code) ? library->throttle_reasons(handle, reasons) : code;
}

int Gpu::Memory(MemoryV2* memory) const {
  const int code = library->memory_v2(handle, memory);
  if (!IsUnknownCall(code)) return code;
  nvml::Memory old;
  const int old_code = library->memory(handle, &old);
  memory->total = old.total;
  memory->free = old.free;
  memory->used = old.used;
  memory->reserved = kNotAvailable64;
  return old_code;
}

int Gpu::FanPercent(unsigned fan, unsigned* percent) const {
  const int code = library->fan_v2(handle, fan, percent);
  return IsUnknownCall(code) && fan == 0 ? library->fan(handle, percent) : code;
}

int Gpu::Processes(bool compute, std::vector<ProcessInfo>* processes) const {
  processes->clear();
  Library::ListProcesses& newer = compute ? library->compute_processes_v3 : library->graphics_processes_v3;
  Library::ListProcesses& older = compute ? library->compute_processes_v2 : library->graphics_processes_v2;
  unsigned count = 0;
  int code = newer(handle, &count, nullptr);
  Library::ListProcesses& list = IsUnknownCall(code) ? older : newer;
  if (IsUnknownCall(code)) code = older(handle, &count, nullptr);
  for (int attempt = 0; code == kInsufficientSize && attempt < kMaxListAttempts; ++attempt) {
    if (count > kMaxProcesses) break;
    const unsigned capacity = count + kProcessSlack;
    processes->assign(capacity, ProcessInfo());
    count = capacity;
    code = list(handle, &count, processes->data());
    if (code == kSuccess) processes->resize(std::min(count, capacity));
  }
  if (code != kSuccess) processes->clear();
  return code;
}

std::vector<Device> Gpu::MigDevices() const {
  std::vector<Device> devices;
  unsigned capacity = 0;
  if (library->mig_capacity(handle, &capacity) != kSuccess) return devices;
  for (unsigned i = 0; i < std::min(capacity, kMaxMigDevices); ++i) {
    Device device = nullptr;
    // An index without an instance answers NOT_FOUND; the used ones need not be the first.
    if (library->mig_device(handle, i, &device) == kSuccess && device != nullptr) devices.push_back(device);
  }
  return devices;
}

}  // namespace skos::nvml
