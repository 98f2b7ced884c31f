// Two threads. The worker reads all channels on the timer; the supervisor sleeps and looks whether a read is overdue. The
// two decide by one compare-and-swap on Worker::busy_since who owns the state: a worker that finds its read given up
// touches nothing any more but its domain's `returned` flag. Whoever is the current worker owns the schedule, the
// tripwires and the writing ends of ring and latest readings; ownership passes by that swap and pthread_create.
#include "sampler/sampler.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "probes/files.h"
#include "sampler/clock.h"
#include "sampler/memory.h"
#include "sampler/tripwire.h"

namespace skos {
namespace {

constexpr int64_t kMinPeriodNs = 1'000'000;           // 1000 Hz: a wake-up costs 20–60 µs.
constexpr int64_t kMaxPeriodNs = 60 * kNsPerSecond;   // Counters that a GPU driver takes milliseconds to answer for.
constexpr int64_t kMinDeadlineNs = 1'000'000;
constexpr int64_t kStopGraceNs = 5'000'000;           // A healthy read takes microseconds; longer ones are abandoned.
constexpr int64_t kSpawnRetryNs = 100'000'000;        // When the system has no thread for us.
constexpr int64_t kAbandoned = -1;                    // In Worker::busy_since.
constexpr uint32_t kNoDomain = UINT32_MAX;

// What the supervisor sees of the thread that samples.
struct Worker {
  std::atomic<int64_t> busy_since{0};          // 0: not in a read. kAbandoned: the supervisor gave it up.
  std::atomic<uint32_t> domain{kNoDomain};     // Valid while busy.
};

// Channels of equal rate, read together.
struct Group {
  int64_t period_ns = 0;
  int64_t next_ns = 0;
  std::vector<uint32_t> channels;  // Those of one domain stand together.
  size_t cursor = 0;               // Where a fresh worker goes on.
};

struct Domain {
  ProbeFactory factory;
  uint64_t last_tick = 0;
  bool hung = false;                 // Current worker's; set by the supervisor before it makes that worker.
  std::atomic<bool> returned{false}; // Set by the stuck thread when its read has returned after all.
};

struct ChannelState {
  uint32_t domain = 0;
  std::shared_ptr<Probe> probe;
  std::vector<uint32_t> tripwires;
};

[[noreturn]] void ProgrammersError(const char* what) {
  std::fprintf(stderr, "skos sampler: %s\n", what);
  std::abort();
}

class Mutex {
 public:
  Mutex() { pthread_mutex_init(&mutex_, nullptr); }
  ~Mutex() { pthread_mutex_destroy(&mutex_); }
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  void Lock() { pthread_mutex_lock(&mutex_); }
  void Unlock() { pthread_mutex_unlock(&mutex_); }
  pthread_mutex_t* native() { return &mutex_; }

 private:
  pthread_mutex_t mutex_;
};

class Locked {
 public:
  explicit Locked(Mutex& mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~Locked() { mutex_.Unlock(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  Mutex& mutex_;
};

class Condition {
 public:
  Condition() {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&condition_, &attributes);
    pthread_condattr_destroy(&attributes);
  }
  ~Condition() { pthread_cond_destroy(&condition_); }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  void WaitUntil(Mutex& mutex, int64_t until_ns) {
    const timespec until = ToTimespec(until_ns);
    pthread_cond_timedwait(&condition_, mutex.native(), &until);
  }
  void NotifyAll() { pthread_cond_broadcast(&condition_); }

 private:
  pthread_cond_t condition_;
};

}  // namespace

struct Sampler::Shared : std::enable_shared_from_this<Sampler::Shared> {
  using Main = void (Shared::*)(Worker&);

  Shared(std::vector<ChannelSpec> specs, const std::vector<TripwireSpec>& wires, SamplerOptions given);

  // Owner's thread.
  int Start();
  void Stop();

  // Threads.
  int Spawn(Main main, const std::shared_ptr<Worker>& worker, const char* name);
  void Finished(Worker& worker);

