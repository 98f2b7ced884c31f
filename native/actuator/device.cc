#include "actuator/device.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

namespace skos::actuator {
namespace {

constexpr size_t kMaxFilePath = kMaxPathBytes + 64;
constexpr int64_t kDefaultPeriodUs = 100'000;  // Kernel default of cpu.max and cpu.cfs_period_us.
constexpr int64_t kMinQuotaUs = 1'000;         // The scheduler refuses less (sched-bwc.rst).

// How often a path is looked up again when somebody renames below it meanwhile: the kernel then cannot say whether it stays beneath.
constexpr int kLookUps = 16;

// Beneath the root whatever is swapped for a link meanwhile: links of sysfs are relative and stay inside, and an attribute is
// never one. Kernels before 5.6 have no openat2(2); there only the last component is sure. fd or -1.
int OpenBeneath(int root_fd, const char* path, int flags) {
  flags |= O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW;
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  static std::atomic<bool> is_absent{false};  // Any thread. Once absent it stays so.
  int fd = -1;
  for (int i = 0; i < kLookUps && !is_absent; ++i) {
    fd = static_cast<int>(syscall(SYS_openat2, root_fd, path, &how, sizeof how));
    if (fd >= 0 || errno != EAGAIN) break;
  }
  if (fd < 0 && errno == ENOSYS) is_absent = true;
  return is_absent ? openat(root_fd, path, flags) : fd;
}

// Opens below a root without ever blocking and refuses what is no regular file (a FIFO in a test tree). fd or -errno.
int OpenRegular(int root_fd, const char* path, int flags) {
  const int fd = OpenBeneath(root_fd, path, flags);
  if (fd < 0) return -errno;
  struct stat status = {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return -EILSEQ;
  }
  return fd;
}

int ReadAt(int root_fd, const char* path, char* buffer, size_t size) {
  const int fd = OpenRegular(root_fd, path, O_RDONLY);
  if (fd < 0) return -fd;
  const ssize_t n = read(fd, buffer, size - 1);
  const int error = n < 0 ? errno : 0;
  close(fd);
  if (error != 0) return error;
  size_t length = static_cast<size_t>(n);
  while (length > 0 && (buffer[length - 1] == '\n' || buffer[length - 1] == ' ')) --length;
  buffer[length] = '\0';
  return 0;
}

int WriteAt(int root_fd, const char* path, const char* text) {
  const int fd = OpenRegular(root_fd, path, O_WRONLY);
  if (fd < 0) return -fd;
  const size_t length = std::strlen(text);
  const ssize_t n = write(fd, text, length);
  int error = n < 0 ? errno : 0;
  if (error == 0 && static_cast<size_t>(n) != length) error = EIO;
  // The kernel's files take a value as a whole. A captured tree keeps old digits behind a shorter one; cut off afterwards, not
  // before, so that who is killed in between leaves a value as the kernel would.
  struct stat status = {};
  struct statfs file_system = {};
  const bool is_longer = error == 0 && fstat(fd, &status) == 0 && status.st_size > static_cast<off_t>(length);
  if (is_longer && fstatfs(fd, &file_system) == 0 && file_system.f_type != SYSFS_MAGIC)
    (void)!ftruncate(fd, static_cast<off_t>(length));
  if (close(fd) != 0 && error == 0) error = errno;
  return error;
}

// The next component of a path, which loses it; "" at its end. One that says nothing ("a//b", "a/./b") is passed over.
std::string_view TakeName(std::string_view* path) {
  while (!path->empty()) {
    const size_t slash = path->find('/');
    const std::string_view name = path->substr(0, slash);
    *path = slash == std::string_view::npos ? std::string_view() : path->substr(slash + 1);
    if (!name.empty() && name != ".") return name;
  }
  return {};
}

// The root, a path of no component, holds all.
bool IsWithin(std::string_view own, std::string_view group) {
  for (std::string_view name = TakeName(&group); !name.empty(); name = TakeName(&group)) {
    if (TakeName(&own) != name) return false;
  }
  return true;
}

// Whether this process runs in a cgroup or below it: frozen, it could not thaw it any more. A path of v1 begins with the name of the
// hierarchy, which /proc/self/cgroup tells apart ("0::/a/b", "4:freezer:/a/b").
bool HoldsUs(std::string_view path) {
  char text[4096];
  const int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
  const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
  if (fd >= 0) close(fd);
  std::string_view rest(text, n < 0 ? 0 : static_cast<size_t>(n));
  std::string_view below = path;
  (void)TakeName(&below);
  std::string_view names = below;
  const bool has_below = !TakeName(&names).empty();
  while (!rest.empty()) {
    const size_t newline = rest.find('\n');
    const std::string_view line = rest.substr(0, newline);
    rest = newline == std::string_view::npos ? std::string_view() : rest.substr(newline + 1);
    const size_t start = line.find(":/");
    if (start == std::string_view::npos) continue;
    const std::string_view own = line.substr(start + 2);
    if (IsWithin(own, path) || (has_below && IsWithin(own, below))) return true;
  }
  return false;
}

// As skos-gpu calls it.
const char* SetterKnob(Kind kind) {
  return kind == Kind::kNvmlPower    ? "nvml"
         : kind == Kind::kNvmlClocks ? "nvml_clocks"
         : kind == Kind::kAmdgpuPower ? "amdgpu"
                                      : "amdgpu_level";
}

// Modes of pwmN_enable and the largest duty. Source: Documentation/hwmon/sysfs-interface.rst: 0 is no control, the fan at full speed;
// 1 is manual; 2 and more are automatic, and what they mean is the chip's affair.
constexpr int64_t kFanUncontrolled = 0;
constexpr int64_t kFanManual = 1;
constexpr int64_t kFullDuty = 255;
constexpr int64_t kNearlyFullDuty = 248;  // Of a chip that has five bits of it.

// No level but the lowest is a cap, so that a share of the former one is that from here on.
constexpr int64_t kLowestLevelPpm = 500'000;
constexpr int64_t kLowestLevel = 1;  // As skos-gpu numbers them: native/gpu/README.md.

// As skos-units calls it.
const char* UnitKnob(Kind kind) {
  return kind == Kind::kUnitQuota ? "quota" : kind == Kind::kUnitFreeze ? "freeze" : "run";
}

// systemd takes a quota in hundredths of a percent, but keeps it in whole ones: the rest is gone with the next daemon-reload.
constexpr int64_t kQuotaStepPpm = 10'000;

// A file of another layout (cgroup v1 where v2 was looked for) is ENOENT, which the caller tries next.
bool IsFreezing(const char* state) { return std::strcmp(state, "FROZEN") == 0 || std::strcmp(state, "FREEZING") == 0; }

}  // namespace

Device::Device(const TargetSpec& spec, const Roots& roots)
    : spec_(spec),
      roots_(roots),
      setter_(IsGpu(spec.kind) && !roots.setter_socket.empty()
                  ? std::make_unique<SetterLink>(roots.setter_socket,
                                                 std::string(SetterKnob(spec.kind)) + ' ' + spec.path)
                  : nullptr),
      unit_(IsUnitKind(spec.kind) && !roots.units_socket.empty()
                ? std::make_unique<UnitLink>(roots.units_socket, std::string(UnitKnob(spec.kind)) + ' ' + spec.path)
                : nullptr) {}

int Device::RootFd() const {
  return spec_.kind == Kind::kQuota || spec_.kind == Kind::kFreeze ? roots_.cgroup_fd : roots_.sysfs_fd;
}

int Device::ReadFile(const char* leaf, char* buffer, size_t size) const {
  char path[kMaxFilePath];
  std::snprintf(path, sizeof path, "%s/%s", spec_.path.c_str(), leaf);
  return ReadAt(RootFd(), path, buffer, size);
}

int Device::ReadNumber(const char* leaf, int64_t* out) const {
  char buffer[64];
  if (const int error = ReadFile(leaf, buffer, sizeof buffer)) return error;
  return ParseInteger(buffer, out) ? 0 : EILSEQ;
}

int Device::WriteFile(const char* leaf, const char* text) const {
  char path[kMaxFilePath];
  std::snprintf(path, sizeof path, "%s/%s", spec_.path.c_str(), leaf);
  return WriteAt(RootFd(), path, text);
}

int Device::Read(Raw* out) const {
  *out = Raw();
  char buffer[64];
  switch (spec_.kind) {
    case Kind::kCpufreq:
      return ReadNumber("scaling_max_freq", &out->value);
    case Kind::kPstate:
      return ReadNumber("max_perf_pct", &out->value);
    case Kind::kRapl:
      return ReadNumber("constraint_0_power_limit_uw", &out->value);
    case Kind::kQuota: {
      int error = ReadFile("cpu.max", buffer, sizeof buffer);
      if (error == ENOENT) {
        if ((error = ReadNumber("cpu.cfs_quota_us", &out->value)) != 0) return error;
        if (out->value < 0) out->value = kUnlimited;
        return ReadNumber("cpu.cfs_period_us", &out->aux);
      }
      if (error != 0) return error;
      char* blank = std::strchr(buffer, ' ');
      if (blank == nullptr) return EILSEQ;
      *blank = '\0';
      if (!ParseInteger(blank + 1, &out->aux) || out->aux <= 0) return EILSEQ;
      if (std::strcmp(buffer, "max") == 0) {
        out->value = kUnlimited;
        return 0;
      }
      return ParseInteger(buffer, &out->value) && out->value >= 0 ? 0 : EILSEQ;
    }
    case Kind::kFreeze: {
      int error = ReadFile("cgroup.freeze", buffer, sizeof buffer);
      if (error == ENOENT) {
        if ((error = ReadFile("freezer.state", buffer, sizeof buffer)) != 0) return error;
        out->value = IsFreezing(buffer) ? 0 : 1;
        return IsFreezing(buffer) || std::strcmp(buffer, "THAWED") == 0 ? 0 : EILSEQ;
      }
      if (error != 0) return error;
      int64_t frozen = 0;
      if (!ParseInteger(buffer, &frozen) || frozen < 0 || frozen > 1) return EILSEQ;
      out->value = 1 - frozen;
      return 0;
    }
    case Kind::kFan:
      return ReadFan(out);
    case Kind::kNvmlPower:
    case Kind::kAmdgpuPower:
    case Kind::kAmdgpuLevel:
      return setter_ == nullptr ? ENOSYS : setter_->Read(&out->value, &min_uw_);
    case Kind::kNvmlClocks: {
      // The library tells the highest clock, and not whether it is locked to a lower one.
      if (setter_ == nullptr) return ENOSYS;
      const int error = setter_->Read(&out->value, &min_uw_);
      if (error == 0 && locked_mhz_ != 0) out->value = locked_mhz_;
      return error;
    }
    case Kind::kUnitQuota:
    case Kind::kUnitFreeze:
    case Kind::kUnitRun:
      return unit_ == nullptr ? EOPNOTSUPP : unit_->Read(&out->value);
  }
  return EINVAL;
}

int Device::Write(const Raw& raw) const {
  char text[64];
  switch (spec_.kind) {
    case Kind::kCpufreq:
    case Kind::kPstate:
    case Kind::kRapl: {
      std::snprintf(text, sizeof text, "%" PRId64, raw.value);
      const char* leaf = spec_.kind == Kind::kCpufreq  ? "scaling_max_freq"
                         : spec_.kind == Kind::kPstate ? "max_perf_pct"
                                                       : "constraint_0_power_limit_uw";
      return WriteFile(leaf, text);
    }
    case Kind::kQuota: {
      if (raw.value == kUnlimited) {
        std::snprintf(text, sizeof text, "max %" PRId64, raw.aux);
      } else {
        std::snprintf(text, sizeof text, "%" PRId64 " %" PRId64, raw.value, raw.aux);
      }
      const int error = WriteFile("cpu.max", text);
      if (error != ENOENT) return error;
      std::snprintf(text, sizeof text, "%" PRId64, raw.value);
      return WriteFile("cpu.cfs_quota_us", text);  // v1: the period is never changed, so the quota alone says it.
    }
    case Kind::kFreeze: {
      if (raw.value == 0 && HoldsUs(spec_.path)) return EPERM;
      const int error = WriteFile("cgroup.freeze", raw.value == 0 ? "1" : "0");
      if (error != ENOENT) return error;
      return WriteFile("freezer.state", raw.value == 0 ? "FROZEN" : "THAWED");
    }
    case Kind::kFan:
      return WriteFan(raw);
    case Kind::kNvmlPower:
    case Kind::kAmdgpuPower:
    case Kind::kAmdgpuLevel:
      return setter_ == nullptr ? ENOSYS : setter_->Write(raw.value);
    case Kind::kNvmlClocks: {
      if (setter_ == nullptr) return ENOSYS;
      const int error = setter_->Write(raw.value);
      // Also where the GPU did not obey: what was set must be taken back.
      if (error != ENODEV && !IsRefusal(error)) locked_mhz_ = raw.value;
      return error;
    }
    case Kind::kUnitQuota:
    case Kind::kUnitFreeze:
    case Kind::kUnitRun:
      return unit_ == nullptr ? EOPNOTSUPP : unit_->Write(raw.value);
  }
  return EINVAL;
}

// The duty of an automatic control moves by itself: it is no part of what must be given back.
int Device::ReadFan(Raw* out) const {
  const std::string path = ResolveEntry(roots_.sysfs_fd, spec_.path);
  char text[64];
  if (const int error = ReadAt(roots_.sysfs_fd, (path + "_enable").c_str(), text, sizeof text)) return error;
  if (!ParseInteger(text, &out->aux) || out->aux < 0) return EILSEQ;
  if (out->aux != kFanManual) return 0;
  if (const int error = ReadAt(roots_.sysfs_fd, path.c_str(), text, sizeof text)) return error;
  return ParseInteger(text, &out->value) && out->value >= 0 && out->value <= kFullDuty ? 0 : EILSEQ;
}

// Manual control freezes the curve by which a fan follows the heat: it is never left behind with another duty than was asked for.
int Device::WriteFan(const Raw& raw) const {
  const std::string path = ResolveEntry(roots_.sysfs_fd, spec_.path);
  const std::string mode_path = path + "_enable";
  const auto write_mode = [&](int64_t mode) { return WriteAt(roots_.sysfs_fd, mode_path.c_str(), std::to_string(mode).c_str()); };
  if (raw.aux != kFanManual) return write_mode(raw.aux);
  Raw before;
  if (const int error = ReadFan(&before)) return error;
  int error = write_mode(kFanManual);
  // A chip without manual control can be let go of: its fans then turn at full speed.
  if (error == EINVAL && raw.value == kFullDuty) return write_mode(kFanUncontrolled);
  if (error == 0) error = WriteAt(roots_.sysfs_fd, path.c_str(), std::to_string(raw.value).c_str());
  if (error != 0 && before.aux != kFanManual) (void)write_mode(before.aux);
  return error;
}

// NVIDIA's library is initialised by a setter that opens; what it answers first takes longer than what it answers then. The files of
// amdgpu are left alone: reading one wakes a GPU that sleeps.
int Device::WarmUp() const {
  if (setter_ == nullptr) return ENOSYS;
  Raw ignored;
  const bool has_library = spec_.kind == Kind::kNvmlPower || spec_.kind == Kind::kNvmlClocks;
  return has_library ? Read(&ignored) : setter_->Open();
}

bool Device::IsHalfOf(const Raw& current, const Raw& written) const {
  return spec_.kind == Kind::kFan && current.aux == kFanManual && written.aux == kFanManual;
}

void Device::Assume(const Raw& written) const {
  if (spec_.kind == Kind::kNvmlClocks) locked_mhz_ = written.value;
}

bool Device::IsRefusal(int error) const {
  return IsGpu(spec_.kind) && (error == EPERM || error == EACCES || error == EOPNOTSUPP);
}

Raw Device::Capped(const Raw& former, int64_t cap_ppm) const {
  if (spec_.kind == Kind::kFan) return cap_ppm == 0 ? Raw{kFullDuty, kFanManual} : former;
  if (IsSwitch(spec_.kind)) return cap_ppm == 0 ? Raw{0, 0} : former;
  if (spec_.kind == Kind::kAmdgpuLevel) return cap_ppm <= kLowestLevelPpm ? Raw{kLowestLevel, 0} : former;
  if (spec_.kind == Kind::kUnitQuota) {
    int64_t quota = cap_ppm - cap_ppm % kQuotaStepPpm;
    if (quota < kQuotaStepPpm) quota = kQuotaStepPpm;
    if (former.value != kUnlimited && former.value < quota) quota = former.value;
    return Raw{quota, 0};
  }
  if (spec_.kind == Kind::kQuota) {
    const int64_t period = former.aux > 0 ? former.aux : kDefaultPeriodUs;
    int64_t quota = period * cap_ppm / kFullPpm;
    if (quota < kMinQuotaUs) quota = kMinQuotaUs;
    if (former.value != kUnlimited && former.value < quota) quota = former.value;
    return Raw{quota, period};
  }
  // The largest former value is a power limit of some kilowatts in µW: far from overflow in 128 bits, not in 64.
  int64_t value = static_cast<int64_t>(static_cast<__int128>(former.value) * cap_ppm / kFullPpm);
  const char* floor_leaf = spec_.kind == Kind::kCpufreq  ? "cpuinfo_min_freq"
                           : spec_.kind == Kind::kPstate ? "min_perf_pct"
                                                         : nullptr;
  if (setter_ != nullptr && min_uw_ == 0) {  // Adopted: this process has not asked the device yet.
    Raw current;
    (void)Read(&current);
  }
  int64_t floor = min_uw_;
  if (floor_leaf != nullptr) (void)ReadNumber(floor_leaf, &floor);
  if (value < floor) value = floor;
  if (value > former.value) value = former.value;
  return Raw{value, 0};
}

bool Device::AtLeastAsStrict(const Raw& read_back, const Raw& asked) const {
  if (spec_.kind == Kind::kFan) {
    return read_back == asked || read_back.aux == kFanUncontrolled ||
           (read_back.aux == kFanManual && read_back.value >= kNearlyFullDuty);
  }
  if (spec_.kind == Kind::kUnitQuota) {
    return asked.value == kUnlimited || (read_back.value != kUnlimited && read_back.value <= asked.value);
  }
  if (spec_.kind != Kind::kQuota) return read_back.value <= asked.value;
  if (asked.value == kUnlimited) return true;
  return read_back.value != kUnlimited && read_back.aux > 0 &&
         static_cast<__int128>(read_back.value) * asked.aux <= static_cast<__int128>(asked.value) * read_back.aux;
}

bool Device::KernelCoolingActive() const {
  if (spec_.kind != Kind::kCpufreq) return false;
  const int fd = openat(roots_.sysfs_fd, "class/thermal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  DIR* directory = fdopendir(fd);
  if (directory == nullptr) {
    close(fd);
    return false;
  }
  bool active = false;
  while (const dirent* entry = readdir(directory)) {
    if (std::strncmp(entry->d_name, "cooling_device", 14) != 0 || std::strlen(entry->d_name) > 32) continue;
    char path[96];
    char text[64];
    std::snprintf(path, sizeof path, "class/thermal/%.32s/type", entry->d_name);
    if (ReadAt(roots_.sysfs_fd, path, text, sizeof text) != 0) continue;
    // "Processor" is ACPI's, "cpufreq-cpu0" and "thermal-cpufreq-0" are the device tree's. A fan is no cap.
    if (std::strcmp(text, "Processor") != 0 && std::strstr(text, "cpufreq") == nullptr) continue;
    std::snprintf(path, sizeof path, "class/thermal/%.32s/cur_state", entry->d_name);
    int64_t state = 0;
    if (ReadAt(roots_.sysfs_fd, path, text, sizeof text) == 0 && ParseInteger(text, &state) && state > 0) active = true;
  }
  closedir(directory);
  return active;
}

int Device::Default(Raw* out) const {
  *out = Raw();
  if (spec_.kind == Kind::kCpufreq) return ReadNumber("cpuinfo_max_freq", &out->value);
  return ENODATA;
}

std::string ResolveEntry(int root_fd, const std::string& path) {
  const size_t star = path.find("/*/");
  if (star == std::string::npos) return path;
  const int fd = openat(root_fd, path.substr(0, star).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* directory = fd < 0 ? nullptr : fdopendir(fd);
  if (directory == nullptr) {
    if (fd >= 0) close(fd);
    return path;
  }
  std::string only;
  int entries = 0;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    ++entries;
    only = entry->d_name;
  }
  closedir(directory);
  return entries == 1 ? path.substr(0, star + 1) + only + path.substr(star + 2) : path;
}

void FormatRaw(Kind kind, const Raw& raw, char* buffer, size_t size) {
  if (kind == Kind::kQuota && raw.value == kUnlimited) {
    std::snprintf(buffer, size, "max_%" PRId64, raw.aux);
  } else if (kind == Kind::kQuota) {
    std::snprintf(buffer, size, "%" PRId64 "_%" PRId64, raw.value, raw.aux);
  } else if (kind == Kind::kUnitQuota && raw.value == kUnlimited) {
    std::snprintf(buffer, size, "max");
  } else if (kind == Kind::kFreeze || kind == Kind::kUnitFreeze) {
    std::snprintf(buffer, size, "%s", raw.value == 0 ? "frozen" : "thawed");
  } else if (kind == Kind::kFan && raw.aux == kFanManual) {
    std::snprintf(buffer, size, "manual_%" PRId64, raw.value);
  } else if (kind == Kind::kFan) {
    std::snprintf(buffer, size, raw.aux == kFanUncontrolled ? "full" : "auto_%" PRId64, raw.aux);
  } else if (kind == Kind::kUnitRun) {
    std::snprintf(buffer, size, "%s", raw.value == 0 ? "running" : "stopped");
  } else {
    std::snprintf(buffer, size, "%" PRId64, raw.value);
  }
}

}  // namespace skos::actuator
