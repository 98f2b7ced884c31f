// The kernel's word that the list of devices may have changed: netlink, NETLINK_KOBJECT_UEVENT. Main thread of the supervisor.
#ifndef SKOS_GPU_UEVENTS_H_
#define SKOS_GPU_UEVENTS_H_

#include <string_view>

#include "probes/files.h"

namespace skos::gpu {

class Uevents {
 public:
  // Without permission there are none, and the list is looked at now and then only.
  void Open();
  int socket() const { return socket_.get(); }
  // Takes what waits. True when something of it concerns GPUs, or was lost.
  bool Receive();

 private:
  UniqueFd socket_;
};

// A uevent of the subsystems pci and drm, or of a module being loaded or unloaded. `message` is "action@path\0KEY=value\0…".
bool ConcernsGpus(std::string_view message);

}  // namespace skos::gpu

#endif  // SKOS_GPU_UEVENTS_H_
