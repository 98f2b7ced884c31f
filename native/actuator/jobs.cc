#include "actuator/jobs.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "actuator/unit_link.h"

namespace skos::actuator {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr size_t kMaxAnswerBytes = 128;
constexpr int64_t kAskAgainNs = 1'000'000'000;
// skos-units says `timeout` by itself, after a last look at the unit; it is given this much longer than a job may take.
constexpr int64_t kGraceNs = 30'000'000'000;

struct StateName {
  std::string_view word;
  JobState state;
};
constexpr StateName kEnds[] = {{"done", JobState::kDone},
                               {"failed", JobState::kFailed},
                               {"timeout", JobState::kTimeout},
                               {"unknown", JobState::kUnknown}};

}  // namespace

const char* JobStateWord(JobState state) {
  switch (state) {
    case JobState::kIdle:
      return "idle";
    case JobState::kRunning:
      return "running";
    case JobState::kDone:
      return "done";
    case JobState::kFailed:
      return "failed";
    case JobState::kTimeout:
      return "timeout";
    case JobState::kUnavailable:
      return "unavailable";
    case JobState::kUnknown:
      return "unknown";
  }
  return "unknown";
}

Jobs::Jobs(std::string units_socket, StateFile* state) : units_socket_(std::move(units_socket)), state_(state) {
  size_t next = 0;
  for (size_t i = 0; i < kMaxJobs; ++i) {
    JobRecord* record = &state_->jobs()[i];
    if (record->id[0] == '\0' || record->state != JobState::kRunning) continue;
    // There are no more of them: no actuator runs more.
    if (next < running_.size()) running_[next++] = {record, -1, false, true, 0};
  }
}

Jobs::~Jobs() {
  for (Running& running : running_) Drop(&running);
}

const JobRecord* Jobs::Find(std::string_view id) const {
  for (size_t i = 0; i < kMaxJobs; ++i) {
    const JobRecord& record = state_->jobs()[i];
    if (record.id[0] != '\0' && id == record.id) return &record;
  }
  return nullptr;
}

bool Jobs::IsListed(const JobRecord& record) const {
  return std::any_of(list_.begin(), list_.end(), [&](const JobSpec& spec) { return spec.id == record.id; });
}

// A record of its own, a free one, or that of a job which is neither listed nor running. There are as many as jobs in a list, so that
// only unlisted ones that still run can leave none.
JobRecord* Jobs::Claim(std::string_view id) {
  if (const JobRecord* own = Find(id)) return const_cast<JobRecord*>(own);
  JobRecord* old = nullptr;
  for (size_t i = 0; i < kMaxJobs; ++i) {
    JobRecord* record = &state_->jobs()[i];
    if (record->id[0] == '\0') return record;
    if (old == nullptr && record->state != JobState::kRunning && !IsListed(*record)) old = record;
  }
  return old;
}

const char* Jobs::Run(std::string_view id, std::string_view key) {
  if (!IsId(id, kMaxIdBytes) || !IsId(key, kMaxKeyBytes) || key == "-") return "err malformed";
  const auto spec = std::find_if(list_.begin(), list_.end(), [&](const JobSpec& each) { return each.id == id; });
  if (spec == list_.end()) return "err not_listed";
  const JobRecord* last = Find(id);
  if (last != nullptr && last->state != JobState::kIdle && key == last->key) return "ok known";
  if (last != nullptr && last->state == JobState::kRunning) return "err busy";
  const auto place = std::find_if(running_.begin(), running_.end(), [](const Running& each) { return each.record == nullptr; });
  if (place == running_.end()) return "err too_many";
  JobRecord* record = Claim(id);
  if (record == nullptr) return "err too_many";
  // Killed before the last store, the record says that nothing was asked for, and nothing was.
  record->state = JobState::kIdle;
  record->verb = spec->verb;
  record->timeout_ms = spec->timeout_ms;
  record->started_ns = NowNs();
  record->exit = kNoExit;
  std::snprintf(record->unit, sizeof record->unit, "%s", spec->unit.c_str());
  std::snprintf(record->key, sizeof record->key, "%.*s", static_cast<int>(key.size()), key.data());
  std::snprintf(record->id, sizeof record->id, "%.*s", static_cast<int>(id.size()), id.data());
  std::atomic_signal_fence(std::memory_order_seq_cst);  // A kill sees the stores in this order; the compiler must, too.
  record->state = JobState::kRunning;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  state_->Event("job_started", record->id, "unit=%s", record->unit);
  *place = {record, -1, false, false, 0};
  Advance(&*place);
  return "ok started";
}

