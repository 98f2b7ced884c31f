// One knob of the kernel: how a target's value is read, written, capped and compared, by kind. Every call may block as
// long as the driver does, so only a worker thread makes them. Files are opened for each access: a device that went and
// came back is found again, and an open costs a few microseconds.
#ifndef SKOS_ACTUATOR_DEVICE_H_
#define SKOS_ACTUATOR_DEVICE_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "actuator/allow_list.h"
#include "actuator/setter_link.h"
#include "actuator/unit_link.h"

namespace skos::actuator {

// Open directories, owned by main for the life of the process.
struct Roots {
  int sysfs_fd = -1;
  int cgroup_fd = -1;
  std::string setter_socket;  // Of `skos-gpu --setters`; "": there is none.
  std::string units_socket;   // Of skos-units; "": there is none.
};

// A value as the kernel holds it. `aux` is the period of a quota (µs), of a fan the mode of its control (then `value` is its duty
// where that mode is manual), else 0.
struct Raw {
  int64_t value = 0;
  int64_t aux = 0;
  bool operator==(const Raw& other) const { return value == other.value && aux == other.aux; }
  bool operator!=(const Raw& other) const { return !(*this == other); }
};

constexpr int64_t kUnlimited = -1;  // A quota's "max".

class Device {
 public:
  Device(const TargetSpec& spec, const Roots& roots);

  // 0 or an errno; EILSEQ: the file holds something that is no value of this kind. Worker thread.
  int Read(Raw* out) const;
  // 0 or an errno. Worker thread.
  int Write(const Raw& raw) const;

  // What a cap of `cap_ppm` means where `former` stood. Never weaker than `former`. Worker thread (reads the device's
  // own minimum).
  Raw Capped(const Raw& former, int64_t cap_ppm) const;
  // A discrete knob takes the next listed step, so a read-back passes when it is at least as strict as asked.
  bool AtLeastAsStrict(const Raw& read_back, const Raw& asked) const;

  // Whether a value that was written may show only later: cpufreq takes a new limit in a work item of the kernel (since 5.3,
  // drivers/cpufreq/cpufreq.c: cpufreq_notifier_max), and until that has run scaling_max_freq reads as before.
  bool TakesLate() const { return spec_.kind == Kind::kCpufreq; }

  // What a write that takes two steps leaves behind when it is cut off between them: of a fan the mode, without the duty.
  bool IsHalfOf(const Raw& current, const Raw& written) const;

  // The device takes no such value from us at all, whatever it is: something else must be moved in its place.
  bool IsRefusal(int error) const;

  // Whether a reading shows what was made of our write: locked clocks cannot be read, and are as they were told.
  bool TellsWhatStands() const { return spec_.kind != Kind::kNvmlClocks; }

  // What an earlier actuator wrote stands still, as far as anybody knows: locked clocks cannot be read. Worker thread, or before it.
  void Assume(const Raw& written) const;

  // Whether a look costs a process: then it is taken only when a cap is wanted.
  bool IsCostly() const { return IsGpu(spec_.kind) || IsUnitKind(spec_.kind); }
  // Whether `error` of a reading says that the thing is gone and what was set with it: then there is nothing to take back.
  bool IsGone(int error) const { return (IsUnitKind(spec_.kind) || IsCgroup(spec_.kind)) && error == ENOENT; }
  // Whether each look starts a process: then what is away is looked for less and less often.
  bool IsPatient() const { return IsUnitKind(spec_.kind); }
  // Of a GPU. Worker thread: what moves it is started, so that the next cap need not wait for that. 0 or an errno.
  int WarmUp() const;
  bool IsWarm() const { return setter_ != nullptr && setter_->is_open() && !setter_->IsLost(); }
  // Any thread. What moves it was there and has ended.
  bool IsLost() const { return setter_ != nullptr && setter_->IsLost(); }
  // Worker thread. While it may not be opened it is away, as for an errno of ENODEV.
  void SetMayOpen(bool may_open) const {
    if (setter_ != nullptr) setter_->set_may_open(may_open);
  }
  // Nothing of ours stands there any more. Worker thread.
  void Rest() const {
    if (setter_ != nullptr) setter_->Close();
    if (unit_ != nullptr) unit_->Close();
  }

  // Whether the kernel's own thermal control caps this device now, so that the value read is not the operator's.
  // Source: Documentation/driver-api/thermal/sysfs-api.rst; cpufreq cooling acts on the policy's effective maximum.
  bool KernelCoolingActive() const;
  // The documented default, for when the operator's value cannot be known. 0 or an errno.
  int Default(Raw* out) const;

 private:
  int ReadFile(const char* leaf, char* buffer, size_t size) const;
  int ReadNumber(const char* leaf, int64_t* out) const;
  int WriteFile(const char* leaf, const char* text) const;
  int RootFd() const;
  int ReadFan(Raw* out) const;
  int WriteFan(const Raw& raw) const;

  const TargetSpec spec_;
  const Roots roots_;
  const std::unique_ptr<SetterLink> setter_;  // Of a GPU.
  const std::unique_ptr<UnitLink> unit_;      // Of a unit.
  mutable int64_t min_uw_ = 0;                // Of a GPU: its own constraint, as of the last reading.
  mutable int64_t locked_mhz_ = 0;            // Of a GPU's clocks: what stands by our word; 0: they are not locked.
};

// A component "*" stands for the only entry of its directory: the hwmonN below a device, whose number changes with every boot
// and every load of its driver. Where there is none or more than one, the path stays as it is and reads as absent.
std::string ResolveEntry(int root_fd, const std::string& path);

// As the kernel writes it, blanks as '_', into a buffer of at least 48 bytes.
void FormatRaw(Kind kind, const Raw& raw, char* buffer, size_t size);

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_DEVICE_H_
