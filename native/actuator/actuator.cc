#include "actuator/actuator.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace skos::actuator {
namespace {

constexpr size_t kStackBytes = 64 * 1024;  // Locked in memory, so small; deepest frame is a path buffer and snprintf.
constexpr int64_t kNsPerMs = 1'000'000;

std::string_view TakeWord(std::string_view* text) {
  const size_t blank = text->find(' ');
  const std::string_view word = text->substr(0, blank);
  *text = blank == std::string_view::npos ? std::string_view() : text->substr(blank + 1);
  return word;
}

const char* QualityWord(Quality quality) {
  switch (quality) {
    case Quality::kOk:
      return "ok";
    case Quality::kNoData:
      return "no_data";
    case Quality::kStale:
      return "stale";
    case Quality::kFault:
      return "fault";
    case Quality::kHung:
      return "hung";
  }
  return "fault";
}

// Moved for a sensor that no order of its own tells.
bool Cools(Kind kind) {
  return kind == Kind::kFreeze || kind == Kind::kUnitFreeze || kind == Kind::kQuota || kind == Kind::kUnitQuota;
}

// Of an order on a GPU, in the state file.
std::string SensorOf(const OrderSpec& order) { return order.gpu + ' ' + order.sensor; }

// Where a GPU takes no power limit from us, its clocks are capped in the place of it.
bool StandsFor(const TargetSpec& second, const TargetSpec& first) {
  return second.path == first.path && ((second.kind == Kind::kNvmlClocks && first.kind == Kind::kNvmlPower) ||
                                       (second.kind == Kind::kAmdgpuLevel && first.kind == Kind::kAmdgpuPower));
}

}  // namespace

// The replies to one request.
struct Actuator::Answer {
  int64_t seq;
  Reply reply;
  void* context;

  void Send(const char* format, ...) __attribute__((format(printf, 2, 3))) {
    char packet[512];
    const int head = std::snprintf(packet, sizeof packet, "%" PRId64 " ", seq);
    va_list arguments;
    va_start(arguments, format);
    const int tail = std::vsnprintf(packet + head, sizeof packet - static_cast<size_t>(head), format, arguments);
    va_end(arguments);
    const size_t size = std::min(sizeof packet - 1, static_cast<size_t>(head + tail));
    reply(context, packet, size);
  }
};

Actuator::Actuator(const Settings& settings, const Roots& roots, StateFile* state, int done_fd, int realtime_priority)
    : settings_(settings),
      roots_(roots),
      state_(state),
      done_fd_(done_fd),
      realtime_priority_(realtime_priority),
      jobs_(settings.units_socket, state),
      gpu_watch_(new GpuWatch(settings.gpu_socket, [this](OrderState& order, bool raised, const Reading& reading) {
        OnCrossing(order, raised, reading);
      }, kUnservedNs, [this] { PokeAll(); })) {
  waiting_.reserve(kMaxWaiting);
}

bool Actuator::IsController(uint32_t uid) const {
  return uid == 0 || uid == geteuid() ||
         std::find(controllers_.begin(), controllers_.end(), static_cast<int64_t>(uid)) != controllers_.end();
}

// ---- Allow-list ----------------------------------------------------------------------------------------------------

std::string Actuator::Load() {
  AllowList list;
  std::string wrong = LoadAllowList(settings_.allow_path.c_str(), &list);
  if (!wrong.empty()) return wrong;
  std::vector<std::shared_ptr<Target>> added;
  wrong = AdoptTargets(list, &added);
  if (!wrong.empty()) return wrong;
  controllers_ = list.controllers;
  list_ = std::move(list);
  jobs_.SetList(list_.jobs);
  AdoptEnergies(list_);
  StartOrders(list_);
  loaded_ = true;
  for (size_t i = 0; i < kMaxLeases; ++i) {
    LeaseRecord* lease = &state_->leases()[i];
    if (lease->id[0] != '\0' && FindTarget(lease->target) == nullptr) Free(lease, "lease_ended");
  }
  // A worker that saw a target before its orders and leases would take back what an earlier actuator left standing.
  WantAll();
  for (const auto& target : added) WorkerOf(*target)->Add(target);
  PokeAll();
  state_->Event("loaded", "allow-list", "targets=%zu orders=%zu jobs=%zu", list_.targets.size(), list_.orders.size(),
                list_.jobs.size());
  return "";
}

