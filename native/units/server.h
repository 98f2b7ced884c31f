// The connections of skos-units, and what is done for them. One thread, one loop; nothing in it waits for systemctl.
#ifndef SKOS_UNITS_SERVER_H_
#define SKOS_UNITS_SERVER_H_

#include <poll.h>

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "probes/files.h"
#include "units/command.h"
#include "units/protocol.h"
#include "units/show.h"

namespace skos::units {

// The actuator has one for each of 512 targets that it holds at most, and one for each of 16 jobs.
constexpr size_t kMaxConnections = 544;
// systemctl processes at once: three workers of the actuator and its jobs, with as many again for looks at their units.
constexpr size_t kMaxCommands = 40;
// Jobs that are remembered: those that run, and as many of the last that a restarted actuator may ask after.
constexpr size_t kMaxJobs = 64;
// A systemctl that only tells or sets something.
constexpr int64_t kShortNs = 10'000'000'000;
// Between two looks at a unit whose systemctl nobody saw leave.
constexpr int64_t kLookNs = 1'000'000'000;

struct Options {
  std::string systemctl = "/usr/bin/systemctl";
  bool is_default = true;  // No other one was named: then systemd has to run here.
};

class Server {
 public:
  explicit Server(Options options) : options_(std::move(options)) {}

  // A connection that was let in. Closed where there are too many.
  void Take(int fd);
  // All descriptors to wait for, behind those that are there already.
  void Poll(std::vector<pollfd>* fds) const;
  // When to look again at the latest; INT64_MAX: when something comes.
  int64_t NextNs() const;
  // After poll(), and each time NextNs() has come.
  void Serve();
  // Nobody is connected and nothing runs.
  bool AtRest() const { return connections_.empty() && tasks_.empty(); }
  bool HasConnections() const { return !connections_.empty(); }

 private:
  struct Job {
    std::string key;
    std::string unit;
    JobVerb verb = JobVerb::kStart;
    int64_t since_us = 0;  // CLOCK_MONOTONIC, as systemd counts: when it was asked for.
    int64_t deadline_ns = 0;
    bool ended = false;
    End end;
  };
  // What is being done: an act and then, where that leaves something open, looks at the unit.
  enum class Phase : uint8_t { kAct, kLook, kPause };
  struct Task {
    Request request;
    Phase phase = Phase::kAct;
    std::unique_ptr<Command> command;  // Not in kPause.
    int64_t connection = 0;            // Of a get or a set: who waits for it.
    std::shared_ptr<Job> job;          // Else.
    int status = 0;                    // What the act left with.
    bool is_unseen = false;            // Of a job: nobody saw its systemctl leave, so the unit itself is asked.
    bool was_running = false;          // Of such a job: an earlier look saw it run.
    int64_t look_at_ns = 0;            // In kPause.
  };
  struct Connection {
    int64_t id = 0;
    UniqueFd fd;
    bool is_busy = false;      // Its request is being worked on; the next one waits in the socket.
    std::shared_ptr<Job> job;  // Whose end it waits for.
  };

  // False when it is gone.
  bool Hear(Connection* connection);
  void Begin(Connection* connection, const Request& request);
  // Of a job or an await. An errno, or 0.
  int BeginJob(const Request& request, std::shared_ptr<Job>* out);
  int StartCommand(Task* task, const Words& words, int64_t deadline_ns);
  int StartAct(Task* task, int64_t deadline_ns);
  int StartLook(Task* task);
  void Reap();
  // True: it is over, and was answered.
  bool Advance(Task* task, int64_t now_ns);
  bool EndAct(Task* task);
  bool EndLook(Task* task);
  bool Conclude(Task* task, int error, const End& end);
  void Answer(int64_t connection, const std::string& words);

  const Options options_;
  int64_t next_id_ = 1;
  std::list<Connection> connections_;
  std::list<Task> tasks_;
  std::list<std::shared_ptr<Job>> jobs_;  // Oldest first.
};

}  // namespace skos::units

#endif  // SKOS_UNITS_SERVER_H_
