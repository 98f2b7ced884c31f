#include "gpu/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "gpu/settings.h"

namespace skos::gpu {
namespace {

constexpr int kMaxInherited = 1024;  // The supervisor has three descriptors a GPU and some more; the kept one is behind them.

// Between fork and exec. All other descriptors are closed by exec.
[[noreturn]] void Become(int theirs, int kept, char* const* argv) {
  // First, because its number may be the one that the socket is to have.
  if (kept >= 0) fcntl(kept, F_DUPFD, kSupervisorFd + 1);
  // dup2 onto itself would leave it to be closed by exec.
  const bool placed = theirs == kSupervisorFd ? fcntl(theirs, F_SETFD, 0) == 0 : dup2(theirs, kSupervisorFd) >= 0;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (placed) execv("/proc/self/exe", argv);
  _exit(kExitSystem);
}

}  // namespace

pid_t SpawnSelf(const std::vector<std::string>& arguments, UniqueFd* ours, int kept) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return -errno;
  UniqueFd mine(pair[0]);
  UniqueFd theirs(pair[1]);
  std::vector<char*> argv;
  static char name[] = "skos-gpu";
  argv.push_back(name);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid < 0) return -errno;
  if (pid == 0) Become(theirs.get(), kept, argv.data());
  ours->Reset(mine.Release());
  return pid;
}

void PrepareForLibrary() {
  dup2(STDERR_FILENO, STDOUT_FILENO);
  for (int fd = STDERR_FILENO + 1; fd < kMaxInherited; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

std::string DescribeExit(int status) {
  if (WIFEXITED(status)) return "ended with status " + std::to_string(WEXITSTATUS(status));
  const int number = WTERMSIG(status);
  return "was ended by signal " + std::to_string(number) + " (" + strsignal(number) + ")";
}

}  // namespace skos::gpu
