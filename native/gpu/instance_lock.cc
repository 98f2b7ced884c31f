#include "gpu/instance_lock.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "gpu/packets.h"
#include "gpu/protocol.h"
#include "gpu/settings.h"
#include "sampler/clock.h"

namespace skos::gpu {
namespace {

constexpr off_t kPlaces = 4;                       // The one that serves, and some that the kernel does not let die.
constexpr int64_t kSilentNs = 2 * kNsPerSecond;    // A supervisor answers within a millisecond, and leaves within a second.
constexpr int64_t kDyingNs = kNsPerSecond;         // A process that is not in the kernel dies within milliseconds.
constexpr int64_t kLookNs = 20'000'000;

void Sleep(int64_t ns) {
  const timespec pause = ToTimespec(ns);
  nanosleep(&pause, nullptr);
}

struct flock LockOf(off_t place) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = place;
  lock.l_len = 1;
  return lock;
}

// Whether anybody says anything at the socket until then. A connection alone says nothing: the kernel makes it for one that is stopped.
bool Answers(const std::string& socket_path, int64_t until_ns) {
  const UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path.c_str());
  if (!fd.valid() || connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return false;
  if (SendPacket(fd.get(), "1 hello 1", -1, MSG_DONTWAIT) != 0) return false;
  pollfd polled = {fd.get(), POLLIN, 0};
  const int64_t wait_ns = std::max<int64_t>(until_ns - MonotonicNs(), 0);
  poll(&polled, 1, static_cast<int>(wait_ns / 1'000'000) + 1);
  char buffer[kMaxPacketBytes];
  size_t length = 0;
  UniqueFd passed;
  return ReceivePacket(fd.get(), buffer, sizeof buffer, &length, &passed) == Received::kPacket;
}

}  // namespace

// Those that we have killed are others no more.
std::vector<InstanceLock::Holder> InstanceLock::Others() const {
  std::vector<Holder> others;
  for (off_t place = 0; place < kPlaces; ++place) {
    struct flock lock = LockOf(place);
    if (fcntl(file_.get(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) continue;
    if (std::find(killed_.begin(), killed_.end(), lock.l_pid) == killed_.end()) others.push_back({place, lock.l_pid});
  }
  return others;
}

bool InstanceLock::IsHeldBy(const Holder& holder) const {
  struct flock lock = LockOf(holder.place);
  return fcntl(file_.get(), F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid == holder.pid;
}

bool InstanceLock::TakePlace() const {
  for (off_t place = 0; place < kPlaces; ++place) {
    struct flock lock = LockOf(place);
    if (fcntl(file_.get(), F_SETLK, &lock) == 0) return true;
  }
  return false;
}

// False: it cannot be killed from here (another user's, or of another PID namespace).
bool InstanceLock::Kill(const Holder& holder) {
  if (holder.pid <= 0) return false;
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, holder.pid, 0)));
  // Looked at again with the descriptor in hand: the number may be another process's by now.
  if (!IsHeldBy(holder)) return true;
  if (!process.valid() || syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) != 0) return false;
  std::fprintf(stderr, "skos-gpu: process %d served this socket and does not answer: it is killed\n", static_cast<int>(holder.pid));
  const int64_t until_ns = MonotonicNs() + kDyingNs;
  while (IsHeldBy(holder) && MonotonicNs() < until_ns) Sleep(kLookNs);
  if (IsHeldBy(holder)) killed_.push_back(holder.pid);
  return true;
}

int InstanceLock::Take(const std::string& socket_path) {
  const std::string path = socket_path + ".lock";
  file_.Reset(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!file_.valid()) {
    std::fprintf(stderr, "skos-gpu: %s: %s\n", path.c_str(), std::strerror(errno));
    return kExitSystem;
  }
  const int64_t give_up_ns = MonotonicNs() + kPlaces * (kSilentNs + kDyingNs);
  // Each that is met gets its own time to answer: one that has just taken the place of a dead one does not listen yet.
  std::vector<Holder> met;
  int64_t silent_ns = 0;
  const auto busy = [&path] {
    std::fprintf(stderr, "skos-gpu: %s: another skos-gpu serves this socket\n", path.c_str());
    return kExitBusy;
  };
  while (MonotonicNs() < give_up_ns) {
    const std::vector<Holder> others = Others();
    if (others.empty()) {
      // Two that come at once may have taken a place each: then nobody has it, and both try again.
      if (TakePlace() && Others().empty()) return 0;
      struct flock none = LockOf(0);
      none.l_type = F_UNLCK;
      none.l_len = kPlaces;
      fcntl(file_.get(), F_SETLK, &none);
      Sleep(kLookNs + getpid() % 16 * 1'000'000);
      continue;
    }
    if (others != met) silent_ns = MonotonicNs() + kSilentNs;
    met = others;
    if (Answers(socket_path, silent_ns)) return busy();
    if (MonotonicNs() < silent_ns) {
      Sleep(kLookNs);  // It is just being started, or leaves.
      continue;
    }
    for (const Holder& other : others) {
      if (!Kill(other)) return busy();
    }
  }
  return busy();
}

}  // namespace skos::gpu
