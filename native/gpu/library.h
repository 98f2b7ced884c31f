// What is known of a vendor's library, and the lister: a process of its own that asks the library which GPUs there are, where sysfs
// shows none (containers, test libraries). It may hang like any other; then it is left alone, and no second one is started.
// Main thread of the supervisor, all of it.
#ifndef SKOS_GPU_LIBRARY_H_
#define SKOS_GPU_LIBRARY_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/settings.h"
#include "probes/files.h"

namespace skos::gpu {

class Library {
 public:
  // `on_change` gets the message for the clients.
  Library(const Settings& settings, std::function<void(const std::string&)> on_change);

  std::string Message() const;

  // What a worker said of it: "ok VERSION", "absent WHY", "failed WHY", "hung WHY".
  void Learn(std::string_view words);

  // Starts the lister when it is due: `wanted` says that sysfs shows no NVIDIA device and no listed one is served.
  void Tick(int64_t now_ns, bool wanted);
  int64_t next_ns() const;
  int socket() const { return socket_.get(); }
  void Receive();
  // True when it was the lister.
  bool Exited(pid_t pid, int status);

  // What the last complete list had. Kept while the library cannot be asked.
  const std::vector<Listing>& listed() const { return listed_; }

 private:
  void Set(const char* state, std::string_view why, std::string_view version);
  void Start(int64_t now_ns);
  void Take(std::string_view packet);

  const Settings& settings_;
  const std::function<void(const std::string&)> on_change_;
  std::string state_ = "unused";
  std::string why_;
  std::string version_;

  pid_t pid_ = 0;
  UniqueFd socket_;
  int64_t started_ns_ = 0;
  int64_t due_ns_ = 0;
  bool told_hung_ = false;
  bool heard_ = false;     // It said something that is an answer.
  bool complete_ = false;  // It gave a list.
  std::vector<Listing> arriving_;
  std::vector<Listing> listed_;
};

}  // namespace skos::gpu

#endif  // SKOS_GPU_LIBRARY_H_
