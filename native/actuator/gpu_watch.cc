#include "actuator/gpu_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "actuator/gpu_words.h"
#include "gpu/packets.h"
#include "sampler/clock.h"

namespace skos::actuator {
namespace {

constexpr size_t kMaxGpus = 64;                      // As skos-gpu's.
constexpr size_t kMaxDescriptionBytes = 256 * 1024;  // Ten times what a GPU of a hundred channels has; it is locked in memory.
constexpr int64_t kFirstBackOffNs = 200'000'000;     // A restarted skos-gpu is there within a second.
constexpr int64_t kMaxBackOffNs = 2'000'000'000;
constexpr int kPacketsAtOnce = 64;                   // Who talks without end must not keep a real-time thread busy.
constexpr int64_t kLookAwayNs = 10'000'000;
constexpr int64_t kBehindNs = 1'000'000;             // A reading is in the region microseconds after it was taken.
constexpr int64_t kLateNs = 10'000'000;              // A reading is so late at most on a machine that is not overloaded: till then
constexpr int64_t kLateLookNs = 2'000'000;           // it is looked for so often, later
constexpr int64_t kLateLooks = 10;                   // so often in a period.
constexpr int64_t kLongestWaitNs = 3600 * kNsPerSecond;

int IndexOf(const std::vector<std::string>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? -1 : static_cast<int>(found - names.begin());
}

// In these the region holds readings, or says by itself that they hang.
bool IsReadable(std::string_view state) { return state == "serving" || state == "lost" || state == "hung"; }

// What is to become of the setter that was ready for a GPU in such a state. One that hangs or opens is as it was: it may be neither
// helped nor harmed by us.
GpuStance StanceOf(std::string_view state, GpuStance former) {
  if (state == "serving") return GpuStance::kWarm;
  if (state == "detached" || state == "reset_required" || state == "gone") return GpuStance::kAway;
  if (state == "lost" || state == "failed") return GpuStance::kIdle;
  return former == GpuStance::kAway ? GpuStance::kIdle : former;
}

TripwireSpec WireOf(const OrderSpec& spec, bool raised) {
  TripwireSpec wire;
  wire.raise = spec.raise;
  wire.clear = spec.clear;
  wire.samples = spec.samples;
  wire.loss_raises = true;
  wire.raised = raised;
  return wire;
}

}  // namespace

GpuWatch::GpuWatch(std::string socket_path, OnCrossing on_crossing, int64_t unserved_ns, std::function<void()> on_stance)
    : socket_path_(std::move(socket_path)),
      on_crossing_(std::move(on_crossing)),
      unserved_ns_(unserved_ns),
      on_stance_(std::move(on_stance)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

// ---- Main thread ----------------------------------------------------------------------------------------------------

int GpuWatch::Set(std::vector<std::shared_ptr<OrderState>> orders, size_t stack_bytes, int realtime_priority) {
  const bool any = !orders.empty();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t now_ns = NowNs();
    std::vector<Watched> next;
    for (auto& order : orders) {
      const OrderSpec& spec = order->spec;
      Watched watched;
      watched.wire.emplace(WireOf(spec, order->raised.load()));
      watched.period_ns = 1'000'000'000'000 / spec.rate_mhz;
      watched.next_ns = now_ns;
      watched.since_ns = now_ns;
      watched.known = order->was_read != nullptr && order->was_read->load() != 0;
      const Gpu* gpu = Find(spec.gpu);
      if (gpu != nullptr) {
        order->stance.store(gpu->stance);
        order->served.store(gpu->served);
      }
      for (const Watched& former : watched_) {
        if (former.order->spec.gpu != spec.gpu || former.order->spec.sensor != spec.sensor) continue;
        watched.known = former.known;
        watched.since_ns = former.since_ns;
        watched.unserved_ns = former.unserved_ns;
        watched.asleep = former.asleep;
        watched.latest = former.latest;
      }
      watched.order = std::move(order);
      next.push_back(std::move(watched));
    }
    watched_ = std::move(next);
  }
  if (!any && !started_) return 0;
  if (!started_) {
    if (!wake_.valid()) return EMFILE;
    if (const int error = StartThread(stack_bytes, realtime_priority, &GpuWatch::Main, this)) return error;
    started_ = true;
  }
  eventfd_write(wake_.get(), 1);
  return 0;
}

std::vector<GpuWatch::Latest> GpuWatch::Readings(int64_t now_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Latest> found;
  for (const Watched& watched : watched_) {
    const bool never = !watched.known && now_ns - watched.since_ns >= unserved_ns_;
    found.push_back({watched.latest, watched.detached || watched.asleep || never});
  }
  return found;
}

// ---- The thread -----------------------------------------------------------------------------------------------------

void* GpuWatch::Main(void* self) {
  static_cast<GpuWatch*>(self)->Run();
  return nullptr;
}

void GpuWatch::Run() {
  for (;;) {
    pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {-1, POLLIN, 0}};
    int64_t until_ns = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      int64_t now_ns = NowNs();
      if (watched_.empty()) Disconnect(now_ns);
      else if (!socket_.valid() && now_ns >= connect_ns_) Connect(now_ns);
      if (socket_.valid() && now_ns >= look_away_ns_) Receive(now_ns);
      now_ns = NowNs();
      until_ns = now_ns + kLongestWaitNs;
      for (Watched& watched : watched_) {
        if (now_ns >= watched.next_ns) Look(&watched, now_ns);
        until_ns = std::min(until_ns, watched.next_ns);
      }
      if (!watched_.empty() && !socket_.valid() && !socket_path_.empty()) until_ns = std::min(until_ns, connect_ns_);
      if (socket_.valid() && now_ns < look_away_ns_) until_ns = std::min(until_ns, look_away_ns_);
      else fds[1].fd = socket_.get();
    }
    // Between here and there the descriptor stays what it is: only this thread closes it.
    const timespec wait = ToTimespec(std::max<int64_t>(until_ns - NowNs(), 0));
    ppoll(fds, 2, &wait, nullptr);
    eventfd_t ignored = 0;
    if (fds[0].revents != 0) eventfd_read(wake_.get(), &ignored);
  }
}

