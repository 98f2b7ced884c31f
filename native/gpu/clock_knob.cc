// What caps a GPU whose power limit is not permitted: NVML's locked clocks, and power_dpm_force_performance_level of amdgpu
// (Documentation/gpu/amdgpu/thermal.rst).
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>

#include "gpu/nvml_device.h"
#include "gpu/setter.h"
#include "sampler/clock.h"

namespace skos::gpu {
namespace {

constexpr int kGraphics = 0;              // NVML_CLOCK_GRAPHICS
constexpr int64_t kClockStepMhz = 30;     // Clocks come in steps of 7.5 or 15 MHz, of which the driver takes a next one.
constexpr int64_t kObeyNs = 300'000'000;  // A clock follows its lock within milliseconds.
constexpr int64_t kLookNs = 10'000'000;

// In MHz. What clocks are locked to cannot be asked for: `value` is the highest clock, whatever was set, and who sets remembers.
// A lock that somebody else set before is lost with ours, because the library can only take back all.
class NvmlClocks final : public Knob {
 public:
  NvmlClocks(std::unique_ptr<nvml::Library> library, nvml::Device device) : library_(std::move(library)), device_(device) {}

  int Read(KnobState* out) override {
    unsigned highest_mhz = 0;
    if (const int error = ErrnoOfNvml(library_->clock_max(device_, kGraphics, &highest_mhz))) return error;
    out->value = highest_mhz;
    out->max = highest_mhz;
    return 0;
  }

  // What is not below the highest clock is no lock. Done only when the GPU runs as it was told.
  int Write(int64_t mhz) override {
    KnobState now;
    if (const int error = Read(&now)) return error;
    if (mhz >= now.max) return ErrnoOfNvml(library_->unlock_clocks(device_));
    if (const int error = ErrnoOfNvml(library_->lock_clocks(device_, 0, static_cast<unsigned>(mhz)))) return error;
    for (const int64_t until_ns = MonotonicNs() + kObeyNs;;) {
      unsigned running_mhz = 0;
      if (const int error = ErrnoOfNvml(library_->clock(device_, kGraphics, &running_mhz))) return error;
      if (running_mhz <= mhz + kClockStepMhz) return 0;
      if (MonotonicNs() >= until_ns) return EIO;
      const timespec moment = ToTimespec(kLookNs);
      clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, nullptr);
    }
  }

 private:
  const std::unique_ptr<nvml::Library> library_;
  const nvml::Device device_;
};

// Numbered from 1. Those that go with settings of their own (manual, perf_determinism) are left to who made these: another level
// forgets them.
constexpr const char* kLevels[] = {"low",  "auto", "high", "profile_standard", "profile_min_sclk", "profile_min_mclk", "profile_peak"};

class AmdgpuLevel final : public Knob {
 public:
  explicit AmdgpuLevel(std::string path) : path_(std::move(path)) {}

  int Read(KnobState* out) override {
    const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return Away(errno);
    char text[32];
    const ssize_t n = read(fd, text, sizeof text - 1);
    const int error = n < 0 ? errno : 0;
    close(fd);
    if (error != 0) return Away(error);
    text[n] = '\0';
    text[std::strcspn(text, " \n")] = '\0';
    for (size_t i = 0; i < std::size(kLevels); ++i) {
      if (std::strcmp(text, kLevels[i]) != 0) continue;
      out->value = static_cast<int64_t>(i) + 1;
      return 0;
    }
    return EPERM;
  }

  int Write(int64_t level) override {
    if (level < 1 || level > static_cast<int64_t>(std::size(kLevels))) return EINVAL;
    KnobState now;
    if (const int error = Read(&now)) return error;
    const char* word = kLevels[level - 1];
    const int fd = open(path_.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return Away(errno);
    const auto length = static_cast<ssize_t>(std::strlen(word));
    int error = write(fd, word, static_cast<size_t>(length)) == length ? 0 : errno;
    if (close(fd) != 0 && error == 0) error = errno;
    return Away(error);
  }

 private:
  // Without the file the driver knows no levels; a device that is gone took its directory along, which OpenClockKnob() saw.
  static int Away(int error) { return error == ENXIO ? ENODEV : error == ENOENT ? EOPNOTSUPP : error; }

  const std::string path_;
};

}  // namespace

std::unique_ptr<Knob> OpenClockKnob(const SetterSettings& settings, std::string_view source, const std::string& address, int* error) {
  if (source == "nvml_clocks" && settings.nvml != kNoLibrary) {
    nvml::Device device = nullptr;
    std::unique_ptr<nvml::Library> library = OpenNvmlDevice(settings.nvml, address, &device, error);
    if (library == nullptr) return nullptr;
    return std::make_unique<NvmlClocks>(std::move(library), device);
  }
  *error = EOPNOTSUPP;
  if (source != "amdgpu_level") return nullptr;
  const std::string device = settings.sysfs_root + "/bus/pci/devices/" + address;
  *error = access(device.c_str(), F_OK) == 0 ? 0 : ENODEV;
  if (*error != 0) return nullptr;
  return std::make_unique<AmdgpuLevel>(device + "/power_dpm_force_performance_level");
}

}  // namespace skos::gpu
