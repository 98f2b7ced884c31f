// A process of our own: skos-gpu started again for one GPU or for the list. Main thread of the supervisor, which is its only one.
#ifndef SKOS_GPU_PROCESS_H_
#define SKOS_GPU_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "probes/files.h"

namespace skos::gpu {

// Runs /proc/self/exe with `arguments` and one end of a socket pair as kSupervisorFd; *ours is the other. `kept`, unless negative, stays
// open in the new process for as long as that lives. Its pid, or -errno.
pid_t SpawnSelf(const std::vector<std::string>& arguments, UniqueFd* ours, int kept = -1);

// The same, with a descriptor that is there already as kSupervisorFd.
pid_t SpawnSelfWith(const std::vector<std::string>& arguments, int descriptor, int kept = -1);

// The descriptor whose other end the agent holds (src/app/parent.ts); -1 where nobody gave one. Once, at the start.
int TakeParentFd();

// In a process of that kind, before it loads a vendor's library: what the library starts (nvidia-modprobe) inherits neither the socket nor
// the lock, and what it prints does not get among the program's output.
void PrepareForLibrary();

// "ended with status 1", "was ended by signal 9 (Killed)".
std::string DescribeExit(int status);

}  // namespace skos::gpu

#endif  // SKOS_GPU_PROCESS_H_
