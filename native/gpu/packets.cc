#include "gpu/packets.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace skos::gpu {
namespace {

constexpr size_t kMaxPassed = 4;  // Descriptors taken off one packet; the kernel closes what does not fit.

void TakePassed(msghdr* message, UniqueFd* passed) {
  for (cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      UniqueFd owned(fd);
      if (passed != nullptr && !passed->valid()) passed->Reset(owned.Release());
    }
  }
}

}  // namespace

int SendPacket(int fd, std::string_view packet, int passed, int flags) {
  iovec part = {const_cast<char*>(packet.data()), packet.size()};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (passed >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof passed);
    std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
  }
  while (sendmsg(fd, &message, flags | MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

Received ReceivePacket(int fd, char* buffer, size_t capacity, size_t* length, UniqueFd* passed) {
  iovec part = {buffer, capacity};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPassed * sizeof(int))] = {};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = 0;
  do {
    n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return errno == EAGAIN ? Received::kNothing : Received::kEnd;
  TakePassed(&message, passed);
  // An empty packet and the end look alike; nobody sends empty ones.
  if (n == 0) return Received::kEnd;
  *length = static_cast<size_t>(n);
  return (message.msg_flags & MSG_TRUNC) != 0 ? Received::kTooLong : Received::kPacket;
}

}  // namespace skos::gpu
