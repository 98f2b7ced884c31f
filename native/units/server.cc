#include "units/server.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "sampler/clock.h"

namespace skos::units {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerUs = 1'000;
constexpr int kExitCannotExecute = 127;
// sd_booted(3): there on every machine that systemd runs, and on no other.
constexpr const char* kBooted = "/run/systemd/system";
constexpr size_t kMaxSaidBytes = 200;  // Of systemctl, in the log.

std::string Err(int error) { return "err " + std::to_string(error); }

// The first line of what systemctl said, printable.
std::string Said(const std::string& output) {
  std::string said = output.substr(0, std::min(output.find('\n'), kMaxSaidBytes));
  std::replace_if(said.begin(), said.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return said;
}

}  // namespace

void Server::Take(int fd) {
  UniqueFd connection(fd);
  if (connections_.size() >= kMaxConnections) return;
  connections_.emplace_back();
  connections_.back().id = next_id_++;
  connections_.back().fd.Reset(connection.Release());
}

void Server::Poll(std::vector<pollfd>* fds) const {
  for (const Connection& connection : connections_) {
    // Of a busy one only its end is heard.
    const short events = connection.is_busy ? POLLRDHUP : POLLIN;
    fds->push_back({connection.fd.get(), events, 0});
  }
  for (const Task& task : tasks_) {
    if (task.command != nullptr && task.command->fd() >= 0) fds->push_back({task.command->fd(), POLLIN, 0});
  }
}

int64_t Server::NextNs() const {
  int64_t next_ns = INT64_MAX;
  for (const Task& task : tasks_) {
    if (task.phase == Phase::kPause) next_ns = std::min(next_ns, task.look_at_ns);
    // One that was killed and is still there sits in the kernel; its end is told by SIGCHLD.
    if (task.command != nullptr && !task.command->timed_out()) next_ns = std::min(next_ns, task.command->deadline_ns());
  }
  return next_ns;
}

void Server::Serve() {
  Reap();
  const int64_t now_ns = MonotonicNs();
  for (auto task = tasks_.begin(); task != tasks_.end();) {
    task = Advance(&*task, now_ns) ? tasks_.erase(task) : std::next(task);
  }
  // In the order in which they came: of two that ask for one key the first one starts it.
  for (auto connection = connections_.begin(); connection != connections_.end();) {
    connection = Hear(&*connection) ? std::next(connection) : connections_.erase(connection);
  }
}

// ---- Requests ------------------------------------------------------------------------------------------------------

bool Server::Hear(Connection* connection) {
  if (!connection->fd.valid()) return false;
  if (connection->is_busy) {
    pollfd end = {connection->fd.get(), POLLRDHUP, 0};
    return poll(&end, 1, 0) <= 0;
  }
  char packet[kMaxRequestBytes];
  const ssize_t n = recv(connection->fd.get(), packet, sizeof packet, MSG_DONTWAIT | MSG_TRUNC);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  Request request;
  const bool fits = static_cast<size_t>(n) <= sizeof packet;
  const int error = fits ? ParseRequest(std::string_view(packet, static_cast<size_t>(n)), &request) : EINVAL;
  connection->is_busy = true;
  if (error != 0) {
    Answer(connection->id, Err(error));
  } else {
    Begin(connection, request);
  }
  return connection->fd.valid();
}

void Server::Begin(Connection* connection, const Request& request) {
  if (options_.is_default && access(kBooted, F_OK) != 0) return Answer(connection->id, Err(EOPNOTSUPP));
  if (request.verb == Verb::kJob || request.verb == Verb::kAwait) {
    std::shared_ptr<Job> job;
    const int error = BeginJob(request, &job);
    if (error != 0) return Answer(connection->id, Err(error));
    if (job->ended) return Answer(connection->id, FormatEnd(job->end));
    connection->job = std::move(job);
    return;
  }
  tasks_.emplace_back();
  Task& task = tasks_.back();
  task.request = request;
  task.connection = connection->id;
  const int error = request.verb == Verb::kGet ? StartLook(&task) : StartAct(&task, MonotonicNs() + kShortNs);
  if (error == 0) return;
  tasks_.pop_back();
  Answer(connection->id, Err(error));
}

// A key is started at most once, and one that somebody asked after is never started: what was to start it comes late.
int Server::BeginJob(const Request& request, std::shared_ptr<Job>* out) {
  for (const auto& job : jobs_) {
    if (job->key != request.key) continue;
    *out = job;
    return 0;
  }
  if (jobs_.size() >= kMaxJobs) {
    const auto old = std::find_if(jobs_.begin(), jobs_.end(), [](const auto& job) { return job->ended; });
    if (old == jobs_.end()) return EBUSY;
    jobs_.erase(old);
  }
  const int64_t now_ns = MonotonicNs();
  const int64_t since_ns = now_ns - request.age_ms * kNsPerMs;
  auto job = std::make_shared<Job>();
  job->key = request.key;
  job->unit = request.unit;
  job->verb = request.job;
  job->since_us = since_ns / kNsPerUs;
  // However late it is asked, the unit is looked at.
  job->deadline_ns = std::max(since_ns + request.timeout_ms * kNsPerMs, now_ns + kShortNs / 2);
  tasks_.emplace_back();
  Task& task = tasks_.back();
  task.request = request;
  task.job = job;
  task.is_unseen = request.verb == Verb::kAwait;
  const int error = task.is_unseen ? StartLook(&task) : StartAct(&task, since_ns + request.timeout_ms * kNsPerMs);
  if (error != 0) {
    tasks_.pop_back();
    return error;
  }
  jobs_.push_back(job);
  *out = std::move(job);
  return 0;
}

void Server::Answer(int64_t connection, const std::string& words) {
  for (Connection& each : connections_) {
    if (each.id != connection) continue;
    each.is_busy = false;
    each.job.reset();
    // Who does not read is of no use to anybody; it asks again on a new connection.
    if (send(each.fd.get(), words.data(), words.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) each.fd.Reset();
    return;
  }
}

// ---- What is done --------------------------------------------------------------------------------------------------

int Server::StartCommand(Task* task, const Words& words, int64_t deadline_ns) {
  const auto running = std::count_if(tasks_.begin(), tasks_.end(), [](const Task& each) { return each.command != nullptr; });
  if (static_cast<size_t>(running) >= kMaxCommands) return EBUSY;
  auto command = std::make_unique<Command>();
  const int error = command->Start(options_.systemctl, words, deadline_ns);
  if (error == 0) task->command = std::move(command);
  return error;
}

int Server::StartAct(Task* task, int64_t deadline_ns) {
  task->phase = Phase::kAct;
  Words words;
  WordsOf(task->request, &words);
  return StartCommand(task, words, deadline_ns);
}

int Server::StartLook(Task* task) {
  task->phase = Phase::kLook;
  Words words;
  WordsOfShow(task->request.unit, &words);
  return StartCommand(task, words, MonotonicNs() + kShortNs);
}

void Server::Reap() {
  int wait_status = 0;
  for (pid_t pid = 0; (pid = waitpid(-1, &wait_status, WNOHANG)) > 0;) {
    for (Task& task : tasks_) {
      if (task.command != nullptr && task.command->pid() == pid) task.command->Ended(wait_status);
    }
  }
}

bool Server::Advance(Task* task, int64_t now_ns) {
  if (task->phase == Phase::kPause) {
    if (now_ns < task->look_at_ns) return false;
    if (StartLook(task) == 0) return false;
    task->phase = Phase::kPause;  // No process can be had: again later.
    task->look_at_ns = now_ns + kLookNs;
    return false;
  }
  Command& command = *task->command;
  if (command.running()) {
    command.Hear();
    if (now_ns >= command.deadline_ns() && !command.timed_out()) command.Kill();
    return false;
  }
  return task->phase == Phase::kAct ? EndAct(task) : EndLook(task);
}

bool Server::EndAct(Task* task) {
  const std::unique_ptr<Command> act = std::move(task->command);
  task->status = act->status();
  const bool is_job = task->job != nullptr;
  if (task->status != 0) {
    std::fprintf(stderr, "skos-units: %s of %s: %s %d: %s\n", is_job ? JobVerbWord(task->request.job) : "a setting",
                 task->request.unit.c_str(), act->timed_out() ? "took too long, status" : "status", task->status,
                 Said(act->output()).c_str());
  }
  if (task->status == kExitCannotExecute) return Conclude(task, EOPNOTSUPP, {End::Word::kUnavailable, false, 0});
  if (act->timed_out()) return Conclude(task, ETIMEDOUT, {End::Word::kTimeout, false, 0});
  if (!is_job && task->status == 0) return Conclude(task, 0, {});
  task->is_unseen = is_job && task->status < 0;  // Killed by somebody else: systemd goes on with what it was told.
  if (StartLook(task) == 0) return false;
  return Conclude(task, EIO, task->status < 0 ? End() : End{task->status == 0 ? End::Word::kDone : End::Word::kFailed, true, task->status});
}

bool Server::EndLook(Task* task) {
  const std::unique_ptr<Command> look = std::move(task->command);
  Shown shown;
  int error = 0;
  if (look->timed_out()) error = ETIMEDOUT;
  else if (look->status() == kExitCannotExecute) error = EOPNOTSUPP;
  else if (look->status() != 0) error = EIO;
  else if (!look->whole() || !ParseShow(look->output(), &shown)) error = EPROTO;
  const Request& request = task->request;
  if (task->job == nullptr) {
    int64_t value = 0;
    if (error == 0) error = KnobOf(shown, request.knob, &value);
    if (request.verb == Verb::kGet) {
      if (error == 0) Answer(task->connection, "value " + std::to_string(value));
      else Answer(task->connection, Err(error));
      return true;
    }
    // Of a set that failed: what does not run cannot be frozen.
    if (error == 0 || error == EAGAIN) error = request.knob == Knob::kFreeze && shown.active == "inactive" ? ENXIO : EIO;
    return Conclude(task, error, {});
  }
  const Job& job = *task->job;
  if (!task->is_unseen) {
    if (error == 0) return Conclude(task, 0, EndOf(shown, job.verb, task->status, job.since_us));
    return Conclude(task, 0, {task->status == 0 ? End::Word::kDone : End::Word::kFailed, true, task->status});
  }
  if (error == EOPNOTSUPP) return Conclude(task, 0, {End::Word::kUnavailable, false, 0});
  End end = error == 0 ? Judge(shown, job.verb, job.since_us) : End{End::Word::kRunning, false, 0};
  // systemd forgets a unit that ended well and that nothing refers to, its times with it; one that failed it keeps.
  if (end.word == End::Word::kUnknown && task->was_running && shown.active == "inactive") end = {End::Word::kDone, true, 0};
  task->was_running = task->was_running || (error == 0 && end.word == End::Word::kRunning);
  if (end.word == End::Word::kRunning && MonotonicNs() < job.deadline_ns) {
    task->phase = Phase::kPause;
    task->look_at_ns = MonotonicNs() + kLookNs;
    return false;
  }
  if (end.word == End::Word::kRunning) end.word = error == 0 ? End::Word::kTimeout : End::Word::kUnknown;
  return Conclude(task, 0, end);
}

// `error` is a setting's, `end` a job's.
bool Server::Conclude(Task* task, int error, const End& end) {
  if (task->job == nullptr) {
    Answer(task->connection, error == 0 ? "ok" : Err(error));
    return true;
  }
  task->job->ended = true;
  task->job->end = end;
  for (Connection& connection : connections_) {
    if (connection.job == task->job) Answer(connection.id, FormatEnd(end));
  }
  return true;
}

}  // namespace skos::units
