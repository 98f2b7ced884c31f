// skos-gpu --worker: reads one GPU. README.md beside this file says what for.
//
// The main thread calls no driver: it beats, tells the supervisor what happens, and leaves when the supervisor does. One thread
// opens the device, the sampler's read it, one asks for details and one waits for events. Whatever hangs, hangs in one of those;
// they are never joined, and what they use is never freed: the process leaves by _exit().
//
// To the supervisor: "library STATE TEXT", "region" with the descriptor, "failed WHY", "lost", "found", "details JSON",
// "event MONOTONIC_MS JSON", "crossing". From it: "wires …". A closed socket means: leave.
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>

#include "gpu/event_pace.h"
#include "gpu/packets.h"
#include "gpu/process.h"
#include "gpu/protocol.h"
#include "gpu/settings.h"
#include "gpu/wires.h"
#include "probes/amdgpu.h"
#include "probes/nvml.h"
#include "sampler/clock.h"
#include "sampler/region.h"

namespace skos::gpu {
namespace {

// A vendor's library is foreign code that expects a usual stack; what it does not touch costs nothing.
constexpr size_t kStackBytes = 1 << 20;
constexpr int64_t kDetailsPeriodNs = 10 * kNsPerSecond;
constexpr int64_t kMediumMilliHertz = 1'000;
constexpr int64_t kSlowMilliHertz = 100;
constexpr int64_t kRingSeconds = 20;           // The agent takes them each second or oftener.
constexpr size_t kMinRingRecords = 1024;
constexpr int64_t kMinBeatNs = 20'000'000;     // As often as a deadline has tenths, within these.
constexpr int64_t kMaxBeatNs = 100'000'000;
constexpr int64_t kBeatsADeadline = 4;         // At least, so that a beat that comes a little late is no hang.
constexpr int64_t kPublishNs = 10'000'000;     // A reading is in the region microseconds after its probe returned.
constexpr int64_t kPublishLookNs = 20'000;

constexpr int64_t BeatPeriodNs(int64_t deadline_ns) {
  return std::min(std::clamp(deadline_ns / 10, kMinBeatNs, kMaxBeatNs), deadline_ns / kBeatsADeadline);
}
static_assert(kBeatsADeadline * BeatPeriodNs(kMinDeadlineMs * 1'000'000) <= kMinDeadlineMs * 1'000'000);
static_assert(BeatPeriodNs(kNsPerSecond) == kMaxBeatNs && BeatPeriodNs(kMaxDeadlineMs * 1'000'000) == kMaxBeatNs);

// What the sampler's thread is doing, for the main thread.
struct Watch {
  std::atomic<int64_t> busy_since_ns{0};  // 0: in no read.
  Wires wires;
  int wake_fd = -1;  // eventfd of the main thread.
};

// Between sampler and device. Sampler thread.
class WatchedProbe : public Probe {
 public:
  WatchedProbe(std::shared_ptr<Probe> probe, uint32_t channel, Watch* watch)
      : probe_(std::move(probe)), channel_(channel), watch_(watch) {}

  Reading Read(int64_t now_ns) override {
    watch_->busy_since_ns.store(now_ns, std::memory_order_relaxed);
    Reading reading = probe_->Read(now_ns);
    watch_->busy_since_ns.store(0, std::memory_order_relaxed);
    if (reading.time_ns < now_ns) reading.time_ns = MonotonicNs();
    if (watch_->wires.Look(channel_, reading)) eventfd_write(watch_->wake_fd, 1);
    return reading;
  }

 private:
  const std::shared_ptr<Probe> probe_;
  const uint32_t channel_;
  Watch* const watch_;
};

// Any thread. False when the supervisor does not take it (now).
bool Say(const std::string& packet, int fd = -1, int flags = MSG_DONTWAIT) {
  return SendPacket(kSupervisorFd, packet, fd, flags) == 0;
}

bool StartThread(void* (*main)(void*), void* argument) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  const bool started = pthread_create(&thread, &attributes, main, argument) == 0;
  pthread_attr_destroy(&attributes);
  return started;
}

class Worker {
 public:
  explicit Worker(const WorkerSettings& settings);
  int Run();

