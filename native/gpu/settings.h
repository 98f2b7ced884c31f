// What skos-gpu is started with, and how it starts itself again for one GPU.
#ifndef SKOS_GPU_SETTINGS_H_
#define SKOS_GPU_SETTINGS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "gpu/devices.h"

namespace skos::gpu {

constexpr int kExitUsage = 2;
constexpr int kExitBusy = 4;    // Another skos-gpu serves this socket.
constexpr int kExitSystem = 5;
// Of a worker and the lister; the supervisor tells from them what to do next.
constexpr int kExitCannotOpen = 10;     // The reason was sent.
constexpr int kExitDriverGone = 11;
constexpr int kExitResetRequired = 12;

constexpr int kSupervisorFd = 3;  // Where a worker and the lister find their end of the socket pair.

// Value of --nvml that leaves NVIDIA's GPUs alone.
constexpr const char* kNoLibrary = "none";

struct Settings {
  std::string socket_path;
  std::string sysfs_root = "/sys";
  std::string nvml = "libnvidia-ml.so.1";
  int64_t rate_mhz = 10'000;
  int64_t deadline_ms = 1'000;
  std::vector<uid_t> controllers;

  bool uses_nvml() const { return nvml != kNoLibrary; }
};

struct WorkerSettings {
  Listing gpu;
  std::string sysfs_root;
  std::string nvml;
  int64_t rate_mhz = 0;
  int64_t deadline_ms = 0;
};

struct SetterSettings {
  std::string socket_path;  // Of the listener.
  std::string sysfs_root;
  std::string nvml;
};

// Each runs until it is to leave and returns the exit status.
int RunSupervisor(const Settings& settings);
int RunWorker(const WorkerSettings& settings);
int RunLister(const std::string& nvml);
int RunSetters(const SetterSettings& settings);
int RunSetter(const SetterSettings& settings);

}  // namespace skos::gpu

#endif  // SKOS_GPU_SETTINGS_H_
