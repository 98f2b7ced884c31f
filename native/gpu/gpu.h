// One GPU as the supervisor sees it: its state, and the worker process that reads it. Main thread of the supervisor, all of it; no
// method waits.
//
// A worker is never killed: it may be in a driver. It is told to leave by closing its socket, and until it has left no second one is
// started, unless attach() asks for one.
#ifndef SKOS_GPU_GPU_H_
#define SKOS_GPU_GPU_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/protocol.h"
#include "gpu/settings.h"
#include "probes/files.h"
#include "sampler/region.h"

namespace skos::gpu {

enum class State : uint8_t { kOpening, kServing, kFailed, kLost, kResetRequired, kHung, kDetached, kGone };

struct GpuHooks {
  // A packet for all clients, with a descriptor when it is >= 0.
  std::function<void(std::string_view packet, int fd)> broadcast;
  // What a worker learned of its library, in the words of Library::Learn().
  std::function<void(std::string_view words)> library;
};

class Gpu {
 public:
  Gpu(Listing listing, const Settings& settings, const GpuHooks& hooks, bool detached);

  const Listing& listing() const { return listing_; }
  State state() const { return state_; }
  bool present() const { return present_; }
  bool detached() const { return detached_; }
  // No process of ours is left that may have the device open.
  bool is_let_go() const { return worker_ == nullptr && abandoned_.empty() && !IsHeldByEarlier(); }
  bool has_worker() const { return worker_ != nullptr; }
  int socket() const { return worker_ == nullptr ? -1 : worker_->socket.get(); }

  // The message `device`, for one who has just come: with its region, when it has one, in *fd.
  std::string Message(int* fd) const;
  // The message `details`, "" while there is none.
  std::string DetailsMessage() const;

  // Was found, or is no longer found, in the list of devices. `again`: the list changed, and a new attempt is worth its while.
  void Found(const Listing& listing, bool again);
  void Missing();
  void Detach();
  // False and *why: it cannot be had back now.
  bool Attach(std::string* why);
  bool SetWires(const std::vector<Wire>& wires, std::string* why);
  // The rate or the deadline changed: the worker is started afresh.
  void Restart();
  // The supervisor leaves: the worker is to leave too.
  void LetGo();

  // Starts a worker that is due, notices one that hangs.
  void Tick(int64_t now_ns);
  // When Tick() has something to do at the latest.
  int64_t next_ns(int64_t now_ns) const;
  // What the worker said.
  void Receive();
  // True when it was a process of this GPU.
  bool Exited(pid_t pid, int status, int64_t now_ns);

 private:
  struct Worker {
    pid_t pid = 0;
    UniqueFd socket;
    UniqueFd region;
    std::unique_ptr<RegionReader> reader;
    std::vector<Reading> latest;  // Room for what the reader gives.
    int64_t started_ns = 0;
    int64_t served_ns = 0;    // 0: not yet.
    int64_t leaving_ns = 0;   // Its socket was closed then.
    int64_t deadline_ns = 0;  // Of this worker; the settings may be others by now.
    bool lost = false;
    std::string failure;      // What it said before it left.
  };

  bool wanted() const { return present_ && !detached_ && !letting_go_; }
  void Set(State state, std::string_view why, int region_fd = -1);
  std::string MessageFor(State state, std::string_view why, bool region) const;
  std::string PlacePath(size_t i) const;
  bool TakePlace(UniqueFd* place) const;
  bool IsHeldByEarlier() const;
  void Start(int64_t now_ns);
  void Leave();
  void LookAtWorker(int64_t now_ns);
  bool IsHung(int64_t now_ns);
  void Take(std::string_view packet, UniqueFd* passed);
  void TakeRegion(UniqueFd* passed);
  void TakeDetails(std::string_view json);
  void TakeEvent(std::string_view rest);
  void Left(int status, int64_t now_ns);
  void ShowLetGo();

  Listing listing_;
  const Settings& settings_;
  const GpuHooks& hooks_;
  State state_ = State::kOpening;
  std::string why_;
  bool present_ = true;
  bool detached_ = false;
  bool letting_go_ = false;
  std::unique_ptr<Worker> worker_;
  std::vector<pid_t> abandoned_;
  size_t left_behind_ = 0;   // Workers of an earlier supervisor that attach() gave up.
  int64_t held_since_ns_ = 0;  // Since when such a worker keeps ours from being started; 0: none does.
  int64_t retry_ns_ = 0;  // No worker before this.
  int64_t back_off_ns_ = 0;
  std::string details_;
};

const char* NameOf(State state);

}  // namespace skos::gpu

#endif  // SKOS_GPU_GPU_H_
