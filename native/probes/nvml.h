// NVIDIA GPUs by NVML: the library libnvidia-ml.so.1, loaded at run time, as a GpuDevice (gpu_device.h).
//
// Every call may block for ever in the kernel, opening and closing included. One GPU a process is the intended use: nvmlInit_v2 and a
// look-up by PCI address touch that GPU only, so that the others can be reset or re-partitioned while this one is read. Destroying the
// device frees its event set and gives the library back (nvmlShutdown); no thread may be in Details() or WaitEvents() by then.
#ifndef SKOS_PROBES_NVML_H_
#define SKOS_PROBES_NVML_H_

#include <string>
#include <vector>

#include "probes/gpu_device.h"

namespace skos {

// Opens the GPU at `address` ("0000:3b:00.0"). `library` is a path or a name for the loader, such as "libnvidia-ml.so.1".
GpuOpening OpenNvml(const std::string& library, const std::string& address);

struct NvmlList {
  bool absent = false;                 // There is no such library.
  std::string why;                     // Why there is no list: one line for people with NVML's own error.
  std::string version;                 // The driver's, where it is known.
  std::vector<std::string> addresses;  // As NormalPciAddress() gives them. A GPU that cannot be asked for its address is left out.
};

// Which GPUs the library has. Initialises each of them, so it belongs in a process that ends right after.
NvmlList ListNvml(const std::string& library);

}  // namespace skos

#endif  // SKOS_PROBES_NVML_H_
