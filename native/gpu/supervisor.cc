// skos-gpu itself: one thread, one poll(). It calls no driver and waits for nobody, so that it can always say what hangs.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "gpu/clients.h"
#include "gpu/detached_file.h"
#include "gpu/devices.h"
#include "gpu/gpu.h"
#include "gpu/instance_lock.h"
#include "gpu/library.h"
#include "gpu/process.h"
#include "gpu/protocol.h"
#include "gpu/settings.h"
#include "gpu/uevents.h"
#include "sampler/clock.h"

namespace skos::gpu {
namespace {

constexpr int64_t kListPeriodNs = 10 * kNsPerSecond;   // A readdir, for the case that no uevent comes.
constexpr int64_t kDebounceNs = 300'000'000;           // A GPU that comes brings a dozen of uevents.
constexpr int64_t kUeventGapNs = 5 * kNsPerSecond;     // An attempt to open a GPU may itself bring uevents (a module is loaded for it).
constexpr int64_t kDetachDeadlineNs = 5 * kNsPerSecond;
constexpr int64_t kExitDeadlineNs = kNsPerSecond;      // For workers that leave; those that hang are left behind.
constexpr int64_t kWatchdogNs = 3 * kNsPerSecond;      // A third of what the unit allows.
constexpr size_t kMaxPending = 64;                     // Clients that wait for a detach.

struct PendingDetach {
  Clients::ClientId client = 0;
  uint64_t seq = 0;
  std::string address;
  int64_t until_ns = 0;
};

// systemd's notification socket: readiness, and the watchdog that a stuck loop stops feeding.
void Notify(const char* state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  if (length >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  (void)sendto(fd.get(), state, std::strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), size);
}

class Supervisor {
 public:
  explicit Supervisor(const Settings& settings);
  int Run();

 private:
  bool Prepare(int* status);
  void Round();
  void Wait();
  int64_t NextNs(int64_t now_ns) const;
  void TakeSignals();
  void Reap();
  bool ParentIsGone() const;

  void ListDevices(int64_t now_ns, bool again);
  bool Apply(const std::vector<Listing>& found, bool again);
  void Add(const Listing& listing);
  bool WantsLister() const;
  Gpu* Find(const std::string& address);

  void Handle(Clients::ClientId client, std::string_view packet);
  void Obey(Clients::ClientId client, const Request& request);
  void Hello(Clients::ClientId client, const Request& request);
  void Configure(const Request& request);
  void Detach(Clients::ClientId client, const Request& request);
  void Attach(Clients::ClientId client, const Request& request);
  void Reply(Clients::ClientId client, const Request& request, const std::string& why = "");
  void AnswerDetaches(int64_t now_ns);
  void LeaveAll();