size_t Jobs::Poll(pollfd* fds) const {
  size_t count = 0;
  for (const Running& running : running_) {
    if (running.fd >= 0) fds[count++] = {running.fd, POLLIN, 0};
  }
  return count;
}

void Jobs::Serve() {
  for (Running& running : running_) {
    if (running.record != nullptr) Advance(&running);
  }
}

void Jobs::Advance(Running* running) {
  if (units_socket_.empty()) return End(running, JobState::kUnavailable, kNoExit);
  const JobRecord& record = *running->record;
  if (running->asked) Hear(running);
  if (running->record == nullptr || running->asked) {
    if (running->record == nullptr || NowNs() - record.started_ns <= record.timeout_ms * kNsPerMs + kGraceNs) return;
    return End(running, JobState::kTimeout, kNoExit);  // It runs, and skos-units is stuck.
  }
  if (NowNs() < running->ask_at_ns || Ask(running)) return;
  // Nobody listens. One that was not asked for yet does not run; of one that was, only skos-units can say what became.
  if (!running->follows) return End(running, JobState::kUnavailable, kNoExit);
  if (NowNs() - record.started_ns > record.timeout_ms * kNsPerMs + kGraceNs) End(running, JobState::kUnknown, kNoExit);
}

// False when nobody listens.
bool Jobs::Ask(Running* running) {
  running->ask_at_ns = NowNs() + kAskAgainNs;
  const JobRecord& record = *running->record;
  if (running->fd < 0) running->fd = ConnectTo(units_socket_, SOCK_NONBLOCK, 0);
  if (running->fd < 0) return errno == EAGAIN;  // Its backlog is full: again in a second.
  char request[kMaxIdBytes + kMaxKeyBytes + units::kMaxUnitBytes + 96];
  // With the job's id: two jobs may have a key in common.
  int size = std::snprintf(request, sizeof request, "%s %s:%s %s %s %" PRId64, running->follows ? "await" : "job", record.id,
                           record.key, units::JobVerbWord(record.verb), record.unit, record.timeout_ms);
  if (running->follows) {
    const int64_t age_ms = (NowNs() - record.started_ns) / kNsPerMs + 1;
    size += std::snprintf(request + size, sizeof request - static_cast<size_t>(size), " %" PRId64, age_ms);
  }
  // From here on it may run, whatever send() says.
  running->follows = true;
  running->asked = true;
  if (send(running->fd, request, static_cast<size_t>(size), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) Drop(running);
  return true;
}

void Jobs::Hear(Running* running) {
  char answer[kMaxAnswerBytes];
  const ssize_t n = recv(running->fd, answer, sizeof answer, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return Drop(running);  // skos-units ended: the next one is asked what became of it.
  TakeAnswer(running, std::string_view(answer, static_cast<size_t>(n)));
}

// "done N", "failed N", "timeout", "unknown" or "err ERRNO"; N "-": none.
void Jobs::TakeAnswer(Running* running, std::string_view answer) {
  const size_t blank = answer.find(' ');
  const std::string_view word = answer.substr(0, blank);
  const std::string_view rest = blank == std::string_view::npos ? std::string_view() : answer.substr(blank + 1);
  int64_t number = 0;
  const bool has_number = ParseInteger(rest, &number);
  for (const StateName& end : kEnds) {
    const bool tells_exit = end.state == JobState::kDone || end.state == JobState::kFailed;
    const bool whole = tells_exit ? has_number || rest == "-" : answer == end.word;
    if (word == end.word && whole) return End(running, end.state, has_number ? number : kNoExit);
  }
  const bool absent = word == "err" && has_number && number == EOPNOTSUPP;
  End(running, absent ? JobState::kUnavailable : JobState::kFailed, kNoExit);
}

void Jobs::Drop(Running* running) {
  if (running->fd >= 0) close(running->fd);
  running->fd = -1;
  running->asked = false;
}

void Jobs::End(Running* running, JobState state, int64_t exit) {
  JobRecord* record = running->record;
  Drop(running);
  *running = Running();
  record->exit = exit;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  record->state = state;
  if (exit == kNoExit) {
    state_->Event("job_ended", record->id, "state=%s exit=-", JobStateWord(state));
  } else {
    state_->Event("job_ended", record->id, "state=%s exit=%" PRId64, JobStateWord(state), exit);
  }
}

}  // namespace skos::actuator
