// One GPU that the kernel shows in sysfs, as a GpuDevice: amdgpu with all that it tells (hwmon, pp_dpm_*, mem_info_*, PCIe link,
// ras, gpu_metrics); of i915, xe, nouveau and radeon what their hwmon gives.
//
// Its files are found once, in Discover(), and kept open. A GPU that its driver has suspended (runtime power management) is not
// read: most attributes would wake it.
#ifndef SKOS_PROBES_AMDGPU_H_
#define SKOS_PROBES_AMDGPU_H_

#include <string>

#include "probes/gpu_device.h"

namespace skos {

// `device_path` is relative to the root: "class/drm/card0/device". Reads files that do not wake a suspended GPU, but may block as
// any driver may.
GpuOpening OpenSysfsGpu(const std::string& sysfs_root, const std::string& device_path);

}  // namespace skos

#endif  // SKOS_PROBES_AMDGPU_H_