  Settings settings_;
  GpuHooks hooks_;
  Clients clients_;
  Library library_;
  Uevents uevents_;
  DetachedFile detached_;
  std::vector<std::unique_ptr<Gpu>> gpus_;
  std::vector<PendingDetach> pending_;
  std::vector<pollfd> polled_;
  InstanceLock lock_;
  UniqueFd signals_;
  UniqueFd parent_;
  bool stopping_ = false;
  bool list_now_ = false;
  bool try_again_ = false;        // Somebody said that the list changed: what failed gets a new attempt.
  bool bus_has_nvidia_ = false;
  int64_t listed_ns_ = 0;
  int64_t tried_again_ns_ = 0;
  int64_t uevent_due_ns_ = 0;  // 0: none waits.
  int64_t fed_ns_ = 0;
};

Supervisor::Supervisor(const Settings& settings)
    : settings_(settings),
      hooks_{[this](std::string_view packet, int fd) { clients_.Broadcast(packet, fd); },
             [this](std::string_view words) { library_.Learn(words); }},
      clients_(settings.controllers),
      library_(settings_, [this](const std::string& message) { clients_.Broadcast(message); }),
      detached_(settings.socket_path + ".detached") {}

// ---- The process ----------------------------------------------------------------------------------------------------

bool Supervisor::Prepare(int* status) {
  parent_.Reset(TakeParentFd());
  *status = lock_.Take(settings_.socket_path);
  if (*status != 0) return false;
  *status = kExitSystem;
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&signals, number);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signals_.Reset(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  const int error = signals_.valid() ? clients_.Listen(settings_.socket_path) : errno;
  if (error != 0) {
    std::fprintf(stderr, "skos-gpu: %s: %s\n", settings_.socket_path.c_str(), std::strerror(error));
    return false;
  }
  uevents_.Open();
  detached_.Read();
  return true;
}

int Supervisor::Run() {
  int status = 0;
  if (!Prepare(&status)) return status;
  ListDevices(MonotonicNs(), false);
  Notify("READY=1");
  while (!stopping_) Round();
  Notify("STOPPING=1");
  LeaveAll();
  return 0;
}

void Supervisor::Round() {
  Wait();
  TakeSignals();
  if (ParentIsGone()) stopping_ = true;
  if (stopping_) return;
  if (uevents_.socket() >= 0 && uevents_.Receive()) {
    uevent_due_ns_ = std::max(MonotonicNs() + kDebounceNs, tried_again_ns_ + kUeventGapNs);
  }
  // Before Reap(), which looks for the last words of who has left.
  for (const auto& gpu : gpus_) gpu->Receive();
  if (library_.socket() >= 0) library_.Receive();
  Reap();
  int64_t now_ns = MonotonicNs();
  clients_.Serve(now_ns, polled_, [this](Clients::ClientId client, std::string_view packet) { Handle(client, packet); });
  now_ns = MonotonicNs();
  const bool again = try_again_ || (uevent_due_ns_ != 0 && now_ns >= uevent_due_ns_);
  if (again || list_now_ || now_ns - listed_ns_ >= kListPeriodNs) ListDevices(now_ns, again);
  library_.Tick(now_ns, WantsLister());
  for (const auto& gpu : gpus_) gpu->Tick(now_ns);
  AnswerDetaches(now_ns);
  if (now_ns - fed_ns_ >= kWatchdogNs) {
    fed_ns_ = now_ns;
    Notify("WATCHDOG=1");
  }
}

int64_t Supervisor::NextNs(int64_t now_ns) const {
  int64_t next_ns = std::min(listed_ns_ + kListPeriodNs, fed_ns_ + kWatchdogNs);
  for (const auto& gpu : gpus_) next_ns = std::min(next_ns, gpu->next_ns(now_ns));
  for (const PendingDetach& pending : pending_) next_ns = std::min(next_ns, pending.until_ns);
  if (uevent_due_ns_ != 0) next_ns = std::min(next_ns, uevent_due_ns_);
  if (clients_.looks_away_until_ns() != 0) next_ns = std::min(next_ns, clients_.looks_away_until_ns());
  // A library that hangs or is switched off has nothing due; a time in the past must not make this loop spin.
  if (library_.next_ns() > now_ns) next_ns = std::min(next_ns, library_.next_ns());
  return next_ns;
}

void Supervisor::Wait() {
  polled_.clear();
  polled_.push_back({signals_.get(), POLLIN, 0});
  polled_.push_back({parent_.get(), POLLIN, 0});  // poll() passes over a negative descriptor.
  polled_.push_back({uevents_.socket(), POLLIN, 0});
  polled_.push_back({library_.socket(), POLLIN, 0});
  for (const auto& gpu : gpus_) polled_.push_back({gpu->socket(), POLLIN, 0});
  clients_.Poll(&polled_);
  const int64_t now_ns = MonotonicNs();
  const int64_t wait_ns = std::max<int64_t>(NextNs(now_ns) - now_ns, 0);
  const timespec timeout = ToTimespec(wait_ns);
  ppoll(polled_.data(), polled_.size(), &timeout, nullptr);
}

void Supervisor::TakeSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) stopping_ = true;
    if (info.ssi_signo == SIGHUP) try_again_ = true;
  }
}

