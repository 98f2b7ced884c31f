// The sensors of standing orders on GPUs: readings that skos-gpu puts into shared memory, and what it says of each GPU.
//
// A thread of its own connects to skos-gpu as any client, maps the latest readings of each GPU and looks at them at the order's
// rate. It calls no driver and waits for nobody: a GPU whose driver hangs shows in its region as that. Each reading counts once,
// however often it is looked at. While one is at or above its clear bound the next look comes just behind the next reading, so that
// the cap waits for the reading and not for the look.
//
// What counts as hot, beside a reading above `raise`, is said in README.md ("Orders on GPUs").
#ifndef SKOS_ACTUATOR_GPU_WATCH_H_
#define SKOS_ACTUATOR_GPU_WATCH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actuator/target.h"
#include "gpu/protocol.h"
#include "probes/files.h"
#include "sampler/region.h"
#include "sampler/tripwire.h"

namespace skos::actuator {

// As long as a restart of skos-gpu takes, with drivers that are slow to open. Who was read and is served by nobody for longer is hot.
constexpr int64_t kUnservedNs = 30'000'000'000;

class GpuWatch {
 public:
  // In the watch's thread, with its lock held. Must not block.
  using OnCrossing = std::function<void(OrderState& order, bool raised, const Reading& reading)>;

  struct Latest {
    Reading reading;
    bool exempt = false;  // Nothing is held because of it: detached, asleep, or never read and for long enough.
  };

  // `socket_path`: of skos-gpu; "": there is none. `on_stance`: what an order wants of its GPU's setter is another thing than before; as
  // OnCrossing.
  GpuWatch(std::string socket_path, OnCrossing on_crossing, int64_t unserved_ns = kUnservedNs,
           std::function<void()> on_stance = [] {});

  // Main thread. Replaces the orders; after it returned nobody is told of the former ones. 0, or why there is no thread.
  int Set(std::vector<std::shared_ptr<OrderState>> orders, size_t stack_bytes, int realtime_priority);
  // Main thread. In the order of Set().
  std::vector<Latest> Readings(int64_t now_ns);

 private:
  // What is known of one GPU. Kept over connections and reloads.
  struct Gpu {
    std::string address;
    bool detached = false;
    GpuStance stance = GpuStance::kIdle;
    uint64_t served = 0;  // How often it began to be served.
    std::unique_ptr<LatestReader> reader;
    std::vector<std::string> names;  // Of its channels.
    int runtime_state = -1;          // That channel, or none.
  };

  struct Watched {
    std::shared_ptr<OrderState> order;
    std::optional<Tripwire> wire;
    int64_t period_ns = 0;
    int64_t next_ns = 0;
    int64_t counted_ns = 0;       // When a loss was counted last.
    int64_t since_ns = 0;         // Of the order.
    int64_t unserved_ns = 0;      // Not 0: since when nobody serves it.
    bool known = false;           // It was read in this boot, or since it was attached again.
    bool detached = false;
    bool asleep = false;
    Reading latest;
  };

  static void* Main(void* self);
  // The thread; all with mutex_ held but for the wait.
  void Run();
  void Connect(int64_t now_ns);
  void Disconnect(int64_t now_ns);
  void Receive(int64_t now_ns);
  void Take(std::string_view packet, UniqueFd* passed);
  void Look(Watched* watched, int64_t now_ns);
  bool ReadOf(Watched* watched, int64_t now_ns, bool* fresh);
  void Update(Watched* watched);
  void Excuse(Watched* watched);
  static void SetKnown(Watched* watched, bool known);
  void Schedule(Watched* watched, bool fresh, int64_t now_ns);
  Gpu* Find(std::string_view address);

  const std::string socket_path_;
  const OnCrossing on_crossing_;
  const int64_t unserved_ns_;
  const std::function<void()> on_stance_;
  UniqueFd wake_;
  bool started_ = false;  // Main thread.
  std::mutex mutex_;
  // All GUARDED_BY(mutex_).
  std::vector<Gpu> gpus_;
  std::vector<Watched> watched_;
  UniqueFd socket_;
  int64_t connect_ns_ = 0;    // When to try again.
  int64_t back_off_ns_ = 0;
  int64_t look_away_ns_ = 0;  // From the socket, until then.
  char packet_[gpu::kMaxPacketBytes] = {};
};

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_GPU_WATCH_H_
