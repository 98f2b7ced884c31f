#include "probes/nvml_events.h"

#include <time.h>

#include <cstdio>

#include "probes/nvml_source.h"
#include "sampler/clock.h"

namespace skos::nvml {
namespace {

constexpr unsigned kWaitMs = 1000;
constexpr uint64_t kXidRecoveryAction = 154;         // "GPU recovery action changed": NVIDIA's XID catalogue.
constexpr int kMaxEventsPerWait = 64;                // A storm does not keep the thread from seeing that it is to leave.
constexpr int64_t kPauseNs = kNsPerSecond / 2;       // After what comes back at once, an error or a wait that did not wait: no busy loop.

// Changes of P-state and clock are left out, because channels show them; single corrected errors, because they are counted.
const struct {
  uint64_t type;
  const char* kind;
} kKinds[] = {
    {kEventXid, "xid"},
    {kEventDoubleBitEcc, "double_bit_ecc"},
    {kEventSingleBitEccStorm, "single_bit_ecc_storm"},
    {kEventDramRetirement, "dram_retirement"},
    {kEventDramRetirementFailure, "dram_retirement_failure"},
    {kEventNonFatalPoison, "non_fatal_poison"},
    {kEventFatalPoison, "fatal_poison"},
    {kEventGpuUnavailable, "gpu_unavailable"},
    {kEventRecoveryAction, "recovery_action"},
};

unsigned long long AllKinds() {
  unsigned long long all = 0;
  for (const auto& one : kKinds) all |= one.type;
  return all;
}

const char* KindOf(uint64_t type) {
  for (const auto& one : kKinds) {
    if (one.type == type) return one.kind;
  }
  return nullptr;
}

// Which recovery the driver asks for now, in hexadecimal as its own log writes it; "" when it does not say. A call that hangs keeps the event
// back, but not the kernel's log, which tells of it too.
std::string RecoveryCode(const Gpu& gpu) {
  FieldValue field;
  field.field = kFieldRecoveryAction;
  if (gpu.library->field_values(gpu.handle, 1, &field) != kSuccess) return "";
  const Datum action = FromField(field, 1, 1);
  if (action.code != kSuccess || action.quality != Quality::kOk || action.value < 0 || action.value > INT32_MAX) return "";
  gpu.health.NoteRecoveryAction(static_cast<int>(action.value));
  char text[16];
  std::snprintf(text, sizeof text, "%x", static_cast<unsigned>(action.value));
  return text;
}

bool IsOfRecovery(const EventData& event) {
  return event.type == kEventRecoveryAction || (event.type == kEventXid && event.data == kXidRecoveryAction);
}

// The event's number is the code of an XID; of the others the header does not say what it means, so it is `data`.
std::string Json(const char* kind, const EventData& event, const std::string& recovery_code) {
  std::string json = std::string("{\"kind\":\"") + kind + "\"";
  if (event.type == kEventXid) json += ",\"code\":" + std::to_string(event.data);
  else if (event.data != 0) json += ",\"data\":" + std::to_string(event.data);
  if (event.gpu_instance != kNotAvailable32) json += ",\"gpuInstance\":" + std::to_string(event.gpu_instance);
  if (event.compute_instance != kNotAvailable32) json += ",\"computeInstance\":" + std::to_string(event.compute_instance);
  if (!recovery_code.empty()) json += ",\"recovery_code\":\"" + recovery_code + "\"";
  return json + "}";
}

void Pause() {
  const timespec pause = ToTimespec(kPauseNs);
  nanosleep(&pause, nullptr);
}

}  // namespace

Events::~Events() {
  if (set_ != nullptr) gpu_->library->event_set_free(set_);
}

// False, and NVML's code, when there is no set. kNotSupported: there never will be one.
bool Events::Register(int* code) {
  Library& library = *gpu_->library;
  unsigned long long supported = 0;
  *code = library.event_types(gpu_->handle, &supported);
  if (*code != kSuccess) return false;
  const unsigned long long types = supported & AllKinds();
  *code = kNotSupported;
  if (types == 0) return false;
  EventSet set = nullptr;
  *code = library.event_set_create(&set);
  if (*code != kSuccess) return false;
  *code = library.event_register(gpu_->handle, types, set);
  if (*code == kSuccess) set_ = set;
  else library.event_set_free(set);
  return *code == kSuccess;
}

bool Events::Wait(const GpuEventSink& sink) {
  int code = kSuccess;
  bool at_once = false;  // Nothing happened, and it did not take its time.
  if (set_ != nullptr || Register(&code)) {
    const int64_t begin_ns = MonotonicNs();
    unsigned wait_ms = kWaitMs;
    for (int i = 0; i < kMaxEventsPerWait && code == kSuccess; ++i) {
      EventData event;
      code = gpu_->library->event_wait(set_, &event, wait_ms);
      // An event may come with GPU_IS_LOST, and is often the one that says why.
      if (code == kSuccess || (code == kGpuIsLost && event.type != 0)) Deliver(event, sink);
      at_once = i == 0 && code == kTimeout && MonotonicNs() - begin_ns < kPauseNs;
      wait_ms = 0;
    }
  }
  if (code == kTimeout) code = kSuccess;
  gpu_->health.Note(code, &state_);
  if (code == kNotSupported || code == kFunctionNotFound) return false;
  if (code != kSuccess || at_once) Pause();
  return true;
}

void Events::Deliver(const EventData& event, const GpuEventSink& sink) {
  if (event.type == kEventGpuUnavailable) gpu_->health.NoteUnavailable();
  const char* const kind = KindOf(event.type);
  if (kind != nullptr) sink(Json(kind, event, IsOfRecovery(event) ? RecoveryCode(*gpu_) : ""));
}

}  // namespace skos::nvml
