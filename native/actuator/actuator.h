// The actuator: leases and standing orders over the targets of the allow-list, and the requests of its one client.
// Everything here runs in the main thread, except OnCrossing.
#ifndef SKOS_ACTUATOR_ACTUATOR_H_
#define SKOS_ACTUATOR_ACTUATOR_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "actuator/allow_list.h"
#include "actuator/device.h"
#include "actuator/gpu_watch.h"
#include "actuator/jobs.h"
#include "actuator/power.h"
#include "actuator/state_file.h"
#include "actuator/target.h"
#include "sampler/sampler.h"

namespace skos::actuator {

constexpr size_t kMaxPacketBytes = 8192;
constexpr size_t kMaxWaiting = kMaxLeases;  // Requests that wait for a device.
constexpr int64_t kMinTtlMs = 1'000;
constexpr int64_t kMaxTtlMs = 600'000;

// Threads for GPUs, one each; on a node with more, those behind share the last one.
constexpr size_t kMaxGpuWorkers = 64;

struct Settings {
  std::string allow_path;
  std::string socket_path;
  std::string state_directory;
  std::string sysfs_root = "/sys";
  std::string cgroup_root = "/sys/fs/cgroup";
  std::string setter_socket;  // Of `skos-gpu --setters`; "": no GPU can be set.
  std::string units_socket;   // Of skos-units; "": no unit can be moved, and no job run.
  std::string gpu_socket;     // Of skos-gpu; "": no order on a GPU sees anything.
  bool child = false;
};

// Sends one packet to the client; false when it is gone or does not read.
using Reply = bool (*)(void* context, const char* packet, size_t size);

class Actuator {
 public:
  // `done_fd`: an eventfd, written by workers and the sampler when something changed.
  Actuator(const Settings& settings, const Roots& roots, StateFile* state, int done_fd, int realtime_priority);

  // Takes over an allow-list: at the start, and on reload. "" or what is wrong; then everything stays as it was.
  std::string Load();
  bool IsController(uint32_t uid) const;

  // One request. Replies now, or later from Settle() for those that wait for a device.
  void Request(std::string_view packet, Reply reply, void* context);
  // Answers whoever waited, drops what is over. After each wake of done_fd, and each second.
  void Settle(Reply reply, void* context);
  Jobs* jobs() { return &jobs_; }
  // The client is gone: nobody is answered any more. Leases stay until their time is over.
  void ClientGone();

  // Ends all leases and orders, for the way out.
  void RestoreAll();
  // Nothing of ours stands in any device and no lease waits.
  bool AtRest() const;
  // IDs of the targets in which something of ours stands, separated by blanks.
  std::string Standing() const;

 private:
  struct Waiting {
    int64_t seq = 0;
    std::shared_ptr<Target> target;
    uint64_t generation = 0;
    int64_t deadline_ns = 0;
  };
  struct Answer;
  struct Power {
    EnergySpec spec;
    AveragePower average;
  };

  void SetLease(Answer* answer, std::string_view arguments);
  void ReleaseLease(Answer* answer, std::string_view arguments);
  void Renew(Answer* answer, std::string_view arguments);
  void ListTargets(Answer* answer);
  void ListLeases(Answer* answer);
  void ListOrders(Answer* answer);
  void ListPowers(Answer* answer);
  void RunJob(Answer* answer, std::string_view arguments);
  void ListJobs(Answer* answer);
  void ListEvents(Answer* answer, std::string_view arguments);
  void Wait(Answer* answer, const std::shared_ptr<Target>& target, uint64_t generation);

  LeaseRecord* FindLease(std::string_view id);
  std::shared_ptr<Target> FindTarget(std::string_view id) const;
  void Free(LeaseRecord* lease, const char* why);
  // Tells a target its strictest lease and pokes its worker. Returns the generation to wait for.
  uint64_t Apply(const std::shared_ptr<Target>& target);
  int64_t Strictest(const Target& target) const;
  void WantAll();
  void PokeAll();
  void ApplyAll();
  Worker* WorkerOf(const Target& target);
  size_t SlotOf(const Target& target);
  // `added`: those that no worker knows yet.
  std::string AdoptTargets(const AllowList& list, std::vector<std::shared_ptr<Target>>* added);
  void AdoptEnergies(const AllowList& list);
  void StartOrders(const AllowList& list);
  bool HasMoved(const OrderState& order) const;
  void FollowSensors();
  void EndOrphans(int64_t now_ns);
  // Reading of each order, and of each power behind them.
  std::vector<Reading> Latest() const;
  // Sampler threads, the watch's thread.
  void OnCrossing(OrderState& order, bool raised, const Reading& reading);

  const Settings settings_;
  const Roots roots_;
  StateFile* const state_;
  const int done_fd_;
  const int realtime_priority_;
  Jobs jobs_;
  AllowList list_;
  std::vector<int64_t> controllers_;
  std::vector<std::shared_ptr<Target>> targets_;
  // Those whose sensor is a file, in the sampler's order of channels; then those on GPUs, in the watch's order.
  std::vector<std::shared_ptr<OrderState>> orders_;
  size_t file_orders_ = 0;
  std::vector<Power> powers_;  // The sampler's channels behind those of the orders.
  std::unique_ptr<Sampler> sampler_;
  GpuWatch* const gpu_watch_;  // Never freed: its thread runs until the process is gone.
  // By Kind, and behind them by GPU. Made by the main thread, poked by the sampler's too. Never freed: a worker may be stuck in a driver.
  std::array<std::atomic<Worker*>, kKinds + kMaxGpuWorkers> workers_{};
  std::vector<std::string> gpus_;  // Addresses that have a worker, in its order.
  std::vector<Waiting> waiting_;
  bool loaded_ = false;  // An allow-list was taken over; the first one adopts what an earlier actuator left.
};

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_ACTUATOR_H_