  // Supervisor.
  void Supervise(Worker&);
  int64_t Look(int64_t now_ns, bool late);
  void Replace(uint32_t domain_index);

  // Current worker.
  void Work(Worker& me);
  bool ReadGroup(Worker& me, Group& group);
  bool ReadChannel(Worker& me, uint32_t channel, int64_t* now_ns, Reading* reading);
  bool IsQuarantined(Domain& domain);
  bool Publish(uint32_t channel, const Reading& reading);
  void Cross(uint32_t tripwire, const Reading& reading);
  void Arm(int64_t next_ns, int64_t interval_ns);
  void WaitUntil(int64_t next_ns);
  void CloseFiles();

  // Constant after the constructor.
  const SamplerOptions options;
  const size_t channel_count;

  // Current worker's.
  std::vector<ChannelState> channels;
  std::vector<Domain> domains;
  std::vector<Group> groups;  // Ascending periods.
  std::vector<Tripwire> tripwires;
  int64_t start_ns = 0;
  uint64_t tick = 0;
  int64_t armed_ns = 0;  // When the timer will go off next; 0 unknown.

  const std::shared_ptr<SampleMemory> memory;
  LatestSlot* const latest;  // In `memory`, as what the ring's two ends refer to.
  RingWriter writer;
  RingReader reader;
  UniqueFd timer;
  std::atomic<bool> stopping{false};

  Mutex crossing_mutex;  // Held while on_crossing runs, so that Stop() can tell that none runs any more.

  Mutex mutex;
  Condition changed;
  bool started = false;          // Owner's thread.
  bool realtime_refused = false; // Guarded by mutex.
  int live = 0;                  // Guarded by mutex: threads that are not abandoned.
  std::shared_ptr<Worker> current;  // Supervisor's; Start() sets the first one before the supervisor exists.
  bool need_worker = false;         // Supervisor's: the last attempt to make a thread failed.
};

Sampler::Shared::Shared(std::vector<ChannelSpec> specs, const std::vector<TripwireSpec>& wires, SamplerOptions given)
    : options(std::move(given)),
      channel_count(specs.size()),
      channels(specs.size()),
      memory(options.memory ? options.memory : MakeOwnMemory(specs.size(), options.ring_records)),
      latest(memory->latest),
      writer(memory->ring),
      reader({memory->ring.slots, memory->ring.capacity, memory->ring.head}, RingReader::From::kOldest) {
  if (memory->channels != specs.size()) ProgrammersError("memory for another number of channels");
  std::map<std::string, uint32_t> names;
  for (const ChannelSpec& spec : specs) names.try_emplace(spec.domain, static_cast<uint32_t>(names.size()));
  domains = std::vector<Domain>(names.size());
  std::map<int64_t, Group> by_period;
  for (uint32_t i = 0; i < specs.size(); ++i) {
    const ChannelSpec& spec = specs[i];
    ChannelState& channel = channels[i];
    channel.domain = names[spec.domain];
    channel.probe = spec.probe_object ? spec.probe_object : domains[channel.domain].factory.Make(spec.probe);
    const int64_t period_ns = std::clamp(spec.period_ns, kMinPeriodNs, kMaxPeriodNs);
    latest[i].set_stale_after_ns(2 * period_ns + std::max(options.read_deadline_ns, kMinDeadlineNs));
    Group& group = by_period[period_ns];
    group.period_ns = period_ns;
    group.channels.push_back(i);
  }
  for (auto& entry : by_period) {
    std::vector<uint32_t>& members = entry.second.channels;
    std::stable_sort(members.begin(), members.end(),
                     [this](uint32_t a, uint32_t b) { return channels[a].domain < channels[b].domain; });
    groups.push_back(std::move(entry.second));
  }
  for (uint32_t i = 0; i < wires.size(); ++i) {
    if (wires[i].channel >= specs.size()) ProgrammersError("a tripwire on a channel that does not exist");
    channels[wires[i].channel].tripwires.push_back(i);
    tripwires.emplace_back(wires[i]);
  }
}

// ---- Owner's thread -------------------------------------------------------------------------------------------------

int Sampler::Shared::Start() {
  if (started) return EALREADY;
  started = true;
  timer.Reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  if (!timer.valid()) return errno;
  start_ns = MonotonicNs();
  for (Group& group : groups) group.next_ns = start_ns;
  current = std::make_shared<Worker>();
  Locked lock(mutex);
  const int error = Spawn(&Shared::Work, current, "skos-sampler");
  return error != 0 ? error : Spawn(&Shared::Supervise, std::make_shared<Worker>(), "skos-supervise");
}

void Sampler::Shared::Stop() {
  {
    Locked lock(crossing_mutex);
    stopping.store(true);
  }
  if (timer.valid()) {
    // Expires at once. A worker that arms the timer after this looks at `stopping` before it sleeps.
    itimerspec now = {};
    now.it_value.tv_nsec = 1;
    timerfd_settime(timer.get(), TFD_TIMER_ABSTIME, &now, nullptr);
  }
  const int64_t until_ns = MonotonicNs() + kStopGraceNs;
  Locked lock(mutex);
  changed.NotifyAll();
  while (live > 0 && MonotonicNs() < until_ns) changed.WaitUntil(mutex, until_ns);
}

// ---- Threads --------------------------------------------------------------------------------------------------------

namespace {

int CreateDetached(const SamplerOptions& options, int priority, void* (*main)(void*), void* argument) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const long minimum = sysconf(_SC_THREAD_STACK_MIN);
  const size_t floor_bytes = minimum > 0 ? static_cast<size_t>(minimum) : 64 * 1024;
  pthread_attr_setstacksize(&attributes, std::max(options.stack_bytes, floor_bytes));
  if (priority > 0) {
    sched_param parameters = {};
    parameters.sched_priority = priority;
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_RR);
    pthread_attr_setschedparam(&attributes, &parameters);
  }
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, main, argument);
  pthread_attr_destroy(&attributes);
  return error;
}

}  // namespace

