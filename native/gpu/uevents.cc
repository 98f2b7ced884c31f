#include "gpu/uevents.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>

#include "probes/uevent.h"

namespace skos::gpu {
namespace {

constexpr size_t kMaxMessageBytes = 8192;  // The kernel's are at most 2 KiB and a path.
constexpr int kMessagesAtOnce = 256;       // The rest is taken in the next round of the loop.
constexpr unsigned kKernelGroup = 1;       // Group 2 is udev's.

}  // namespace

void Uevents::Open() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  if (!fd.valid()) return;
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kKernelGroup;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) socket_.Reset(fd.Release());
}

bool Uevents::Receive() {
  bool concerns = false;
  for (int i = 0; i < kMessagesAtOnce; ++i) {
    char buffer[kMaxMessageBytes];
    sockaddr_nl sender = {};
    socklen_t size = sizeof sender;
    const ssize_t n =
        recvfrom(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&sender), &size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return concerns || errno == ENOBUFS;  // Some were lost: any of them may have been ours.
    // Only the kernel has no port; whoever else may send to the group is not believed.
    if (sender.nl_pid == 0 && ConcernsGpus({buffer, static_cast<size_t>(n)})) concerns = true;
  }
  return concerns;
}

bool ConcernsGpus(std::string_view message) {
  Uevent event;
  if (!ParseUevent(message, &event)) return false;
  return event.subsystem == "pci" || event.subsystem == "drm" || event.subsystem == "module";
}

}  // namespace skos::gpu