// Keeps the targets that did not change, adds the new, retires the others. What an earlier actuator of this boot left
// in a device is undone even where the list no longer names it.
std::string Actuator::AdoptTargets(const AllowList& list, std::vector<std::shared_ptr<Target>>* added) {
  for (const auto& known : targets_) {
    for (const TargetSpec& spec : list.targets) {
      if (spec.id != known->spec().id) continue;
      if (known->retired()) return "target " + spec.id + " is still being undone; try again";
      if (known->held() && !known->IsFor(spec)) return "target " + spec.id + " changed while a cap of ours stands in it";
    }
  }
  std::vector<std::shared_ptr<Target>> next;
  for (const TargetSpec& spec : list.targets) {
    const std::shared_ptr<Target> known = FindTarget(spec.id);
    if (known != nullptr && known->IsFor(spec)) {
      known->set_floor_ppm(spec.floor_ppm);
      known->ForgetRefusal();
      next.push_back(known);
      continue;
    }
    TargetRecord* record = state_->Claim(spec);
    if (record == nullptr) return "no room in the state file for " + spec.id;
    next.push_back(std::make_shared<Target>(spec, roots_, state_, record));
    added->push_back(next.back());
  }
  for (const std::shared_ptr<Target>& target : targets_) {
    if (std::find(next.begin(), next.end(), target) != next.end()) continue;
    target->SetOrders({});
    target->Retire();
    next.push_back(target);
  }
  if (!loaded_) {
    for (size_t i = 0; i < kMaxTargets; ++i) {
      TargetRecord* record = &state_->targets()[i];
      const bool named = std::any_of(next.begin(), next.end(), [&](const auto& target) {
        return target->spec().id == record->id && target->spec().kind == record->kind && target->spec().path == record->path;
      });
      if (record->id[0] == '\0' || named) continue;
      if (record->held == 0) {
        record->id[0] = '\0';
        continue;
      }
      const TargetSpec spec = {record->id, record->kind, record->path, kFullPpm};
      next.push_back(std::make_shared<Target>(spec, roots_, state_, record));
      next.back()->Retire();
      added->push_back(next.back());
    }
  }
  targets_ = std::move(next);
  return "";
}

// A counter that is listed as before goes on, so that its average has no gap.
void Actuator::AdoptEnergies(const AllowList& list) {
  std::vector<Power> next;
  for (const EnergySpec& spec : list.energies) {
    const auto known = std::find_if(powers_.begin(), powers_.end(), [&](const Power& power) {
      return power.spec.id == spec.id && power.spec.path == spec.path && power.spec.max_uj == spec.max_uj;
    });
    next.push_back(known != powers_.end() ? *known : Power{spec, AveragePower(spec.max_uj)});
  }
  powers_ = std::move(next);
}

