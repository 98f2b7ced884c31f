#include "gpu/library.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "gpu/packets.h"
#include "gpu/process.h"
#include "gpu/protocol.h"
#include "sampler/clock.h"

namespace skos::gpu {
namespace {

constexpr int64_t kListPeriodNs = 60 * kNsPerSecond;   // Initialising the library costs up to a second of CPU on a large node.
constexpr int64_t kListDeadlineNs = 20 * kNsPerSecond; // Eight GPUs without persistence mode take ten seconds.

// Splits "ok 535.1" at the first blank.
std::string_view TakeWord(std::string_view* words) {
  const size_t blank = std::min(words->find(' '), words->size());
  const std::string_view first = words->substr(0, blank);
  words->remove_prefix(std::min(blank + 1, words->size()));
  return first;
}

}  // namespace

Library::Library(const Settings& settings, std::function<void(const std::string&)> on_change)
    : settings_(settings), on_change_(std::move(on_change)) {
  why_ = settings.uses_nvml() ? "not asked yet" : "switched off";
}

std::string Library::Message() const {
  JsonObject message;
  message.Text("type", "library").Text("source", "nvml").Text("state", state_).Text("why", why_);
  return message.Text("path", settings_.uses_nvml() ? settings_.nvml : "").Text("version", version_).Take();
}

void Library::Set(const char* state, std::string_view why, std::string_view version) {
  if (state_ == state && why_ == why && version_ == version) return;
  state_ = state;
  why_ = why.substr(0, kMaxWhyBytes);
  version_ = version.substr(0, kMaxWhyBytes);
  on_change_(Message());
}

void Library::Learn(std::string_view words) {
  const std::string_view state = TakeWord(&words);
  if (state == "ok") Set("ok", "", words);
  if (state == "absent") Set("absent", words, "");
  if (state == "failed") Set("failed", words, "");
  // One GPU that cannot be opened says nothing about a library that has opened another.
  if (state == "hung" && state_ != "ok") Set("hung", words, version_);
}

int64_t Library::next_ns() const { return pid_ == 0 ? due_ns_ : started_ns_ + kListDeadlineNs; }

void Library::Tick(int64_t now_ns, bool wanted) {
  if (pid_ != 0) {
    if (!told_hung_ && now_ns - started_ns_ >= kListDeadlineNs) {
      told_hung_ = true;
      Learn("hung it does not say which GPUs there are");
    }
    return;
  }
  if (!settings_.uses_nvml() || now_ns < due_ns_) return;
  due_ns_ = now_ns + kListPeriodNs;
  if (wanted) Start(now_ns);
}

void Library::Start(int64_t now_ns) {
  // The loader searches for a name; a path that is not there needs no process to find that out.
  if (settings_.nvml.find('/') != std::string::npos && access(settings_.nvml.c_str(), R_OK) != 0) {
    const int error = errno;
    Set("absent", settings_.nvml + ": " + std::strerror(error), "");
    return;
  }
  const pid_t pid = SpawnSelf({"--list", "--nvml", settings_.nvml}, &socket_);
  if (pid < 0) {
    Set("failed", std::string("cannot start the lister: ") + std::strerror(-pid), "");
    return;
  }
  pid_ = pid;
  started_ns_ = now_ns;
  told_hung_ = false;
  heard_ = false;
  complete_ = false;
  arriving_.clear();
}

void Library::Receive() {
  char buffer[kMaxPacketBytes];
  for (size_t i = 0; i < kMaxGpus + 2 && socket_.valid(); ++i) {
    size_t length = 0;
    switch (ReceivePacket(socket_.get(), buffer, sizeof buffer, &length, nullptr)) {
      case Received::kPacket:
        Take({buffer, length});
        break;
      case Received::kEnd:
        socket_.Reset();
        return;
      default:
        return;
    }
  }
}

void Library::Take(std::string_view packet) {
  std::string_view rest = packet;
  const std::string_view word = TakeWord(&rest);
  if (word == "gpu" && IsAddress(rest) && arriving_.size() < kMaxGpus) {
    arriving_.push_back({std::string(rest), "nvml", ""});
    return;
  }
  if (word == "ok") complete_ = true;
  heard_ = true;
  Learn(packet);
}

bool Library::Exited(pid_t pid, int status) {
  if (pid != pid_) return false;
  Receive();
  socket_.Reset();
  pid_ = 0;
  if (complete_) listed_ = arriving_;
  // A library that ends the process that loads it says nothing before.
  if (!heard_) Set("failed", "the lister " + DescribeExit(status), "");
  return true;
}

}  // namespace skos::gpu
