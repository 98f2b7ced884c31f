#include "probes/nvml.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "probes/nvml_channels.h"
#include "probes/nvml_details.h"
#include "probes/nvml_events.h"
#include "probes/nvml_gpu.h"

namespace skos {
namespace {

using nvml::Gpu;
using nvml::kSuccess;
using nvml::Library;

constexpr unsigned kMaxGpus = 256;  // More than any machine has; the number comes from a library.

// A string of the library's, bounded by its buffer whatever the library wrote; "" when it has none.
template <size_t kBytes, typename Getter>
std::string Text(Getter getter) {
  char text[kBytes] = {};
  if (getter(text, static_cast<unsigned>(kBytes)) != kSuccess) return "";
  return std::string(text, strnlen(text, kBytes));
}

std::string DriverVersion(Library& library) {
  return Text<nvml::kVersionBytes>([&](char* text, unsigned bytes) { return library.driver_version(text, bytes); });
}

// "12.570.86.15, driver 570.86.15"; the first part is known without a driver too.
std::string Versions(Library& library) {
  const std::string own = Text<nvml::kVersionBytes>([&](char* text, unsigned bytes) { return library.nvml_version(text, bytes); });
  const std::string driver = DriverVersion(library);
  if (driver.empty()) return own;
  return own + (own.empty() ? "driver " : ", driver ") + driver;
}

std::string Architecture(unsigned number) {
  switch (number) {
    case 2: return "Kepler";
    case 3: return "Maxwell";
    case 4: return "Pascal";
    case 5: return "Volta";
    case 6: return "Turing";
    case 7: return "Ampere";
    case 8: return "Ada";
    case 9: return "Hopper";
    case 10: return "Blackwell";
    case 13: return "Rubin";
    default: return "";
  }
}

GpuIdentity Identify(const Gpu& gpu, const std::string& address) {
  Library& library = *gpu.library;
  GpuIdentity identity;
  const auto put = [&identity](const char* key, const std::string& text) {
    if (!text.empty()) identity.more[key] = text;
  };
  const std::string uuid =
      Text<nvml::kUuidBytes>([&](char* text, unsigned bytes) { return library.uuid(gpu.handle, text, bytes); });
  identity.id = uuid.empty() ? "pci-" + address : uuid;
  identity.source = "nvml";
  identity.vendor = "nvidia";
  identity.address = address;
  identity.name = Text<nvml::kNameBytes>([&](char* text, unsigned bytes) { return library.name(gpu.handle, text, bytes); });
  put("uuid", uuid);
  put("serial", Text<nvml::kSerialBytes>([&](char* text, unsigned bytes) { return library.serial(gpu.handle, text, bytes); }));
  put("vbios",
      Text<nvml::kVbiosBytes>([&](char* text, unsigned bytes) { return library.vbios_version(gpu.handle, text, bytes); }));
  put("driver", DriverVersion(library));
  unsigned architecture = 0;
  if (library.architecture(gpu.handle, &architecture) == kSuccess) put("architecture", Architecture(architecture));
  return identity;
}

class NvmlDevice final : public GpuDevice {
 public:
  NvmlDevice(std::unique_ptr<Library> library, nvml::Device handle, const std::string& address)
      : gpu_(std::make_shared<Gpu>(std::move(library), handle)),
        identity_(Identify(*gpu_, address)),
        events_(std::make_unique<nvml::Events>(gpu_)) {}

  ~NvmlDevice() override {
    events_.reset();
    gpu_->library->shutdown();
  }

  const GpuIdentity& identity() const override { return identity_; }

  std::vector<GpuChannel> Discover() override {
    const auto driver = identity_.more.find("driver");
    return nvml::DiscoverChannels(gpu_, driver == identity_.more.end() ? "" : driver->second);
  }

  std::string Details() override { return nvml::DetailsJson(*gpu_); }
  bool WaitEvents(const GpuEventSink& sink) override { return events_->Wait(sink); }
  GpuCondition condition() const override { return gpu_->health.condition(); }

 private:
  const std::shared_ptr<Gpu> gpu_;  // Shared with the probes, which may outlive the device.
  const GpuIdentity identity_;
  std::unique_ptr<nvml::Events> events_;
};

// Loaded and initialised, or nullptr and why.
std::unique_ptr<Library> Start(const std::string& name, std::string* why, bool* absent, std::string* version) {
  std::unique_ptr<Library> library = Library::Load(name, why, absent);
  if (library == nullptr) return nullptr;
  const int code = library->init();
  *version = Versions(*library);
  if (code == kSuccess) return library;
  *why = library->Explain(library->init.name(), code);
  return nullptr;
}

}  // namespace

GpuOpening OpenNvml(const std::string& library_name, const std::string& address) {
  GpuOpening opening;
  std::unique_ptr<Library> library = Start(library_name, &opening.why, &opening.library_absent, &opening.library_version);
  if (library == nullptr) return opening;
  nvml::Device handle = nullptr;
  const int code = library->handle_by_address(address.c_str(), &handle);
  if (code == kSuccess) {
    opening.device = std::make_unique<NvmlDevice>(std::move(library), handle, address);
    return opening;
  }
  opening.why = library->Explain(library->handle_by_address.name(), code);
  library->shutdown();
  return opening;
}

NvmlList ListNvml(const std::string& library_name) {
  NvmlList list;
  std::string versions;
  const std::unique_ptr<Library> library = Start(library_name, &list.why, &list.absent, &versions);
  if (library == nullptr) return list;
  list.version = DriverVersion(*library);
  unsigned count = 0;
  const int code = library->count(&count);
  if (code != kSuccess) list.why = library->Explain(library->count.name(), code);
  for (unsigned i = 0; i < std::min(count, kMaxGpus); ++i) {
    nvml::Device handle = nullptr;
    nvml::PciInfo info;
    if (library->handle_by_index(i, &handle) != kSuccess || library->pci_info(handle, &info) != kSuccess) continue;
    const std::string address = NormalPciAddress(std::string(info.bus_id, strnlen(info.bus_id, sizeof info.bus_id)));
    if (!address.empty()) list.addresses.push_back(address);
  }
  library->shutdown();
  return list;
}

}  // namespace skos
