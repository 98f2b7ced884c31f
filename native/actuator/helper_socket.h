// The socket of a program that serves the actuator alone: skos-units, and the setters of skos-gpu. Any thread.
#ifndef SKOS_ACTUATOR_HELPER_SOCKET_H_
#define SKOS_ACTUATOR_HELPER_SOCKET_H_

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace skos::actuator {

constexpr int kHelperBacklog = 64;
constexpr int kActivatedFd = 3;  // sd_listen_fds(3): the first descriptor that a socket unit passes.

// A descriptor of our own for `path`, or the one that a socket unit passed. -1 and errno.
inline int ListenAsHelper(const std::string& path, bool* activated) {
  const char* pid = std::getenv("LISTEN_PID");
  const char* fds = std::getenv("LISTEN_FDS");
  *activated = pid != nullptr && fds != nullptr && std::atoi(pid) == getpid() && std::atoi(fds) == 1;
  if (*activated) {
    fcntl(kActivatedFd, F_SETFD, FD_CLOEXEC);
    fcntl(kActivatedFd, F_SETFL, O_NONBLOCK);
    return kActivatedFd;
  }
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path.c_str());
  unlink(path.c_str());
  const mode_t mask = umask(0177);
  const bool bound = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  umask(mask);
  if (bound && listen(fd, kHelperBacklog) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

// Whether the other side is root, or our own user.
inline bool MayEnter(int fd) {
  ucred peer = {};
  socklen_t size = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_HELPER_SOCKET_H_