void Actuator::StartOrders(const AllowList& list) {
  if (sampler_ != nullptr) sampler_->Stop();
  std::vector<std::shared_ptr<OrderState>> orders;
  std::vector<std::shared_ptr<OrderState>> of_gpus;
  std::vector<ChannelSpec> channels;
  std::vector<TripwireSpec> tripwires;
  std::vector<std::string> sensors;
  for (const OrderSpec& spec : list.orders) sensors.push_back(SensorOf(spec));
  for (const OrderSpec& spec : list.orders) {
    auto order = std::make_shared<OrderState>();
    order->spec = spec;
    bool raised = false;
    for (const auto& earlier : orders_) raised = raised || (earlier->spec.name == spec.name && earlier->raised.load());
    // The first list of this process: what stands in a device without a lease is an order's cap of the process before.
    if (!loaded_) {
      for (const size_t target : spec.targets) raised = raised || targets_[target]->held();
    }
    order->raised.store(raised);
    if (!spec.gpu.empty()) {
      ReadRecord* record = state_->ClaimSensor(SensorOf(spec), sensors);
      if (record != nullptr) order->was_read = &record->was_read;
      of_gpus.push_back(std::move(order));
      continue;
    }
    ChannelSpec channel;
    channel.probe.path = settings_.sysfs_root + "/" + ResolveEntry(roots_.sysfs_fd, spec.sensor);
    if (!spec.fault.empty()) channel.probe.fault_path = settings_.sysfs_root + "/" + ResolveEntry(roots_.sysfs_fd, spec.fault);
    order->path = channel.probe.path;
    channel.probe.multiplier = spec.multiplier;
    channel.probe.offset = spec.offset;
    channel.period_ns = 1'000'000'000'000 / spec.rate_mhz;
    // One hazard domain per sensor: which driver is behind it is not known here, and the threads are few.
    channel.domain = spec.sensor;
    TripwireSpec tripwire;
    tripwire.channel = static_cast<uint32_t>(channels.size());
    tripwire.raise = spec.raise;
    tripwire.clear = spec.clear;
    tripwire.samples = spec.samples;
    tripwire.loss_raises = true;
    tripwire.raised = raised;
    channels.push_back(std::move(channel));
    tripwires.push_back(tripwire);
    orders.push_back(std::move(order));
  }
  const auto of_files = orders;
  orders.insert(orders.end(), of_gpus.begin(), of_gpus.end());
  for (size_t i = 0; i < list.targets.size(); ++i) {
    std::vector<std::shared_ptr<OrderState>> of_target;
    for (const auto& order : orders) {
      const auto& named = order->spec.targets;
      if (std::find(named.begin(), named.end(), i) != named.end()) of_target.push_back(order);
    }
    std::shared_ptr<const Target> stands_for;
    for (size_t j = 0; j < list.targets.size(); ++j) {
      if (StandsFor(list.targets[i], list.targets[j])) stands_for = targets_[j];
    }
    targets_[i]->SetOrders(std::move(of_target), std::move(stands_for));
  }
  for (const Power& power : powers_) {
    ChannelSpec channel;
    channel.probe.path = settings_.sysfs_root + "/" + power.spec.path + "/energy_uj";
    channel.period_ns = kEnergyPeriodNs;
    channel.domain = "energy";  // One driver has them all.
    channels.push_back(std::move(channel));
  }
  orders_ = orders;
  file_orders_ = of_files.size();
  sampler_.reset();
  // Blind orders are orders whose sensor cannot be read: they count as hot.
  const auto count_as_raised = [this](const char* what, int error, const auto& blind) {
    state_->Event("failed", what, "errno=%d; every order of it counts as raised", error);
    for (const auto& order : blind) order->raised.store(true);
  };
  if (const int error = gpu_watch_->Set(of_gpus, kStackBytes, realtime_priority_)) count_as_raised("gpu-watch", error, of_gpus);
  if (channels.empty()) return;
  SamplerOptions options;
  options.ring_records = 64;  // Nobody drains it: the latest reading is what counts here.
  options.stack_bytes = kStackBytes;
  options.realtime_priority = realtime_priority_;
  options.on_crossing = [this, of_files](const Crossing& crossing) {
    if (crossing.tripwire < of_files.size()) OnCrossing(*of_files[crossing.tripwire], crossing.raised, crossing.reading);
  };
  sampler_ = std::make_unique<Sampler>(std::move(channels), std::move(tripwires), std::move(options));
  if (const int error = sampler_->Start()) count_as_raised("sampler", error, of_files);
}

void Actuator::OnCrossing(OrderState& order, bool raised, const Reading& reading) {
  order.crossed_ns.store(reading.time_ns);
  order.raised.store(raised);
  PokeAll();
  const char* kind = raised ? "order_raised" : "order_clear";
  if (reading.quality == Quality::kOk)
    state_->Event(kind, order.spec.name.c_str(), "quality=ok value=%" PRId64, reading.value);
  else
    state_->Event(kind, order.spec.name.c_str(), "quality=%s", QualityWord(reading.quality));
}

// A sensor that is absent may have come back under another number.
bool Actuator::HasMoved(const OrderState& order) const {
  return settings_.sysfs_root + "/" + ResolveEntry(roots_.sysfs_fd, order.spec.sensor) != order.path;
}

std::vector<Reading> Actuator::Latest() const {
  std::vector<Reading> readings(file_orders_ + powers_.size());
  if (sampler_ != nullptr) sampler_->Latest(readings.data());
  std::vector<Reading> of_gpus;
  for (const auto& latest : gpu_watch_->Readings(NowNs())) of_gpus.push_back(latest.reading);
  of_gpus.resize(orders_.size() - file_orders_);
  readings.insert(readings.begin() + static_cast<std::ptrdiff_t>(file_orders_), of_gpus.begin(), of_gpus.end());
  return readings;
}

