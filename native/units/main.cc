// skos-units: the command line, the socket, and the loop. README.md beside this file is the contract.
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "actuator/helper_socket.h"
#include "sampler/clock.h"
#include "units/server.h"

namespace skos::units {
namespace {

constexpr int kExitUsage = 2;
constexpr int kExitSystem = 5;

// Started by its socket and without anything to do for so long it leaves; the next connection starts it again.
constexpr int64_t kIdleNs = 60 * kNsPerSecond;
// On the way out: how long those that still hold something may take to give it back. Less than TimeoutStopSec= of its unit.
constexpr int64_t kLeaveNs = 8 * kNsPerSecond;
constexpr int64_t kParentNs = kNsPerSecond;  // Between two looks whether the agent that started it is still there.

struct CommandLine {
  std::string socket_path;
  Options options;
  bool child = false;
};

bool Parse(int argc, char** argv, CommandLine* line) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--child") {
      line->child = true;
      continue;
    }
    std::string* value = name == "--socket" ? &line->socket_path : name == "--systemctl" ? &line->options.systemctl : nullptr;
    if (value == nullptr || ++i >= argc || argv[i][0] != '/') return false;
    *value = argv[i];
    if (name == "--systemctl") line->options.is_default = false;
  }
  return !line->socket_path.empty() && line->socket_path.size() < sizeof(sockaddr_un::sun_path);
}

void Accept(int listener, Server* server) {
  for (int i = 0; i < actuator::kHelperBacklog; ++i) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    if (actuator::MayEnter(fd)) server->Take(fd);
    else close(fd);
  }
}

int PollTimeoutMs(int64_t until_ns) {
  if (until_ns == INT64_MAX) return -1;
  const int64_t left_ms = (until_ns - MonotonicNs()) / 1'000'000 + 1;
  return static_cast<int>(std::clamp<int64_t>(left_ms, 0, 60'000));
}

int Loop(const CommandLine& line, int signal_fd, int listener, bool activated, pid_t parent) {
  Server server(line.options);
  std::vector<pollfd> fds;
  int64_t idle_since_ns = MonotonicNs();
  int64_t leave_by_ns = INT64_MAX;
  for (;;) {
    const int64_t now_ns = MonotonicNs();
    if (!server.AtRest()) idle_since_ns = now_ns;
    if (activated && now_ns - idle_since_ns > kIdleNs) return 0;
    if (leave_by_ns != INT64_MAX && (now_ns >= leave_by_ns || !server.HasConnections())) return 0;
    // The actuator outlives the agent while a lease of it stands, and needs this to give it back.
    if (line.child && getppid() != parent && server.AtRest()) return 0;
    int64_t next_ns = std::min(server.NextNs(), leave_by_ns);
    if (activated) next_ns = std::min(next_ns, idle_since_ns + kIdleNs + kNsPerSecond);
    if (line.child) next_ns = std::min(next_ns, now_ns + kParentNs);
    fds = {{signal_fd, POLLIN, 0}, {leave_by_ns == INT64_MAX ? listener : -1, POLLIN, 0}};
    server.Poll(&fds);
    if (poll(fds.data(), fds.size(), PollTimeoutMs(next_ns)) < 0 && errno != EINTR) return kExitSystem;
    signalfd_siginfo signal = {};
    while (read(signal_fd, &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) {
      if (signal.ssi_signo != SIGCHLD && leave_by_ns == INT64_MAX) leave_by_ns = MonotonicNs() + kLeaveNs;
    }
    if ((fds[1].revents & POLLIN) != 0) Accept(listener, &server);
    server.Serve();
  }
}

int Main(int argc, char** argv) {
  CommandLine line;
  if (!Parse(argc, argv, &line)) {
    std::fputs("usage: skos-units --socket PATH [--systemctl PATH] [--child]\nAll paths are absolute.\n", stderr);
    return kExitUsage;
  }
  const pid_t parent = getppid();
  prctl(PR_SET_DUMPABLE, 0);
  signal(SIGPIPE, SIG_IGN);  // Who reads our standard error may leave before us.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, number);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  bool activated = false;
  const UniqueFd listener(actuator::ListenAsHelper(line.socket_path, &activated));
  if (!signal_fd.valid() || !listener.valid()) {
    std::fprintf(stderr, "skos-units: %s: %s\n", line.socket_path.c_str(), std::strerror(errno));
    return kExitSystem;
  }
  return Loop(line, signal_fd.get(), listener.get(), activated, parent);
}

}  // namespace
}  // namespace skos::units

int main(int argc, char** argv) { return skos::units::Main(argc, argv); }
