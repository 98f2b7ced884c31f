#include "probes/kmsg_log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "probes/kmsg.h"
#include "sampler/clock.h"

namespace skos {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kMaxRecordBytes = 16 * 1024;  // The kernel's own limit is 8 KiB with all its keys.
constexpr size_t kMaxLineBytes = 2048;         // Of the text; the kernel ends a line at about 1000.
constexpr int kStreamPollMs = 100;             // A file that grows wakes nobody.
constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerUs = 1'000;
constexpr int kReadsPerRound = 512;            // Then it looks whether to stop or to tell.

uint64_t Mix(uint64_t hash, std::string_view bytes) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;  // FNV-1a.
  return (hash ^ 0xffu) * 1099511628211u;
}

uint64_t HashOf(const KernelEvent& event) {
  uint64_t hash = 14695981039346656037u;
  const uint32_t numbers[] = {static_cast<uint32_t>(event.kind), event.has_code ? event.code + 1 : 0};
  hash = Mix(hash, std::string_view(reinterpret_cast<const char*>(numbers), sizeof numbers));
  hash = Mix(hash, event.Address());
  for (size_t i = 0; i < event.detail_count; ++i)
    if (event.details[i].key || std::strcmp(event.details[i].name, "device") == 0) hash = Mix(hash, event.details[i].value);
  return hash;
}

QueuedEvent Queued(const KernelEvent& event, std::string_view text, int64_t at_ns, uint64_t hash) {
  QueuedEvent queued;
  queued.kind = event.kind;
  queued.address = std::string(event.Address());
  queued.has_code = event.has_code;
  queued.code = event.code;
  for (size_t i = 0; i < event.detail_count; ++i)
    queued.details.emplace_back(event.details[i].name, std::string(event.details[i].value));
  queued.text = std::string(text.substr(0, kMaxEventTextBytes));
  queued.at_ns = at_ns;
  queued.hash = hash;
  return queued;
}

}  // namespace