// Keeps below_clear and the averages, and looks for sensors that moved.
void Actuator::FollowSensors() {
  if (orders_.empty() && powers_.empty()) return;
  const std::vector<Reading> readings = Latest();
  const auto of_gpus = gpu_watch_->Readings(NowNs());
  bool moved = false;
  for (size_t i = 0; i < orders_.size(); ++i) {
    OrderState& order = *orders_[i];
    const size_t gpu = i - file_orders_;  // Only where it is one.
    const bool exempt = i >= file_orders_ && gpu < of_gpus.size() && of_gpus[gpu].exempt;
    moved = moved || (i < file_orders_ && readings[i].quality == Quality::kNoData && HasMoved(order));
    const bool below = readings[i].quality == Quality::kOk && readings[i].value < order.spec.clear;
    order.below_clear.store(below || exempt);
  }
  for (size_t i = 0; i < powers_.size(); ++i) powers_[i].average.Take(readings[orders_.size() + i]);
  if (!moved) return;
  StartOrders(list_);
  ApplyAll();
}

size_t Actuator::SlotOf(const Target& target) {
  const TargetSpec& spec = target.spec();
  if (!IsGpu(spec.kind)) return static_cast<size_t>(spec.kind);
  size_t gpu = static_cast<size_t>(std::find(gpus_.begin(), gpus_.end(), spec.path) - gpus_.begin());
  if (gpu == gpus_.size() && gpu < kMaxGpuWorkers) gpus_.push_back(spec.path);
  return kKinds + std::min(gpu, kMaxGpuWorkers - 1);
}

Worker* Actuator::WorkerOf(const Target& target) {
  std::atomic<Worker*>& slot = workers_[SlotOf(target)];
  Worker* worker = slot.load();
  if (worker == nullptr) {
    worker = new Worker(done_fd_);
    slot.store(worker);
    const int error = worker->Start(kStackBytes, realtime_priority_);
    if (error != 0) state_->Event("failed", "worker", "errno=%d; its targets cannot be moved", error);
  }
  return worker;
}

// ---- Leases --------------------------------------------------------------------------------------------------------

LeaseRecord* Actuator::FindLease(std::string_view id) {
  for (size_t i = 0; i < kMaxLeases; ++i) {
    LeaseRecord* lease = &state_->leases()[i];
    if (lease->id[0] != '\0' && id == lease->id) return lease;
  }
  return nullptr;
}

std::shared_ptr<Target> Actuator::FindTarget(std::string_view id) const {
  for (const auto& target : targets_) {
    if (!target->retired() && target->spec().id == id) return target;
  }
  return nullptr;
}

void Actuator::Free(LeaseRecord* lease, const char* why) {
  state_->Event(why, lease->target, "lease=%s", lease->id);
  lease->id[0] = '\0';
}

uint64_t Actuator::Apply(const std::shared_ptr<Target>& target) {
  const uint64_t generation = target->Want(Strictest(*target));
  WorkerOf(*target)->Poke();
  return generation;
}

int64_t Actuator::Strictest(const Target& target) const {
  int64_t strictest = kNoCap;
  if (target.retired()) return strictest;
  for (size_t i = 0; i < kMaxLeases; ++i) {
    const LeaseRecord& lease = state_->leases()[i];
    if (lease.id[0] != '\0' && target.spec().id == lease.target) strictest = std::min(strictest, lease.cap_ppm);
  }
  return std::max(strictest, target.floor_ppm());  // The list may have raised the floor since the lease was made.
}

void Actuator::WantAll() {
  for (const auto& target : targets_) target->Want(Strictest(*target));
}

void Actuator::PokeAll() {
  for (const auto& slot : workers_) {
    if (Worker* worker = slot.load()) worker->Poke();
  }
}

void Actuator::ApplyAll() {
  WantAll();
  PokeAll();
}

void Actuator::EndOrphans(int64_t now_ns) {
  const bool all_clear = std::all_of(orders_.begin(), orders_.end(), [](const auto& order) {
    return !order->raised.load() && order->below_clear.load();
  });
  for (size_t i = 0; i < kMaxLeases; ++i) {
    LeaseRecord* lease = &state_->leases()[i];
    if (lease->id[0] == '\0' || now_ns < lease->deadline_ns) continue;
    const std::shared_ptr<Target> target = FindTarget(lease->target);
    if (target != nullptr && !target->OrdersClear()) continue;
    // What is frozen or kept short cools the node, whichever sensor it was done for.
    if (target != nullptr && Cools(target->spec().kind) && !all_clear) continue;
    Free(lease, "lease_ended");
    if (target != nullptr) Apply(target);
  }
}

