#include "probes/nvml_channels.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <utility>

#include "probes/nvml_source.h"

namespace skos::nvml {
namespace {

constexpr unsigned kMaxFans = 8;  // Boards have at most four.
constexpr int64_t kMilli = 1000;
constexpr int kPairTries = 3;  // Of temperature and margin that belong together.
// GPUs state 80 to 110 °C. A limit beyond these was made of numbers that do not belong together.
constexpr int64_t kMinTlimitCelsius = 60;
constexpr int64_t kMaxTlimitCelsius = 125;
constexpr int64_t kHertzPerMegahertz = 1'000'000;
constexpr int64_t kPpmPerPercent = 10'000;
constexpr int64_t kNsPerMillisecond = 1'000'000;

constexpr char kTemperature[] = "temperatureMilliCelsius";
constexpr char kPower[] = "powerMilliWatts";
constexpr char kEnergy[] = "energyMilliJoules";
constexpr char kFrequency[] = "frequencyHertz";
constexpr char kRatio[] = "ratioPartsPerMillion";
constexpr char kBytes[] = "sizeBytes";
constexpr char kCount[] = "countTotal";
constexpr char kDuration[] = "durationMs";
constexpr char kState[] = "stateCode";

// A channel before it is known whether the GPU has it.
struct Wanted {
  std::string name;
  std::string label;
  const char* quantity;
  GpuRate rate;
  GpuLimits limits = {};
  bool thermal_default = false;
};

struct WantedField {
  uint32_t field;
  Wanted channel;
  int64_t multiplier = 1;
  int64_t divisor = 1;
};

// What a batch asks for, by slot.
struct FieldSlot {
  uint32_t field;
  int64_t multiplier;
  int64_t divisor;
};

int AskFields(const Gpu& gpu, const std::vector<FieldSlot>& slots, Datum* data) {
  std::vector<FieldValue> values(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) values[i].field = slots[i].field;
  const int code = gpu.library->field_values(gpu.handle, static_cast<int>(values.size()), values.data());
  if (code != kSuccess) return code;
  // The call succeeds though single fields failed.
  for (size_t i = 0; i < slots.size(); ++i) {
    data[i] = FromField(values[i], slots[i].multiplier, slots[i].divisor);
    if (slots[i].field != kFieldRecoveryAction) continue;
    const bool known = data[i].code == kSuccess && data[i].quality == Quality::kOk;
    gpu.health.NoteRecoveryAction(known ? static_cast<int>(data[i].value) : kRecoveryNone);
  }
  return kSuccess;
}

// Collects what the GPU has. Ways to the same quantity are tried in order: the first that works gives the name, later ones are not asked.
class Discovery {
 public:
  explicit Discovery(std::shared_ptr<const Gpu> gpu) : gpu_(std::move(gpu)) {}

  const Gpu& gpu() const { return *gpu_; }
  std::vector<GpuChannel> Take() { return std::move(channels_); }
  bool Has(const std::string& name) const { return names_.count(name) != 0; }

  // One channel for each slot that `call` fills; `call` holds `gpu()` by the reference it gets.
  void Call(const char* path, const std::vector<Wanted>& wanted, std::function<int(const Gpu&, Datum*)> call) {
    if (std::all_of(wanted.begin(), wanted.end(), [this](const Wanted& one) { return Has(one.name); })) return;
    GpuRate fastest = GpuRate::kSlow;
    for (const Wanted& one : wanted) fastest = std::min(fastest, one.rate);
    const Gpu* const gpu = gpu_.get();  // The source owns it beside the call.
    const auto source = std::make_shared<Source>(gpu_, fastest, wanted.size(),
                                                 [gpu, call = std::move(call)](Datum* data) { return call(*gpu, data); });
    source->Refresh();
    for (size_t slot = 0; slot < wanted.size(); ++slot) Add(wanted[slot], path, source, slot);
  }

  // All fields of a rate in one call.
  void Fields(GpuRate rate, const std::vector<WantedField>& wanted) {
    std::vector<FieldSlot> asked;
    for (const WantedField& one : wanted) asked.push_back({one.field, one.multiplier, one.divisor});
    std::vector<Datum> answers(asked.size());
    const int code = AskFields(*gpu_, asked, answers.data());
    std::vector<FieldSlot> kept;
    std::vector<const WantedField*> channels;
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (!IsSupported(code == kSuccess ? answers[i].code : code) || Has(wanted[i].channel.name)) continue;
      kept.push_back(asked[i]);
      channels.push_back(&wanted[i]);
    }
    if (kept.empty()) return;
    const Gpu* const gpu = gpu_.get();
    const auto source = std::make_shared<Source>(
        gpu_, rate, kept.size(), [gpu, kept](Datum* data) { return AskFields(*gpu, kept, data); });
    source->Refresh();
    for (size_t slot = 0; slot < channels.size(); ++slot) {
      Add(channels[slot]->channel, "nvmlDeviceGetFieldValues " + std::to_string(channels[slot]->field), source, slot);
    }
  }

