// The two kinds of power limit: NVML's, and power1_cap of amdgpu (Documentation/gpu/amdgpu/thermal.rst).
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "gpu/nvml_device.h"
#include "gpu/protocol.h"
#include "gpu/setter.h"

namespace skos::gpu {
namespace {

constexpr int64_t kMicroPerMilli = 1'000;

class NvmlPower final : public Knob {
 public:
  NvmlPower(std::unique_ptr<nvml::Library> library, nvml::Device device) : library_(std::move(library)), device_(device) {}

  int Read(KnobState* out) override {
    unsigned milliwatts = 0;
    if (const int error = ErrnoOfNvml(library_->power_limit(device_, &milliwatts))) return error;
    out->value = milliwatts * kMicroPerMilli;
    unsigned min = 0;
    unsigned max = 0;
    // A device that does not state its constraints refuses what is beyond them.
    if (library_->power_constraints(device_, &min, &max) == nvml::kSuccess) {
      out->min = min * kMicroPerMilli;
      out->max = max * kMicroPerMilli;
    }
    return 0;
  }

  int Write(int64_t value_uw) override {
    const int64_t milliwatts = value_uw / kMicroPerMilli;
    if (milliwatts <= 0 || milliwatts > UINT32_MAX) return EINVAL;
    return ErrnoOfNvml(library_->set_power_limit(device_, static_cast<unsigned>(milliwatts)));
  }

 private:
  const std::unique_ptr<nvml::Library> library_;
  const nvml::Device device_;
};

std::unique_ptr<Knob> OpenNvmlPower(const std::string& name, const std::string& address, int* error) {
  nvml::Device device = nullptr;
  std::unique_ptr<nvml::Library> library = OpenNvmlDevice(name, address, &device, error);
  if (library == nullptr) return nullptr;
  return std::make_unique<NvmlPower>(std::move(library), device);
}

class AmdgpuPower final : public Knob {
 public:
  explicit AmdgpuPower(std::string directory) : directory_(std::move(directory)) {}

  int Read(KnobState* out) override {
    if (const int error = ReadNumber("power1_cap", &out->value)) return error;
    (void)ReadNumber("power1_cap_min", &out->min);
    (void)ReadNumber("power1_cap_max", &out->max);
    return 0;
  }

  int Write(int64_t value_uw) override {
    const int fd = open((directory_ + "/power1_cap").c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return Away(errno);
    char text[24];
    const int length = std::snprintf(text, sizeof text, "%" PRId64, value_uw);
    int error = write(fd, text, static_cast<size_t>(length)) == length ? 0 : errno;
    if (close(fd) != 0 && error == 0) error = errno;
    return Away(error);
  }

 private:
  static int Away(int error) { return error == ENOENT || error == ENXIO ? ENODEV : error; }

  int ReadNumber(const char* leaf, int64_t* out) const {
    const int fd = open((directory_ + "/" + leaf).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return Away(errno);
    char text[32];
    const ssize_t n = read(fd, text, sizeof text - 1);
    const int error = n < 0 ? errno : 0;
    close(fd);
    if (error != 0) return Away(error);
    size_t length = static_cast<size_t>(n);
    while (length > 0 && text[length - 1] == '\n') --length;
    return ParseDecimal(std::string_view(text, length), 0, INT64_MAX, out) ? 0 : EIO;
  }

  const std::string directory_;
};

// The card's hwmon directory, whose number changes with every load of the driver: the one that has a power cap.
std::unique_ptr<Knob> OpenAmdgpuPower(const std::string& sysfs, const std::string& address, int* error) {
  const std::string parent = sysfs + "/bus/pci/devices/" + address + "/hwmon";
  DIR* directory = opendir(parent.c_str());
  *error = ENODEV;
  if (directory == nullptr) return nullptr;
  std::string found;
  while (const dirent* entry = readdir(directory)) {
    if (std::strncmp(entry->d_name, "hwmon", 5) != 0) continue;
    const std::string path = parent + "/" + entry->d_name;
    if (access((path + "/power1_cap").c_str(), F_OK) == 0) found = path;
  }
  closedir(directory);
  if (found.empty()) {
    *error = EOPNOTSUPP;
    return nullptr;
  }
  *error = 0;
  return std::make_unique<AmdgpuPower>(found);
}

}  // namespace

std::unique_ptr<Knob> OpenPowerKnob(const SetterSettings& settings, std::string_view source, const std::string& address,
                                    int* error) {
  if (source == "nvml" && settings.nvml != kNoLibrary) return OpenNvmlPower(settings.nvml, address, error);
  if (source == "amdgpu") return OpenAmdgpuPower(settings.sysfs_root, address, error);
  *error = EOPNOTSUPP;
  return nullptr;
}

}  // namespace skos::gpu
