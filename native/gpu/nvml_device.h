// One NVIDIA GPU, opened to be set. In the process of one setter.
#ifndef SKOS_GPU_NVML_DEVICE_H_
#define SKOS_GPU_NVML_DEVICE_H_

#include <memory>
#include <string>

#include "probes/nvml_library.h"

namespace skos::gpu {

// What an nvmlReturn_t says, as the setter's contract has it. 0 is success.
int ErrnoOfNvml(int code);

// nullptr and an errno in *error.
std::unique_ptr<nvml::Library> OpenNvmlDevice(const std::string& name, const std::string& address, nvml::Device* device, int* error);

}  // namespace skos::gpu

#endif  // SKOS_GPU_NVML_DEVICE_H_
