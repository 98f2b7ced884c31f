// The filter of skos-actuator: what a taken-over process may still ask for, and that nothing else succeeds.
#include "actuator/confine.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "test/check.h"

// AddressSanitizer gives each thread a signal stack, by a call that the actuator does not need.
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() { return "use_sigaltstack=0"; }

namespace skos::test {
namespace {

// Raw system calls only, which no sanitizer intercepts; the child ends without its library's exit.
bool Refused(long result, int with = EPERM) { return result == -1 && errno == with; }

struct Attempt {
  const char* name;
  bool (*refused)();
};

const Attempt kForbidden[] = {
    {"execve", [] { return Refused(syscall(SYS_execve, "/bin/true", nullptr, nullptr)); }},
    {"execveat", [] { return Refused(syscall(SYS_execveat, AT_FDCWD, "/bin/true", nullptr, nullptr, 0)); }},
    {"clone of a process", [] { return Refused(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr)); }},
    {"clone3", [] { return Refused(syscall(SYS_clone3, nullptr, 0), ENOSYS); }},
    {"AF_INET", [] { return Refused(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0)); }},
    {"AF_INET6", [] { return Refused(syscall(SYS_socket, AF_INET6, SOCK_DGRAM, 0)); }},
    {"AF_NETLINK", [] { return Refused(syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 0)); }},
    {"AF_PACKET", [] { return Refused(syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0)); }},
    {"bind", [] { return Refused(syscall(SYS_bind, 0, nullptr, 0)); }},
    {"listen", [] { return Refused(syscall(SYS_listen, 0, 1)); }},
    {"ptrace", [] { return Refused(syscall(SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr)); }},
    {"process_vm_writev", [] { return Refused(syscall(SYS_process_vm_writev, 1, nullptr, 0, nullptr, 0, 0)); }},
    {"kill", [] { return Refused(syscall(SYS_kill, getpid(), 0)); }},
    {"pidfd_open", [] { return Refused(syscall(SYS_pidfd_open, 1, 0)); }},
    {"bpf", [] { return Refused(syscall(SYS_bpf, 0, nullptr, 0)); }},
    {"mount", [] { return Refused(syscall(SYS_mount, "none", "/mnt", "tmpfs", 0, nullptr)); }},
    {"unshare", [] { return Refused(syscall(SYS_unshare, CLONE_NEWNS)); }},
    {"setuid", [] { return Refused(syscall(SYS_setuid, getuid())); }},
    {"init_module", [] { return Refused(syscall(SYS_init_module, nullptr, 0, "")); }},
    {"reboot", [] { return Refused(syscall(SYS_reboot, 0, 0, 0, nullptr)); }},
    {"io_uring_setup", [] { return Refused(syscall(SYS_io_uring_setup, 1, nullptr)); }},
    {"userfaultfd", [] { return Refused(syscall(SYS_userfaultfd, 0)); }},
    {"clock_settime", [] { return Refused(syscall(SYS_clock_settime, 0, nullptr)); }},
    {"fchmodat", [] { return Refused(syscall(SYS_fchmodat, AT_FDCWD, "/", 0755)); }},
    {"symlinkat", [] { return Refused(syscall(SYS_symlinkat, "/", AT_FDCWD, "/tmp/x")); }},
    {"renameat", [] { return Refused(syscall(SYS_renameat2, AT_FDCWD, "/tmp/a", AT_FDCWD, "/tmp/b", 0)); }},
    {"ioctl", [] { return Refused(syscall(SYS_ioctl, 0, 0x5412, "x")); }},
    {"seccomp", [] { return Refused(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, nullptr)); }},
    {"prctl", [] { return Refused(syscall(SYS_prctl, PR_SET_DUMPABLE, 1)); }},
    {"executable mmap",
     [] { return Refused(syscall(SYS_mmap, nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); }},
    {"executable mprotect",
     [] {
       const long page = syscall(SYS_mmap, nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       return page != -1 && Refused(syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC));
     }},
};

const Attempt kNeeded[] = {
    {"AF_UNIX", [] { return syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET, 0) < 0; }},
    {"connect", [] {
       sockaddr_un address = {};
       address.sun_family = AF_UNIX;
       std::strcpy(address.sun_path, "/nonexistent/socket");
       return !Refused(syscall(SYS_connect, syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET, 0), &address, sizeof address), ENOENT);
     }},
    {"openat", [] { return syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY) < 0; }},
    {"shared memory of another process",
     [] { return syscall(SYS_mmap, nullptr, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == -1; }},
};

// The number of the first attempt that went another way, counted from 1; 0: none.
int FirstWrong(const Attempt* attempts, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!attempts[i].refused()) return static_cast<int>(i) + 1;
  }
  return 0;
}

int InChild(int (*body)()) {
  const pid_t child = fork();
  if (child == 0) {
    const int status = body();
    for (;;) syscall(SYS_exit_group, status);  // AddressSanitizer makes calls of its own before _exit().
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

void RefusesWhatItDoesNotNeed() {
  const int wrong = InChild([] {
    if (actuator::Confine() != 0) return 200;
    return FirstWrong(kForbidden, std::size(kForbidden));
  });
  if (wrong > 0 && wrong <= static_cast<int>(std::size(kForbidden)))
    std::fprintf(stderr, "not refused: %s\n", kForbidden[wrong - 1].name);
  CHECK(wrong == 0);
}

void AllowsWhatItNeeds() {
  const int wrong = InChild([] {
    if (actuator::Confine() != 0) return 200;
    for (size_t i = 0; i < std::size(kNeeded); ++i) {
      if (kNeeded[i].refused()) return static_cast<int>(i) + 1;
    }
    return 0;
  });
  if (wrong > 0 && wrong <= static_cast<int>(std::size(kNeeded)))
    std::fprintf(stderr, "not allowed: %s\n", kNeeded[wrong - 1].name);
  CHECK(wrong == 0);
}

int waiting = 0;
int runs = 0;

// A thread that was there before is confined with the others, and cannot be the way out.
void ConfinesThreadsThatRunAlready() {
  const int wrong = InChild([] {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, [](void*) -> void* {
          __atomic_store_n(&runs, 1, __ATOMIC_RELEASE);
          while (__atomic_load_n(&waiting, __ATOMIC_ACQUIRE) == 0) syscall(SYS_sched_yield);
          return Refused(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0)) ? nullptr : &waiting;
        }, nullptr) != 0) {
      return 201;
    }
    // A sanitizer makes calls of its own when a thread begins.
    while (__atomic_load_n(&runs, __ATOMIC_ACQUIRE) == 0) syscall(SYS_sched_yield);
    if (actuator::Confine() != 0) return 200;
    __atomic_store_n(&waiting, 1, __ATOMIC_RELEASE);
    void* result = &waiting;
    pthread_join(thread, &result);
    return result == nullptr ? 0 : 1;
  });
  CHECK(wrong == 0);
}

void CannotBeTakenBack() {
  CHECK(InChild([] {
          if (actuator::Confine() != 0) return 200;
          return actuator::Confine() == EPERM ? 0 : 1;
        }) == 0);
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RefusesWhatItDoesNotNeed();
  AllowsWhatItNeeds();
  ConfinesThreadsThatRunAlready();
  CannotBeTakenBack();
  return 0;
}
