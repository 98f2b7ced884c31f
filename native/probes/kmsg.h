// One record of /dev/kmsg: "priority,sequence,microseconds,flags[,…];text\n KEY=value\n…", where bytes that cannot be
// printed are written as \xNN. Source: Documentation/ABI/testing/dev-kmsg of the Linux kernel. No allocation.
#ifndef SKOS_PROBES_KMSG_H_
#define SKOS_PROBES_KMSG_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace skos {

// The kernel's own messages. What user space writes to /dev/kmsg gets facility 1 or more, whatever it asks for.
constexpr uint32_t kKernelFacility = 0;

struct KmsgRecord {
  uint32_t facility = 0;
  uint32_t level = 0;  // 0 emergency … 7 debug.
  uint64_t sequence = 0;
  int64_t time_us = 0;  // Of the kernel's log clock, which starts with the boot.
  bool fragment = false;  // A piece of a line ('c' first, '+' following), as old kernels write them.
  std::string_view text;  // Escaped as the kernel wrote it, without what follows the first line.
};

// False for anything that the kernel does not write.
bool ParseKmsgRecord(std::string_view bytes, KmsgRecord* record);

// Undoes the escapes; what is no printable ASCII becomes '?', white space becomes ' '. At most `capacity` bytes.
size_t UnescapeKmsg(std::string_view text, char* out, size_t capacity);

}  // namespace skos

#endif  // SKOS_PROBES_KMSG_H_
