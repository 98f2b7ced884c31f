// Follows the kernel's log from a descriptor, in a thread of its own, and keeps what of it is an event until somebody takes
// it. Equal events are counted into one, so that a burst of thousands of lines costs one entry; who takes is woken at most
// every 50 ms. A descriptor is /dev/kmsg (one record a read), a packet socket (the same), or a stream of records, one a line: a
// pipe or a file that grows, for machines that are made up.
//
// Records that the kernel overwrote before they were read (EPIPE) are counted. Only facility 0 is believed: user space may
// write to /dev/kmsg, but never as the kernel.
#ifndef SKOS_PROBES_KMSG_LOG_H_
#define SKOS_PROBES_KMSG_LOG_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "probes/files.h"
#include "probes/kernel_event.h"

namespace skos {

constexpr size_t kMaxQueuedEvents = 256;              // Distinct ones, about 1 KiB each.
constexpr int64_t kKmsgWakeEveryNs = 50'000'000;
constexpr uint64_t kNoSequence = UINT64_MAX;

struct QueuedEvent {
  KernelEventKind kind = KernelEventKind::kXid;
  std::string address;
  bool has_code = false;
  uint32_t code = 0;
  std::vector<std::pair<const char*, std::string>> details;
  std::string text;
  int64_t at_ns = 0;  // CLOCK_MONOTONIC of the first.
  uint32_t count = 1;
  uint64_t hash = 0;  // Of what tells two events apart.
};

struct KmsgBatch {
  std::vector<QueuedEvent> events;  // In order of their first line.
  uint64_t sequence = kNoSequence;  // Of the last record that was looked at.
  uint64_t overwritten = 0;         // Records lost in the kernel's buffer since the last batch.
  uint64_t dropped = 0;             // Events that did not fit into the queue since the last batch.
  int error = 0;                    // Nothing is read any more, and why: an errno.
};

class KmsgLog {
 public:
  struct Options {
    int fd = -1;  // Owned from here on. Set to non-blocking.
    // Go on behind this record; kNoSequence: begin with what comes from now on.
    uint64_t after = kNoSequence;
    // From the beginning of the kernel's buffer, whatever `after` says about it. For a boot of which nothing was read yet.
    bool from_start = false;
    // In the thread: there is something to take.
    std::function<void()> on_ready;
    // read(2), but for tests of what a file cannot be made to answer.
    ssize_t (*read)(int fd, void* buffer, size_t size) = nullptr;
  };

  // Any thread. Null when no thread can be made; *error says why.
  static std::shared_ptr<KmsgLog> Start(Options options, int* error);
  ~KmsgLog();
  KmsgLog(const KmsgLog&) = delete;
  KmsgLog& operator=(const KmsgLog&) = delete;

  // Any thread. What has gathered; gives it away.
  KmsgBatch Take();
  // Any thread, without reading: of the last record that was looked at.
  uint64_t Sequence();
  // Any thread. The thread leaves within microseconds; on_ready is called at most once more.
  void Stop();

 private:
  class Follower;
  KmsgLog() = default;

  std::mutex mutex_;
  KmsgBatch batch_;       // GUARDED_BY(mutex_)
  bool ready_ = false;    // GUARDED_BY(mutex_): something to take that was not announced yet.
  UniqueFd stop_;         // eventfd, written once.
};

}  // namespace skos

#endif  // SKOS_PROBES_KMSG_LOG_H_
