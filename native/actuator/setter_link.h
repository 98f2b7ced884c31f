// The way to a GPU's driver: a connection to `skos-gpu --setters`, which gives it a process of its own. Calls into the driver are made there,
// so that one that hangs keeps neither this process nor its locks. Packets: native/gpu/README.md.
#ifndef SKOS_ACTUATOR_SETTER_LINK_H_
#define SKOS_ACTUATOR_SETTER_LINK_H_

#include <atomic>
#include <cstdint>
#include <string>

namespace skos::actuator {

// One GPU. All of it in the target's worker thread, which waits for the driver as long as that takes: nobody else waits for it.
class SetterLink {
 public:
  // `open`: "nvml 0000:3b:00.0".
  SetterLink(std::string socket_path, std::string open) : socket_path_(std::move(socket_path)), open_(std::move(open)) {}
  ~SetterLink() { Close(); }
  SetterLink(const SetterLink&) = delete;
  SetterLink& operator=(const SetterLink&) = delete;

  // Has a setter of this GPU ready, if that is not so yet: what it costs to start one and its library is then paid. 0 or an errno.
  int Open() { return Connect(); }
  // In microwatts; `min_uw` 0: the device states none. 0 or an errno. ENODEV: the GPU, its driver or the setter is away for now.
  int Read(int64_t* value_uw, int64_t* min_uw);
  int Write(int64_t value_uw);
  // Nothing of ours stands there: the process behind it, and what the driver's library takes, may go.
  void Close();

  // While it may not, nothing is opened, and what would have to be is ENODEV: the GPU is let go of.
  void set_may_open(bool may_open) { may_open_ = may_open; }
  bool is_open() const { return fd_.load() >= 0; }
  // Any thread. It was open, and its process has ended since.
  bool IsLost() const;

 private:
  int Ask(const char* request, char* answer, size_t size);
  int Connect();
  int Exchange(const char* request, char* answer, size_t size);

  const std::string socket_path_;
  const std::string open_;
  std::atomic<int> fd_{-1};
  bool may_open_ = true;
};

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_SETTER_LINK_H_
