// Processes, MIG instances and modes of a GPU as the JSON object `details` of native/gpu/README.md. Any one thread.
#ifndef SKOS_PROBES_NVML_DETAILS_H_
#define SKOS_PROBES_NVML_DETAILS_H_

#include <string>

#include "probes/nvml_gpu.h"

namespace skos::nvml {

std::string DetailsJson(const Gpu& gpu);

}  // namespace skos::nvml

#endif  // SKOS_PROBES_NVML_DETAILS_H_
