#include "actuator/target.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <ctime>

namespace skos::actuator {
namespace {

// The device is away for the moment, not unwilling: an offline CPU (EBUSY), one that is being plugged (ENOENT, ENODEV), a
// suspended device (EAGAIN).
bool IsAway(int error) {
  return error == EBUSY || error == ENOENT || error == ENODEV || error == ENXIO || error == EAGAIN;
}

}  // namespace

const char* OutcomeWord(Outcome outcome) {
  switch (outcome) {
    case Outcome::kIdle:
      return "idle";
    case Outcome::kApplied:
      return "applied";
    case Outcome::kReleased:
      return "released";
    case Outcome::kPending:
      return "pending";
    case Outcome::kUndoPending:
      return "undo_pending";
    case Outcome::kForeignChange:
      return "foreign_change";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kHung:
      return "hung";
    case Outcome::kNotPermitted:
      return "not_permitted";
  }
  return "unknown";
}

Target::Target(const TargetSpec& spec, const Roots& roots, StateFile* state, TargetRecord* record)
    : spec_(spec), device_(spec_, roots), floor_ppm_(spec.floor_ppm), state_(state), record_(record) {
  // Adopted from an earlier actuator of this boot: something of ours may stand in the device.
  held_.store(record_->held != 0);
  if (record_->held != 0) device_.Assume(record_->written);
  if (record_->held != 0) result_ = {Outcome::kApplied, record_->former, record_->written, record_->read_back, true};
}

Target::~Target() {
  if (record_->held == 0) record_->id[0] = '\0';
}

uint64_t Target::Want(int64_t lease_cap_ppm) {
  lease_cap_ppm_.store(lease_cap_ppm);
  return asked_.fetch_add(1) + 1;
}

void Target::SetOrders(std::vector<std::shared_ptr<OrderState>> orders, std::shared_ptr<const Target> stands_for) {
  const std::lock_guard<std::mutex> lock(mutex_);
  orders_ = std::move(orders);
  stands_for_ = std::move(stands_for);
}

Result Target::Current() const {
  const int64_t busy_since = busy_since_ns_.load();
  const std::lock_guard<std::mutex> lock(mutex_);
  Result result = result_;
  const int64_t hung_ns = IsUnitKind(spec_.kind) ? kUnitHungNs : kHungNs;
  // Made ready in advance, which may take the seconds that a driver takes: nobody waits for it, unless something is wanted.
  const int64_t warming_since = warming_since_ns_.load();
  const bool awaited = warming_since != 0 && Strictest(nullptr) != kNoCap;
  if (awaited && NowNs() - warming_since > hung_ns) result.outcome = Outcome::kHung;
  if (busy_since != 0 && NowNs() - busy_since > hung_ns) result.outcome = Outcome::kHung;
  return result;
}

Outcome Target::Unanswered() const {
  if (!IsUnitKind(spec_.kind)) return Outcome::kHung;
  return lease_cap_ppm_.load() == kNoCap ? Outcome::kUndoPending : Outcome::kPending;
}

bool Target::OrdersClear() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& order : orders_) {
    if (order->raised.load() || !order->below_clear.load()) return false;
  }
  return true;
}

int64_t Target::Wanted(int64_t* crossed_ns) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return Strictest(crossed_ns);
}

// Orders cap this target in the place of another one while that takes no cap. Once it holds, it does until the other one does: who was
// refused before a restart has not been asked since.
bool Target::StandsIn() const {
  return stands_for_->stands_aside_.load() || (held_.load() && !stands_for_->capped_.load());
}

// With mutex_ held.
int64_t Target::Strictest(int64_t* crossed_ns) const {
  int64_t wanted = lease_cap_ppm_.load();
  if (stands_for_ != nullptr && !StandsIn()) return wanted;
  for (const auto& order : orders_) {
    if (!order->raised.load() || order->spec.cap_ppm >= wanted) continue;
    wanted = order->spec.cap_ppm;
    if (crossed_ns != nullptr) *crossed_ns = order->crossed_ns.load();
  }
  return wanted;
}

// Orders that name it watch its GPU, or what is cooled with it.
GpuStance Target::Stance(uint64_t* served) const {
  *served = 0;
  if (!IsGpu(spec_.kind)) return GpuStance::kIdle;
  const std::lock_guard<std::mutex> lock(mutex_);
  GpuStance stance = GpuStance::kIdle;
  for (const auto& order : orders_) {
    if (order->spec.gpu != spec_.path) continue;
    *served = std::max(*served, order->served.load());
    stance = std::max(stance, order->stance.load());
  }
  const bool is_second = stands_for_ != nullptr && !StandsIn();
  return stance == GpuStance::kWarm && is_second ? GpuStance::kIdle : stance;
}