bool Supervisor::ParentIsGone() const {
  if (polled_[1].revents == 0) return false;
  char ignored[64];
  const ssize_t n = recv(parent_.get(), ignored, sizeof ignored, MSG_DONTWAIT);
  return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

void Supervisor::Reap() {
  int status = 0;
  pid_t pid = 0;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    if (library_.Exited(pid, status)) {
      list_now_ = true;  // What it listed is part of the list.
      continue;
    }
    for (const auto& gpu : gpus_) {
      if (gpu->Exited(pid, status, MonotonicNs())) break;
    }
  }
}

// Their sockets close, and workers leave by themselves; one that hangs is left behind.
void Supervisor::LeaveAll() {
  clients_.CloseAll();
  unlink(settings_.socket_path.c_str());
  for (const auto& gpu : gpus_) gpu->LetGo();
  const int64_t until_ns = MonotonicNs() + kExitDeadlineNs;
  const auto holds = [](const std::unique_ptr<Gpu>& gpu) { return gpu->has_worker(); };
  while (std::any_of(gpus_.begin(), gpus_.end(), holds) && MonotonicNs() < until_ns) {
    pollfd signals = {signals_.get(), POLLIN, 0};
    poll(&signals, 1, static_cast<int>((until_ns - MonotonicNs()) / 1'000'000) + 1);
    TakeSignals();
    Reap();
  }
}

// ---- The list of GPUs -----------------------------------------------------------------------------------------------

Gpu* Supervisor::Find(const std::string& address) {
  for (const auto& gpu : gpus_) {
    if (gpu->listing().address == address) return gpu.get();
  }
  return nullptr;
}

bool Supervisor::WantsLister() const {
  if (bus_has_nvidia_) return false;
  // The library is at work: asking it once more would cost more than it tells.
  for (const auto& gpu : gpus_) {
    if (gpu->listing().source == "nvml" && gpu->present() && (gpu->state() == State::kServing || !gpu->is_let_go())) return false;
  }
  return true;
}

void Supervisor::ListDevices(int64_t now_ns, bool again) {
  listed_ns_ = now_ns;
  list_now_ = false;
  if (again) {
    tried_again_ns_ = now_ns;
    uevent_due_ns_ = 0;
    try_again_ = false;
  }
  std::vector<Listing> found = ListGpus(settings_.sysfs_root);
  const auto is_nvml = [](const Listing& listing) { return listing.source == "nvml"; };
  if (!settings_.uses_nvml()) found.erase(std::remove_if(found.begin(), found.end(), is_nvml), found.end());
  // Where the bus shows NVIDIA's devices, it is the truth; elsewhere what the library said.
  bus_has_nvidia_ = std::any_of(found.begin(), found.end(), is_nvml);
  if (!bus_has_nvidia_) {
    found.insert(found.end(), library_.listed().begin(), library_.listed().end());
  }
  if (Apply(found, again)) clients_.Broadcast("{\"type\":\"uevent\"}");
}

// True when the list is another one now. GPUs that are gone are remembered for as long as there is room.
bool Supervisor::Apply(const std::vector<Listing>& found, bool again) {
  bool changed = false;
  for (const auto& gpu : gpus_) {
    const std::string& address = gpu->listing().address;
    const auto same = [&address](const Listing& listing) { return listing.address == address; };
    if (!gpu->present() || std::any_of(found.begin(), found.end(), same)) continue;
    gpu->Missing();
    changed = true;
  }
  for (const Listing& listing : found) {
    Gpu* known = Find(listing.address);
    if (known != nullptr) {
      changed |= !known->present() || !(known->listing() == listing);
      known->Found(listing, again);
      continue;
    }
    changed = true;
    Add(listing);
  }
  return changed;
}

void Supervisor::Add(const Listing& listing) {
  if (gpus_.size() >= kMaxGpus) {
    const auto forgettable = [](const std::unique_ptr<Gpu>& gpu) { return !gpu->present() && gpu->is_let_go(); };
    const auto at = std::find_if(gpus_.begin(), gpus_.end(), forgettable);
    if (at == gpus_.end()) return;
    gpus_.erase(at);
  }
  gpus_.push_back(std::make_unique<Gpu>(listing, settings_, hooks_, detached_.Has(listing.address)));
  int fd = -1;
  clients_.Broadcast(gpus_.back()->Message(&fd));
}

