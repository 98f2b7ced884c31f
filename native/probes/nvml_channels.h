// Which channels an NVIDIA GPU has: every group of quantities that NVML knows, asked for once, those kept that this GPU answers.
// Names, quantities and rates: native/gpu/README.md.
#ifndef SKOS_PROBES_NVML_CHANNELS_H_
#define SKOS_PROBES_NVML_CHANNELS_H_

#include <memory>
#include <string>
#include <vector>

#include "probes/nvml_gpu.h"

namespace skos::nvml {

// `driver` is its version, "570.86.15": some numbers in the interface depend on it.
std::vector<GpuChannel> DiscoverChannels(const std::shared_ptr<const Gpu>& gpu, const std::string& driver);

}  // namespace skos::nvml

#endif  // SKOS_PROBES_NVML_CHANNELS_H_