 private:
  // Threads of their own.
  void OpenDevice();
  void AskDetails();
  void WaitForEvents();

  // Main thread.
  int64_t RateOf(const GpuChannel& channel) const;
  std::string Description() const;
  int Serve();
  void Beat();
  int CheckCondition();
  bool Listen();
  void TellCrossings();
  void WaitUntilPublished(const std::vector<Crossed>& crossed);

  const WorkerSettings settings_;
  const int64_t deadline_ns_;
  const int64_t beat_ns_;
  Watch watch_;
  // Of the thread that opens until opened_; constant then.
  GpuOpening opening_;
  std::vector<GpuChannel> channels_;
  std::atomic<bool> opened_{false};

  std::unique_ptr<RegionWriter> region_;
  std::unique_ptr<Sampler> sampler_;
  std::vector<Reading> latest_;
  bool lost_ = false;          // As far as the supervisor was told.
  bool crossing_due_ = false;  // It could not be told yet.
};

Worker::Worker(const WorkerSettings& settings)
    : settings_(settings),
      deadline_ns_(settings.deadline_ms * 1'000'000),
      beat_ns_(BeatPeriodNs(deadline_ns_)) {
  watch_.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

// ---- Threads --------------------------------------------------------------------------------------------------------

void Worker::OpenDevice() {
  const Listing& gpu = settings_.gpu;
  opening_ = gpu.source == "nvml" ? OpenNvml(settings_.nvml, gpu.address) : OpenSysfsGpu(settings_.sysfs_root, gpu.path);
  if (opening_.device) channels_ = opening_.device->Discover();
  if (channels_.size() > kMaxRegionChannels) channels_.resize(kMaxRegionChannels);
  opened_.store(true, std::memory_order_release);
  eventfd_write(watch_.wake_fd, 1);
}

void Worker::AskDetails() {
  std::string said;
  for (;;) {
    const std::string details = opening_.device->Details();
    const bool fits = !details.empty() && details.size() <= kMaxDetailsBytes;
    if (fits && details != said && Say("details " + details)) said = details;
    const timespec period = ToTimespec(kDetailsPeriodNs);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &period, nullptr);
  }
}

void Worker::WaitForEvents() {
  // Waits until the supervisor takes it, because an event is told once only.
  EventPace pace;
  const GpuEventSink sink = [&pace](const std::string& json) {
    std::optional<int64_t> delay_ns = pace.DelayNs(json, MonotonicNs());
    while (delay_ns && *delay_ns != 0) {
      const timespec delay = ToTimespec(*delay_ns);
      clock_nanosleep(CLOCK_MONOTONIC, 0, &delay, nullptr);
      delay_ns = pace.DelayNs(json, MonotonicNs());
    }
    if (delay_ns) Say("event " + std::to_string(MonotonicNs() / 1'000'000) + ' ' + json, -1, 0);
  };
  while (opening_.device->WaitEvents(sink)) {
  }
}

// ---- Main thread ----------------------------------------------------------------------------------------------------

int64_t Worker::RateOf(const GpuChannel& channel) const {
  if (channel.rate == GpuRate::kFast) return settings_.rate_mhz;
  return std::min(settings_.rate_mhz, channel.rate == GpuRate::kMedium ? kMediumMilliHertz : kSlowMilliHertz);
}

std::string Worker::Description() const {
  const GpuIdentity& identity = opening_.device->identity();
  JsonObject device;
  device.Text("id", identity.id).Text("source", identity.source).Text("vendor", identity.vendor);
  device.Text("address", identity.address).Text("name", identity.name);
  for (const auto& [key, value] : identity.more) device.Text(key, value);
  std::string channels = "[";
  for (const GpuChannel& channel : channels_) {
    JsonObject limits;
    if (channel.limits.min) limits.Number("min", *channel.limits.min);
    if (channel.limits.max) limits.Number("max", *channel.limits.max);
    if (channel.limits.critical) limits.Number("critical", *channel.limits.critical);
    if (channel.limits.emergency) limits.Number("emergency", *channel.limits.emergency);
    char rate[32];
    std::snprintf(rate, sizeof rate, "%.10g", static_cast<double>(RateOf(channel)) / 1e3);
    JsonObject each;
    each.Text("name", channel.name).Text("label", channel.label).Text("quantity", channel.quantity).Text("class", "gpu");
    each.Raw("rateHz", rate).Raw("limits", limits.Take()).Text("path", channel.path);
    each.Bool("thermalDefault", channel.thermal_default);
    if (channels.size() > 1) channels += ',';
    channels += each.Take();
  }
  JsonObject description;
  return description.Number("v", 1).Raw("device", device.Take()).Raw("channels", channels + ']').Take();
}

// 0, or why it cannot be served as an exit status.
int Worker::Serve() {
  const auto fail = [](const std::string& why) {
    Say("failed " + why.substr(0, kMaxWhyBytes));
    return kExitCannotOpen;
  };
  if (settings_.gpu.source == "nvml") {
    // One GPU that cannot be had says nothing about the library; an initialisation that fails does.
    const bool initialised = opening_.why.compare(0, 8, "nvmlInit") != 0 && !opening_.library_version.empty();
    const bool known = opening_.device != nullptr || initialised;
    const std::string state = opening_.library_absent ? "absent " : known ? "ok " : "failed ";
    Say("library " + state + (known ? opening_.library_version : opening_.why).substr(0, kMaxWhyBytes));
  }
  if (!opening_.device) return fail(opening_.why);
  if (channels_.empty()) return fail("its driver answers none of the questions that it is asked");
  if (const int leaving = CheckCondition()) return leaving;

  RegionSpec spec;
  spec.description = Description();
  spec.channels = channels_.size();
  spec.hung_after_ns = deadline_ns_;
  std::vector<ChannelSpec> channels(channels_.size());
  int64_t records = 0;
  for (uint32_t i = 0; i < channels.size(); ++i) {
    const int64_t rate_mhz = RateOf(channels_[i]);
    channels[i].period_ns = kNsPerSecond * 1'000 / rate_mhz;
    channels[i].domain = "gpu";
    channels[i].probe_object = std::make_shared<WatchedProbe>(channels_[i].probe, i, &watch_);
    records += rate_mhz * kRingSeconds / 1'000;
  }
  spec.ring_records = std::clamp(static_cast<size_t>(records), kMinRingRecords, kMaxRegionRecords);
  int error = 0;
  region_ = RegionWriter::Create(spec, &error);
  if (!region_) return fail(std::string("no shared memory: ") + std::strerror(error));
  SamplerOptions options;
  options.read_deadline_ns = deadline_ns_;
  options.stack_bytes = kStackBytes;
  options.memory = region_->memory();
  latest_.resize(channels.size());
  sampler_ = std::make_unique<Sampler>(std::move(channels), std::vector<TripwireSpec>(), options);
  error = sampler_->Start();
  if (error != 0) return fail(std::string("no sampler: ") + std::strerror(error));
  Beat();
  if (!Say("region", region_->fd(), 0)) return fail("the supervisor does not take the region");
  const auto details = [](void* self) -> void* { return static_cast<Worker*>(self)->AskDetails(), nullptr; };
  const auto events = [](void* self) -> void* { return static_cast<Worker*>(self)->WaitForEvents(), nullptr; };
  if (!StartThread(details, this) || !StartThread(events, this)) return fail("no thread");
  return 0;
}

// While a read hangs, the heart stands still at its beginning: readers then know within one deadline that nothing comes any more,
// of slow channels too, which the sampler itself would call hung at their next turn only.
void Worker::Beat() {
  const int64_t busy_since_ns = watch_.busy_since_ns.load(std::memory_order_relaxed);
  region_->Beat(busy_since_ns != 0 ? busy_since_ns : MonotonicNs());
}

// An exit status, or 0 to go on.
int Worker::CheckCondition() {
  switch (opening_.device->condition()) {
    case GpuCondition::kDriverGone:
      return kExitDriverGone;
    case GpuCondition::kResetRequired:
      return kExitResetRequired;
    case GpuCondition::kLost:
      if (!lost_) lost_ = Say("lost");
      return 0;
    case GpuCondition::kServing:
      if (lost_) lost_ = !Say("found");
      return 0;
  }
  return 0;
}

// False: leave.
bool Worker::Listen() {
  char buffer[kMaxPacketBytes];
  for (;;) {
    size_t length = 0;
    switch (ReceivePacket(kSupervisorFd, buffer, sizeof buffer, &length, nullptr)) {
      case Received::kNothing:
        return true;
      case Received::kEnd:
        return false;
      case Received::kTooLong:
        continue;
      case Received::kPacket:
        break;
    }
    const std::string_view packet(buffer, length);
    constexpr std::string_view kWires = "wires ";
    std::vector<Wire> wires;
    std::string why;
    if (packet.substr(0, kWires.size()) != kWires || !ParseWires(packet.substr(kWires.size()), &wires, &why)) continue;
    watch_.wires.Set(wires);
  }
}

// The reading must be in the region before anyone is told of it.
void Worker::TellCrossings() {
  const std::vector<Crossed> crossed = watch_.wires.Take();
  if (!crossed.empty()) WaitUntilPublished(crossed);
  crossing_due_ = crossing_due_ || !crossed.empty();
  // A supervisor that is stopped takes nothing; the heart must go on beating, and one word stands for many crossings.
  if (crossing_due_) crossing_due_ = !Say("crossing");
}

void Worker::WaitUntilPublished(const std::vector<Crossed>& crossed) {
  const int64_t until_ns = MonotonicNs() + kPublishNs;
  const auto published = [this](const Crossed& each) { return latest_[each.channel].time_ns >= each.time_ns; };
  for (;;) {
    sampler_->Latest(latest_.data());
    if (std::all_of(crossed.begin(), crossed.end(), published) || MonotonicNs() >= until_ns) break;
    const timespec moment = ToTimespec(kPublishLookNs);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, nullptr);
  }
}

