#include "gpu/nvml_device.h"

#include <cerrno>

namespace skos::gpu {

int ErrnoOfNvml(int code) {
  switch (code) {
    case nvml::kSuccess:
      return 0;
    case nvml::kInvalidArgument:
      return EINVAL;
    case nvml::kNotSupported:
    case nvml::kFunctionNotFound:
      return EOPNOTSUPP;
    case nvml::kNoPermission:
      return EPERM;
    case nvml::kUninitialized:
    case nvml::kNotFound:
    case nvml::kDriverNotLoaded:
    case nvml::kGpuIsLost:
    case nvml::kResetRequired:
    case nvml::kLibRmVersionMismatch:
    case nvml::kGpuNotFound:
      return ENODEV;
    default:
      return EIO;
  }
}

std::unique_ptr<nvml::Library> OpenNvmlDevice(const std::string& name, const std::string& address, nvml::Device* device, int* error) {
  std::string why;
  bool absent = false;
  std::unique_ptr<nvml::Library> library = nvml::Library::Load(name, &why, &absent);
  *error = ENODEV;
  if (library == nullptr) return nullptr;
  int code = library->init();
  if (code == nvml::kSuccess) code = library->handle_by_address(address.c_str(), device);
  *error = ErrnoOfNvml(code);
  if (code != nvml::kSuccess) library.reset();
  return library;
}

}  // namespace skos::gpu