// With `mutex` held.
int Sampler::Shared::Spawn(Main main, const std::shared_ptr<Worker>& worker, const char* name) {
  struct Argument {
    std::shared_ptr<Shared> shared;
    std::shared_ptr<Worker> worker;
    Main main;
    const char* name;
  };
  auto thread_main = [](void* raw) -> void* {
    std::unique_ptr<Argument> argument(static_cast<Argument*>(raw));
    pthread_setname_np(pthread_self(), argument->name);
    (argument->shared.get()->*argument->main)(*argument->worker);
    argument->shared->Finished(*argument->worker);
    return nullptr;
  };
  auto argument = std::make_unique<Argument>(Argument{shared_from_this(), worker, main, name});
  // Signals are for the program's own threads: all are blocked in ours.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int priority = realtime_refused ? 0 : options.realtime_priority;
  int error = CreateDetached(options, priority, thread_main, argument.get());
  if (error == EPERM && priority > 0) {
    realtime_refused = true;
    error = CreateDetached(options, 0, thread_main, argument.get());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return error;
  argument.release();  // The thread's now.
  ++live;
  return 0;
}

// The last thing that a thread does. One that was given up is counted no more already.
void Sampler::Shared::Finished(Worker& worker) {
  Locked lock(mutex);
  if (worker.busy_since.load(std::memory_order_relaxed) != kAbandoned) --live;
  changed.NotifyAll();
}

// ---- Supervisor -----------------------------------------------------------------------------------------------------

void Sampler::Shared::Supervise(Worker&) {
  const int64_t deadline_ns = std::max(options.read_deadline_ns, kMinDeadlineNs);
  Locked lock(mutex);
  int64_t wake_ns = MonotonicNs() + deadline_ns;
  while (!stopping.load()) {
    changed.WaitUntil(mutex, wake_ns);
    const int64_t now_ns = MonotonicNs();
    if (now_ns < wake_ns) continue;
    // This thread itself came late: the process was stopped, or starved. The reads then deserve a moment too.
    const bool late = now_ns - wake_ns > deadline_ns / 2;
    wake_ns = stopping.load() ? now_ns : Look(now_ns, late);
  }
}

// Returns when to look again. A read that begins right after this is looked at exactly when its deadline has passed.
int64_t Sampler::Shared::Look(int64_t now_ns, bool late) {
  const int64_t deadline_ns = std::max(options.read_deadline_ns, kMinDeadlineNs);
  if (need_worker) {
    need_worker = Spawn(&Shared::Work, current, "skos-sampler") != 0;
    return now_ns + (need_worker ? kSpawnRetryNs : deadline_ns);
  }
  int64_t since_ns = current->busy_since.load(std::memory_order_acquire);
  if (since_ns == 0) return now_ns + deadline_ns;
  if (now_ns - since_ns < deadline_ns) return since_ns + deadline_ns;
  if (late) return now_ns + deadline_ns / 4;
  const uint32_t domain = current->domain.load(std::memory_order_relaxed);
  if (current->busy_since.compare_exchange_strong(since_ns, kAbandoned, std::memory_order_acq_rel)) Replace(domain);
  return now_ns + (need_worker ? kSpawnRetryNs : deadline_ns);
}

// The stuck thread keeps its domain; a fresh one goes on where it stood.
void Sampler::Shared::Replace(uint32_t domain_index) {
  --live;
  domains[domain_index].hung = true;
  armed_ns = 0;
  current = std::make_shared<Worker>();
  need_worker = Spawn(&Shared::Work, current, "skos-sampler") != 0;
}

// ---- Current worker -------------------------------------------------------------------------------------------------

void Sampler::Shared::Work(Worker& me) {
  while (!stopping.load(std::memory_order_relaxed)) {
    ++tick;
    const int64_t now_ns = MonotonicNs();
    int64_t next_ns = INT64_MAX;
    for (Group& group : groups) {
      const bool begun = group.cursor > 0;
      if ((begun || group.next_ns <= now_ns) && !ReadGroup(me, group)) break;
      next_ns = std::min(next_ns, group.next_ns);
    }
    if (me.busy_since.load(std::memory_order_relaxed) == kAbandoned) return;
    WaitUntil(next_ns);
  }
  CloseFiles();
}

// Here and not in the destructor, because close() may block too, and the destructor may run in the owner's thread.
void Sampler::Shared::CloseFiles() {
  for (ChannelState& channel : channels) {
    if (!IsQuarantined(domains[channel.domain])) channel.probe.reset();
  }
}

// False when this thread is not to go on: it was given up, or the sampler stops.
bool Sampler::Shared::ReadGroup(Worker& me, Group& group) {
  int64_t now_ns = MonotonicNs();
  for (; group.cursor < group.channels.size(); ++group.cursor) {
    const uint32_t channel = group.channels[group.cursor];
    Reading reading;
    if (!ReadChannel(me, channel, &now_ns, &reading)) return false;
    if (stopping.load(std::memory_order_relaxed)) return false;
    // A crossing's callback takes time that must not count as the next read's.
    if (Publish(channel, reading)) now_ns = MonotonicNs();
  }
  group.cursor = 0;
  group.next_ns += group.period_ns;
  if (group.next_ns <= now_ns) {
    // Missed periods (a hang, a suspended machine) are skipped, never made up for in a burst.
    group.next_ns += ((now_ns - group.next_ns) / group.period_ns + 1) * group.period_ns;
  }
  return true;
}

bool Sampler::Shared::ReadChannel(Worker& me, uint32_t channel, int64_t* now_ns, Reading* reading) {
  ChannelState& state = channels[channel];
  Domain& domain = domains[state.domain];
  if (IsQuarantined(domain)) {
    *reading = {0, *now_ns, Quality::kHung};
    return true;
  }
  if (domain.last_tick != tick) {
    domain.last_tick = tick;
    domain.factory.BeginTick();
  }
  me.domain.store(state.domain, std::memory_order_relaxed);
  me.busy_since.store(*now_ns, std::memory_order_release);
  *reading = state.probe->Read(*now_ns);
  int64_t expected = *now_ns;
  if (!me.busy_since.compare_exchange_strong(expected, 0, std::memory_order_acq_rel)) {
    domain.returned.store(true, std::memory_order_release);
    return false;
  }
  if (reading->time_ns < *now_ns) reading->time_ns = MonotonicNs();
  *now_ns = reading->time_ns;
  return true;
}

bool Sampler::Shared::IsQuarantined(Domain& domain) {
  if (!domain.hung) return false;
  if (!domain.returned.load(std::memory_order_acquire)) return true;
  domain.returned.store(false, std::memory_order_relaxed);
  domain.hung = false;
  return false;
}

// True when it crossed a tripwire. The data are there before anyone is told.
bool Sampler::Shared::Publish(uint32_t channel, const Reading& reading) {
  latest[channel].Store(reading);
  writer.Push(channel, reading);
  bool crossed = false;
  for (const uint32_t index : channels[channel].tripwires) {
    if (!tripwires[index].Update(reading)) continue;
    crossed = true;
    Cross(index, reading);
  }
  return crossed;
}

void Sampler::Shared::Cross(uint32_t tripwire, const Reading& reading) {
  if (!options.on_crossing) return;
  Locked lock(crossing_mutex);
  if (stopping.load()) return;
  options.on_crossing({tripwire, tripwires[tripwire].channel(), tripwires[tripwire].raised(), reading});
}

void Sampler::Shared::Arm(int64_t next_ns, int64_t interval_ns) {
  itimerspec when = {};
  when.it_value = ToTimespec(next_ns);
  when.it_interval = ToTimespec(interval_ns);
  timerfd_settime(timer.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

// The timer repeats with the shortest period, so that in the steady state a wake-up is one system call.
void Sampler::Shared::WaitUntil(int64_t next_ns) {
  const int64_t interval_ns = groups.empty() ? kMaxPeriodNs : groups.front().period_ns;
  if (groups.empty()) next_ns = MonotonicNs() + interval_ns;
  if (next_ns != armed_ns) Arm(next_ns, interval_ns);
  if (stopping.load()) return;
  uint64_t expirations = 0;
  const ssize_t n = read(timer.get(), &expirations, sizeof expirations);
  armed_ns = n == sizeof expirations ? next_ns + static_cast<int64_t>(expirations) * interval_ns : 0;
}

// ---- The handle -----------------------------------------------------------------------------------------------------

Sampler::Sampler(std::vector<ChannelSpec> channels, std::vector<TripwireSpec> tripwires, SamplerOptions options)
    : shared_(std::make_shared<Shared>(std::move(channels), tripwires, std::move(options))) {}

Sampler::~Sampler() { Stop(); }

int Sampler::Start() {
  const int error = shared_->Start();
  if (error != 0 && error != EALREADY) Stop();
  return error;
}

void Sampler::Stop() { shared_->Stop(); }

bool Sampler::realtime_refused() const {
  Locked lock(shared_->mutex);
  return shared_->realtime_refused;
}

size_t Sampler::channel_count() const { return shared_->channel_count; }

void Sampler::Latest(Reading* out) const {
  const int64_t now_ns = MonotonicNs();
  for (size_t i = 0; i < shared_->channel_count; ++i) {
    const LatestSlot& slot = shared_->latest[i];
    out[i] = OrStale(slot.Load(), now_ns, slot.stale_after_ns());
  }
}

size_t Sampler::Drain(Record* out, size_t max) { return shared_->reader.Drain(out, max); }

uint64_t Sampler::overruns() const { return shared_->reader.overruns(); }

}  // namespace skos
