#include "actuator/unit_link.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "actuator/allow_list.h"

namespace skos::actuator {
namespace {

constexpr size_t kMaxAnswerBytes = 128;
constexpr int kHighestErrno = 4095;  // MAX_ERRNO of the kernel.
// skos-units ends a systemctl after 10 s; beyond that and some more it is stuck itself.
constexpr int64_t kUnitAnswerSeconds = 15;

}  // namespace

int ConnectTo(const std::string& path, int flags, int64_t deadline_s) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
  if (fd < 0) return -1;
  if (deadline_s > 0) {
    const timeval deadline = {static_cast<time_t>(deadline_s), 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline);  // Bounds connect() too: unix(7) waits for a full backlog.
  }
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path.c_str());
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

int UnitLink::Read(int64_t* value) { return Ask("get " + knob_, value); }

int UnitLink::Write(int64_t value) {
  int64_t none = 0;
  return Ask("set " + knob_ + ' ' + std::to_string(value), &none);
}

void UnitLink::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

// A connection that broke since the last request says nothing about this one: skos-units may have been started anew. Once more, then;
// a request may be repeated, because it says what is to stand.
int UnitLink::Ask(const std::string& request, int64_t* value) {
  char answer[kMaxAnswerBytes];
  const bool was_open = fd_ >= 0;
  int error = Connect();
  if (error == 0) error = Exchange(request, answer, sizeof answer);
  if (error == EPIPE && was_open) {
    error = Connect();
    if (error == 0) error = Exchange(request, answer, sizeof answer);
  }
  if (error == EPIPE) return ENODEV;
  if (error != 0) return error;
  const std::string_view said = answer;
  int64_t number = 0;
  if (said == "ok" && request[0] == 's') return 0;
  if (said.substr(0, 6) == "value " && request[0] == 'g' && ParseInteger(said.substr(6), value)) return 0;
  if (said.substr(0, 4) == "err " && ParseInteger(said.substr(4), &number) && number > 0 && number <= kHighestErrno) {
    return static_cast<int>(number);
  }
  Close();  // One that does not speak as agreed is of no use.
  return EPROTO;
}

int UnitLink::Connect() {
  if (fd_ >= 0) return 0;
  fd_ = ConnectTo(socket_path_, 0, kUnitAnswerSeconds);
  return fd_ >= 0 ? 0 : errno == EAGAIN ? ETIMEDOUT : ENODEV;
}

// EPIPE: the other end is gone; ETIMEDOUT: it does not answer. The connection is closed then, so that a late answer is nobody's.
int UnitLink::Exchange(const std::string& request, char* answer, size_t size) {
  ssize_t n = -1;
  int error = EPIPE;
  if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL) >= 0) {
    do {
      n = recv(fd_, answer, size - 1, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) error = ETIMEDOUT;
  }
  if (n <= 0) {
    Close();
    return error;
  }
  answer[n] = '\0';
  return 0;
}

}  // namespace skos::actuator
