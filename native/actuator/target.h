// A target: one knob that leases and standing orders want capped, and what stands in the device because of them. And
// the worker: one thread per kind, the only one that touches its devices, so that a device that hangs delays no other kind
// and never the main thread or the sampler.
//
// Level-triggered: whoever changes what is wanted stores it in an atomic and pokes the worker, which compares what is wanted
// with what stands and writes the difference. A lost or doubled poke does no harm, and the strictest wish wins by construction.
#ifndef SKOS_ACTUATOR_TARGET_H_
#define SKOS_ACTUATOR_TARGET_H_

#include <pthread.h>
#include <semaphore.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "actuator/allow_list.h"
#include "actuator/device.h"
#include "actuator/state_file.h"

namespace skos::actuator {

constexpr int64_t kNoCap = INT64_MAX;
constexpr int64_t kRetryNs = 1'000'000'000;    // EBUSY and the like: an offline CPU comes back with its cap within this.
constexpr int64_t kMaxRetryNs = 30'000'000'000;  // Where each look starts a process: twice as long each time, up to this.
constexpr int64_t kHungNs = 2'000'000'000;     // A write that takes longer counts as hung; an EC may take half a second.
constexpr int64_t kUnitHungNs = 12'000'000'000;  // skos-units gives a systemctl ten seconds, and systemd may be busy.

// A setter that cannot be had in advance is asked for so much later each time: initialising NVIDIA's library is work for a node.
constexpr int64_t kMaxWarmUpRetryNs = 60'000'000'000;

constexpr int64_t kSettleNs = 200'000'000;     // A work item of a very busy kernel has run by then.
constexpr int64_t kSettleLookNs = 1'000'000;   // It mostly has run after a tenth of this.

// What an order wants of the setter of its GPU, by what skos-gpu says of that.
enum class GpuStance : uint8_t {
  kIdle,  // Nothing in advance.
  kWarm,  // It is served: a setter is to be ready.
  kAway,  // It is let go of (detached, wants a reset, gone): nothing of ours may open it, or hold it open.
};

// A standing order's verdict. Shared by the sampler thread (writes) and the workers (read).
struct OrderState {
  OrderSpec spec;
  std::string path;  // Of the sensor, as resolved when the order was started; of a GPU "". Main thread.
  std::atomic<bool> raised{false};
  // The latest reading is ok and below `clear`, or its GPU is exempt: what an orphaned lease waits for. Kept by the main thread.
  std::atomic<bool> below_clear{false};
  std::atomic<int64_t> crossed_ns{0};  // When the reading of the last crossing was taken: for the latency in the log.
  // Of a GPU; written by the watch.
  std::atomic<GpuStance> stance{GpuStance::kIdle};
  std::atomic<uint64_t> served{0};  // How often its GPU began to be served: with each, its driver may be another one.
  // Whether the sensor was read in this boot and not detached since; kept over restarts. nullptr: nobody keeps it.
  std::atomic<uint32_t>* was_read = nullptr;
};

enum class Outcome : uint8_t { kIdle, kApplied, kReleased, kPending, kUndoPending, kForeignChange, kFailed, kHung, kNotPermitted };
const char* OutcomeWord(Outcome outcome);

struct Result {
  Outcome outcome = Outcome::kIdle;
  Raw former, written, read_back;
  bool known = false;  // The values are of this boot: somebody has read the device.
};

class Target {
 public:
  Target(const TargetSpec& spec, const Roots& roots, StateFile* state, TargetRecord* record);
  ~Target();

  const TargetSpec& spec() const { return spec_; }
  // Main thread. Whether this is the same knob; the floor is no part of it and may change.
  bool IsFor(const TargetSpec& spec) const {
    return spec.id == spec_.id && spec.kind == spec_.kind && spec.path == spec_.path;
  }
  int64_t floor_ppm() const { return floor_ppm_; }
  void set_floor_ppm(int64_t floor_ppm) { floor_ppm_ = floor_ppm; }

  // Main thread. The strictest lease, or kNoCap. Returns a generation: once done() has reached it, the wish was acted upon.
  uint64_t Want(int64_t lease_cap_ppm);
  uint64_t done() const { return done_.load(); }
  // Main thread. The orders that name this target; replaced as a whole when the allow-list is read again. With `stands_for` they cap it
  // only where that one, the power limit of the same GPU, takes no cap.
  void SetOrders(std::vector<std::shared_ptr<OrderState>> orders, std::shared_ptr<const Target> stands_for = nullptr);
  // Main thread. No longer allowed: undone, then dropped by the worker.
  void Retire() { retired_.store(true); }
  bool retired() const { return retired_.load(); }

