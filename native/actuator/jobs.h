// Jobs of the allow-list: units that skos-units has systemd start, stop or restart, once for each key.
//
// A job outlives whoever asked for it. Its key is in the state file before skos-units is asked, so that no death of this process
// makes it start twice; what became of a job that was under way then, skos-units is asked (native/units/README.md: await). One
// connection for each running job, which never blocks. Everything here runs in the main thread.
#ifndef SKOS_ACTUATOR_JOBS_H_
#define SKOS_ACTUATOR_JOBS_H_

#include <poll.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "actuator/allow_list.h"
#include "actuator/state_file.h"

namespace skos::actuator {

constexpr size_t kMaxRunningJobs = 16;

const char* JobStateWord(JobState state);

class Jobs {
 public:
  // Takes up what an earlier actuator of this boot left running. `units_socket` "": every job is unavailable.
  Jobs(std::string units_socket, StateFile* state);
  ~Jobs();
  Jobs(const Jobs&) = delete;
  Jobs& operator=(const Jobs&) = delete;

  // Whatever the list says, a run that is under way is followed to its end.
  void SetList(std::vector<JobSpec> list) { list_ = std::move(list); }

  // "ok started", "ok known", or "err …".
  const char* Run(std::string_view id, std::string_view key);

  // Of each job of the list its last run, then of those that are no longer listed. `row` is valid during the call.
  template <typename Each>
  void List(Each each) const {
    for (const JobSpec& spec : list_) each(spec.id.c_str(), Find(spec.id));
    for (size_t i = 0; i < kMaxJobs; ++i) {
      const JobRecord& record = state_->jobs()[i];
      if (record.id[0] != '\0' && !IsListed(record)) each(record.id, &record);
    }
  }

  // Fills in what to wait for; returns how many of kMaxRunningJobs.
  size_t Poll(pollfd* fds) const;
  // After poll(), and each second.
  void Serve();

 private:
  struct Running {
    JobRecord* record = nullptr;  // nullptr: a free place.
    int fd = -1;
    bool asked = false;       // On this connection.
    bool follows = false;     // It may have been started already: only ask what became of it.
    int64_t ask_at_ns = 0;    // Not before then: who closes every connection at once is asked once in a second.
  };

  const JobRecord* Find(std::string_view id) const;
  bool IsListed(const JobRecord& record) const;
  JobRecord* Claim(std::string_view id);
  void Advance(Running* running);
  bool Ask(Running* running);
  void Hear(Running* running);
  void Drop(Running* running);
  void End(Running* running, JobState state, int64_t exit);
  void TakeAnswer(Running* running, std::string_view answer);

  const std::string units_socket_;
  StateFile* const state_;
  std::vector<JobSpec> list_;
  std::array<Running, kMaxRunningJobs> running_;
};

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_JOBS_H_