void Actuator::RestoreAll() {
  sampler_.reset();
  (void)gpu_watch_->Set({}, kStackBytes, realtime_priority_);
  orders_.clear();
  file_orders_ = 0;
  powers_.clear();
  for (size_t i = 0; i < kMaxLeases; ++i) {
    if (state_->leases()[i].id[0] != '\0') Free(&state_->leases()[i], "lease_ended");
  }
  for (const auto& target : targets_) target->SetOrders({});
  ApplyAll();
}

bool Actuator::AtRest() const {
  for (size_t i = 0; i < kMaxLeases; ++i) {
    if (state_->leases()[i].id[0] != '\0') return false;
  }
  return std::all_of(targets_.begin(), targets_.end(), [](const auto& target) { return target->AtRest(); }) &&
         std::none_of(orders_.begin(), orders_.end(), [](const auto& order) { return order->raised.load(); });
}

std::string Actuator::Standing() const {
  std::string ids;
  for (const auto& target : targets_) {
    if (!target->AtRest()) ids += (ids.empty() ? "" : " ") + target->spec().id;
  }
  return ids;
}

// ---- Requests ------------------------------------------------------------------------------------------------------

void Actuator::Request(std::string_view packet, Reply reply, void* context) {
  Answer answer = {0, reply, context};
  const bool clean = packet.find_first_of(std::string_view("\0\n\r", 3)) == std::string_view::npos;
  if (!clean || !ParseInteger(TakeWord(&packet), &answer.seq) || answer.seq < 0) {
    answer.seq = 0;
    return answer.Send("err malformed");
  }
  const std::string_view verb = TakeWord(&packet);
  if (verb == "set") return SetLease(&answer, packet);
  if (verb == "release") return ReleaseLease(&answer, packet);
  if (verb == "renew") return Renew(&answer, packet);
  if (verb == "events") return ListEvents(&answer, packet);
  if (verb == "run") return RunJob(&answer, packet);
  if (verb == "hello") {
    if (packet != "1") return answer.Send("err malformed version");
    return answer.Send("ok skos-actuator 1 boot=%s", state_->boot_id());
  }
  if (!packet.empty()) return answer.Send("err malformed");
  if (verb == "targets") return ListTargets(&answer);
  if (verb == "leases") return ListLeases(&answer);
  if (verb == "orders") return ListOrders(&answer);
  if (verb == "powers") return ListPowers(&answer);
  if (verb == "jobs") return ListJobs(&answer);
  if (verb == "release-all") {
    for (size_t i = 0; i < kMaxLeases; ++i) {
      if (state_->leases()[i].id[0] != '\0') Free(&state_->leases()[i], "lease_ended");
    }
    ApplyAll();
    return answer.Send("ok released");
  }
  if (verb == "reload") {
    const std::string wrong = Load();
    return wrong.empty() ? answer.Send("ok reloaded") : answer.Send("err allow_refused %.300s", wrong.c_str());
  }
  answer.Send("err unknown_verb");
}

