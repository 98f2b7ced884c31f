// The allow-list: what the actuator may move, and its standing orders. Plain data and a strict parser; native/actuator/
// README.md is the format's contract. Nothing here touches the system but LoadAllowList.
#ifndef SKOS_ACTUATOR_ALLOW_LIST_H_
#define SKOS_ACTUATOR_ALLOW_LIST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "units/job_verb.h"

namespace skos::actuator {

// Bounds of the format. They bound the actuator's memory: see README.md.
constexpr size_t kMaxAllowBytes = 256 * 1024;
constexpr size_t kMaxTargets = 512;
constexpr size_t kMaxOrders = 64;
constexpr size_t kMaxOrderTargets = 64;
constexpr size_t kMaxEnergies = 64;
constexpr size_t kMaxJobs = 256;
constexpr int64_t kMinJobTimeoutMs = 1'000;
constexpr int64_t kMaxJobTimeoutMs = 7'200'000;
constexpr size_t kMaxIdBytes = 64;
constexpr size_t kMaxPathBytes = 320;  // The path of a deep cgroup; it is kept in the state file too.
constexpr int64_t kFullPpm = 1'000'000;

// New kinds go behind the others: the state file holds their numbers.
enum class Kind : uint8_t {
  kCpufreq,
  kPstate,
  kRapl,
  kQuota,
  kFreeze,
  kNvmlPower,
  kAmdgpuPower,
  kUnitQuota,
  kUnitFreeze,
  kUnitRun,
  kFan,
  kNvmlClocks,
  kAmdgpuLevel
};
constexpr size_t kKinds = 13;

// Set by a process of its own, one a device: the driver of a GPU may hang where no signal reaches.
constexpr bool IsGpu(Kind kind) {
  return kind == Kind::kNvmlPower || kind == Kind::kAmdgpuPower || kind == Kind::kNvmlClocks || kind == Kind::kAmdgpuLevel;
}

// Moved by skos-units, which has systemctl do it.
constexpr bool IsUnitKind(Kind kind) { return kind == Kind::kUnitQuota || kind == Kind::kUnitFreeze || kind == Kind::kUnitRun; }

// Files of a cgroup, which are gone with it.
constexpr bool IsCgroup(Kind kind) { return kind == Kind::kQuota || kind == Kind::kFreeze; }

// On or off: no cap of theirs lies between.
constexpr bool IsSwitch(Kind kind) {
  return kind == Kind::kFreeze || kind == Kind::kUnitFreeze || kind == Kind::kUnitRun || kind == Kind::kFan;
}

struct TargetSpec {
  std::string id;
  Kind kind = Kind::kCpufreq;
  std::string path;  // Relative to the sysfs or the cgroup root, by kind; of a GPU its PCI address, of a unit its name.
  int64_t floor_ppm = kFullPpm;
};

struct OrderSpec {
  std::string name;
  std::string gpu;     // PCI address; "": the sensor is a file.
  std::string sensor;  // Relative to the sysfs root; of a GPU the channel's name.
  std::string fault;   // Likewise; "" is none.
  double multiplier = 1;
  double offset = 0;
  int64_t raise = 0;
  int64_t clear = 0;
  uint32_t samples = 1;
  int64_t rate_mhz = 10'000;
  int64_t cap_ppm = kFullPpm;
  std::vector<size_t> targets;  // Indexes into AllowList::targets.
};

// An energy counter that may be told as an average power.
struct EnergySpec {
  std::string id;
  std::string path;    // The zone's directory, relative to the sysfs root.
  int64_t max_uj = 0;  // Where the counter starts again from 0.
};

using units::JobVerb;

// What may be run to its end, by its id.
struct JobSpec {
  std::string id;
  JobVerb verb = JobVerb::kStart;
  std::string unit;  // A .service.
  int64_t timeout_ms = 0;
};

struct AllowList {
  std::vector<int64_t> controllers;  // User ids.
  std::vector<TargetSpec> targets;
  std::vector<OrderSpec> orders;
  std::vector<EnergySpec> energies;
  std::vector<JobSpec> jobs;
};

// Returns "" and fills `out`, or says in words what is wrong ("line 3: …"). `out` is unspecified after an error.
std::string ParseAllowList(std::string_view text, AllowList* out);

// Reads and checks owner, type and mode first. Returns "" or what is wrong.
std::string LoadAllowList(const char* path, AllowList* out);

// Strict decimal integer: optional '-', no blanks, no plus, no overflow. Shared with the protocol.
bool ParseInteger(std::string_view text, int64_t* out);

// `[a-z0-9:_.@~/-]{1,max}`. Shared with the protocol.
bool IsId(std::string_view text, size_t max_bytes);

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_ALLOW_LIST_H_