// The setter is there before it is needed. What comes of it is nobody's outcome: the cap itself will tell.
int64_t Target::WarmUp(int64_t now_ns) {
  if (device_.IsWarm()) return kNoCap;
  if (now_ns < warm_at_ns_) return warm_at_ns_;
  warming_since_ns_.store(now_ns);
  const int error = device_.WarmUp();
  warm_retry_ns_ = error == 0 ? kRetryNs : std::min(2 * warm_retry_ns_, kMaxWarmUpRetryNs);
  warm_at_ns_ = NowNs() + warm_retry_ns_;
  if (device_.IsRefusal(error)) Refuse();
  warming_since_ns_.store(0);
  return error == 0 ? kNoCap : warm_at_ns_;
}

void Target::Refuse() {
  refuses_.store(true);
  look_again_ = look_again_ || !stands_aside_.exchange(true);
}

int64_t Target::Work(int64_t now_ns) {
  const uint64_t asked = asked_.load();
  // Known before it is needed: a standing order's first cap then costs no look at the cooling devices.
  if (record_->known == 0 && record_->held == 0 && !device_.IsCostly()) {
    busy_since_ns_.store(now_ns);  // A device that hangs in the first look is hung, not idle.
    CaptureFormer();
    busy_since_ns_.store(0);
  }
  uint64_t served = 0;
  const GpuStance stance = Stance(&served);
  // A GPU that was reset, or whose driver was loaded anew, has lost its cap, and an order that stands raised does not ask again.
  const bool begins = stance == GpuStance::kWarm && served != served_;
  if (begins) {
    served_ = served;
    may_be_lost_ = held_.load();
  }
  device_.SetMayOpen(stance != GpuStance::kAway);
  if (device_.IsLost()) device_.Rest();
  int64_t crossed_ns = 0;
  const int64_t wanted = Wanted(&crossed_ns);
  // A fresh request looks again even where nothing changed: who asks again may know that the device lost the value.
  const bool fresh = asked != done_.load();
  const bool differs = wanted != applied_cap_ppm_ || (wanted == kNoCap && held_.load());
  if (differs || fresh || begins || now_ns >= retry_at_ns_) {
    retry_at_ns_ = kNoCap;
    busy_since_ns_.store(now_ns);
    if (wanted != kNoCap) {
      Cap(wanted, crossed_ns);
    } else if (held_.load()) {
      Undo();
    } else if (applied_cap_ppm_ != kNoCap) {
      applied_cap_ppm_ = kNoCap;  // It never got as far as a write.
      Finish(Outcome::kReleased, 0, 0);
    }
    busy_since_ns_.store(0);
    if (settle_by_ns_ == 0) done_.store(asked);
  }
  if (look_again_) {
    look_again_ = false;
    return now_ns;
  }
  if (stance == GpuStance::kAway) {
    device_.Rest();
    return kNoCap;  // Whoever brings it back pokes.
  }
  if (wanted != kNoCap || held_.load() || !IsGpu(spec_.kind)) return retry_at_ns_;
  if (stance == GpuStance::kWarm) return std::min(retry_at_ns_, WarmUp(now_ns));
  device_.Rest();
  return retry_at_ns_;
}

// The value to which an undo returns. Read at the start of each episode, so that what the operator set since is kept; but
// scaling_max_freq shows the *effective* limit, so while the kernel's own cooling is at work it says nothing about the
// operator's: then the last known value of this boot stands in, else the device's documented default.
int Target::CaptureFormer() {
  Raw current;
  if (const int error = device_.Read(&current)) return error;
  if (!(record_->known != 0 && current == record_->former) && !device_.KernelCoolingActive()) {
    record_->former = current;
    record_->known = 1;
  }
  if (record_->known == 0) {
    if (const int error = device_.Default(&record_->former)) return error;
    record_->known = 1;
  }
  record_->read_back = record_->former;  // What was read in an earlier episode is not ours in this one.
  return 0;
}

