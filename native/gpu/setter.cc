#include "gpu/setter.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "actuator/helper_socket.h"
#include "gpu/packets.h"
#include "gpu/process.h"
#include "gpu/protocol.h"
#include "sampler/clock.h"

namespace skos::gpu {
namespace {

// One connection a GPU; those that hang in a driver keep theirs. Who comes beyond is closed and comes again.
constexpr int kMaxSetters = 128;
constexpr size_t kMaxRequestBytes = 128;
// Started by its socket and without a connection for so long it leaves; the next connection starts it again.
constexpr int64_t kIdleNs = 60'000'000'000;
constexpr int kTickMs = 1'000;
// Between a GPU that is hot and its cap, they go before ordinary work. No real-time class: a vendor's library runs in them.
constexpr int kNiceness = -10;

std::string Error(int error) { return "err " + std::to_string(error); }

// "open SOURCE ADDRESS"
std::unique_ptr<Knob> Open(const SetterSettings& settings, std::string_view request, int* error) {
  *error = EINVAL;
  constexpr std::string_view kVerb = "open ";
  if (request.substr(0, kVerb.size()) != kVerb) return nullptr;
  request.remove_prefix(kVerb.size());
  const size_t blank = request.find(' ');
  if (blank == std::string_view::npos) return nullptr;
  const std::string address(request.substr(blank + 1));
  // It becomes a part of a path.
  if (!IsAddress(address) || address.find("..") != std::string::npos) return nullptr;
  const std::string_view source = request.substr(0, blank);
  if (source == "nvml_clocks" || source == "amdgpu_level") return OpenClockKnob(settings, source, address, error);
  return OpenPowerKnob(settings, source, address, error);
}

bool Say(const std::string& words) { return SendPacket(kSupervisorFd, words, -1, 0) == 0; }

// One packet; false when the actuator is gone.
bool Hear(std::string* request) {
  char packet[kMaxRequestBytes];
  ssize_t n = 0;
  do {
    n = recv(kSupervisorFd, packet, sizeof packet, MSG_TRUNC);
  } while (n < 0 && errno == EINTR);
  if (n <= 0) return false;
  // What is longer than any request is answered as malformed.
  request->assign(packet, static_cast<size_t>(n) > sizeof packet ? 0 : static_cast<size_t>(n));
  return true;
}

}  // namespace

std::string AnswerSetter(Knob* knob, std::string_view request, bool* leave) {
  int error = EINVAL;
  KnobState limit;
  int64_t wanted = 0;
  constexpr std::string_view kSet = "set ";
  if (request == "get") {
    error = knob->Read(&limit);
  } else if (request.substr(0, kSet.size()) == kSet && ParseDecimal(request.substr(kSet.size()), 1, INT64_MAX, &wanted)) {
    error = knob->Write(wanted);
  }
  *leave = error == ENODEV;
  if (error != 0) return Error(error);
  if (request != "get") return "ok";
  return "value " + std::to_string(limit.value) + " min " + std::to_string(limit.min) + " max " +
         std::to_string(limit.max);
}

int RunSetter(const SetterSettings& settings) {
  prctl(PR_SET_NAME, "skos-gpu-set");
  PrepareForLibrary();
  std::string request;
  if (!Hear(&request)) return 0;
  int error = 0;
  const std::unique_ptr<Knob> knob = Open(settings, request, &error);
  if (knob == nullptr) {
    Say(Error(error));
    _exit(kExitCannotOpen);
  }
  bool leave = !Say("ok");
  while (!leave && Hear(&request)) {
    const std::string answer = AnswerSetter(knob.get(), request, &leave);
    leave = !Say(answer) || leave;
  }
  // Not exit(), and no nvmlShutdown: what a library does then may hang.
  _exit(0);
}

int RunSetters(const SetterSettings& settings) {
  (void)setpriority(PRIO_PROCESS, 0, kNiceness);  // Its unit does so where it may not.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, number);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  const int parent = TakeParentFd();
  bool activated = false;
  const UniqueFd listener(actuator::ListenAsHelper(settings.socket_path, &activated));
  if (!signal_fd.valid() || !listener.valid()) {
    std::fprintf(stderr, "skos-gpu: %s: %s\n", settings.socket_path.c_str(), std::strerror(errno));
    return kExitSystem;
  }
  int setters = 0;
  int64_t idle_since_ns = MonotonicNs();
  for (;;) {
    pollfd fds[3] = {{signal_fd.get(), POLLIN, 0}, {listener.get(), POLLIN, 0}, {parent, POLLIN, 0}};
    if (poll(fds, 3, kTickMs) < 0 && errno != EINTR) return kExitSystem;
    signalfd_siginfo signal = {};
    while (read(signal_fd.get(), &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) {
      // Their connections stay theirs: they leave when the actuator closes them.
      if (signal.ssi_signo != SIGCHLD) return 0;
    }
    while (setters > 0 && waitpid(-1, nullptr, WNOHANG) > 0) --setters;
    if (parent >= 0 && (fds[2].revents & (POLLIN | POLLHUP | POLLERR)) != 0) return 0;
    for (int i = 0; i < actuator::kHelperBacklog; ++i) {
      const UniqueFd connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!connection.valid()) break;
      if (setters >= kMaxSetters || !actuator::MayEnter(connection.get())) continue;
      const std::vector<std::string> arguments = {"--setter", "--sysfs", settings.sysfs_root, "--nvml", settings.nvml};
      if (SpawnSelfWith(arguments, connection.get()) > 0) ++setters;
    }
    if (setters > 0) idle_since_ns = MonotonicNs();
    if (activated && MonotonicNs() - idle_since_ns > kIdleNs) return 0;
  }
}

}  // namespace skos::gpu