// Everything of the thread. It shares the log with whoever takes, so that it may outlive them.
class KmsgLog::Follower {
 public:
  Follower(std::shared_ptr<KmsgLog> log, Options options)
      : log_(std::move(log)), fd_(options.fd), after_(options.after), on_ready_(std::move(options.on_ready)),
        read_(options.read == nullptr ? ::read : options.read) {
    struct stat status;
    const bool known = fstat(fd_.get(), &status) == 0;
    const int flags = fcntl(fd_.get(), F_GETFL);
    is_device_ = known && S_ISCHR(status.st_mode);
    is_stream_ = known && !is_device_ && !S_ISSOCK(status.st_mode);
    fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK);
    // A fresh descriptor of /dev/kmsg stands at the oldest record; who inherits one does not know where it stands.
    const bool from_now = after_ == kNoSequence && !options.from_start;
    if (is_device_) lseek(fd_.get(), 0, from_now ? SEEK_END : SEEK_SET);
    else if (from_now && known && S_ISREG(status.st_mode)) lseek(fd_.get(), 0, SEEK_END);
    live_ = from_now;
    expected_ = after_ == kNoSequence ? kNoSequence : after_ + 1;
  }

  void Run() {
    int64_t next_wake_ns = 0;
    for (;;) {
      const bool more = ReadRound();
      const int64_t now_ns = MonotonicNs();
      bool ready;
      bool ended;
      {
        std::lock_guard<std::mutex> lock(log_->mutex_);
        ended = log_->batch_.error != 0;
        ready = log_->ready_;
        if (ready && (now_ns >= next_wake_ns || ended)) log_->ready_ = false;
      }
      if (ready && (now_ns >= next_wake_ns || ended)) {
        on_ready_();
        next_wake_ns = now_ns + kKmsgWakeEveryNs;
        ready = false;
      }
      const int untold_ms = ready ? static_cast<int>((next_wake_ns - now_ns) / kNsPerMs) + 1 : -1;
      if (!Wait(more ? 0 : untold_ms, ended)) return;
    }
  }

 private:
  // True when there may be more at once.
  bool ReadRound() {
    for (int i = 0; i < kReadsPerRound; ++i) {
      const ssize_t n = read_(fd_.get(), buffer_ + kept_, sizeof buffer_ - kept_);
      if (n > 0) {
        if (is_stream_) TakeLines(static_cast<size_t>(n));
        else Record(std::string_view(buffer_, static_cast<size_t>(n)));
        continue;
      }
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EPIPE) {
        // What was to come next is gone; the record after it says how many.
        if (expected_ == kNoSequence) Overwritten(1);
        lost_ = true;
        continue;
      }
      if (n < 0 && errno != EAGAIN) End(errno);
      if (n == 0 && !is_stream_) End(ENODATA);  // The other side of a packet socket is gone.
      live_ = true;
      return false;
    }
    return true;
  }

  // False: stopped. In a stream at its end, poll() answers at once and for ever: time has to pass instead.
  bool Wait(int timeout_ms, bool ended) {
    if (is_stream_ && timeout_ms != 0 && (timeout_ms < 0 || timeout_ms > kStreamPollMs)) timeout_ms = kStreamPollMs;
    pollfd both[2] = {{log_->stop_.get(), POLLIN, 0}, {fd_.get(), POLLIN, 0}};
    const bool watches = !is_stream_ && !ended;
    while (poll(both, watches ? 2 : 1, ended ? -1 : timeout_ms) < 0 && errno == EINTR) continue;
    return both[0].revents == 0;
  }

  void TakeLines(size_t added) {
    size_t begin = 0;
    const size_t end = kept_ + added;
    for (size_t i = kept_; i < end; ++i) {
      if (buffer_[i] != '\n') continue;
      // " KEY=value" lines belong to the record before them; they are not needed.
      if (i > begin && buffer_[begin] != ' ') Record(std::string_view(buffer_ + begin, i - begin));
      begin = i + 1;
    }
    kept_ = end - begin;
    if (kept_ == sizeof buffer_) kept_ = 0;  // No record is as long.
    else std::memmove(buffer_, buffer_ + begin, kept_);
  }

  void Record(std::string_view bytes) {
    KmsgRecord record;
    if (!ParseKmsgRecord(bytes, &record)) return;
    if (expected_ != kNoSequence && record.sequence < expected_) return;  // Was read by an earlier agent.
    // In between nothing is lost but by overwriting: also while nobody was here to be told of it.
    const uint64_t missing = expected_ == kNoSequence ? 0 : record.sequence - expected_;
    if (missing > 0 && (lost_ || !seen_)) Overwritten(missing);
    lost_ = false;
    seen_ = true;
    expected_ = record.sequence + 1;
    if (record.facility == kKernelFacility) Text(record);
    std::lock_guard<std::mutex> lock(log_->mutex_);
    log_->batch_.sequence = record.sequence;
  }

  void Text(const KmsgRecord& record) {
    const std::string_view text(line_, UnescapeKmsg(record.text, line_, sizeof line_));
    if (!ClassifyKernelLine(text, &event_)) return;
    const int64_t now_ns = MonotonicNs();
    // The kernel's log clock is not CLOCK_MONOTONIC and drifts from it. What is read as it comes is of now.
    const int64_t at_ns = live_ ? now_ns : std::min(now_ns, std::min(record.time_us, INT64_MAX / kNsPerUs) * kNsPerUs);
    const uint64_t hash = HashOf(event_);
    std::lock_guard<std::mutex> lock(log_->mutex_);
    log_->ready_ = true;
    for (QueuedEvent& queued : log_->batch_.events) {
      if (queued.hash != hash) continue;
      if (queued.count < UINT32_MAX) ++queued.count;
      return;
    }
    if (log_->batch_.events.size() < kMaxQueuedEvents) log_->batch_.events.push_back(Queued(event_, text, at_ns, hash));
    else ++log_->batch_.dropped;
  }

  void Overwritten(uint64_t records) {
    std::lock_guard<std::mutex> lock(log_->mutex_);
    log_->batch_.overwritten += records;
    log_->ready_ = true;
  }

  void End(int error) {
    std::lock_guard<std::mutex> lock(log_->mutex_);
    log_->batch_.error = error;
    log_->ready_ = true;
  }

  const std::shared_ptr<KmsgLog> log_;
  const UniqueFd fd_;
  const uint64_t after_;
  const std::function<void()> on_ready_;
  ssize_t (*const read_)(int, void*, size_t);
  bool is_device_ = false;
  bool is_stream_ = false;
  bool live_ = false;   // The backlog is read: what comes is of now.
  bool lost_ = false;   // EPIPE came.
  bool seen_ = false;   // A record came.
  uint64_t expected_;   // The next sequence number; kNoSequence: any.
  size_t kept_ = 0;     // Of a stream: the beginning of a record whose end has not come.
  KernelEvent event_;
  char line_[kMaxLineBytes];
  char buffer_[kMaxRecordBytes];
};

std::shared_ptr<KmsgLog> KmsgLog::Start(Options options, int* error) {
  std::shared_ptr<KmsgLog> log(new KmsgLog());
  UniqueFd fd(options.fd);
  log->stop_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!log->stop_.valid()) {
    *error = errno;
    return nullptr;
  }
  auto main = [](void* raw) -> void* {
    std::unique_ptr<Follower> owned(static_cast<Follower*>(raw));
    pthread_setname_np(pthread_self(), "skos-kmsg");
    owned->Run();
    return nullptr;
  };
  options.fd = fd.Release();
  auto follower = std::make_unique<Follower>(log, std::move(options));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  *error = pthread_create(&thread, &attributes, main, follower.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (*error != 0) return nullptr;
  follower.release();  // The thread's now.
  return log;
}

KmsgLog::~KmsgLog() = default;

KmsgBatch KmsgLog::Take() {
  KmsgBatch taken;
  std::lock_guard<std::mutex> lock(mutex_);
  std::swap(taken, batch_);
  batch_.sequence = taken.sequence;
  batch_.error = taken.error;
  return taken;
}

uint64_t KmsgLog::Sequence() {
  std::lock_guard<std::mutex> lock(mutex_);
  return batch_.sequence;
}

void KmsgLog::Stop() {
  const uint64_t one = 1;
  const ssize_t n = write(stop_.get(), &one, sizeof one);
  static_cast<void>(n);  // EAGAIN cannot be: it is written once or twice.
}

}  // namespace skos