void Target::Cap(int64_t cap_ppm, int64_t crossed_ns) {
  applied_cap_ppm_ = cap_ppm;
  if (record_->held == 0) {
    if (const int error = CaptureFormer()) return Finish(IsAway(error) ? Outcome::kPending : Outcome::kFailed, error, crossed_ns);
  }
  const Raw asked = device_.Capped(record_->former, cap_ppm);
  Raw current;
  const bool may_stand = !may_be_lost_ || device_.TellsWhatStands();
  if (may_stand && record_->held != 0 && !undoing_ && asked == record_->written && device_.Read(&current) == 0) {
    const bool settling = settle_by_ns_ != 0;
    if (!Shows(current, asked)) return;
    // Asked again, and it stands; or the write has had its time.
    if (settling || (device_.AtLeastAsStrict(current, asked) && IsOurs(current))) return Judge(current, asked, crossed_ns);
    // Stricter by somebody else's hand: it serves, and must not be taken for ours when the lease ends.
    if (device_.AtLeastAsStrict(current, asked)) return Finish(Outcome::kApplied, 0, crossed_ns);
  }
  record_->written = asked;
  record_->held = kUnproven;  // The intent stands before the write.
  held_.store(true);
  undoing_ = false;
  int error = Write(asked);
  if (error == 0) {
    may_be_lost_ = false;
    error = device_.Read(&current);
  } else if (!IsCutOff(asked)) {
    record_->held = kProven;
  }
  if (error != 0) {
    settle_by_ns_ = 0;
    return Finish(IsAway(error) ? Outcome::kPending : Outcome::kFailed, error, crossed_ns);
  }
  if (Shows(current, asked)) Judge(current, asked, crossed_ns);
}

// Whether a write that failed left its first step behind: then that is ours to take back.
bool Target::IsCutOff(const Raw& asked) const {
  if (!device_.IsHalfOf(asked, asked)) return false;
  Raw current;
  return device_.Read(&current) != 0 || (current != record_->read_back && device_.IsHalfOf(current, asked));
}

void Target::Judge(const Raw& read_back, const Raw& asked, int64_t crossed_ns) {
  record_->read_back = read_back;
  record_->held = kProven;
  Finish(device_.AtLeastAsStrict(read_back, asked) ? Outcome::kApplied : Outcome::kFailed, 0, crossed_ns);
}

int Target::Write(const Raw& value) {
  settle_by_ns_ = 0;
  if (device_.TakesLate()) {
    if (const int error = device_.Read(&before_)) return error;
    settle_by_ns_ = NowNs() + kSettleNs;
  }
  return device_.Write(value);
}

// False while what was written may still be on its way; it is then looked at again soon. A value that stays as it was may be
// right, too (the next step of a discrete knob is the same one), which only time can tell.
bool Target::Shows(const Raw& current, const Raw& asked) {
  if (settle_by_ns_ == 0) return true;
  const bool moved = current == asked || (!(current == before_) && device_.AtLeastAsStrict(current, asked));
  if (moved || NowNs() >= settle_by_ns_) {
    settle_by_ns_ = 0;
    return true;
  }
  retry_at_ns_ = NowNs() + kSettleLookNs;
  return false;
}

// Whether what stands in the device came of our write. A device that takes values late may have been read too early: then what is
// between the reading and the write is ours, too. Where the actuator was killed before it could read back, so is what is stricter
// than was written: the next step of a discrete knob.
bool Target::IsOurs(const Raw& current) const {
  const Raw& read_back = record_->read_back;
  const Raw& written = record_->written;
  if (current == read_back || current == written) return true;
  // Killed in the middle of a write that takes two steps.
  if (record_->held == kUnproven && device_.IsHalfOf(current, written) && !device_.IsHalfOf(record_->former, written)) return true;
  if (!device_.AtLeastAsStrict(current, written)) return false;
  if (!device_.TakesLate()) return record_->held == kUnproven;
  return !device_.AtLeastAsStrict(read_back, written) || !device_.AtLeastAsStrict(current, read_back);
}

void Target::Undo() {
  applied_cap_ppm_ = kNoCap;
  Raw current;
  int error = device_.Read(&current);
  if (device_.IsGone(error)) {
    record_->held = 0;
    held_.store(false);
    undoing_ = false;
    return Finish(Outcome::kReleased, error, 0);
  }
  if (error == 0 && !(undoing_ && settle_by_ns_ != 0)) {
    const bool back_already = current == record_->former;
    // The kernel's own cooling shows through as a value below ours; the operator's limit beneath it is still ours to give back.
    const bool ours = IsOurs(current) ||
                      (device_.AtLeastAsStrict(current, record_->written) && device_.KernelCoolingActive());
    if (!ours && !back_already) {
      record_->read_back = current;
      record_->held = 0;
      held_.store(false);
      return Finish(Outcome::kForeignChange, 0, 0);
    }
    // Written even where it seems to stand already, if our last cap may not show yet.
    if (!back_already || device_.TakesLate()) {
      undoing_ = true;
      error = Write(record_->former);
      if (error == 0) error = device_.Read(&current);
    }
  }
  if (error == 0 && !Shows(current, record_->former)) return;
  if (error == 0 && !(current == record_->former) && !device_.KernelCoolingActive()) error = EBUSY;
  undoing_ = false;
  settle_by_ns_ = 0;
  if (error != 0) return Finish(IsAway(error) ? Outcome::kUndoPending : Outcome::kFailed, error, 0);
  record_->read_back = current;
  record_->held = 0;
  held_.store(false);
  Finish(Outcome::kReleased, 0, 0);
}