  // Any thread. What is answered while no look has come to an end: hung, or that systemd takes its time.
  Outcome Unanswered() const;
  // Any thread. What came of the last look. kHung when the worker is stuck in this device.
  Result Current() const;
  bool held() const { return held_.load(); }
  // Any thread. The device refused what we asked of it as such, and took nothing since.
  bool refuses() const { return refuses_.load(); }
  // Main thread. It may have been permitted meanwhile.
  void ForgetRefusal() { refuses_.store(false); }
  // Main thread. Nothing of ours stands in the device, and no earlier wish is under way that would put it there: a setter that is made
  // ready in advance writes nothing, and what is wanted is looked at again behind it.
  bool AtRest() const { return (done_.load() == asked_.load() || warming_since_ns_.load() != 0) && !held_.load(); }
  // Any thread. What moves it has ended by itself: its worker is to see to that.
  bool IsLost() const { return device_.IsLost(); }
  // Main thread. Every order that names this target is below its clear bound.
  bool OrdersClear() const;

  // Worker thread. Brings the device to what is wanted; returns when to look again (kNoCap: when poked).
  int64_t Work(int64_t now_ns);

 private:
  int64_t Wanted(int64_t* crossed_ns) const;
  int64_t Strictest(int64_t* crossed_ns) const;
  GpuStance Stance(uint64_t* served) const;
  bool StandsIn() const;
  int64_t WarmUp(int64_t now_ns);
  void Refuse();
  void Cap(int64_t cap_ppm, int64_t crossed_ns);
  void Judge(const Raw& read_back, const Raw& asked, int64_t crossed_ns);
  void Undo();
  int Write(const Raw& value);
  bool Shows(const Raw& current, const Raw& asked);
  bool IsOurs(const Raw& current) const;
  bool IsCutOff(const Raw& asked) const;
  int CaptureFormer();
  void Finish(Outcome outcome, int error, int64_t crossed_ns);

  const TargetSpec spec_;
  const Device device_;
  int64_t floor_ppm_;  // Main thread.
  StateFile* const state_;
  TargetRecord* const record_;  // Worker thread, except `held` at construction.

  std::atomic<int64_t> lease_cap_ppm_{kNoCap};
  std::atomic<uint64_t> asked_{0};
  std::atomic<uint64_t> done_{0};
  std::atomic<bool> held_{false};
  std::atomic<bool> retired_{false};
  std::atomic<bool> refuses_{false};
  std::atomic<bool> stands_aside_{false};  // As refuses_, but an allow-list that is read again changes nothing: a cap may stand instead.
  std::atomic<bool> capped_{false};        // The last outcome is kApplied.
  std::atomic<int64_t> busy_since_ns_{0};  // Worker is in a call into the device since then; 0: it is not.
  std::atomic<int64_t> warming_since_ns_{0};  // The same, in advance.

  int64_t applied_cap_ppm_ = kNoCap;  // Worker thread: what `written` came from.
  int64_t retry_at_ns_ = kNoCap;      // Worker thread.
  int64_t retry_ns_ = kRetryNs;       // Worker thread. How long the next one waits.
  int64_t warm_at_ns_ = 0;            // Worker thread. Not before then again, and what the next one waits.
  int64_t warm_retry_ns_ = kRetryNs;
  bool look_again_ = false;           // Worker thread. Who stands in for it is to be looked at now.
  uint64_t served_ = 0;               // Worker thread. As of the last look.
  bool may_be_lost_ = false;          // Worker thread. What was written; until it is written again.
  // Worker thread. Not 0: what was written need not show before then; what stood before it, and whether it was an undo.
  int64_t settle_by_ns_ = 0;
  Raw before_;
  bool undoing_ = false;

  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<OrderState>> orders_;  // GUARDED_BY(mutex_)
  std::shared_ptr<const Target> stands_for_;         // GUARDED_BY(mutex_)
  Result result_;                                    // GUARDED_BY(mutex_)
};

class Worker {
 public:
  // `done_fd`: an eventfd that is written after each round with work, for the main thread.
  explicit Worker(int done_fd);
  // 0 or an errno. Main thread. The thread is never joined: it may be stuck in a driver when the process leaves.
  int Start(size_t stack_bytes, int realtime_priority);
  // Main thread.
  void Add(std::shared_ptr<Target> target);
  // Any thread, never blocks.
  void Poke();

 private:
  static void* Main(void* self);
  void Run();

  const int done_fd_;
  sem_t poked_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Target>> targets_;  // GUARDED_BY(mutex_); removed by the worker alone.
};

// A thread with a small stack and SCHED_RR (where the kernel allows it; else as inherited). 0 or an errno.
int StartThread(size_t stack_bytes, int realtime_priority, void* (*main)(void*), void* argument);

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_TARGET_H_
