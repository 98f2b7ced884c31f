// Packets with a descriptor over AF_UNIX SOCK_SEQPACKET sockets. Any thread.
#ifndef SKOS_GPU_PACKETS_H_
#define SKOS_GPU_PACKETS_H_

#include <cstddef>
#include <string_view>

#include "probes/files.h"

namespace skos::gpu {

// 0 or an errno; EAGAIN only with MSG_DONTWAIT in `flags`. `passed` travels with the packet when it is a descriptor.
int SendPacket(int fd, std::string_view packet, int passed, int flags);

enum class Received : unsigned char { kPacket, kNothing, kTooLong, kEnd };

// Never waits. Takes one descriptor that came along, closes further ones.
Received ReceivePacket(int fd, char* buffer, size_t capacity, size_t* length, UniqueFd* passed);

}  // namespace skos::gpu

#endif  // SKOS_GPU_PACKETS_H_
