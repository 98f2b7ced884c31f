#include "probes/kernel_event.h"

#include <cstdio>

namespace skos {
namespace {

using Kind = KernelEventKind;

constexpr uint32_t kNvlinkFirst = 144;  // Xids 144–150 share one shape: NVIDIA's XID catalogue, "NVLink 5".
constexpr uint32_t kNvlinkLast = 150;
constexpr uint32_t kRecoveryXid = 154;
constexpr uint32_t kCleanupXid = 45;
constexpr uint32_t kMaxXid = 9999;    // The catalogue ends below 200.
constexpr uint32_t kMaxSxid = 99999;  // Five digits in NVIDIA's Fabric Manager user guide.

bool StartsWith(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }
bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool Skip(std::string_view* rest, std::string_view literal) {
  if (!StartsWith(*rest, literal)) return false;
  rest->remove_prefix(literal.size());
  return true;
}

// What stands before `stop`, which is taken too. False when `stop` does not come.
bool UpTo(std::string_view* rest, std::string_view stop, std::string_view* out) {
  const size_t length = rest->find(stop);
  if (length == std::string_view::npos) return false;
  *out = rest->substr(0, length);
  rest->remove_prefix(length + stop.size());
  return true;
}

template <typename Accepts>
std::string_view TakeWhile(std::string_view* rest, Accepts accepts) {
  size_t length = 0;
  while (length < rest->size() && accepts((*rest)[length])) ++length;
  const std::string_view taken = rest->substr(0, length);
  rest->remove_prefix(length);
  return taken;
}

std::string_view TakeDigits(std::string_view* rest) { return TakeWhile(rest, IsDigit); }

// At most nine digits, so that nothing overflows.
bool ToNumber(std::string_view digits, uint32_t* out) {
  if (digits.empty() || digits.size() > 9) return false;
  uint32_t number = 0;
  for (const char c : digits) {
    if (!IsDigit(c)) return false;
    number = number * 10 + static_cast<uint32_t>(c - '0');
  }
  *out = number;
  return true;
}

// "0x" and at most 16 digits.
bool TakeHex(std::string_view* rest, uint64_t* out) {
  if (!Skip(rest, "0x")) return false;
  const std::string_view digits = TakeWhile(rest, IsHex);
  if (digits.empty() || digits.size() > 16) return false;
  uint64_t number = 0;
  for (const char c : digits) number = number * 16 + static_cast<uint64_t>(IsDigit(c) ? c - '0' : Lower(c) - 'a' + 10);
  *out = number;
  return true;
}

bool IsDeviceLetter(char c) { return IsDigit(c) || (Lower(c) >= 'a' && Lower(c) <= 'z') || c == '-' || c == '_'; }
bool IsBlockLetter(char c) { return IsDeviceLetter(c) || c == '/' || c == '!' || c == '.' || c == '+'; }

void Add(KernelEvent* event, const char* name, std::string_view value, bool key = false) {
  if (value.empty() || event->detail_count == kMaxEventDetails) return;
  event->details[event->detail_count++] = {name, value.substr(0, kMaxEventDetailBytes), key};
}
void AddKey(KernelEvent* event, const char* name, std::string_view value) { Add(event, name, value, true); }

bool Is(KernelEvent* event, Kind kind) {
  event->kind = kind;
  return true;
}

// "0000:3b:00.0", also without function (as the NVIDIA driver writes it), with a domain of 4 to 8 digits.
bool TakeAddress(std::string_view* rest, KernelEvent* event) {
  std::string_view text = *rest;
  std::string_view domain = TakeWhile(&text, IsHex);
  if (domain.size() < 4 || domain.size() > 8 || !Skip(&text, ":")) return false;
  while (domain.size() > 4 && domain[0] == '0') domain.remove_prefix(1);
  const std::string_view bus = TakeWhile(&text, IsHex);
  if (bus.size() != 2 || !Skip(&text, ":")) return false;
  const std::string_view device = TakeWhile(&text, IsHex);
  if (device.size() != 2) return false;
  char function = '0';
  if (text.size() >= 2 && text[0] == '.' && text[1] >= '0' && text[1] <= '7') {
    function = text[1];
    text.remove_prefix(2);
  }
  if (!text.empty() && (IsHex(text[0]))) return false;  // A longer number than an address has.
  char* out = event->address;
  for (const std::string_view part : {domain, std::string_view(":"), bus, std::string_view(":"), device})
    for (const char c : part) *out++ = Lower(c);
  *out++ = '.';
  *out++ = function;
  event->address_length = static_cast<size_t>(out - event->address);
  *rest = text;
  return true;
}

// ---- NVIDIA -----------------------------------------------------------------------------------------------------------

// "RLW_REMAP Nonfatal XC0 i0 Link 12 (0x…, …)". The subcode is bits 20–25 of the first word, as NVIDIA's XID catalogue
// decodes it; the second word is the error status.
void AddNvlink(KernelEvent* event, std::string_view message) {
  std::string_view unit;
  std::string_view severity;
  std::string_view ignored;
  if (!UpTo(&message, " ", &unit) || !UpTo(&message, " ", &severity)) return;
  if (severity != "Fatal" && severity != "Nonfatal") return;
  Add(event, "unit", unit);
  AddKey(event, "severity", severity == "Fatal" ? "fatal" : "nonfatal");
  if (!UpTo(&message, "Link ", &ignored)) return;
  AddKey(event, "link", TakeWhile(&message, [](char c) { return IsDigit(c) || c == '-'; }));
  uint64_t first = 0;
  if (!Skip(&message, " (") || !TakeHex(&message, &first)) return;
  const int length = std::snprintf(event->made, sizeof event->made, "%u", static_cast<unsigned>((first >> 20) & 0x3f));
  AddKey(event, "subcode", std::string_view(event->made, static_cast<size_t>(length)));
  Skip(&message, ",");
  Skip(&message, " ");
  const std::string_view status = message;
  uint64_t second = 0;
  if (TakeHex(&message, &second)) Add(event, "status", status.substr(0, status.size() - message.size()));
}

// "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)". The words differ between driver versions.
void AddRecovery(KernelEvent* event, std::string_view message) {
  std::string_view from;
  uint64_t number = 0;
  if (!Skip(&message, "GPU recovery action changed from ") || !TakeHex(&message, &number)) return;
  if (!Skip(&message, " (") || !UpTo(&message, ") to ", &from)) return;
  const std::string_view code = message;
  if (!TakeHex(&message, &number)) return;
  AddKey(event, "recovery_code", code.substr(2, code.size() - message.size() - 2));
  Add(event, "from", from);
  std::string_view to;
  if (Skip(&message, " (") && UpTo(&message, ")", &to)) Add(event, "recovery", to);
}

std::string_view Unquoted(std::string_view value) {
  if (value.size() >= 2 && value.front() == '\'' && value.back() == '\'') value = value.substr(1, value.size() - 2);
  return value == "<unknown>" ? std::string_view() : value;
}

// "pid=1234, name=python, Ch 00000012, " in any combination, each followed by ", " unless it ends the line.
void TakeXidFields(std::string_view* rest, KernelEvent* event) {
  for (;;) {
    const char* name = nullptr;
    if (Skip(rest, "pid=")) name = "pid";
    else if (Skip(rest, "name=")) name = "process";
    else if (Skip(rest, "Ch ") || Skip(rest, "channel ")) name = "channel";
    else return;
    std::string_view value;
    const bool more = UpTo(rest, ", ", &value);
    if (!more) {
      value = *rest;
      *rest = {};
    }
    // "Ch 00000001 caused by previous Xid 149": the cause follows without a comma.
    const size_t caused = value.find(" caused by previous Xid ");
    if (caused != std::string_view::npos) {
      std::string_view cause = value.substr(caused + sizeof(" caused by previous Xid ") - 1);
      AddKey(event, "cause", TakeDigits(&cause));
      value = value.substr(0, caused);
    }
    Add(event, name, Unquoted(value));
  }
}

bool Xid(std::string_view rest, KernelEvent* event) {
  if (!Skip(&rest, "(")) return false;
  Skip(&rest, "PCI:");
  if (!TakeAddress(&rest, event) || !Skip(&rest, "): ")) return false;
  if (!ToNumber(TakeDigits(&rest), &event->code) || event->code == 0 || event->code > kMaxXid) return false;
  if (!rest.empty() && !Skip(&rest, ", ") && !Skip(&rest, ",")) return false;
  event->has_code = true;
  TakeXidFields(&rest, event);
  if (event->code >= kNvlinkFirst && event->code <= kNvlinkLast) AddNvlink(event, rest);
  if (event->code == kRecoveryXid) AddRecovery(event, rest);
  std::string_view ignored;
  std::string_view cause = rest;
  if (event->code == kCleanupXid && event->Detail("cause").empty() && UpTo(&cause, "caused by previous Xid ", &ignored))
    AddKey(event, "cause", TakeDigits(&cause));
  Add(event, "message", rest);
  return Is(event, Kind::kXid);
}

// "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 45 egress …". "Data {…}" and "Severity 0 Engine …"
// lines belong to one that has been told.
bool Sxid(std::string_view rest, KernelEvent* event) {
  if (TakeDigits(&rest).empty() || !Skip(&rest, ": SXid (PCI:")) return false;
  if (!TakeAddress(&rest, event) || !Skip(&rest, "): ")) return false;
  if (!ToNumber(TakeDigits(&rest), &event->code) || event->code == 0 || event->code > kMaxSxid) return false;
  if (!Skip(&rest, ", ")) return false;
  event->has_code = true;
  if (Skip(&rest, "Fatal, ")) AddKey(event, "severity", "fatal");
  else if (Skip(&rest, "Non-fatal, ")) AddKey(event, "severity", "nonfatal");
  else return false;
  if (Skip(&rest, "Link ")) {
    AddKey(event, "link", TakeDigits(&rest));
    Skip(&rest, " ");
  }
  Add(event, "message", rest);
  return Is(event, Kind::kSxid);
}

// "loading NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug …", "… Open Kernel Module for x86_64  570.195.03 …"
bool DriverLoad(std::string_view rest, KernelEvent* event) {
  if (!Contains(rest, "Kernel Module")) return false;
  std::string_view ignored;
  UpTo(&rest, "Kernel Module", &ignored);
  if (UpTo(&rest, "  ", &ignored)) Add(event, "version", TakeWhile(&rest, [](char c) { return IsDigit(c) || c == '.'; }));
  return Is(event, Kind::kDriverLoad);
}

bool Nvrm(std::string_view rest, KernelEvent* event) {
  if (Skip(&rest, "Xid ")) return Xid(rest, event);
  if (Skip(&rest, "loading NVIDIA UNIX ")) return DriverLoad(rest, event);
  const bool multi_line = Skip(&rest, "The NVIDIA ");
  if (!Skip(&rest, "GPU at ") && !Skip(&rest, "GPU ")) return false;
  Skip(&rest, "PCI:");
  if (!TakeAddress(&rest, event)) return false;
  // nv_printf writes three lines in one message: NVRM: The NVIDIA GPU …, (PCI ID: …) installed in this system has, fallen off …
  if (multi_line) return Contains(rest, "NVRM: fallen off the bus") && Is(event, Kind::kGpuLost);
  if (StartsWith(rest, ": GPU has fallen off the bus") || StartsWith(rest, " has fallen off the bus") ||
      StartsWith(rest, ": has fallen off the bus"))
    return Is(event, Kind::kGpuLost);
  if (!Skip(&rest, ": RmInitAdapter failed!")) return false;
  Skip(&rest, " ");
  Add(event, "status", rest);
  return Is(event, Kind::kDriverFailed);
}

bool Nvlink(std::string_view rest, KernelEvent* event) {
  if (!Skip(&rest, "Unregistered ")) return false;
  Skip(&rest, "the ");
  return StartsWith(rest, "Nvlink Core") && Is(event, Kind::kDriverUnload);
}

// ---- AMD --------------------------------------------------------------------------------------------------------------

// "ring gfx_0.0.0 timeout, signaled seq=…"; not "ring gfx timeout, but soft recovered", after which all goes on.
bool AmdRing(std::string_view rest, KernelEvent* event) {
  std::string_view ring;
  if (!Skip(&rest, "ring ") || !UpTo(&rest, " ", &ring)) return false;
  if (!StartsWith(rest, "timeout, signaled seq=")) return false;
  AddKey(event, "ring", ring);
  return Is(event, Kind::kAmdRing);
}

bool AmdReset(KernelEvent* event, std::string_view state) {
  AddKey(event, "state", state);
  return Is(event, Kind::kAmdReset);
}

// "3 uncorrectable hardware errors detected in umc block", with a count, a socket, a die and a sequence before it since
// Linux 6.8. "no uncorrectable hardware errors detected" is what a clean look says.
bool AmdRas(std::string_view rest, KernelEvent* event) {
  const size_t at = rest.find("correctable hardware errors detected in ");
  const size_t deferred_at = rest.find("deferred hardware errors detected in ");
  const bool deferred = at == std::string_view::npos;
  if (deferred && deferred_at == std::string_view::npos) return false;
  std::string_view before = rest.substr(0, deferred ? deferred_at : at);
  std::string_view severity = deferred ? "deferred" : "corrected";
  if (!deferred && before.size() >= 2 && before.substr(before.size() - 2) == "un") {
    severity = "uncorrected";
    before.remove_suffix(2);
  }
  if (!before.empty() && before.back() == ' ') before.remove_suffix(1);
  if (before.size() >= 4 && before.substr(before.size() - 4) == " new") before.remove_suffix(4);
  size_t digits = 0;
  while (digits < before.size() && IsDigit(before[before.size() - 1 - digits])) ++digits;
  const std::string_view errors = before.substr(before.size() - digits);
  if (errors.empty() || errors == "0") return false;
  std::string_view block = rest.substr(deferred ? deferred_at : at);
  std::string_view ignored;
  UpTo(&block, "detected in ", &ignored);
  Skip(&block, "total in ");
  Skip(&block, " ");
  AddKey(event, "severity", severity);
  AddKey(event, "block", TakeWhile(&block, IsDeviceLetter));
  Add(event, "errors", errors);
  return Is(event, Kind::kAmdRas);
}

bool Amdgpu(std::string_view rest, KernelEvent* event) {
  while (Skip(&rest, "amdgpu: ")) continue;
  if (Skip(&rest, "[drm:amdgpu_job_timedout [amdgpu]] *ERROR* ")) return AmdRing(rest, event);
  if (StartsWith(rest, "ring ")) return AmdRing(rest, event);
  if (StartsWith(rest, "GPU reset begin!")) return AmdReset(event, "begin");
  if (StartsWith(rest, "GPU reset succeeded") || (Skip(&rest, "GPU reset(") && Contains(rest, ") succeeded!")))
    return AmdReset(event, "succeeded");
  if (StartsWith(rest, "GPU reset end with ret = -") || StartsWith(rest, "GPU Recovery Failed") ||
      StartsWith(rest, "GPU reset failed") || Contains(rest, "ASIC reset failed with error"))
    return AmdReset(event, "failed");
  if (StartsWith(rest, "VRAM is lost")) return Is(event, Kind::kAmdVramLost);
  if (StartsWith(rest, "uncorrectable hardware error(ERREVENT_ATHUB_INTERRUPT) detected")) {
    AddKey(event, "severity", "uncorrected");
    AddKey(event, "block", "athub");
    return Is(event, Kind::kAmdRas);
  }
  return AmdRas(rest, event);
}

bool DrmRing(std::string_view rest, KernelEvent* event) {
  return Skip(&rest, " [amdgpu]] *ERROR* ") && AmdRing(rest, event);
}

// ---- PCIe -------------------------------------------------------------------------------------------------------------

const char* AerSeverity(std::string_view words) {
  if (StartsWith(words, "Corrected") || StartsWith(words, "Correctable")) return "corrected";
  if (!StartsWith(words, "Uncorrected (") && !StartsWith(words, "Uncorrectable (")) return nullptr;
  if (Contains(words.substr(0, 32), "(Non-Fatal)")) return "nonfatal";
  return Contains(words.substr(0, 32), "(Fatal)") ? "fatal" : nullptr;
}

// "AER: Corrected error received: 0000:3b:00.0" names the device behind the port; "PCIe Bus Error: severity=…" comes from it.
bool Aer(std::string_view rest, KernelEvent* event) {
  const bool tagged = Skip(&rest, "AER: ");
  const char* severity = nullptr;
  if (Skip(&rest, "PCIe Bus Error: severity=")) {
    severity = AerSeverity(rest);
  } else if (tagged && StartsWith(rest, "device recovery failed")) {
    severity = "unrecovered";
  } else if (tagged) {
    Skip(&rest, "Multiple ");
    severity = AerSeverity(rest);
    std::string_view ignored;
    if (severity == nullptr || !UpTo(&rest, " received", &ignored)) return false;
    KernelEvent source;
    if ((Skip(&rest, ": ") || Skip(&rest, " from ")) && TakeAddress(&rest, &source)) {
      event->address_length = source.address_length;
      for (size_t i = 0; i < source.address_length; ++i) event->address[i] = source.address[i];
    }
  }
  if (severity == nullptr) return false;
  AddKey(event, "severity", severity);
  return Is(event, Kind::kAer);
}

// "driver 0000:3b:00.0: …", what dev_err() and its like write for a PCI device.
bool PciDevice(std::string_view text, KernelEvent* event) {
  const std::string_view driver = TakeWhile(&text, IsDeviceLetter);
  if (driver.empty() || !Skip(&text, " ") || !TakeAddress(&text, event) || !Skip(&text, ": ")) return false;
  if (StartsWith(text, "AER: ") || StartsWith(text, "PCIe Bus Error: ")) return Aer(text, event);
  return driver == "amdgpu" && Amdgpu(text, event);
}

// ---- Machine checks ---------------------------------------------------------------------------------------------------

bool Mce(KernelEvent* event, std::string_view severity) {
  AddKey(event, "severity", severity);
  return Is(event, Kind::kMce);
}

bool Throttle(std::string_view rest, KernelEvent* event) {
  if (!Skip(&rest, "CPU")) return false;
  const std::string_view cpu = TakeDigits(&rest);
  if (cpu.empty() || !Skip(&rest, ": ")) return false;
  const bool package = StartsWith(rest, "Package");
  if (!Skip(&rest, "Core") && !Skip(&rest, "Package")) return false;
  if (!StartsWith(rest, " temperature above threshold")) return false;
  Add(event, "cpu", cpu);
  AddKey(event, "scope", package ? "package" : "core");
  return Is(event, Kind::kCpuThrottle);
}

// "CPU 3: Machine Check: 0 Bank 5: be00000000800400", "CPU 0: Machine Check Exception: 5 Bank 4: …". Bit 61 of the status
// is UC, uncorrected: Intel SDM 3B, IA32_MCi_STATUS.
bool MachineCheck(std::string_view rest, KernelEvent* event) {
  std::string_view bank;
  if (!Skip(&rest, "CPU ")) return false;
  const std::string_view cpu = TakeDigits(&rest);
  if (!Skip(&rest, ": Machine Check")) return false;
  const bool exception = Skip(&rest, " Exception");
  std::string_view ignored;
  if (cpu.empty() || !Skip(&rest, ": ") || !UpTo(&rest, " Bank ", &ignored) || !UpTo(&rest, ": ", &bank)) return false;
  Add(event, "cpu", cpu);
  Add(event, "bank", bank);
  const std::string_view status = TakeWhile(&rest, IsHex);
  if (status.empty() || status.size() > 16) return false;
  uint64_t bits = 0;
  for (const char c : status) bits = bits * 16 + static_cast<uint64_t>(IsDigit(c) ? c - '0' : Lower(c) - 'a' + 10);
  const bool uncorrected = ((bits >> 61) & 1) != 0;
  return Mce(event, exception && uncorrected ? "fatal" : uncorrected ? "uncorrected" : "corrected");
}

// Behind "[Hardware Error]: ": the words of mce, of EDAC's decoder for AMD, and of firmware (GHES, "event severity: …").
bool HardwareError(std::string_view rest, KernelEvent* event) {
  if (StartsWith(rest, "Machine check events logged")) return Mce(event, "logged");
  if (StartsWith(rest, "CPU ")) return MachineCheck(rest, event);
  if (StartsWith(rest, "Corrected error, ")) return Mce(event, "corrected");
  if (StartsWith(rest, "Deferred error, ")) return Mce(event, "deferred");
  if (StartsWith(rest, "Uncorrected, ")) return Mce(event, "uncorrected");
  if (!Skip(&rest, "event severity: ")) return false;
  if (rest == "corrected") return Mce(event, "corrected");
  if (rest == "recoverable") return Mce(event, "uncorrected");
  return rest == "fatal" && Mce(event, "fatal");
}

bool MceLine(std::string_view rest, KernelEvent* event) {
  if (Skip(&rest, "[Hardware Error]: ")) return HardwareError(rest, event);
  if (StartsWith(rest, "Uncorrected hardware memory error in ")) return Mce(event, "uncorrected");
  return Throttle(rest, event);
}

// "{1}[Hardware Error]: event severity: corrected"
bool NumberedHardwareError(std::string_view rest, KernelEvent* event) {
  return !TakeDigits(&rest).empty() && Skip(&rest, "}[Hardware Error]: ") && HardwareError(rest, event);
}

bool MemoryFailure(std::string_view rest, KernelEvent* event) {
  uint64_t page = 0;
  return TakeHex(&rest, &page) && StartsWith(rest, ": recovery action for ") && Mce(event, "uncorrected");
}

// "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#2_DIMM#0 (channel:2 …)"
bool Edac(std::string_view rest, KernelEvent* event) {
  const std::string_view controller = TakeDigits(&rest);
  if (controller.empty() || !Skip(&rest, ": ")) return false;
  const std::string_view errors = TakeDigits(&rest);
  if (errors.empty()) return false;
  if (Skip(&rest, " CE ")) AddKey(event, "severity", "corrected");
  else if (Skip(&rest, " UE ")) AddKey(event, "severity", "uncorrected");
  else return false;
  AddKey(event, "controller", controller);
  Add(event, "errors", errors);
  std::string_view ignored;
  if (UpTo(&rest, " on ", &ignored)) Add(event, "place", rest.substr(0, rest.find(" (")));
  return Is(event, Kind::kEdac);
}

// ---- Memory, disks, file systems ----------------------------------------------------------------------------------------

// "Killed process 123 (name) total-vm:…", before Linux 4.20 "Kill process 123 (name) score 5 or sacrifice child".
bool Oom(std::string_view rest, KernelEvent* event, const char* scope) {
  if (!Skip(&rest, "Killed process ") && !Skip(&rest, "Kill process ")) return false;
  const std::string_view pid = TakeDigits(&rest);
  if (pid.empty()) return false;
  AddKey(event, "scope", scope);
  Add(event, "pid", pid);
  // A name may hold parentheses: it ends where the rest of the line begins.
  size_t end = rest.find(") total-vm");
  if (end == std::string_view::npos) end = rest.find(") score");
  if (end == std::string_view::npos) end = rest.find(')');
  if (Skip(&rest, " (") && end != std::string_view::npos && end >= 2) Add(event, "process", rest.substr(0, end - 2));
  return Is(event, Kind::kOom);
}
bool NodeOom(std::string_view rest, KernelEvent* event) { return Oom(rest, event, "node"); }
bool CgroupOom(std::string_view rest, KernelEvent* event) { return Oom(rest, event, "cgroup"); }

// Behind "nvme ": "nvme0: I/O 12 QID 3 timeout, reset controller", "nvme0: controller is down; will reset: CSTS=…"
bool Nvme(std::string_view rest, KernelEvent* event) {
  const std::string_view device = TakeWhile(&rest, IsDeviceLetter);
  if (!StartsWith(device, "nvme") || device.size() < 5 || !Skip(&rest, ": ")) return false;
  Add(event, "device", device);
  if (StartsWith(rest, "I/O ") && Contains(rest, " timeout, ")) AddKey(event, "state", "timeout");
  else if (StartsWith(rest, "controller is down; will reset")) AddKey(event, "state", "down");
  else if (StartsWith(rest, "Device not ready; aborting")) AddKey(event, "state", "not_ready");
  else if (StartsWith(rest, "Removing after probe failure") || StartsWith(rest, "Disabling device after reset failure"))
    AddKey(event, "state", "removed");
  else return false;
  return Is(event, Kind::kNvme);
}

bool BlockError(std::string_view rest, KernelEvent* event, std::string_view error) {
  const std::string_view device = TakeWhile(&rest, IsBlockLetter);
  if (device.empty() || !Skip(&rest, ",")) return false;
  Add(event, "device", device);
  AddKey(event, "error", error);
  return Is(event, Kind::kBlock);
}

// "critical medium error, dev sda, sector 5", "I/O error, dev nvme0n1, sector 1336320 op 0x0:(READ) …". The kinds of error
// are those of blk_status_to_errno's table in block/blk-core.c.
bool Block(std::string_view rest, KernelEvent* event) {
  static constexpr std::string_view kErrors[] = {"I/O", "critical medium", "critical target", "critical space allocation",
                                                 "critical nexus", "protection", "recoverable transport"};
  for (const std::string_view error : kErrors) {
    std::string_view behind = rest;
    if (Skip(&behind, error) && Skip(&behind, " error, dev ")) return BlockError(behind, event, error);
  }
  return false;
}
bool BufferError(std::string_view rest, KernelEvent* event) { return BlockError(rest, event, "buffer I/O"); }

bool FileSystem(KernelEvent* event, const char* type, std::string_view device, const char* state) {
  if (device.empty()) return false;
  Add(event, "type", type);
  Add(event, "device", device);
  AddKey(event, "state", state);
  return Is(event, Kind::kFileSystem);
}

// "EXT4-fs error (device sda1): …", "EXT4-fs (sda1): Remounting filesystem read-only"
bool Ext4(std::string_view rest, KernelEvent* event) {
  const bool error = Skip(&rest, "error (device ");
  if (!error && !Skip(&rest, "(")) return false;
  const std::string_view device = TakeWhile(&rest, IsBlockLetter);
  if (!Skip(&rest, "): ")) return false;
  if (error) return FileSystem(event, "ext4", device, "error");
  if (StartsWith(rest, "Remounting filesystem read-only")) return FileSystem(event, "ext4", device, "read_only");
  if (StartsWith(rest, "shut down requested")) return FileSystem(event, "ext4", device, "shutdown");
  return StartsWith(rest, "I/O error while writing superblock") && FileSystem(event, "ext4", device, "error");
}

bool Xfs(std::string_view rest, KernelEvent* event) {
  const std::string_view device = TakeWhile(&rest, IsBlockLetter);
  if (!Skip(&rest, "): ")) return false;
  if (StartsWith(rest, "Metadata corruption detected") || StartsWith(rest, "Metadata CRC error detected") ||
      StartsWith(rest, "Corruption "))
    return FileSystem(event, "xfs", device, "corrupt");
  if (Contains(rest, "hutting down filesystem") || Contains(rest, "ilesystem has been shut down"))
    return FileSystem(event, "xfs", device, "shutdown");
  if (StartsWith(rest, "metadata I/O error") || StartsWith(rest, "log I/O error") || StartsWith(rest, "writeback error"))
    return FileSystem(event, "xfs", device, "error");
  return false;
}

// "BTRFS error (device sda1): …", "BTRFS critical (device sda1 state EA): …", "BTRFS info (device sda1): forced readonly"
bool Btrfs(std::string_view rest, KernelEvent* event) {
  Skip(&rest, ": ");
  Skip(&rest, " ");
  std::string_view level;
  if (!UpTo(&rest, " (device ", &level)) return false;
  const std::string_view device = TakeWhile(&rest, IsBlockLetter);
  std::string_view ignored;
  if (!UpTo(&rest, ")", &ignored)) return false;
  Skip(&rest, ":");
  Skip(&rest, " ");
  if (StartsWith(rest, "forced readonly")) return FileSystem(event, "btrfs", device, "read_only");
  if (level == "warning" && Contains(rest.substr(0, 32), "csum failed")) return FileSystem(event, "btrfs", device, "corrupt");
  if (level == "error" || level == "critical" || level == "alert" || level == "emergency")
    return FileSystem(event, "btrfs", device, "error");
  return false;
}

// "Aborting journal on device sda1-8."
bool Journal(std::string_view rest, KernelEvent* event) {
  std::string_view device = TakeWhile(&rest, IsBlockLetter);
  if (!device.empty() && device.back() == '.') device.remove_suffix(1);
  const size_t dash = device.rfind('-');
  if (dash != std::string_view::npos) device = device.substr(0, dash);
  return FileSystem(event, "ext4", device, "error");
}

// ---- Kernel -----------------------------------------------------------------------------------------------------------

// "INFO: task python3:1234 blocked for more than 120 seconds."
bool HungTask(std::string_view rest, KernelEvent* event) {
  std::string_view task;
  if (!UpTo(&rest, " blocked for more than ", &task)) return false;
  const size_t colon = task.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::string_view pid = task.substr(colon + 1);
  if (TakeDigits(&pid).empty() || !pid.empty()) return false;
  Add(event, "process", task.substr(0, colon));
  Add(event, "pid", task.substr(colon + 1));
  return Is(event, Kind::kHungTask);
}

bool Lockup(KernelEvent* event, std::string_view state) {
  AddKey(event, "state", state);
  return Is(event, Kind::kLockup);
}

// "BUG: soft lockup - CPU#3 stuck for 22s! [python3:1234]", "Watchdog detected hard LOCKUP on cpu 3", "watchdog0: watchdog
// did not stop!"
bool Watchdog(std::string_view rest, KernelEvent* event) {
  if (Skip(&rest, "BUG: soft lockup - CPU#")) {
    Add(event, "cpu", TakeDigits(&rest));
    std::string_view ignored;
    std::string_view task;
    if (UpTo(&rest, "[", &ignored) && UpTo(&rest, "]", &task)) Add(event, "process", task);
    return Lockup(event, "soft");
  }
  if (Skip(&rest, "Watchdog detected hard LOCKUP on cpu ")) {
    Add(event, "cpu", TakeDigits(&rest));
    return Lockup(event, "hard");
  }
  const std::string_view device = TakeWhile(&rest, IsDeviceLetter);
  if (!StartsWith(device, "watchdog") || !StartsWith(rest, ": watchdog did not stop!")) return false;
  Add(event, "device", device);
  return Is(event, Kind::kWatchdog);
}

// "INFO: rcu_sched self-detected stall on CPU", "INFO: rcu_preempt detected stalls on CPUs/tasks:", "… detected expedited stalls …"
bool Rcu(std::string_view rest, KernelEvent* event) {
  if (!Skip(&rest, "INFO: rcu_")) return false;
  TakeWhile(&rest, IsDeviceLetter);
  const bool stall = StartsWith(rest, " self-detected stall on CPU") || StartsWith(rest, " detected stalls on CPUs") ||
                     StartsWith(rest, " detected expedited stalls on CPUs");
  return stall && Lockup(event, "rcu");
}

struct Shape {
  std::string_view prefix;
  bool (*parse)(std::string_view rest, KernelEvent* event);
  bool whole = false;  // The prefix belongs to what parse() looks at.
};

constexpr Shape kShapes[] = {
    {"NVRM: ", Nvrm},
    {"nvidia-nvswitch", Sxid},
    {"nvidia-nvlink: ", Nvlink},
    {"[drm:amdgpu_job_timedout", DrmRing},
    {"mce: ", MceLine},
    {"[Hardware Error]: ", HardwareError},
    {"{", NumberedHardwareError},
    {"Memory failure: ", MemoryFailure},
    {"EDAC MC", Edac},
    {"CPU", Throttle, true},
    {"Out of memory: ", NodeOom},
    {"Memory cgroup out of memory: ", CgroupOom},
    {"nvme ", Nvme},
    {"blk_update_request: ", Block},
    {"print_req_error: ", Block},
    {"I/O error", Block, true},
    {"critical ", Block, true},
    {"Buffer I/O error on dev ", BufferError},
    {"EXT4-fs ", Ext4},
    {"XFS (", Xfs},
    {"BTRFS", Btrfs},
    {"Aborting journal on device ", Journal},
    {"INFO: task ", HungTask},
    {"INFO: rcu_", Rcu, true},
    {"rcu: ", Rcu},
    {"watchdog: ", Watchdog},
    {"NMI watchdog: ", Watchdog},
};

void Clear(KernelEvent* event) {
  event->has_code = false;
  event->code = 0;
  event->address_length = 0;
  event->detail_count = 0;
}

}  // namespace

std::string_view KernelEvent::Detail(std::string_view name) const {
  for (size_t i = 0; i < detail_count; ++i)
    if (name == details[i].name) return details[i].value;
  return {};
}

const char* KernelEventWord(KernelEventKind kind) {
  static constexpr const char* kWords[] = {
      "xid",       "sxid",    "gpu_lost",       "driver_load", "driver_unload", "driver_failed", "amd_ring",
      "amd_reset", "amd_vram_lost", "amd_ras",  "mce",         "edac",          "aer",           "oom",
      "nvme",      "block",   "file_system",    "cpu_throttle", "hung_task",    "lockup",        "watchdog",
  };
  static_assert(sizeof kWords / sizeof *kWords == kKernelEventKinds, "a word for each kind");
  return kWords[static_cast<size_t>(kind)];
}

bool ClassifyKernelLine(std::string_view text, KernelEvent* event) {
  Clear(event);
  if (text.empty()) return false;
  for (const Shape& shape : kShapes) {
    if (text[0] != shape.prefix[0] || !StartsWith(text, shape.prefix)) continue;
    if (shape.parse(shape.whole ? text : text.substr(shape.prefix.size()), event)) return true;
    Clear(event);
  }
  // Also what began like a shape and is none: "nvme 0000:01:00.0: AER: …".
  return PciDevice(text, event);
}

}  // namespace skos
