// The limit that scripts/bench/sampler compares the sampler with: the plainest C++ that reads the same files at the same
// rate. Kept-open descriptors, one periodic timerfd, pread and strtoll; no quality, no ring, no tripwires, no deadline.
//
//   bench-sampler RATE_HZ SECONDS FILE…    prints CPU nanoseconds per round of all files, and CPU as share of a core
#include <fcntl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

int64_t Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

volatile int64_t last_value;  // Keeps the compiler from leaving the work out.

void ReadAll(const std::vector<int>& fds) {
  char buffer[64];
  for (const int fd : fds) {
    const ssize_t n = pread(fd, buffer, sizeof buffer - 1, 0);
    if (n <= 0) std::abort();
    buffer[n] = '\0';
    last_value = std::strtoll(buffer, nullptr, 10);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const double rate_hz = std::atof(argv[1]);
  const double seconds = std::atof(argv[2]);
  std::vector<int> fds;
  for (int i = 3; i < argc; ++i) fds.push_back(open(argv[i], O_RDONLY | O_CLOEXEC));
  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  itimerspec when = {};
  when.it_interval.tv_nsec = when.it_value.tv_nsec = static_cast<long>(1e9 / rate_hz) % 1'000'000'000;
  timerfd_settime(timer, 0, &when, nullptr);
  const int64_t cpu_begin = Now(CLOCK_THREAD_CPUTIME_ID);
  const int64_t begin = Now(CLOCK_MONOTONIC);
  int64_t rounds = 0;
  while (Now(CLOCK_MONOTONIC) - begin < static_cast<int64_t>(seconds * 1e9)) {
    uint64_t expirations = 0;
    if (read(timer, &expirations, sizeof expirations) != sizeof expirations) return 1;
    ReadAll(fds);
    ++rounds;
  }
  const double cpu_ns = static_cast<double>(Now(CLOCK_THREAD_CPUTIME_ID) - cpu_begin);
  const double wall_ns = static_cast<double>(Now(CLOCK_MONOTONIC) - begin);
  std::printf("%.1f %.6f\n", cpu_ns / static_cast<double>(rounds), cpu_ns / wall_ns);
  return 0;
}