void GpuWatch::Connect(int64_t now_ns) {
  back_off_ns_ = std::clamp(2 * back_off_ns_, kFirstBackOffNs, kMaxBackOffNs);
  connect_ns_ = now_ns + back_off_ns_;
  if (socket_path_.empty()) return;
  // Not waited for: a skos-gpu that is stopped takes no connection.
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path_.c_str());
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return;
  if (gpu::SendPacket(fd.get(), "1 hello 1", -1, MSG_DONTWAIT) != 0) return;
  socket_.Reset(fd.Release());
}

// Nobody tells any more which region is whose: what stands there is of workers that are leaving.
void GpuWatch::Disconnect(int64_t now_ns) {
  if (!socket_.valid()) return;
  socket_.Reset();
  for (Gpu& gpu : gpus_) gpu.reader.reset();
  connect_ns_ = now_ns + kFirstBackOffNs;
}

void GpuWatch::Receive(int64_t now_ns) {
  for (int i = 0; i < kPacketsAtOnce; ++i) {
    size_t length = 0;
    UniqueFd passed;
    switch (gpu::ReceivePacket(socket_.get(), packet_, sizeof packet_, &length, &passed)) {
      case gpu::Received::kNothing:
        return;
      case gpu::Received::kEnd:
        return Disconnect(now_ns);
      case gpu::Received::kTooLong:
        continue;
      case gpu::Received::kPacket:
        back_off_ns_ = 0;
        Take({packet_, length}, &passed);
    }
  }
  look_away_ns_ = now_ns + kLookAwayNs;
}

void GpuWatch::Take(std::string_view packet, UniqueFd* passed) {
  GpuWord word;
  if (!ParseGpuWord(packet, &word)) return;
  Gpu* gpu = Find(word.address);
  if (gpu == nullptr) {
    if (gpus_.size() >= kMaxGpus) return;
    gpus_.emplace_back();
    gpu = &gpus_.back();
    gpu->address = word.address;
  }
  gpu->detached = word.state == "detached";
  const GpuStance stance = StanceOf(word.state, gpu->stance);
  const bool begins = passed->valid() && word.state == "serving";
  if (stance != gpu->stance || begins) {
    gpu->stance = stance;
    gpu->served += begins ? 1 : 0;
    for (Watched& watched : watched_) {
      if (watched.order->spec.gpu != gpu->address) continue;
      // Before its setter is let go of: what the order had capped is given back by that one.
      if (gpu->detached) Look(&watched, NowNs());
      watched.order->served.store(gpu->served);
      watched.order->stance.store(stance);
    }
    on_stance_();
  }
  if (!IsReadable(word.state)) gpu->reader.reset();
  if (!passed->valid()) return;
  std::string description;
  std::string why;
  gpu->reader = LatestReader::Open(passed->Release(), kMaxDescriptionBytes, &description, &why);
  gpu->names.clear();
  gpu->runtime_state = -1;
  if (gpu->reader == nullptr) return;
  gpu->names = ChannelNames(description, gpu->reader->channel_count());
  gpu->runtime_state = IndexOf(gpu->names, "runtime_state");
  for (Watched& watched : watched_) {
    if (watched.order->spec.gpu == gpu->address) watched.next_ns = 0;
  }
}

