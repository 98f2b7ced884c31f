// skos-gpu --list: asks the library which GPUs it has, says it on the socket pair, and leaves. "gpu ADDRESS" for each, then "ok VERSION";
// or "absent WHY", or "failed WHY".
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>

#include "gpu/packets.h"
#include "gpu/process.h"
#include "gpu/protocol.h"
#include "gpu/settings.h"
#include "probes/nvml.h"

namespace skos::gpu {
namespace {

void Say(const std::string& words) { (void)SendPacket(kSupervisorFd, words.substr(0, kMaxPacketBytes), -1, 0); }

}  // namespace

int RunLister(const std::string& nvml) {
  prctl(PR_SET_NAME, "skos-gpu-list");
  PrepareForLibrary();
  const NvmlList list = ListNvml(nvml);
  if (list.absent || !list.why.empty()) {
    Say((list.absent ? "absent " : "failed ") + list.why);
    _exit(kExitCannotOpen);
  }
  const size_t count = std::min(list.addresses.size(), kMaxGpus);
  for (size_t i = 0; i < count; ++i) Say("gpu " + list.addresses[i]);
  Say("ok " + list.version);
  // Not exit(): what a library does then may hang, and the list would wait for it.
  _exit(0);
}

}  // namespace skos::gpu