void Actuator::SetLease(Answer* answer, std::string_view arguments) {
  const std::string_view id = TakeWord(&arguments);
  const std::string_view target_id = TakeWord(&arguments);
  int64_t cap_ppm = 0;
  int64_t ttl_ms = 0;
  if (!IsId(id, kMaxLeaseBytes) || !IsId(target_id, kMaxIdBytes) || !ParseInteger(TakeWord(&arguments), &cap_ppm) ||
      !ParseInteger(arguments, &ttl_ms)) {
    return answer->Send("err malformed");
  }
  const std::shared_ptr<Target> target = FindTarget(target_id);
  if (target == nullptr) return answer->Send("err not_listed");
  // A quota is of one CPU, so it may exceed a million; a machine of a thousand CPUs is bound enough.
  const bool is_quota = target->spec().kind == Kind::kQuota || target->spec().kind == Kind::kUnitQuota;
  const int64_t highest = is_quota ? 1000 * kFullPpm : kFullPpm;
  if (cap_ppm < target->floor_ppm() || cap_ppm > highest || ttl_ms < kMinTtlMs || ttl_ms > kMaxTtlMs) {
    return answer->Send("err out_of_bounds floor_ppm=%" PRId64, target->floor_ppm());
  }
  LeaseRecord* lease = FindLease(id);
  if (lease != nullptr && target_id != lease->target) return answer->Send("err malformed another target");
  if (lease == nullptr) {
    for (size_t i = 0; i < kMaxLeases && lease == nullptr; ++i) {
      if (state_->leases()[i].id[0] == '\0') lease = &state_->leases()[i];
    }
    if (lease == nullptr) return answer->Send("err too_many");
  }
  if (waiting_.size() >= kMaxWaiting) return answer->Send("err too_many");
  lease->cap_ppm = cap_ppm;
  lease->ttl_ns = ttl_ms * kNsPerMs;
  lease->deadline_ns = NowNs() + lease->ttl_ns;
  std::snprintf(lease->target, sizeof lease->target, "%.*s", static_cast<int>(target_id.size()), target_id.data());
  // Last: a record with an id is whole, should we be killed in the middle.
  std::snprintf(lease->id, sizeof lease->id, "%.*s", static_cast<int>(id.size()), id.data());
  Wait(answer, target, Apply(target));
}

void Actuator::ReleaseLease(Answer* answer, std::string_view arguments) {
  if (!IsId(arguments, kMaxLeaseBytes)) return answer->Send("err malformed");
  LeaseRecord* lease = FindLease(arguments);
  if (lease == nullptr) return answer->Send("ok released");  // Whatever it was, it stands no more.
  if (waiting_.size() >= kMaxWaiting) return answer->Send("err too_many");
  const std::shared_ptr<Target> target = FindTarget(lease->target);
  Free(lease, "lease_ended");
  if (target == nullptr) return answer->Send("ok released");
  Wait(answer, target, Apply(target));
}

void Actuator::Renew(Answer* answer, std::string_view arguments) {
  int64_t ttl_ms = 0;
  if (!ParseInteger(TakeWord(&arguments), &ttl_ms) || ttl_ms < kMinTtlMs || ttl_ms > kMaxTtlMs) {
    return answer->Send("err malformed");
  }
  int known = 0;
  while (!arguments.empty()) {
    LeaseRecord* lease = FindLease(TakeWord(&arguments));
    if (lease == nullptr) continue;
    lease->ttl_ns = ttl_ms * kNsPerMs;
    lease->deadline_ns = NowNs() + lease->ttl_ns;
    ++known;
  }
  answer->Send("ok renewed %d", known);
}

void Actuator::Wait(Answer* answer, const std::shared_ptr<Target>& target, uint64_t generation) {
  waiting_.push_back({answer->seq, target, generation, NowNs() + kHungNs});
}