// Publishes and records the outcome. A repetition of a retry is not recorded again, so that the log is not filled by one CPU
// that stays offline.
void Target::Finish(Outcome outcome, int error, int64_t crossed_ns) {
  if (outcome == Outcome::kFailed && device_.IsRefusal(error)) outcome = Outcome::kNotPermitted;
  if (outcome == Outcome::kNotPermitted) Refuse();
  if (outcome == Outcome::kApplied) {
    refuses_.store(false);
    look_again_ = stands_aside_.exchange(false) || look_again_;
  }
  capped_.store(outcome == Outcome::kApplied);
  const Result result = {outcome, record_->former, record_->written, record_->read_back, record_->known != 0};
  // A setter that may be needed again is kept: see Work().
  const bool is_over = record_->held == 0 && (outcome == Outcome::kReleased || outcome == Outcome::kForeignChange);
  if (is_over && !IsGpu(spec_.kind)) device_.Rest();
  bool repeated = false;
  bool again = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    repeated = result_.outcome == outcome && result_.written == result.written && result_.read_back == result.read_back;
    again = result_.outcome == outcome;
    result_ = result;
  }
  if (outcome == Outcome::kPending || outcome == Outcome::kUndoPending || outcome == Outcome::kFailed ||
      outcome == Outcome::kNotPermitted) {
    retry_ns_ = device_.IsPatient() && again ? std::min(2 * retry_ns_, kMaxRetryNs) : kRetryNs;
    retry_at_ns_ = NowNs() + retry_ns_;
  }
  if (repeated) return;
  char former[48];
  char read_back[48];
  FormatRaw(spec_.kind, result.former, former, sizeof former);
  FormatRaw(spec_.kind, result.read_back, read_back, sizeof read_back);
  if (crossed_ns != 0) {
    state_->Event(OutcomeWord(outcome), spec_.id.c_str(), "former=%s readback=%s errno=%d order_us=%" PRId64, former,
                  read_back, error, (NowNs() - crossed_ns) / 1000);
  } else {
    state_->Event(OutcomeWord(outcome), spec_.id.c_str(), "former=%s readback=%s errno=%d", former, read_back, error);
  }
}

Worker::Worker(int done_fd) : done_fd_(done_fd) { sem_init(&poked_, 0, 0); }

int Worker::Start(size_t stack_bytes, int realtime_priority) {
  return StartThread(stack_bytes, realtime_priority, &Worker::Main, this);
}

void Worker::Add(std::shared_ptr<Target> target) {
  const std::lock_guard<std::mutex> lock(mutex_);
  targets_.push_back(std::move(target));
}

void Worker::Poke() { sem_post(&poked_); }

void* Worker::Main(void* self) {
  static_cast<Worker*>(self)->Run();
  return nullptr;
}

void Worker::Run() {
  for (;;) {
    int64_t next_ns = kNoCap;
    for (size_t i = 0;; ++i) {
      std::shared_ptr<Target> target;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (i >= targets_.size()) break;
        target = targets_[i];
      }
      const int64_t again_ns = target->Work(NowNs());
      if (again_ns < next_ns) next_ns = again_ns;
      if (target->retired() && !target->held()) {
        const std::lock_guard<std::mutex> lock(mutex_);
        targets_.erase(targets_.begin() + static_cast<std::ptrdiff_t>(i));
        --i;
      }
    }
    const uint64_t one = 1;
    if (write(done_fd_, &one, sizeof one) < 0 && errno != EAGAIN) return;  // The process is leaving.
    if (next_ns == kNoCap) {
      while (sem_wait(&poked_) != 0) {
      }
    } else {
      const timespec until = {next_ns / 1'000'000'000, next_ns % 1'000'000'000};
      while (sem_clockwait(&poked_, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR) {
      }
    }
    // One round serves all pokes before it; a day's worth behind a hung device would be served at real-time priority.
    while (sem_trywait(&poked_) == 0) {
    }
  }
}

int StartThread(size_t stack_bytes, int realtime_priority, void* (*main)(void*), void* argument) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, stack_bytes);
  pthread_t thread;
  int error = EPERM;
  if (realtime_priority > 0) {
    sched_param parameters = {};
    parameters.sched_priority = realtime_priority;
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_RR);
    pthread_attr_setschedparam(&attributes, &parameters);
    error = pthread_create(&thread, &attributes, main, argument);
  }
  if (error == EPERM) {
    pthread_attr_setinheritsched(&attributes, PTHREAD_INHERIT_SCHED);
    error = pthread_create(&thread, &attributes, main, argument);
  }
  pthread_attr_destroy(&attributes);
  return error;
}

}  // namespace skos::actuator
