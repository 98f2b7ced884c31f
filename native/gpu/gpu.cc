#include "gpu/gpu.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "gpu/packets.h"
#include "gpu/process.h"
#include "sampler/clock.h"

namespace skos::gpu {
namespace {

constexpr int64_t kFirstBackOffNs = kNsPerSecond;
constexpr int64_t kMaxBackOffNs = 60 * kNsPerSecond;
constexpr int64_t kHealthyNs = 60 * kNsPerSecond;       // Who served for so long starts again as if for the first time.
constexpr int64_t kResetRetryNs = 30 * kNsPerSecond;
constexpr int64_t kLeaveNs = 2 * kNsPerSecond;          // Who is told to leave and stays for longer hangs.
constexpr int64_t kOpeningDeadlines = 10;               // Opening may take seconds; a read takes milliseconds.
constexpr int64_t kLooksADeadline = 10;                 // How often a worker is looked at, within …
constexpr int64_t kMinLookNs = 20'000'000;
constexpr int64_t kMaxLookNs = 250'000'000;
constexpr int64_t kHeldRetryNs = 100'000'000;           // A worker of the supervisor before us leaves within milliseconds.
constexpr size_t kMaxAbandoned = 3;                     // Each may hold memory of the driver.
constexpr int kPacketsAtOnce = 32;
constexpr int kLastRounds = 32;                         // More packets than a socket's buffer holds.
constexpr const char* kLeftBehind = "a worker that an earlier skos-gpu left behind hangs in its driver";
constexpr size_t kMaxEventBytes = 2048;

int64_t LookPeriodNs(int64_t deadline_ns) { return std::clamp(deadline_ns / kLooksADeadline, kMinLookNs, kMaxLookNs); }

}  // namespace

const char* NameOf(State state) {
  static constexpr const char* kNames[] = {"opening",        "serving", "failed",   "lost",
                                           "reset_required", "hung",    "detached", "gone"};
  return kNames[static_cast<size_t>(state)];
}

Gpu::Gpu(Listing listing, const Settings& settings, const GpuHooks& hooks, bool detached)
    : listing_(std::move(listing)), settings_(settings), hooks_(hooks), detached_(detached), back_off_ns_(kFirstBackOffNs) {
  if (detached) state_ = State::kDetached;
}

// ---- What the clients hear ------------------------------------------------------------------------------------------

std::string Gpu::MessageFor(State state, std::string_view why, bool region) const {
  JsonObject message;
  message.Text("type", "device").Text("address", listing_.address).Text("source", listing_.source);
  return message.Text("state", NameOf(state)).Text("why", why).Bool("region", region).Take();
}

std::string Gpu::Message(int* fd) const {
  *fd = worker_ == nullptr ? -1 : worker_->region.get();
  return MessageFor(state_, why_, *fd >= 0);
}

std::string Gpu::DetailsMessage() const {
  if (details_.empty()) return "";
  return JsonObject().Text("type", "details").Text("address", listing_.address).Raw("details", details_).Take();
}

void Gpu::Set(State state, std::string_view why, int region_fd) {
  why = why.substr(0, kMaxWhyBytes);
  if (state == state_ && why == why_ && region_fd < 0) return;
  state_ = state;
  why_ = why;
  if (state != State::kOpening) {
    std::fprintf(stderr, "skos-gpu: %s (%s): %s%s%s\n", listing_.address.c_str(), listing_.source.c_str(), NameOf(state),
                 why_.empty() ? "" : ": ", why_.c_str());
  }
  hooks_.broadcast(MessageFor(state_, why_, region_fd >= 0), region_fd);
}

// ---- What is wanted of it -------------------------------------------------------------------------------------------

void Gpu::Found(const Listing& listing, bool again) {
  const bool moved = !(listing == listing_);
  const bool returned = !present_;
  listing_ = listing;
  present_ = true;
  if (returned || again || moved) {
    retry_ns_ = 0;
    back_off_ns_ = kFirstBackOffNs;
  }
  if (moved && worker_ != nullptr) Leave();  // Another driver or another card: the open device is not this one.
  if (returned) ShowLetGo();
  if (returned && wanted() && worker_ == nullptr) Set(State::kOpening, "");
}

void Gpu::Missing() {
  if (!present_) return;
  present_ = false;
  Leave();
  Set(State::kGone, "it is not on the bus any more");
}

void Gpu::Detach() {
  detached_ = true;
  Leave();
  ShowLetGo();
}

// What is unwanted shows as that only when nothing of ours holds it any more.
void Gpu::ShowLetGo() {
  if (wanted() || letting_go_ || !present_) return;
  if (is_let_go()) Set(State::kDetached, "");
}

bool Gpu::Attach(std::string* why) {
  const bool is_stuck = worker_ == nullptr ? state_ == State::kHung : state_ == State::kHung || worker_->leaving_ns != 0;
  if (is_stuck && abandoned_.size() + left_behind_ >= kMaxAbandoned) {
    *why = "3 workers hang in its driver already";
    return false;
  }
  if (is_stuck && worker_ != nullptr) {
    abandoned_.push_back(worker_->pid);
    worker_.reset();
    details_.clear();
  } else if (is_stuck && present_ && held_since_ns_ != 0) {
    ++left_behind_;
  }
  detached_ = false;
  if (!present_) return true;
  if (worker_ == nullptr) {
    retry_ns_ = 0;
    back_off_ns_ = kFirstBackOffNs;
    Set(State::kOpening, "");
  }
  return true;
}

bool Gpu::SetWires(const std::vector<Wire>& wires, std::string* why) {
  if (worker_ == nullptr || worker_->reader == nullptr) {
    *why = "it is not served";
    return false;
  }
  const size_t channels = worker_->reader->channel_count();
  if (std::any_of(wires.begin(), wires.end(), [channels](const Wire& wire) { return wire.channel >= channels; })) {
    *why = "a wire on a channel that is not there";
    return false;
  }
  if (SendPacket(worker_->socket.get(), "wires " + FormatWires(wires), -1, MSG_DONTWAIT) == 0) return true;
  *why = "its worker does not listen";
  return false;
}

void Gpu::Restart() {
  Leave();
  retry_ns_ = 0;
  back_off_ns_ = kFirstBackOffNs;
}

void Gpu::LetGo() {
  letting_go_ = true;
  Leave();
}

// ---- The worker -----------------------------------------------------------------------------------------------------

void Gpu::Leave() {
  if (worker_ == nullptr || worker_->leaving_ns != 0) return;
  worker_->socket.Reset();
  worker_->reader.reset();
  worker_->region.Reset();
  worker_->leaving_ns = MonotonicNs();
  details_.clear();
}

std::string Gpu::PlacePath(size_t i) const { return settings_.socket_path + "." + listing_.address + "." + std::to_string(i); }

// A worker of an earlier supervisor may have it open. Asked where none of ours does.
bool Gpu::IsHeldByEarlier() const {
  for (size_t i = 0; i <= kMaxAbandoned; ++i) {
    const UniqueFd place(open(PlacePath(i).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (place.valid() && flock(place.get(), LOCK_EX | LOCK_NB) != 0) return true;
  }
  return false;
}

// A worker holds a lock for as long as it lives, so that a supervisor knows of the workers of the one before it. False: one of them
// lives still. Where no lock can be had at all, reading goes before knowing.
bool Gpu::TakePlace(UniqueFd* place) const {
  for (size_t i = 0; i <= abandoned_.size() + left_behind_; ++i) {
    place->Reset(open(PlacePath(i).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    if (!place->valid() || flock(place->get(), LOCK_EX | LOCK_NB) == 0) return true;
  }
  return false;
}

void Gpu::Start(int64_t now_ns) {
  UniqueFd place;
  if (!TakePlace(&place)) {
    if (held_since_ns_ == 0) held_since_ns_ = now_ns;
    retry_ns_ = now_ns + kHeldRetryNs;
    if (now_ns - held_since_ns_ >= kLeaveNs) Set(State::kHung, kLeftBehind);
    return;
  }
  held_since_ns_ = 0;
  auto worker = std::make_unique<Worker>();
  const pid_t pid = SpawnSelf({"--worker", "--source", listing_.source, "--address", listing_.address, "--path", listing_.path,
                               "--sysfs", settings_.sysfs_root, "--nvml", settings_.nvml, "--rate-mhz",
                               std::to_string(settings_.rate_mhz), "--deadline-ms", std::to_string(settings_.deadline_ms)},
                              &worker->socket, place.get());
  if (pid < 0) {
    retry_ns_ = now_ns + back_off_ns_;
    back_off_ns_ = std::min(2 * back_off_ns_, kMaxBackOffNs);
    Set(State::kFailed, std::string("cannot start its worker: ") + std::strerror(-pid));
    return;
  }
  worker->pid = pid;
  worker->started_ns = now_ns;
  worker->deadline_ns = settings_.deadline_ms * 1'000'000;
  worker_ = std::move(worker);
  // A GPU that wants a reset is tried again and again; it is not opening each time.
  if (state_ != State::kResetRequired && state_ != State::kFailed) Set(State::kOpening, "");
}

void Gpu::Tick(int64_t now_ns) {
  if (worker_ != nullptr) LookAtWorker(now_ns);
  if (worker_ == nullptr && wanted() && now_ns >= retry_ns_) Start(now_ns);
  if (worker_ == nullptr && detached_ && present_ && abandoned_.empty()) {
    if (IsHeldByEarlier()) Set(State::kHung, kLeftBehind);
    else ShowLetGo();
  }
}

int64_t Gpu::next_ns(int64_t now_ns) const {
  if (worker_ != nullptr) return now_ns + LookPeriodNs(worker_->deadline_ns);
  return wanted() ? retry_ns_ : INT64_MAX;
}

// The region itself says when its writer does not beat: then each channel is hung.
bool Gpu::IsHung(int64_t now_ns) {
  worker_->reader->Latest(now_ns, worker_->latest.data());
  return std::all_of(worker_->latest.begin(), worker_->latest.end(),
                     [](const Reading& reading) { return reading.quality == Quality::kHung; });
}

void Gpu::LookAtWorker(int64_t now_ns) {
  Worker& worker = *worker_;
  if (worker.leaving_ns != 0) {
    if (present_ && now_ns - worker.leaving_ns >= kLeaveNs) {
      Set(State::kHung, "process " + std::to_string(worker.pid) + " is told to leave and hangs in its driver");
    }
    return;
  }
  if (worker.reader == nullptr) {
    if (now_ns - worker.started_ns >= kOpeningDeadlines * worker.deadline_ns) {
      Set(State::kHung, "opening it does not return");
      if (listing_.source == "nvml" && worker.served_ns == 0) hooks_.library("hung a GPU cannot be opened");
    }
    return;
  }
  if (IsHung(now_ns)) {
    Set(State::kHung, "its driver does not answer, or its worker is stopped");
  } else if (state_ == State::kHung) {
    Set(worker.lost ? State::kLost : State::kServing, "");
  }
}

void Gpu::Receive() {
  char buffer[kMaxPacketBytes];
  for (int i = 0; i < kPacketsAtOnce && worker_ != nullptr && worker_->socket.valid(); ++i) {
    size_t length = 0;
    UniqueFd passed;
    switch (ReceivePacket(worker_->socket.get(), buffer, sizeof buffer, &length, &passed)) {
      case Received::kNothing:
        return;
      case Received::kEnd:
        worker_->socket.Reset();  // It is leaving; waitpid() says when it has.
        return;
      case Received::kTooLong:
        break;
      case Received::kPacket:
        Take({buffer, length}, &passed);
        break;
    }
  }
}

// The worker is our own program, but it runs a vendor's library: its words are checked like a stranger's.
void Gpu::Take(std::string_view packet, UniqueFd* passed) {
  const size_t blank = std::min(packet.find(' '), packet.size());
  const std::string_view word = packet.substr(0, blank);
  const std::string_view rest = packet.substr(std::min(blank + 1, packet.size()));
  if (word == "region") return TakeRegion(passed);
  if (word == "library") return hooks_.library(rest);
  if (word == "details") return TakeDetails(rest);
  if (word == "event") return TakeEvent(rest);
  if (word == "failed") {
    worker_->failure = rest.substr(0, kMaxWhyBytes);
  } else if (word == "crossing") {
    hooks_.broadcast(JsonObject().Text("type", "crossing").Text("address", listing_.address).Take(), -1);
  } else if (word == "lost" || word == "found") {
    worker_->lost = word == "lost";
    if (worker_->reader != nullptr) {
      Set(worker_->lost ? State::kLost : State::kServing, worker_->lost ? "the driver has lost it" : "");
    }
  }
}

void Gpu::TakeRegion(UniqueFd* passed) {
  if (!passed->valid() || worker_->reader != nullptr) return;
  std::string why;
  auto reader = RegionReader::Open(fcntl(passed->get(), F_DUPFD_CLOEXEC, 0), &why);
  if (reader == nullptr || reader->channel_count() == 0) {
    worker_->failure = "its worker's region is refused: " + (why.empty() ? "no channels" : why);
    worker_->socket.Reset();
    return;
  }
  worker_->latest.resize(reader->channel_count());
  worker_->reader = std::move(reader);
  worker_->region.Reset(passed->Release());
  worker_->served_ns = MonotonicNs();
  Set(worker_->lost ? State::kLost : State::kServing, worker_->lost ? "the driver has lost it" : "", worker_->region.get());
}

void Gpu::TakeDetails(std::string_view json) {
  if (json.size() > kMaxDetailsBytes || !LooksLikeJsonObject(json) || json == details_) return;
  details_ = json;
  hooks_.broadcast(DetailsMessage(), -1);
}

void Gpu::TakeEvent(std::string_view rest) {
  const size_t blank = std::min(rest.find(' '), rest.size());
  const std::string_view json = rest.substr(std::min(blank + 1, rest.size()));
  int64_t at_ms = 0;
  if (!ParseDecimal(rest.substr(0, blank), 0, INT64_MAX, &at_ms)) return;
  if (json.size() > kMaxEventBytes || !LooksLikeJsonObject(json)) return;
  JsonObject message;
  message.Text("type", "event").Text("address", listing_.address).Raw("event", json);
  hooks_.broadcast(message.Number("atMs", at_ms).Take(), -1);
}

bool Gpu::Exited(pid_t pid, int status, int64_t now_ns) {
  const auto at = std::find(abandoned_.begin(), abandoned_.end(), pid);
  if (at != abandoned_.end()) {
    abandoned_.erase(at);
    ShowLetGo();
    return true;
  }
  if (worker_ == nullptr || worker_->pid != pid) return false;
  // Its last words, which say why it left, may stand behind all that it said before.
  for (int i = 0; i < kLastRounds && worker_->socket.valid(); ++i) Receive();
  Left(status, now_ns);
  return true;
}

void Gpu::Left(int status, int64_t now_ns) {
  const std::unique_ptr<Worker> worker = std::move(worker_);
  details_.clear();
  if (worker->leaving_ns != 0) {
    ShowLetGo();
    return;
  }
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == kExitResetRequired) {
    retry_ns_ = now_ns + kResetRetryNs;
    Set(State::kResetRequired, "its driver asks for a reset; nothing of ours holds it");
    return;
  }
  if (worker->served_ns != 0 && now_ns - worker->served_ns >= kHealthyNs) back_off_ns_ = kFirstBackOffNs;
  retry_ns_ = now_ns + back_off_ns_;
  back_off_ns_ = std::min(2 * back_off_ns_, kMaxBackOffNs);
  if (code == kExitDriverGone) {
    Set(State::kFailed, "its driver is gone");
  } else if (!worker->failure.empty()) {
    Set(State::kFailed, worker->failure);
  } else {
    Set(State::kFailed, "its worker " + DescribeExit(status));
  }
}

}  // namespace skos::gpu