void Actuator::Settle(Reply reply, void* context) {
  const int64_t now_ns = NowNs();
  for (size_t i = 0; i < waiting_.size();) {
    Waiting& waiting = waiting_[i];
    const bool done = waiting.target->done() >= waiting.generation;
    if (!done && now_ns < waiting.deadline_ns) {
      ++i;
      continue;
    }
    const Kind kind = waiting.target->spec().kind;
    const Result result = waiting.target->Current();
    char former[48];
    char written[48];
    char read_back[48];
    FormatRaw(kind, result.former, former, sizeof former);
    FormatRaw(kind, result.written, written, sizeof written);
    FormatRaw(kind, result.read_back, read_back, sizeof read_back);
    const char* outcome = OutcomeWord(done ? result.outcome : waiting.target->Unanswered());
    Answer answer = {waiting.seq, reply, context};
    if (result.known) answer.Send("ok %s former=%s written=%s readback=%s", outcome, former, written, read_back);
    else answer.Send("ok %s former=- written=- readback=-", outcome);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  FollowSensors();
  EndOrphans(now_ns);
  for (const auto& target : targets_) {
    if (target->IsLost()) WorkerOf(*target)->Poke();
  }
  // Main is the last to let go, so that a record is freed in this thread.
  targets_.erase(std::remove_if(targets_.begin(), targets_.end(),
                                [](const auto& target) {
                                  return target->retired() && !target->held() && target.use_count() == 1;
                                }),
                 targets_.end());
}

void Actuator::ClientGone() { waiting_.clear(); }

void Actuator::ListTargets(Answer* answer) {
  for (const auto& target : targets_) {
    const Result result = target->Current();
    const bool troubled = result.outcome == Outcome::kPending || result.outcome == Outcome::kUndoPending ||
                          result.outcome == Outcome::kForeignChange || result.outcome == Outcome::kFailed ||
                          result.outcome == Outcome::kHung || result.outcome == Outcome::kNotPermitted;
    char former[48];
    char current[48];
    FormatRaw(target->spec().kind, result.former, former, sizeof former);
    FormatRaw(target->spec().kind, result.read_back, current, sizeof current);
    const char* state = troubled            ? OutcomeWord(result.outcome)
                        : target->held()    ? "held"
                        : target->refuses() ? OutcomeWord(Outcome::kNotPermitted)
                                            : "idle";
    const bool known = result.outcome != Outcome::kIdle && result.known;
    answer->Send("row %s %s former=%s current=%s", target->spec().id.c_str(), state, known ? former : "-",
                 known ? current : "-");
  }
  answer->Send("ok end");
}

void Actuator::ListLeases(Answer* answer) {
  const int64_t now_ns = NowNs();
  for (size_t i = 0; i < kMaxLeases; ++i) {
    const LeaseRecord& lease = state_->leases()[i];
    if (lease.id[0] == '\0') continue;
    answer->Send("row %s %s %" PRId64 " %s", lease.id, lease.target, lease.cap_ppm,
                 now_ns < lease.deadline_ns ? "held" : "orphaned");
  }
  answer->Send("ok end");
}

void Actuator::ListOrders(Answer* answer) {
  const std::vector<Reading> readings = Latest();
  for (size_t i = 0; i < orders_.size(); ++i) {
    answer->Send("row %s %s %s %" PRId64, orders_[i]->spec.name.c_str(), orders_[i]->raised.load() ? "raised" : "clear",
                 QualityWord(readings[i].quality), readings[i].value);
  }
  answer->Send("ok end");
}

void Actuator::ListPowers(Answer* answer) {
  const int64_t now_ns = NowNs();
  for (const Power& power : powers_) {
    const Reading average = power.average.At(now_ns);
    answer->Send("row %s %s %" PRId64, power.spec.id.c_str(), QualityWord(average.quality),
                 average.quality == Quality::kOk ? average.value : 0);
  }
  answer->Send("ok end");
}

void Actuator::RunJob(Answer* answer, std::string_view arguments) {
  const std::string_view job = TakeWord(&arguments);
  answer->Send("%s", jobs_.Run(job, arguments));
}

void Actuator::ListJobs(Answer* answer) {
  const int64_t now_ns = NowNs();
  jobs_.List([&](const char* id, const JobRecord* last) {
    if (last == nullptr || last->state == JobState::kIdle) return answer->Send("row %s idle - exit=- age_ms=0", id);
    char exit[24] = "-";
    if (last->exit != kNoExit) std::snprintf(exit, sizeof exit, "%" PRId64, last->exit);
    answer->Send("row %s %s %s exit=%s age_ms=%" PRId64, id, JobStateWord(last->state), last->key, exit,
                 (now_ns - last->started_ns) / kNsPerMs);
  });
  answer->Send("ok end");
}

void Actuator::ListEvents(Answer* answer, std::string_view arguments) {
  int64_t after = 0;
  if (!ParseInteger(arguments, &after) || after < 0) return answer->Send("err malformed");
  const uint64_t last = state_->last_event();
  const uint64_t oldest = last > kEventEntries ? last - kEventEntries + 1 : 1;
  const int64_t now_ns = NowNs();
  // At most 64 in one answer, so that the client's receive buffer always holds it; it asks again from there.
  uint64_t from = std::max<uint64_t>(static_cast<uint64_t>(after) + 1, oldest);
  for (int sent = 0; from <= last && sent < 64; ++from) {
    EventRecord event;
    if (!state_->ReadEvent(from, &event)) continue;
    answer->Send("row %" PRIu64 " %" PRId64 " %s %s %s", from, (now_ns - event.time_ns) / kNsPerMs, event.kind,
                 event.subject, event.detail);
    ++sent;
  }
  answer->Send("ok end");
}

}  // namespace skos::actuator
