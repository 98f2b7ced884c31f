// Which GPUs this machine has, as far as the PCI core and the names in sysfs tell. No driver is called: the files and links read
// here are answered by the driver core. Any thread.
#ifndef SKOS_GPU_DEVICES_H_
#define SKOS_GPU_DEVICES_H_

#include <cstddef>
#include <string>
#include <vector>

namespace skos::gpu {

constexpr size_t kMaxGpus = 64;  // Four times what the largest nodes hold.

struct Listing {
  std::string address;  // "0000:3b:00.0"; "card0" where a captured tree does not say.
  std::string source;   // "nvml", or the driver that sysfs names.
  std::string path;     // Of a GPU that is read through sysfs, relative to its root: "class/drm/card0/device".

  bool operator==(const Listing& other) const {
    return address == other.address && source == other.source && path == other.path;
  }
};

// Sorted by address, at most kMaxGpus.
std::vector<Listing> ListGpus(const std::string& sysfs_root);

}  // namespace skos::gpu

#endif  // SKOS_GPU_DEVICES_H_
