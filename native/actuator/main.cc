// skos-actuator: command line, the process's own safety (real-time class, locked memory, OOM protection), the socket, and
// the loop that joins them. README.md beside this file is the contract.
#include <fcntl.h>
#include <linux/magic.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "actuator/actuator.h"
#include "actuator/confine.h"

namespace skos::actuator {
namespace {

constexpr int kExitUsage = 2;
constexpr int kExitAllow = 3;
constexpr int kExitBusy = 4;
constexpr int kExitSystem = 5;
constexpr int kExitHeld = 6;

constexpr int kRealtimePriority = 10;       // Above every ordinary program, below the kernel's own threads (50).
constexpr const char* kLockDirectory = "/run/skos-actuator";  // RuntimeDirectory of the unit.
constexpr const char* kLockFile = "/run/skos-actuator/sysfs.lock";
constexpr int kTickMs = 1000;               // Orphans, retries and the watchdog; protection does not wait for it.
constexpr int64_t kPatienceNs = 500'000'000;  // A client that makes one round of the loop wait for so long is dropped.
constexpr int kBacklog = 128;               // Strangers that knock must not keep a controller from knocking.
constexpr int kKnocksAtOnce = 64;           // What is accepted in one round of the loop.
constexpr int kLookAwayMs = 10;             // After a refusal: who knocks without end costs a few per cent of a core, not all of it.
constexpr int64_t kRestoreNs = 5'000'000'000;   // How long the way out waits for devices.
constexpr int64_t kAdoptionNs = 30'000'000'000;  // A child that nobody connects to leaves after this.

// Who looks on from inside makes system calls of its own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(SKOS_VALGRIND)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

void Warn(const char* what, int error) {
  std::fprintf(stderr, "skos-actuator: %s: %s\n", what, std::strerror(error));
}

bool ParseArguments(int argc, char** argv, Settings* settings) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--child") {
      settings->child = true;
      continue;
    }
    std::string* value = name == "--allow"    ? &settings->allow_path
                         : name == "--socket" ? &settings->socket_path
                         : name == "--state"  ? &settings->state_directory
                         : name == "--sysfs"  ? &settings->sysfs_root
                         : name == "--cgroup" ? &settings->cgroup_root
                         : name == "--setter" ? &settings->setter_socket
                         : name == "--units"  ? &settings->units_socket
                         : name == "--gpu"    ? &settings->gpu_socket
                                              : nullptr;
    if (value == nullptr || ++i >= argc || argv[i][0] != '/') return false;
    *value = argv[i];
  }
  return !settings->allow_path.empty() && !settings->socket_path.empty() && !settings->state_directory.empty() &&
         settings->socket_path.size() < sizeof(sockaddr_un::sun_path) &&
         settings->setter_socket.size() < sizeof(sockaddr_un::sun_path) &&
         settings->units_socket.size() < sizeof(sockaddr_un::sun_path) &&
         settings->gpu_socket.size() < sizeof(sockaddr_un::sun_path);
}

// Each of these makes protection surer and none is worth refusing to protect: what the kernel refuses is said aloud.
// Returns the priority for the threads, 0 where the real-time class is refused.
int ProtectSelf() {
  mallopt(M_ARENA_MAX, 1);  // An arena a thread would be locked memory for nothing.
  const int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (oom < 0 || write(oom, "-1000", 5) != 5) Warn("not protected from the out-of-memory killer", errno);
  if (oom >= 0) close(oom);
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) Warn("memory is not locked", errno);
  sched_param parameters = {};
  parameters.sched_priority = kRealtimePriority;
  if (sched_setscheduler(0, SCHED_RR, &parameters) == 0) return kRealtimePriority;
  Warn("no real-time priority", errno);
  return 0;
}

