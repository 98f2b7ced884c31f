#include "units/command.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace skos::units {
namespace {

constexpr int kExitCannotExecute = 127;
constexpr int kMaxInherited = 1024;  // Where the kernel has no close_range (before 5.9): more descriptors than we ever open.
constexpr size_t kMostReadAtOnce = 64;  // Reads; who talks without end does not keep the loop.

// All that systemctl is told of the world. It finds the manager by /run/systemd/private; colours and pagers are for people.
char kPath[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
char kLocale[] = "LC_ALL=C";
char kColours[] = "SYSTEMD_COLORS=0";
char kUrls[] = "SYSTEMD_URLIFY=0";
char* const kEnvironment[] = {kPath, kLocale, kColours, kUrls, nullptr};

void CloseFrom(int first) {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
#endif
  for (int fd = first; fd < kMaxInherited; ++fd) close(fd);
}

// Between fork and exec: only what is safe after a fork of one thread.
[[noreturn]] void Become(const char* path, char* const* argv, int output) {
  setpgid(0, 0);  // Killed with what it started.
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // With nobody to hear it, it waits for nothing; systemd goes on with what it was told.
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  const bool placed = null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0;
  CloseFrom(STDERR_FILENO + 1);
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const sched_param ordinary = {};
  sched_setscheduler(0, SCHED_OTHER, &ordinary);
  // Whoever protects itself from the out-of-memory killer does not protect what it starts.
  const int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (oom >= 0) (void)!write(oom, "0", 1);
  if (chdir("/") == 0 && placed) execve(path, argv, kEnvironment);
  _exit(kExitCannotExecute);
}

}  // namespace

int Command::Start(const std::string& path, const Words& words, int64_t deadline_ns) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return errno;
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  fcntl(theirs.get(), F_SETFL, 0);  // systemctl expects to wait.
  static char name[] = "systemctl";
  char* argv[Words::kMax + 2] = {name};
  for (size_t i = 0; i < words.count; ++i) argv[i + 1] = const_cast<char*>(words.words[i]);
  const pid_t pid = fork();
  if (pid < 0) return errno;
  if (pid == 0) Become(path.c_str(), argv, theirs.get());
  setpgid(pid, pid);  // Whoever comes first; a kill right now must find the group.
  pid_ = pid;
  deadline_ns_ = deadline_ns;
  output_fd_.Reset(ours.Release());
  return 0;
}

Command::~Command() {
  if (running()) Kill();
}

void Command::Hear() {
  char buffer[4096];
  for (size_t i = 0; i < kMostReadAtOnce && output_fd_.valid(); ++i) {
    const ssize_t n = read(output_fd_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return output_fd_.Reset();
    const size_t room = kMaxOutputBytes - output_.size();
    whole_ = whole_ && static_cast<size_t>(n) <= room;
    output_.append(buffer, std::min(room, static_cast<size_t>(n)));
  }
}

void Command::Kill() {
  killed_ = true;
  kill(-pid_, SIGKILL);
}

void Command::Ended(int wait_status) {
  // What it started may still hold the pipe: nobody waits for that.
  Hear();
  output_fd_.Reset();
  pid_ = -1;
  status_ = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
}

}  // namespace skos::units
