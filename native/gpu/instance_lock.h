// One skos-gpu serves a socket. Who starts while another one is there leaves again, unless that one does not answer: a supervisor
// calls no driver, so that one that is stopped or stuck is of no use to anybody, and its agent has died or is being started again.
// It is killed, which closes the sockets of its workers; those that do not hang leave, and their GPUs can be served again.
//
// The lock is a POSIX record lock, because the kernel names its holder, whom no file can name without a race; it is not inherited by
// workers. One that the kernel does not let die keeps its byte of the file, and the next one takes the next: no line of it is run
// any more, so that it can harm nobody.
#ifndef SKOS_GPU_INSTANCE_LOCK_H_
#define SKOS_GPU_INSTANCE_LOCK_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "probes/files.h"

namespace skos::gpu {

// Main thread of the supervisor.
class InstanceLock {
 public:
  // 0, and it is ours until the process ends; else the exit status, and stderr says why. Takes up to some seconds.
  int Take(const std::string& socket_path);

 private:
  struct Holder {
    off_t place = 0;
    pid_t pid = 0;

    bool operator==(const Holder& other) const { return place == other.place && pid == other.pid; }
  };

  std::vector<Holder> Others() const;
  bool IsHeldBy(const Holder& holder) const;
  bool TakePlace() const;
  bool Kill(const Holder& holder);

  UniqueFd file_;  // The only descriptor of it: closing another one would give the lock up.
  std::vector<pid_t> killed_;
};

}  // namespace skos::gpu

#endif  // SKOS_GPU_INSTANCE_LOCK_H_