// ---- Requests -------------------------------------------------------------------------------------------------------

void Supervisor::Reply(Clients::ClientId client, const Request& request, const std::string& why) {
  JsonObject reply;
  reply.Text("type", "reply");
  if (request.has_seq) reply.Number("seq", static_cast<int64_t>(request.seq));
  reply.Bool("ok", why.empty());
  if (!why.empty()) reply.Text("why", why);
  clients_.Send(client, reply.Take());
}

void Supervisor::Handle(Clients::ClientId client, std::string_view packet) {
  Request request;
  std::string why;
  if (!ParseRequest(packet, &request, &why)) return Reply(client, request, why);
  if (request.verb != Verb::kHello && !clients_.IsGreeted(client)) return Reply(client, request, "say hello first");
  Obey(client, request);
}

void Supervisor::Obey(Clients::ClientId client, const Request& request) {
  switch (request.verb) {
    case Verb::kHello:
      return Hello(client, request);
    case Verb::kConfigure:
      Configure(request);
      return Reply(client, request);
    case Verb::kDetach:
      return Detach(client, request);
    case Verb::kAttach:
      return Attach(client, request);
    case Verb::kWires: {
      Gpu* gpu = Find(request.address);
      std::string why;
      if (gpu == nullptr) why = "no such GPU";
      if (gpu != nullptr) gpu->SetWires(request.wires, &why);
      return Reply(client, request, why);
    }
  }
}

void Supervisor::Hello(Clients::ClientId client, const Request& request) {
  clients_.Greet(client);
  Reply(client, request);
  clients_.Send(client, library_.Message());
  for (const auto& gpu : gpus_) {
    int fd = -1;
    const std::string message = gpu->Message(&fd);
    clients_.Send(client, message, fd);
    const std::string details = gpu->DetailsMessage();
    if (!details.empty()) clients_.Send(client, details);
  }
  clients_.Send(client, "{\"type\":\"listed\"}");
}

void Supervisor::Configure(const Request& request) {
  if (request.rate_mhz == settings_.rate_mhz && request.deadline_ms == settings_.deadline_ms) return;
  settings_.rate_mhz = request.rate_mhz;
  settings_.deadline_ms = request.deadline_ms;
  for (const auto& gpu : gpus_) gpu->Restart();
}

void Supervisor::Detach(Clients::ClientId client, const Request& request) {
  Gpu* gpu = Find(request.address);
  if (gpu == nullptr) return Reply(client, request, "no such GPU");
  if (pending_.size() >= kMaxPending) return Reply(client, request, "too many wait for a GPU already");
  std::string why;
  if (!detached_.Add(request.address, &why)) return Reply(client, request, why);
  gpu->Detach();
  pending_.push_back({client, request.seq, request.address, MonotonicNs() + kDetachDeadlineNs});
}

void Supervisor::Attach(Clients::ClientId client, const Request& request) {
  Gpu* gpu = Find(request.address);
  if (gpu == nullptr && !detached_.Has(request.address)) return Reply(client, request, "no such GPU");
  std::string why;
  if (gpu != nullptr && !gpu->Attach(&why)) return Reply(client, request, why);
  detached_.Remove(request.address);
  Reply(client, request);
}

void Supervisor::AnswerDetaches(int64_t now_ns) {
  const auto answered = [this, now_ns](const PendingDetach& pending) {
    const Gpu* gpu = Find(pending.address);
    Request request;
    request.has_seq = true;
    request.seq = pending.seq;
    if (gpu == nullptr || gpu->is_let_go()) {
      Reply(pending.client, request);
    } else if (!gpu->detached()) {
      Reply(pending.client, request, "it was attached again meanwhile");
    } else if (now_ns >= pending.until_ns) {
      Reply(pending.client, request, "its worker hangs in the driver; it is detached as soon as it comes back");
    } else {
      return false;
    }
    return true;
  };
  pending_.erase(std::remove_if(pending_.begin(), pending_.end(), answered), pending_.end());
}

}  // namespace

int RunSupervisor(const Settings& settings) { return Supervisor(settings).Run(); }

}  // namespace skos::gpu
