#include "actuator/confine.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace skos::actuator {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr uint32_t kArchitecture = 0;
#endif

constexpr uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;
// The C library then uses clone, whose flags a filter can see; those of clone3 are in memory.
constexpr uint32_t kNotThere = SECCOMP_RET_ERRNO | ENOSYS;

// What may be asked for whatever its arguments. The reflex's own come first: the list is walked on kernels before 5.11.
constexpr int kPlain[] = {
    SYS_pread64, SYS_read, SYS_write, SYS_pwrite64, SYS_futex, SYS_clock_gettime, SYS_timerfd_settime,
#ifdef SYS_poll
    SYS_poll,
#endif
    SYS_ppoll, SYS_accept4, SYS_recvfrom, SYS_sendto, SYS_recvmsg, SYS_sendmsg, SYS_getsockopt, SYS_connect,
    // Files below the roots, the allow-list, the state. Which of them is written is bounded by where the descriptors of
    // the roots point, by the unit's ReadWritePaths= and by the allow-list, not here.
    SYS_openat, SYS_openat2, SYS_close, SYS_newfstatat, SYS_fstat, SYS_fstatfs, SYS_lseek, SYS_getdents64, SYS_ftruncate, SYS_unlinkat,
#ifdef SYS_unlink
    SYS_unlink,
#endif
    // Memory, without what makes it executable.
    SYS_brk, SYS_munmap, SYS_madvise, SYS_mremap,
    // Threads: workers are started when they are first needed.
    SYS_set_robust_list, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall, SYS_sched_setscheduler,
    SYS_sched_getscheduler, SYS_sched_getparam, SYS_sched_get_priority_min, SYS_sched_get_priority_max, SYS_sched_yield,
    SYS_gettid, SYS_getpid, SYS_exit, SYS_exit_group,
#ifdef SYS_rseq
    SYS_rseq,
#endif
    SYS_timerfd_create, SYS_eventfd2, SYS_clock_nanosleep, SYS_nanosleep, SYS_getrandom,
    // Whose the allow-list is.
    SYS_getuid, SYS_geteuid,
};

constexpr size_t kMaxInstructions = 256;

class Program {
 public:
  void Add(uint16_t code, uint32_t k, uint8_t yes = 0, uint8_t no = 0) {
    if (size_ < kMaxInstructions) instructions_[size_] = {code, yes, no, k};
    ++size_;
  }

  void Return(uint32_t what) { Add(BPF_RET | BPF_K, what); }

  void Load(size_t offset) { Add(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)); }

  void When(int call, uint32_t what) {
    Add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1);
    Return(what);
  }

  // Allowed where (argument & mask) is not zero (`set`), or is zero.
  void WhenBit(int call, int argument, uint32_t mask, bool set) {
    Add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 4);
    LoadArgument(argument);
    Add(BPF_JMP | BPF_JSET | BPF_K, mask, set ? 0 : 1, set ? 1 : 0);
    Return(SECCOMP_RET_ALLOW);
    Return(kRefuse);
  }

  // Allowed where the argument is one of these.
  void WhenOneOf(int call, int argument, std::initializer_list<uint32_t> values) {
    Add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, static_cast<uint8_t>(2 + 2 * values.size()));
    LoadArgument(argument);
    for (const uint32_t value : values) {
      Add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
      Return(SECCOMP_RET_ALLOW);
    }
    Return(kRefuse);
  }

  bool fits() const { return size_ <= kMaxInstructions; }

  sock_fprog AsFilter() { return {static_cast<unsigned short>(size_), instructions_}; }

 private:
  // The lower half, which comes first on both architectures; all that is looked at here are ints and flags in it.
  void LoadArgument(int argument) { Load(offsetof(seccomp_data, args) + 8 * static_cast<size_t>(argument)); }

  sock_filter instructions_[kMaxInstructions] = {};
  size_t size_ = 0;
};

void Write(Program* program) {
  program->Load(offsetof(seccomp_data, arch));
  program->Add(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0);
  program->Return(SECCOMP_RET_KILL_PROCESS);
  // The numbers of x32 are none of those below.
  program->Load(offsetof(seccomp_data, nr));
  for (const int call : kPlain) program->When(call, SECCOMP_RET_ALLOW);
  program->WhenBit(SYS_mmap, 2, PROT_EXEC, false);
  program->WhenBit(SYS_mprotect, 2, PROT_EXEC, false);
  program->WhenOneOf(SYS_socket, 0, {AF_UNIX});
  program->WhenBit(SYS_clone, 0, CLONE_THREAD, true);
  program->WhenOneOf(SYS_setsockopt, 1, {SOL_SOCKET});  // Time-outs.
  program->WhenOneOf(SYS_prctl, 0, {PR_SET_NAME});
  // fdopendir() makes the first two; what came in a packet is asked for its seals.
  program->WhenOneOf(SYS_fcntl, 1, {F_GETFL, F_SETFD, F_GET_SEALS});
#ifdef SYS_clone3
  program->When(SYS_clone3, SECCOMP_RET_ALLOW);  // The other filter's.
#endif
  program->Return(kRefuse);
}

// A filter of its own, so that the start of a thread is not logged as an attempt.
void WriteQuiet(Program* program) {
  program->Load(offsetof(seccomp_data, nr));
#ifdef SYS_clone3
  program->When(SYS_clone3, kNotThere);
#endif
  program->Return(SECCOMP_RET_ALLOW);
}

// 0 or an errno.
int Install(unsigned int flags, const sock_fprog& filter) {
  const long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_TSYNC, &filter);
  // Positive: the thread that could not follow, because it has a filter of its own.
  return result == 0 ? 0 : result > 0 ? ESRCH : errno;
}

}  // namespace

int Confine() {
  if (kArchitecture == 0) return ENOSYS;
  Program quiet;
  Program program;
  WriteQuiet(&quiet);
  Write(&program);
  if (!program.fits()) return E2BIG;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  const int refused = Install(0, quiet.AsFilter());
  if (refused != 0) return refused;
  const int logged = Install(SECCOMP_FILTER_FLAG_LOG, program.AsFilter());
  return logged == EINVAL ? Install(0, program.AsFilter()) : logged;  // Kernels before 4.14 know no log.
}

}  // namespace skos::actuator