int OpenRoot(const std::string& path) { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

// One instance per sysfs root, for the life of the process. A captured tree is locked by its own directory; the kernel's sysfs
// by a file where only root writes, because anybody may open /sys and hold a lock on it.
bool LockRoot(int sysfs_fd) {
  int fd = sysfs_fd;
  struct statfs file_system = {};
  if (fstatfs(sysfs_fd, &file_system) == 0 && file_system.f_type == SYSFS_MAGIC) {
    mkdir(kLockDirectory, 0755);  // There already, as a rule; what else is wrong, open() says.
    const int file = open(kLockFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file >= 0) fd = file;
  }
  return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

int Listen(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path.c_str());
  unlink(path.c_str());  // Ours alone: the lock on the sysfs root is held.
  // Everybody may knock; SO_PEERCRED and the allow-list's controllers decide who comes in.
  const mode_t mask = umask(0111);
  const bool bound = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  umask(mask);
  if (bound && listen(fd, kBacklog) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

// systemd's notification socket: readiness, and the watchdog that a hung main loop stops feeding.
void Notify(const char* state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  if (length >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  // A manager that does not listen is no reason to stop protecting.
  (void)sendto(fd, state, std::strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), size);
  close(fd);
}

// The one connection. Main thread.
class Client {
 public:
  ~Client() { Close(); }
  int fd() const { return fd_; }
  bool connected() const { return fd_ >= 0; }
  bool ever() const { return ever_; }

  // Answers who knocks. False when somebody was refused or no descriptor is left: the caller looks away for a moment.
  bool Accept(int listen_fd, const Actuator& actuator) {
    bool refused = false;
    for (int i = 0; i < kKnocksAtOnce; ++i) {
      const int fd = accept4(listen_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0) return !refused && errno == EAGAIN;
      ucred peer = {};
      socklen_t size = sizeof peer;
      const bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && actuator.IsController(peer.uid);
      if (known && !connected()) {
        fd_ = fd;
        ever_ = true;
        continue;
      }
      const char* refusal = known ? "0 err busy" : "0 err denied";
      (void)send(fd, refusal, std::strlen(refusal), MSG_DONTWAIT | MSG_NOSIGNAL);
      close(fd);
      refused = true;
    }
    return false;
  }

  // Once in each round of the loop.
  void BeginRound() { patience_ns_ = kPatienceNs; }

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  static bool Send(void* context, const char* packet, size_t size) {
    auto* self = static_cast<Client*>(context);
    if (self->fd_ < 0) return false;
    while (send(self->fd_, packet, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      if (errno != EAGAIN || self->patience_ns_ <= 0) {
        self->Close();
        return false;
      }
      const int64_t since_ns = NowNs();
      pollfd writable = {self->fd_, POLLOUT, 0};
      poll(&writable, 1, static_cast<int>(self->patience_ns_ / 1'000'000) + 1);
      self->patience_ns_ -= NowNs() - since_ns;
    }
    return true;
  }

  // Handles every packet that waits. Returns false when the client is gone.
  bool Serve(Actuator* actuator) {
    char packet[kMaxPacketBytes + 1];
    // At most so many at a time, so that a chatty client does not keep the loop from its other duties.
    for (int i = 0; i < 64 && connected(); ++i) {
      const ssize_t n = recv(fd_, packet, sizeof packet, MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
      if (n <= 0) {
        Close();
        return false;
      }
      if (static_cast<size_t>(n) > kMaxPacketBytes) {
        Send(this, "0 err malformed", 15);
        continue;
      }
      actuator->Request(std::string_view(packet, static_cast<size_t>(n)), &Client::Send, this);
    }
    return connected();
  }

 private:
  int fd_ = -1;
  bool ever_ = false;
  int64_t patience_ns_ = kPatienceNs;  // How long this round may still wait for the client to read.
};

void Drain(int fd) {
  char buffer[256];
  while (read(fd, buffer, sizeof buffer) > 0) {
  }
}

int Loop(const Settings& settings, Actuator* actuator, StateFile* state, int listen_fd, int done_fd, int signal_fd) {
  Client client;
  int64_t leave_by_ns = 0;  // Not 0: on the way out.
  bool look_away = false;   // From the socket, for one round.
  const int64_t started_ns = NowNs();
  // Nobody is listened to from here on: a set or a reload on the way out would leave a cap that nobody takes back.
  const auto leave = [&] {
    if (leave_by_ns != 0) return;
    Notify("STOPPING=1");
    leave_by_ns = NowNs() + kRestoreNs;
    client.Close();
    actuator->ClientGone();
    actuator->RestoreAll();
  };
  for (;;) {
    pollfd fds[4 + kMaxRunningJobs] = {{signal_fd, POLLIN, 0},
                     {done_fd, POLLIN, 0},
                     {leave_by_ns == 0 && !look_away ? listen_fd : -1, POLLIN, 0},
                     {client.fd(), POLLIN, 0}};
    const size_t running_jobs = actuator->jobs()->Poll(fds + 4);
    if (poll(fds, 4 + running_jobs, leave_by_ns != 0 ? 50 : look_away ? kLookAwayMs : kTickMs) < 0 && errno != EINTR) return kExitSystem;
    signalfd_siginfo signal = {};
    while (read(signal_fd, &signal, sizeof signal) == static_cast<ssize_t>(sizeof signal)) {
      if (signal.ssi_signo != SIGHUP) {
        leave();
      } else if (leave_by_ns == 0) {
        const std::string wrong = actuator->Load();
        if (!wrong.empty()) std::fprintf(stderr, "skos-actuator: allow-list kept as it was: %s\n", wrong.c_str());
      }
    }
    if ((fds[1].revents & POLLIN) != 0) Drain(done_fd);
    client.BeginRound();
    if ((fds[3].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && client.connected() && !client.Serve(actuator)) {
      actuator->ClientGone();
    }
    actuator->jobs()->Serve();
    // After the client was served: one that died and its successor may have come in the same round.
    look_away = (fds[2].revents & POLLIN) != 0 && leave_by_ns == 0 && !client.Accept(listen_fd, *actuator);
    const bool was_connected = client.connected();
    actuator->Settle(&Client::Send, &client);
    // Dropped because it does not read: what still waits must not be answered to the next client, whose numbers are the same.
    if (was_connected && !client.connected()) actuator->ClientGone();
    Notify("WATCHDOG=1");
    const bool at_rest = actuator->AtRest();
    if (leave_by_ns != 0 && (at_rest || NowNs() > leave_by_ns)) {
      state->Event("stopped", "actuator", at_rest ? "everything restored" : "a device did not take its value back in time");
      if (!at_rest) {
        std::fprintf(stderr, "skos-actuator: not given back in time: %s; start it again, and it is tried again\n",
                     actuator->Standing().c_str());
        return kExitHeld;
      }
      state->Leave();
      return 0;
    }
    const bool adopted = client.ever() || NowNs() - started_ns > kAdoptionNs;
    if (settings.child && !client.connected() && adopted && at_rest) leave();
  }
}

int Main(int argc, char** argv) {
  Settings settings;
  if (!ParseArguments(argc, argv, &settings)) {
    std::fprintf(stderr,
                 "usage: skos-actuator --allow FILE --socket PATH --state DIR [--sysfs ROOT] [--cgroup ROOT] [--setter SOCKET]\n"
                 "                     [--units SOCKET] [--gpu SOCKET] [--child]\n"
                 "All paths are absolute.\n");
    return kExitUsage;
  }
  prctl(PR_SET_DUMPABLE, 0);
  Roots roots;
  roots.sysfs_fd = OpenRoot(settings.sysfs_root);
  roots.cgroup_fd = OpenRoot(settings.cgroup_root);
  roots.setter_socket = settings.setter_socket;
  roots.units_socket = settings.units_socket;
  if (roots.sysfs_fd < 0) {
    Warn(settings.sysfs_root.c_str(), errno);
    return kExitSystem;
  }
  if (!LockRoot(roots.sysfs_fd)) {
    std::fprintf(stderr, "skos-actuator: another instance holds %s\n", settings.sysfs_root.c_str());
    return kExitBusy;
  }
  static StateFile state;  // Threads that outlive main write events into it.
  const std::string wrong_state = state.Open(settings.state_directory.c_str());
  if (!wrong_state.empty()) {
    std::fprintf(stderr, "skos-actuator: %s\n", wrong_state.c_str());
    return kExitSystem;
  }
  // Before the first thread, so that every thread inherits the mask and signals come by the descriptor alone.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, number);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // A child's standard error goes away with the agent, and must not take the caps' undo along.
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  const int done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (signal_fd < 0 || done_fd < 0) {
    Warn("signalfd or eventfd", errno);
    return kExitSystem;
  }
  const int realtime_priority = ProtectSelf();
  // Never freed: worker threads use it until the process is gone.
  auto* actuator = new Actuator(settings, roots, &state, done_fd, realtime_priority);
  const std::string wrong_allow = actuator->Load();
  if (!wrong_allow.empty()) {
    std::fprintf(stderr, "skos-actuator: allow-list refused: %s\n", wrong_allow.c_str());
    return kExitAllow;
  }
  const int listen_fd = Listen(settings.socket_path);
  if (listen_fd < 0) {
    Warn(settings.socket_path.c_str(), errno);
    return kExitSystem;
  }
  // Nobody has been listened to yet.
  const int refused = kSanitized ? 0 : Confine();
  if (refused != 0) Warn("its system calls are not confined", refused);
  state.Event("started", "actuator", "priority=%d", realtime_priority);
  Notify("READY=1");
  const int status = Loop(settings, actuator, &state, listen_fd, done_fd, signal_fd);
  unlink(settings.socket_path.c_str());
  // Not exit(): a worker may be stuck in a driver, and destructors must not run under it.
  _exit(status);
}

}  // namespace
}  // namespace skos::actuator

int main(int argc, char** argv) { return skos::actuator::Main(argc, argv); }
