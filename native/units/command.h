// One systemctl: started with fixed words, heard, and ended when it takes too long. Main thread.
#ifndef SKOS_UNITS_COMMAND_H_
#define SKOS_UNITS_COMMAND_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "probes/files.h"
#include "units/protocol.h"

namespace skos::units {

// A unit's properties are some 300 bytes; what systemctl says beyond this is read and dropped, so that it can end.
constexpr size_t kMaxOutputBytes = 8 * 1024;

class Command {
 public:
  // 0 or an errno. `path`: of systemctl. No shell, no descriptor and no setting of ours reaches it.
  int Start(const std::string& path, const Words& words, int64_t deadline_ns);
  ~Command();
  Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  // What to wait for its words with; -1 when it has closed them.
  int fd() const { return output_fd_.get(); }
  int64_t deadline_ns() const { return deadline_ns_; }

  // Takes what it has said. After poll().
  void Hear();
  // Its deadline has passed: it is killed, with what it started. Reaped as any other.
  void Kill();
  // It was reaped with this status of waitpid().
  void Ended(int wait_status);

  // After the end. -1: it was killed, by us or by somebody else.
  int status() const { return status_; }
  bool timed_out() const { return killed_; }
  // It said no more than kMaxOutputBytes.
  bool whole() const { return whole_; }
  const std::string& output() const { return output_; }

 private:
  pid_t pid_ = -1;
  UniqueFd output_fd_;
  int64_t deadline_ns_ = 0;
  bool killed_ = false;
  bool whole_ = true;
  int status_ = -1;
  std::string output_;
};

}  // namespace skos::units

#endif  // SKOS_UNITS_COMMAND_H_