 private:
  void Add(const Wanted& wanted, const std::string& path, const std::shared_ptr<Source>& source, size_t slot) {
    if (!IsSupported(source->datum(slot).code) || !names_.insert(wanted.name).second) return;
    GpuChannel channel;
    channel.name = wanted.name;
    channel.label = wanted.label;
    channel.quantity = wanted.quantity;
    channel.rate = wanted.rate;
    channel.limits = wanted.limits;
    channel.path = path;
    channel.thermal_default = wanted.thermal_default;
    channel.probe = std::make_shared<SlotProbe>(source, slot);
    channels_.push_back(std::move(channel));
  }

  const std::shared_ptr<const Gpu> gpu_;
  std::vector<GpuChannel> channels_;
  std::set<std::string> names_;
};

// A getter of one unsigned number.
using UnsignedGetter = Function<Device, unsigned*> Library::*;

void AddUnsigned(Discovery& found, UnsignedGetter getter, const Wanted& wanted, int64_t multiplier = 1) {
  const char* const path = (found.gpu().library.get()->*getter).name();
  found.Call(path, {wanted}, [getter, multiplier](const Gpu& gpu, Datum* data) {
    unsigned raw = kNotAvailable32;
    const int code = (gpu.library.get()->*getter)(gpu.handle, &raw);
    data[0] = FromUnsigned(raw, multiplier);
    return code;
  });
}

// A threshold that is 0 or marked as absent is none.
std::optional<int64_t> Threshold(const Gpu& gpu, int threshold) {
  unsigned celsius = 0;
  if (gpu.library->temperature_threshold(gpu.handle, threshold, &celsius) != kSuccess) return std::nullopt;
  if (celsius == 0 || celsius == kNotAvailable32) return std::nullopt;
  return static_cast<int64_t>(celsius) * kMilli;
}

Datum FromCelsius(int64_t celsius) {
  if (celsius == INT64_MIN) return {kSuccess, Quality::kNoData, 0};
  return {kSuccess, Quality::kOk, celsius * kMilli};
}

// The temperature at which the margin will be 0. Both are whole degrees of a moving value: a pair counts when the temperature is the same
// before and after, else the lowest of some pairs, which errs on the careful side.
std::optional<int64_t> CelsiusWithoutMargin(const Gpu& gpu) {
  std::optional<int64_t> lowest;
  for (int i = 0; i < kPairTries; ++i) {
    int64_t before = INT64_MIN;
    int64_t after = INT64_MIN;
    MarginTemperature margin;
    if (gpu.Temperature(&before) != kSuccess || before == INT64_MIN) return std::nullopt;
    if (gpu.library->margin(gpu.handle, &margin) != kSuccess || margin.celsius == INT32_MIN) return std::nullopt;
    if (gpu.Temperature(&after) != kSuccess || after == INT64_MIN) return std::nullopt;
    const int64_t sum = std::min(before, after) + margin.celsius;
    if (before == after) return sum;
    lowest = std::min(sum, lowest.value_or(sum));
  }
  return lowest;
}

std::optional<int64_t> Tlimit(const FieldValue& field) {
  const Datum datum = FromField(field, 1, 1);
  if (datum.code != kSuccess || datum.quality != Quality::kOk) return std::nullopt;
  // A negative number of 32 bits, which a driver may call unsigned.
  return datum.value > INT32_MAX ? datum.value - (int64_t{1} << 32) : datum.value;
}

// GPUs since Ada count from their maximum operating temperature instead of stating thresholds: margin and limits are degrees left to it, so
// that what lies above it is negative. At 30 °C an H100 says margin 57, maximum 0, slowdown -2, shutdown -8: 87, 89 and 95 °C. Sources: nvml.h
// at nvmlDeviceGetTemperatureThreshold and NVML_FI_DEV_TEMPERATURE_*_TLIMIT; nvidia-smi(1) at "GPU T.Limit Temp".
void AddTlimits(const Gpu& gpu, GpuLimits* limits) {
  FieldValue fields[3];
  fields[0].field = kFieldGpuMaxTlimit;
  fields[1].field = kFieldSlowdownTlimit;
  fields[2].field = kFieldShutdownTlimit;
  if (gpu.library->field_values(gpu.handle, 3, fields) != kSuccess) return;
  const std::optional<int64_t> tlimits[3] = {Tlimit(fields[0]), Tlimit(fields[1]), Tlimit(fields[2])};
  // Some drivers answer 0 to all of them, which is no answer: nothing shuts down where it may still work.
  if (tlimits[0] && tlimits[2] && *tlimits[2] >= *tlimits[0]) return;
  const std::optional<int64_t> zero = CelsiusWithoutMargin(gpu);
  if (!zero) return;
  std::optional<int64_t>* const out[3] = {&limits->max, &limits->critical, &limits->emergency};
  for (size_t i = 0; i < 3; ++i) {
    if (*out[i] || !tlimits[i]) continue;
    const int64_t celsius = *zero - *tlimits[i];
    if (celsius >= kMinTlimitCelsius && celsius <= kMaxTlimitCelsius) *out[i] = celsius * kMilli;
  }
}

GpuLimits TemperatureLimits(const Gpu& gpu) {
  GpuLimits limits;
  limits.max = Threshold(gpu, kThresholdGpuMax);
  limits.critical = Threshold(gpu, kThresholdSlowdown);
  limits.emergency = Threshold(gpu, kThresholdShutdown);
  if (!limits.max || !limits.critical || !limits.emergency) AddTlimits(gpu, &limits);
  return limits;
}

void AddFast(Discovery& found) {
  const Gpu& gpu = found.gpu();
  const GpuLimits limits = TemperatureLimits(gpu);
  GpuLimits memory_limits;
  // Where the driver begins to slow down for the memory's sake (nvml.h), as it does for the GPU at its slowdown threshold.
  memory_limits.critical = Threshold(gpu, kThresholdMemoryMax);
  found.Call("nvmlDeviceGetTemperatureV", {{"temperature", "GPU", kTemperature, GpuRate::kFast, limits, true}},
             [](const Gpu& gpu, Datum* data) {
               int64_t celsius = INT64_MIN;
               const int code = gpu.Temperature(&celsius);
               data[0] = FromCelsius(celsius);
               return code;
             });
  found.Fields(GpuRate::kFast,
               {{kFieldMemoryTemperature,
                 {"temperature_memory", "GPU memory", kTemperature, GpuRate::kFast, memory_limits, true},
                 kMilli},
                {kFieldPowerAverage, {"power_average", "power, averaged over 1 s", kPower, GpuRate::kFast}},
                {kFieldPowerInstant, {"power_instant", "power at this moment", kPower, GpuRate::kFast}}});
  found.Call("nvmlDeviceGetMarginTemperature", {{"margin", "T.Limit margin", kTemperature, GpuRate::kFast}},
             [](const Gpu& gpu, Datum* data) {
               MarginTemperature margin;
               const int code = gpu.library->margin(gpu.handle, &margin);
               data[0] = FromCelsius(margin.celsius == INT32_MIN ? INT64_MIN : margin.celsius);
               return code;
             });
  AddUnsigned(found, &Library::power_usage, {"power", "power", kPower, GpuRate::kFast});
  found.Call("nvmlDeviceGetCurrentClocksEventReasons", {{"throttle_reasons", "clock event reasons", "flagsBitmask", GpuRate::kFast}},
             [](const Gpu& gpu, Datum* data) {
               unsigned long long reasons = kNotAvailable64;
               const int code = gpu.EventReasons(&reasons);
               data[0] = FromUnsigned64(reasons);
               return code;
             });
}

void AddClocks(Discovery& found) {
  static const struct {
    const char* name;
    Clock clock;
  } kClocks[] = {{"graphics", kClockGraphics}, {"sm", kClockSm}, {"memory", kClockMemory}, {"video", kClockVideo}};
  for (const auto& one : kClocks) {
    const int clock = one.clock;
    const std::string name = std::string("clock_") + one.name;
    const std::string label = std::string(one.name) + " clock";
    found.Call("nvmlDeviceGetClockInfo", {{name, label, kFrequency, GpuRate::kMedium}}, [clock](const Gpu& gpu, Datum* data) {
      unsigned megahertz = kNotAvailable32;
      const int code = gpu.library->clock(gpu.handle, clock, &megahertz);
      data[0] = FromUnsigned(megahertz, kHertzPerMegahertz);
      return code;
    });
    found.Call("nvmlDeviceGetMaxClockInfo", {{name + "_max", "highest " + label, kFrequency, GpuRate::kSlow}},
               [clock](const Gpu& gpu, Datum* data) {
                 unsigned megahertz = kNotAvailable32;
                 const int code = gpu.library->clock_max(gpu.handle, clock, &megahertz);
                 data[0] = FromUnsigned(megahertz, kHertzPerMegahertz);
                 return code;
               });
  }
}

void AddFans(Discovery& found) {
  unsigned count = 0;
  if (found.gpu().library->fan_count(found.gpu().handle, &count) != kSuccess) count = 1;
  for (unsigned fan = 0; fan < std::min(count, kMaxFans); ++fan) {
    const std::string suffix = fan == 0 ? "" : "_" + std::to_string(fan + 1);
    const std::string label = "fan " + std::to_string(fan + 1);
    found.Call("nvmlDeviceGetFanSpeed_v2", {{"fan" + suffix, label, kRatio, GpuRate::kMedium}}, [fan](const Gpu& gpu, Datum* data) {
      unsigned percent = kNotAvailable32;
      const int code = gpu.FanPercent(fan, &percent);
      data[0] = FromUnsigned(percent, kPpmPerPercent);
      return code;
    });
    found.Call("nvmlDeviceGetFanSpeedRPM", {{"fan_rpm" + suffix, label, "fanRpm", GpuRate::kMedium}},
               [fan](const Gpu& gpu, Datum* data) {
                 FanSpeed speed;
                 speed.fan = fan;
                 const int code = gpu.library->fan_rpm(gpu.handle, &speed);
                 data[0] = FromUnsigned(speed.rpm);
                 return code;
               });
  }
}

// Times spent slowed down, since the driver was loaded. All of these are nanoseconds (nvml.h at NVML_FI_DEV_PERF_POLICY_* and
// NVML_FI_DEV_CLOCKS_EVENT_REASON_*; nvmlViolationTime_t: only its referenceTime is microseconds).
//
// The fields of the two hardware slowdowns were renumbered: 252 and 253 in headers up to driver 580 (where 270 and 271 are settings of
// power smoothing), 270 and 271 in the NVML 13.3 header. Between the two nothing is asked, because the wrong number would be read as a time.
std::vector<WantedField> ThrottleFields(const std::string& driver) {
  constexpr long kLastBranchBefore = 580;
  constexpr long kFirstBranchAfter = 610;
  const Wanted hardware = {"throttled_hardware", "time in hardware thermal slowdown", kDuration, GpuRate::kMedium};
  const Wanted brake = {"throttled_power_brake", "time in power brake slowdown", kDuration, GpuRate::kMedium};
  std::vector<WantedField> fields = {
      {kFieldPolicyPower, {"throttled_power", "time slowed by the power cap", kDuration, GpuRate::kMedium}, 1, kNsPerMillisecond},
      {kFieldPolicyThermal, {"throttled_thermal", "time slowed by heat", kDuration, GpuRate::kMedium}, 1, kNsPerMillisecond}};
  const long branch = std::strtol(driver.c_str(), nullptr, 10);
  if (branch > 0 && branch <= kLastBranchBefore) {
    fields.push_back({kFieldHardwareThermalBefore, hardware, 1, kNsPerMillisecond});
    fields.push_back({kFieldPowerBrakeBefore, brake, 1, kNsPerMillisecond});
  } else if (branch >= kFirstBranchAfter) {
    fields.push_back({kFieldHardwareThermal, hardware, 1, kNsPerMillisecond});
    fields.push_back({kFieldPowerBrake, brake, 1, kNsPerMillisecond});
  }
  return fields;
}

void AddViolation(Discovery& found, const char* name, const char* label, PerfPolicy policy) {
  found.Call("nvmlDeviceGetViolationStatus", {{name, label, kDuration, GpuRate::kMedium}}, [policy](const Gpu& gpu, Datum* data) {
    ViolationTime time;
    const int code = gpu.library->violation(gpu.handle, policy, &time);
    data[0] = FromUnsigned64(time.violation_ns);
    data[0].value /= kNsPerMillisecond;
    return code;
  });
}

void AddMemory(Discovery& found) {
  found.Call("nvmlDeviceGetMemoryInfo_v2",
             {{"memory_used", "memory used", kBytes, GpuRate::kMedium},
              {"memory_reserved", "memory reserved by the driver", kBytes, GpuRate::kMedium},
              {"memory_total", "memory", kBytes, GpuRate::kSlow}},
             [](const Gpu& gpu, Datum* data) {
               MemoryV2 memory;
               memory.reserved = kNotAvailable64;
               const int code = gpu.Memory(&memory);
               data[0] = FromUnsigned64(memory.used);
               // The older call does not tell it apart from what is used: no such channel.
               data[1] = memory.reserved == kNotAvailable64 ? Datum{kNotSupported, Quality::kOk, 0} : FromUnsigned64(memory.reserved);
               data[2] = FromUnsigned64(memory.total);
               return code;
             });
}

void AddMedium(Discovery& found, const std::string& driver) {
  std::vector<WantedField> fields = ThrottleFields(driver);
  fields.push_back({kFieldEnergy, {"energy", "energy since the driver was loaded", kEnergy, GpuRate::kMedium}});
  found.Fields(GpuRate::kMedium, fields);
  AddViolation(found, "throttled_power", "time slowed by the power cap", kPolicyPower);
  AddViolation(found, "throttled_thermal", "time slowed by heat", kPolicyThermal);
  found.Call("nvmlDeviceGetTotalEnergyConsumption", {{"energy", "energy since the driver was loaded", kEnergy, GpuRate::kMedium}},
             [](const Gpu& gpu, Datum* data) {
               unsigned long long millijoules = kNotAvailable64;
               const int code = gpu.library->energy(gpu.handle, &millijoules);
               data[0] = FromUnsigned64(millijoules);
               return code;
             });
  AddClocks(found);
  found.Call("nvmlDeviceGetUtilizationRates",
             {{"utilization", "GPU busy", kRatio, GpuRate::kMedium},
              {"utilization_memory", "memory interface busy", kRatio, GpuRate::kMedium}},
             [](const Gpu& gpu, Datum* data) {
               Utilization utilization;
               const int code = gpu.library->utilization(gpu.handle, &utilization);
               data[0] = FromUnsigned(utilization.gpu_percent, kPpmPerPercent);
               data[1] = FromUnsigned(utilization.memory_percent, kPpmPerPercent);
               return code;
             });
  AddMemory(found);
  AddFans(found);
  found.Call("nvmlDeviceGetPerformanceState", {{"performance_state", "P-state", kState, GpuRate::kMedium}},
             [](const Gpu& gpu, Datum* data) {
               int state = static_cast<int>(kPstateUnknown);
               const int code = gpu.library->performance_state(gpu.handle, &state);
               const bool known = state >= 0 && state < static_cast<int>(kPstateUnknown);
               data[0] = {kSuccess, known ? Quality::kOk : Quality::kNoData, known ? state : 0};
               return code;
             });
}

void AddPowerLimits(Discovery& found) {
  AddUnsigned(found, &Library::power_limit, {"power_limit", "power limit", kPower, GpuRate::kSlow});
  AddUnsigned(found, &Library::power_limit_enforced, {"power_limit_enforced", "enforced power limit", kPower, GpuRate::kSlow});
  AddUnsigned(found, &Library::power_limit_default, {"power_limit_default", "default power limit", kPower, GpuRate::kSlow});
  found.Call("nvmlDeviceGetPowerManagementLimitConstraints",
             {{"power_limit_min", "lowest power limit", kPower, GpuRate::kSlow},
              {"power_limit_max", "highest power limit", kPower, GpuRate::kSlow}},
             [](const Gpu& gpu, Datum* data) {
               unsigned lowest = kNotAvailable32;
               unsigned highest = kNotAvailable32;
               const int code = gpu.library->power_constraints(gpu.handle, &lowest, &highest);
               data[0] = FromUnsigned(lowest);
               data[1] = FromUnsigned(highest);
               return code;
             });
}

const struct EccKind {
  const char* name;
  const char* label;
  MemoryError error;
  EccCounter counter;
  uint32_t field;
} kEccKinds[] = {
    {"ecc_corrected_volatile", "ECC errors corrected since boot", kCorrected, kVolatile, kFieldEccCorrectedVolatile},
    {"ecc_uncorrected_volatile", "ECC errors not corrected since boot", kUncorrected, kVolatile, kFieldEccUncorrectedVolatile},
    {"ecc_corrected_aggregate", "ECC errors ever corrected", kCorrected, kAggregate, kFieldEccCorrectedAggregate},
    {"ecc_uncorrected_aggregate", "ECC errors ever not corrected", kUncorrected, kAggregate, kFieldEccUncorrectedAggregate},
};

const struct {
  const char* suffix;
  const char* label;
  MemoryLocation location;
} kEccLocations[] = {
    {"_dram", "device memory", kLocationDram}, {"_sram", "SRAM", kLocationSram},
    {"_l1", "L1 cache", kLocationL1},          {"_l2", "L2 cache", kLocationL2},
    {"_register_file", "register file", kLocationRegisterFile},
    {"_texture", "texture memory", kLocationTexture},
    {"_shared", "shared memory", kLocationShared},
    {"_cbu", "CBU", kLocationCbu},
};

std::vector<WantedField> SlowFields() {
  std::vector<WantedField> fields;
  for (const EccKind& kind : kEccKinds) fields.push_back({kind.field, {kind.name, kind.label, kCount, GpuRate::kSlow}});
  const auto add = [&fields](uint32_t field, const char* name, const char* label, const char* quantity) {
    fields.push_back({field, {name, label, quantity, GpuRate::kSlow}});
  };
  add(kFieldRemappedCorrected, "remapped_corrected", "rows remapped after corrected errors", kCount);
  add(kFieldRemappedUncorrected, "remapped_uncorrected", "rows remapped after uncorrected errors", kCount);
  add(kFieldRemappedPending, "remapped_pending", "row remapping waits for a reset", kState);
  add(kFieldRemappedFailure, "remapped_failure", "a row remapping failed", kState);
  add(kFieldRetiredSingleBit, "retired_pages_single", "pages retired for single-bit errors", kCount);
  add(kFieldRetiredDoubleBit, "retired_pages_double", "pages retired for double-bit errors", kCount);
  add(kFieldRetiredPending, "retired_pending", "page retirement waits for a reset", kState);
  add(kFieldPcieReplays, "pcie_replays", "PCIe replays", kCount);
  add(kFieldPcieCorrectable, "pcie_correctable", "PCIe correctable errors", kCount);
  add(kFieldPcieNonFatal, "pcie_nonfatal", "PCIe non-fatal errors", kCount);
  add(kFieldPcieFatal, "pcie_fatal", "PCIe fatal errors", kCount);
  add(kFieldNvLinkCrcFlit, "nvlink_crc_flit", "NVLink flit CRC errors", kCount);
  add(kFieldNvLinkCrcData, "nvlink_crc_data", "NVLink data CRC errors", kCount);
  add(kFieldNvLinkReplay, "nvlink_replay", "NVLink replays", kCount);
  add(kFieldNvLinkRecovery, "nvlink_recovery", "NVLink recoveries", kCount);
  add(kFieldNvLinkEccData, "nvlink_ecc_data", "NVLink data ECC errors", kCount);
  add(kFieldRecoveryAction, "recovery_action", "recovery that the driver asks for", kState);
  return fields;
}

void AddEcc(Discovery& found) {
  for (const EccKind& kind : kEccKinds) {
    const MemoryError error = kind.error;
    const EccCounter counter = kind.counter;
    found.Call("nvmlDeviceGetTotalEccErrors", {{kind.name, kind.label, kCount, GpuRate::kSlow}},
               [error, counter](const Gpu& gpu, Datum* data) {
                 unsigned long long count = kNotAvailable64;
                 const int code = gpu.library->ecc_total(gpu.handle, error, counter, &count);
                 data[0] = FromUnsigned64(count);
                 return code;
               });
    for (const auto& place : kEccLocations) {
      const MemoryLocation location = place.location;
      const Wanted wanted = {std::string(kind.name) + place.suffix, std::string(kind.label) + ", " + place.label, kCount,
                             GpuRate::kSlow};
      found.Call("nvmlDeviceGetMemoryErrorCounter", {wanted}, [error, counter, location](const Gpu& gpu, Datum* data) {
        unsigned long long count = kNotAvailable64;
        const int code = gpu.library->ecc_at(gpu.handle, error, counter, location, &count);
        data[0] = FromUnsigned64(count);
        return code;
      });
    }
  }
  found.Call("nvmlDeviceGetSramEccErrorStatus",
             {{"ecc_sram_threshold_exceeded", "SRAM errors beyond the vendor's threshold", kState, GpuRate::kSlow}},
             [](const Gpu& gpu, Datum* data) {
               SramEccStatus status;
               const int code = gpu.library->sram_status(gpu.handle, &status);
               data[0] = FromUnsigned(status.threshold_exceeded);
               return code;
             });
}

// Of cards whose field values lack them.
void AddPages(Discovery& found) {
  found.Call("nvmlDeviceGetRemappedRows",
             {{"remapped_corrected", "rows remapped after corrected errors", kCount, GpuRate::kSlow},
              {"remapped_uncorrected", "rows remapped after uncorrected errors", kCount, GpuRate::kSlow},
              {"remapped_pending", "row remapping waits for a reset", kState, GpuRate::kSlow},
              {"remapped_failure", "a row remapping failed", kState, GpuRate::kSlow}},
             [](const Gpu& gpu, Datum* data) {
               unsigned rows[4] = {kNotAvailable32, kNotAvailable32, kNotAvailable32, kNotAvailable32};
               const int code = gpu.library->remapped_rows(gpu.handle, &rows[0], &rows[1], &rows[2], &rows[3]);
               for (size_t i = 0; i < 4; ++i) data[i] = FromUnsigned(rows[i]);
               return code;
             });
  const auto retired = [&found](const char* name, const char* label, RetirementCause cause) {
    found.Call("nvmlDeviceGetRetiredPages", {{name, label, kCount, GpuRate::kSlow}}, [cause](const Gpu& gpu, Datum* data) {
      unsigned pages = 0;
      // Without room for addresses it gives the count, and calls that insufficient size.
      const int code = gpu.library->retired_pages(gpu.handle, cause, &pages, nullptr);
      data[0] = FromUnsigned(pages);
      return code == kInsufficientSize ? static_cast<int>(kSuccess) : code;
    });
  };
  retired("retired_pages_single", "pages retired for single-bit errors", kRetiredSingleBit);
  retired("retired_pages_double", "pages retired for double-bit errors", kRetiredDoubleBit);
  found.Call("nvmlDeviceGetRetiredPagesPendingStatus",
             {{"retired_pending", "page retirement waits for a reset", kState, GpuRate::kSlow}}, [](const Gpu& gpu, Datum* data) {
               int pending = 0;
               const int code = gpu.library->retired_pending(gpu.handle, &pending);
               data[0].value = pending;
               return code;
             });
}

void AddPcie(Discovery& found) {
  AddUnsigned(found, &Library::pcie_generation, {"pcie_generation", "PCIe generation", kState, GpuRate::kSlow});
  AddUnsigned(found, &Library::pcie_width, {"pcie_width", "PCIe lanes", kState, GpuRate::kSlow});
  AddUnsigned(found, &Library::pcie_generation_max, {"pcie_generation_max", "highest PCIe generation", kState, GpuRate::kSlow});
  AddUnsigned(found, &Library::pcie_width_max, {"pcie_width_max", "most PCIe lanes", kState, GpuRate::kSlow});
  AddUnsigned(found, &Library::pcie_replays, {"pcie_replays", "PCIe replays", kCount, GpuRate::kSlow});
}

std::vector<unsigned> NvLinks(const Gpu& gpu) {
  std::vector<unsigned> links;
  for (unsigned link = 0; link < kMaxNvLinks; ++link) {
    int active = 0;
    const int code = gpu.library->link_state(gpu.handle, link, &active);
    if (code == kFunctionNotFound) break;
    if (code == kSuccess) links.push_back(link);
  }
  return links;
}

// Where the driver has no total: the sum over those links that count it now. One link that fails makes the sum unknown.
void AddLinkSum(Discovery& found, const std::vector<unsigned>& links, const char* name, const char* label, NvLinkError counter) {
  if (found.Has(name)) return;
  const Gpu& gpu = found.gpu();
  std::vector<unsigned> counting;
  for (const unsigned link : links) {
    unsigned long long errors = 0;
    if (gpu.library->link_errors(gpu.handle, link, counter, &errors) == kSuccess) counting.push_back(link);
  }
  if (counting.empty()) return;
  found.Call("nvmlDeviceGetNvLinkErrorCounter", {{name, label, kCount, GpuRate::kSlow}}, [counting, counter](const Gpu& gpu, Datum* data) {
    unsigned long long sum = 0;
    for (const unsigned link : counting) {
      unsigned long long errors = 0;
      const int code = gpu.library->link_errors(gpu.handle, link, counter, &errors);
      if (code != kSuccess) return code;
      if (__builtin_add_overflow(sum, errors, &sum)) sum = static_cast<unsigned long long>(INT64_MAX) + 1;
    }
    data[0] = FromUnsigned64(sum);
    return static_cast<int>(kSuccess);
  });
}

void AddNvLink(Discovery& found) {
  const std::vector<unsigned> links = NvLinks(found.gpu());
  if (links.empty()) return;
  found.Call("nvmlDeviceGetNvLinkState", {{"nvlink_active", "active NVLinks", kState, GpuRate::kSlow}},
             [links](const Gpu& gpu, Datum* data) {
               for (const unsigned link : links) {
                 int active = 0;
                 const int code = gpu.library->link_state(gpu.handle, link, &active);
                 if (code != kSuccess) return code;
                 data[0].value += active == 1 ? 1 : 0;
               }
               return static_cast<int>(kSuccess);
             });
  AddLinkSum(found, links, "nvlink_crc_flit", "NVLink flit CRC errors", kLinkCrcFlit);
  AddLinkSum(found, links, "nvlink_crc_data", "NVLink data CRC errors", kLinkCrcData);
  AddLinkSum(found, links, "nvlink_replay", "NVLink replays", kLinkReplay);
  AddLinkSum(found, links, "nvlink_recovery", "NVLink recoveries", kLinkRecovery);
  AddLinkSum(found, links, "nvlink_ecc_data", "NVLink data ECC errors", kLinkEccData);
}

// The number of processes that use the GPU, and the memory of those that compute.
int AskProcesses(const Gpu& gpu, Datum* data) {
  std::vector<ProcessInfo> compute;
  std::vector<ProcessInfo> graphics;
  gpu.health.NoteProcesses(-1);
  const int code = gpu.Processes(true, &compute);
  if (code != kSuccess) return code;
  const int graphics_code = gpu.Processes(false, &graphics);
  if (graphics_code != kSuccess && IsSupported(graphics_code)) return graphics_code;
  std::set<uint32_t> pids;
  for (const ProcessInfo& process : graphics) pids.insert(process.pid);
  int64_t bytes = 0;
  bool known = compute.empty();
  bool garbage = false;
  for (const ProcessInfo& process : compute) {
    pids.insert(process.pid);
    const Datum used = FromUnsigned64(process.used_memory_bytes);
    if (used.quality == Quality::kNoData) continue;
    known = true;
    garbage |= used.quality != Quality::kOk || __builtin_add_overflow(bytes, used.value, &bytes);
  }
  gpu.health.NoteProcesses(static_cast<int>(pids.size()));
  data[0].value = static_cast<int64_t>(pids.size());
  data[1].value = bytes;
  if (garbage) data[1].quality = Quality::kFault;
  else if (!known) data[1].quality = Quality::kNoData;
  return kSuccess;
}

void AddUse(Discovery& found) {
  found.Call("nvmlDeviceGetComputeRunningProcesses_v3",
             {{"processes", "processes", kState, GpuRate::kSlow},
              {"process_memory", "memory of compute processes", kBytes, GpuRate::kSlow}},
             AskProcesses);
  found.Call("nvmlDeviceGetPersistenceMode", {{"persistence_mode", "persistence mode", kState, GpuRate::kSlow}},
             [](const Gpu& gpu, Datum* data) {
               int mode = 0;
               const int code = gpu.library->persistence_mode(gpu.handle, &mode);
               data[0].value = mode;
               return code;
             });
  found.Call("nvmlDeviceGetEccMode", {{"ecc_mode", "ECC mode", kState, GpuRate::kSlow}}, [](const Gpu& gpu, Datum* data) {
    int current = 0;
    int pending = 0;
    const int code = gpu.library->ecc_mode(gpu.handle, &current, &pending);
    data[0].value = current;
    return code;
  });
  found.Call("nvmlDeviceGetMigMode",
             {{"mig_mode", "MIG mode", kState, GpuRate::kSlow}, {"mig_instances", "MIG instances", kState, GpuRate::kSlow}},
             [](const Gpu& gpu, Datum* data) {
               unsigned current = kNotAvailable32;
               unsigned pending = 0;
               const int code = gpu.library->mig_mode(gpu.handle, &current, &pending);
               data[0] = FromUnsigned(current);
               if (code == kSuccess && current == 1) data[1].value = static_cast<int64_t>(gpu.MigDevices().size());
               return code;
             });
}

}  // namespace

std::vector<GpuChannel> DiscoverChannels(const std::shared_ptr<const Gpu>& gpu, const std::string& driver) {
  Discovery found(gpu);
  AddFast(found);
  AddMedium(found, driver);
  AddPowerLimits(found);
  found.Fields(GpuRate::kSlow, SlowFields());
  AddEcc(found);
  AddPages(found);
  AddPcie(found);
  AddNvLink(found);
  AddUse(found);
  return found.Take();
}

}  // namespace skos::nvml