int Worker::Run() {
  const auto open = [](void* self) -> void* { return static_cast<Worker*>(self)->OpenDevice(), nullptr; };
  if (watch_.wake_fd < 0 || !StartThread(open, this)) return kExitSystem;
  for (;;) {
    pollfd polled[] = {{kSupervisorFd, POLLIN, 0}, {watch_.wake_fd, POLLIN, 0}};
    const timespec beat = ToTimespec(beat_ns_);
    ppoll(polled, 2, sampler_ ? &beat : nullptr, nullptr);
    if (polled[0].revents != 0 && !Listen()) return 0;
    eventfd_t ignored = 0;
    if (polled[1].revents != 0) eventfd_read(watch_.wake_fd, &ignored);
    int leaving = 0;
    if (sampler_) {
      Beat();
      TellCrossings();
      leaving = CheckCondition();
    } else if (opened_.load(std::memory_order_acquire)) {
      leaving = Serve();
    }
    if (leaving != 0) return leaving;
  }
}

}  // namespace

int RunWorker(const WorkerSettings& settings) {
  prctl(PR_SET_NAME, "skos-gpu-worker");
  PrepareForLibrary();
  mallopt(M_ARENA_MAX, 1);
  // Never freed: threads that hang go on using it.
  auto* worker = new Worker(settings);
  // Not exit(): destructors and a library's own would wait for threads that hang.
  _exit(worker->Run());
}

}  // namespace skos::gpu
