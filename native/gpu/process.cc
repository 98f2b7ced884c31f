#include "gpu/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "gpu/protocol.h"
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
  const UniqueFd theirs(pair[1]);
  const pid_t pid = SpawnSelfWith(arguments, theirs.get(), kept);
  if (pid > 0) ours->Reset(mine.Release());
  return pid;
}

pid_t SpawnSelfWith(const std::vector<std::string>& arguments, int descriptor, int kept) {
  std::vector<char*> argv;
  static char name[] = "skos-gpu";
  argv.push_back(name);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid < 0) return -errno;
  if (pid == 0) Become(descriptor, kept, argv.data());
  return pid;
}

int TakeParentFd() {
  const char* text = std::getenv("SKOS_PARENT_FD");
  int64_t fd = -1;
  const bool given = text != nullptr && ParseDecimal(text, 3, INT32_MAX, &fd) && fcntl(static_cast<int>(fd), F_GETFD) >= 0;
  unsetenv("SKOS_PARENT_FD");  // A worker's descriptor 3 is another one.
  if (!given) return -1;
  fcntl(static_cast<int>(fd), F_SETFD, FD_CLOEXEC);
  return static_cast<int>(fd);
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