GpuWatch::Gpu* GpuWatch::Find(std::string_view address) {
  for (Gpu& gpu : gpus_) {
    if (gpu.address == address) return &gpu;
  }
  return nullptr;
}

void GpuWatch::Look(Watched* watched, int64_t now_ns) {
  const Gpu* gpu = Find(watched->order->spec.gpu);
  watched->detached = gpu != nullptr && gpu->detached;
  watched->asleep = false;
  bool fresh = false;
  if (watched->detached) Excuse(watched);
  else if (ReadOf(watched, now_ns, &fresh)) Update(watched);
  Schedule(watched, fresh, now_ns);
}

// True when what is in `latest` now counts: a reading that was not looked at before, or a loss.
bool GpuWatch::ReadOf(Watched* watched, int64_t now_ns, bool* fresh) {
  Gpu* gpu = Find(watched->order->spec.gpu);
  const bool served = gpu != nullptr && gpu->reader != nullptr;
  const int index = served ? IndexOf(gpu->names, watched->order->spec.sensor) : -1;
  // A GPU that sleeps is read by nobody, and has no other channel if it slept when it was opened.
  const Reading runtime =
      served && gpu->runtime_state >= 0 ? gpu->reader->Read(now_ns, static_cast<size_t>(gpu->runtime_state)) : Reading();
  const bool asleep = runtime.quality == Quality::kOk && runtime.value != 0;
  const int64_t before_ns = watched->latest.time_ns;
  if (index >= 0) {
    watched->latest = gpu->reader->Read(now_ns, static_cast<size_t>(index));
    if (watched->latest.quality == Quality::kOk) {
      SetKnown(watched, true);
      watched->unserved_ns = 0;
      *fresh = watched->latest.time_ns != before_ns;
      return *fresh;
    }
  } else {
    if (watched->unserved_ns == 0) watched->unserved_ns = now_ns;
    watched->latest = {0, now_ns, watched->known ? Quality::kStale : Quality::kNoData};
  }
  watched->asleep = asleep;
  if (asleep || !watched->known) return false;
  if (index < 0 && now_ns - watched->unserved_ns < unserved_ns_) return false;
  // As often as it would be sampled, not as often as it is looked at.
  if (now_ns - watched->counted_ns < watched->period_ns - kBehindNs) return false;
  watched->counted_ns = now_ns;
  return true;
}

void GpuWatch::Update(Watched* watched) {
  if (!watched->wire->Update(watched->latest)) return;
  on_crossing_(*watched->order, watched->wire->raised(), watched->latest);
}

// Its operator took it away: nothing is held because of it, and it begins anew when it is back.
void GpuWatch::Excuse(Watched* watched) {
  const bool raised = watched->wire->raised();
  SetKnown(watched, false);
  watched->unserved_ns = 0;
  watched->latest = {0, 0, Quality::kNoData};
  if (!raised) return;
  watched->wire.emplace(WireOf(watched->order->spec, false));
  on_crossing_(*watched->order, false, watched->latest);
}

void GpuWatch::SetKnown(Watched* watched, bool known) {
  if (watched->known == known) return;
  watched->known = known;
  if (watched->order->was_read != nullptr) watched->order->was_read->store(known ? 1 : 0);
}

void GpuWatch::Schedule(Watched* watched, bool fresh, int64_t now_ns) {
  const Reading& latest = watched->latest;
  const int64_t period_ns = watched->period_ns;
  watched->next_ns = now_ns + period_ns;
  if (watched->detached || latest.quality != Quality::kOk || latest.value < watched->order->spec.clear) return;
  // Warm: right behind the next reading, or soon when that is late.
  const int64_t expected_ns = latest.time_ns + period_ns + kBehindNs;
  const bool just_late = now_ns - expected_ns < std::min(kLateNs, period_ns);
  const int64_t soon_ns = fresh ? kBehindNs : just_late ? kLateLookNs : std::max(kLateNs, period_ns / kLateLooks);
  watched->next_ns = std::min(watched->next_ns, std::max(expected_ns, now_ns + soon_ns));
}

}  // namespace skos::actuator
