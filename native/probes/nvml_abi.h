// What of NVML's binary interface is used here: constants, structures, the signatures of functions. Own declarations of facts that are
// public in NVIDIA's nvml.h (NVML 13.3, x86-64 Linux); nothing is linked, every function is looked up at run time (nvml_library.h).
#ifndef SKOS_PROBES_NVML_ABI_H_
#define SKOS_PROBES_NVML_ABI_H_

#include <cstddef>
#include <cstdint>

namespace skos::nvml {

using Device = struct DeviceHandle*;      // Opaque.
using EventSet = struct EventSetHandle*;  // Opaque.

// nvmlReturn_t. A plain int here: a driver that is newer than this list answers with codes that are not in it.
enum Return : int {
  kSuccess = 0,
  kUninitialized = 1,
  kInvalidArgument = 2,
  kNotSupported = 3,
  kNoPermission = 4,
  kNotFound = 6,
  kInsufficientSize = 7,
  kDriverNotLoaded = 9,
  kTimeout = 10,
  kFunctionNotFound = 13,
  kGpuIsLost = 15,
  kResetRequired = 16,
  kLibRmVersionMismatch = 18,
  kNoDataCode = 21,
  kVgpuEccNotSupported = 22,
  kArgumentVersionMismatch = 25,
  kDeprecated = 26,
  kNotReady = 27,
  kGpuNotFound = 28,
};

// `version` of a versioned structure: its size and the number of its layout.
template <typename T>
constexpr uint32_t VersionOf(uint32_t number) {
  return static_cast<uint32_t>(sizeof(T)) | number << 24;
}

constexpr uint32_t kNotAvailable32 = UINT32_MAX;
constexpr uint64_t kNotAvailable64 = UINT64_MAX;  // NVML_VALUE_NOT_AVAILABLE
constexpr uint32_t kPstateUnknown = 32;
constexpr uint32_t kMaxNvLinks = 36;
constexpr size_t kUuidBytes = 96;
constexpr size_t kNameBytes = 96;
constexpr size_t kSerialBytes = 30;
constexpr size_t kVbiosBytes = 32;
constexpr size_t kVersionBytes = 80;

enum TemperatureSensor : int { kSensorGpu = 0 };
enum TemperatureThreshold : int {
  kThresholdShutdown = 0,
  kThresholdSlowdown = 1,
  kThresholdMemoryMax = 2,
  kThresholdGpuMax = 3,
};
enum Clock : int { kClockGraphics = 0, kClockSm = 1, kClockMemory = 2, kClockVideo = 3 };
enum MemoryError : int { kCorrected = 0, kUncorrected = 1 };
enum EccCounter : int { kVolatile = 0, kAggregate = 1 };
enum MemoryLocation : int {
  kLocationL1 = 0,
  kLocationL2 = 1,
  kLocationDram = 2,
  kLocationRegisterFile = 3,
  kLocationTexture = 4,
  kLocationShared = 5,
  kLocationCbu = 6,
  kLocationSram = 7,
};
enum RetirementCause : int { kRetiredSingleBit = 0, kRetiredDoubleBit = 1 };
enum NvLinkError : int { kLinkReplay = 0, kLinkRecovery = 1, kLinkCrcFlit = 2, kLinkCrcData = 3, kLinkEccData = 4 };
enum PerfPolicy : int { kPolicyPower = 0, kPolicyThermal = 1 };
enum RecoveryAction : int { kRecoveryNone = 0, kRecoveryReset = 1, kRecoveryDrainAndReset = 4 };

enum Event : uint64_t {
  kEventDoubleBitEcc = 0x2,
  kEventXid = 0x8,
  kEventSingleBitEccStorm = 0x200,
  kEventDramRetirement = 0x400,
  kEventDramRetirementFailure = 0x800,
  kEventNonFatalPoison = 0x1000,
  kEventFatalPoison = 0x2000,
  kEventGpuUnavailable = 0x4000,
  kEventRecoveryAction = 0x8000,
};

// NVML_FI_DEV_*
enum Field : uint32_t {
  kFieldEccCorrectedVolatile = 3,
  kFieldEccUncorrectedVolatile = 4,
  kFieldEccCorrectedAggregate = 5,
  kFieldEccUncorrectedAggregate = 6,
  kFieldRetiredSingleBit = 29,
  kFieldRetiredDoubleBit = 30,
  kFieldRetiredPending = 31,
  kFieldNvLinkCrcFlit = 38,
  kFieldNvLinkCrcData = 45,
  kFieldNvLinkReplay = 52,
  kFieldNvLinkRecovery = 59,
  kFieldPolicyPower = 74,
  kFieldPolicyThermal = 75,
  kFieldMemoryTemperature = 82,
  kFieldEnergy = 83,
  kFieldPcieReplays = 94,
  kFieldRemappedCorrected = 142,
  kFieldRemappedUncorrected = 143,
  kFieldRemappedPending = 144,
  kFieldRemappedFailure = 145,
  kFieldNvLinkEccData = 160,
  kFieldPcieCorrectable = 173,
  kFieldPcieNonFatal = 179,
  kFieldPcieFatal = 180,
  kFieldPowerAverage = 185,
  kFieldPowerInstant = 186,
  kFieldShutdownTlimit = 193,
  kFieldSlowdownTlimit = 194,
  kFieldGpuMaxTlimit = 196,
  kFieldRecoveryAction = 230,
  // Time in a hardware slowdown. These two were renumbered: see ThrottleFields in nvml_channels.cc.
  kFieldHardwareThermalBefore = 252,
  kFieldPowerBrakeBefore = 253,
  kFieldHardwareThermal = 270,
  kFieldPowerBrake = 271,
};

enum ValueType : int {
  kTypeDouble = 0,
  kTypeUnsignedInt = 1,
  kTypeUnsignedLong = 2,
  kTypeUnsignedLongLong = 3,
  kTypeSignedLongLong = 4,
  kTypeSignedInt = 5,
  kTypeUnsignedShort = 6,
};

union Value {
  double d;
  int32_t i;
  uint32_t u;
  uint64_t ul;
  uint64_t ull;
  int64_t ll;
  uint16_t us;
};
static_assert(sizeof(Value) == 8);

struct FieldValue {
  uint32_t field = 0;
  uint32_t scope = 0;
  int64_t timestamp_us = 0;
  int64_t latency_us = 0;
  int value_type = 0;
  int result = 0;
  Value value = {};
};
static_assert(sizeof(FieldValue) == 40 && offsetof(FieldValue, scope) == 4 && offsetof(FieldValue, timestamp_us) == 8 &&
              offsetof(FieldValue, latency_us) == 16 && offsetof(FieldValue, value_type) == 24 &&
              offsetof(FieldValue, result) == 28 && offsetof(FieldValue, value) == 32);

struct Memory {
  uint64_t total = 0;
  uint64_t free = 0;
  uint64_t used = 0;  // With what the driver reserves.
};
static_assert(sizeof(Memory) == 24 && offsetof(Memory, free) == 8 && offsetof(Memory, used) == 16);

struct MemoryV2 {
  uint32_t version = VersionOf<MemoryV2>(2);
  uint64_t total = 0;
  uint64_t reserved = 0;
  uint64_t free = 0;
  uint64_t used = 0;  // Without what the driver reserves.
};
static_assert(sizeof(MemoryV2) == 40 && offsetof(MemoryV2, total) == 8 && offsetof(MemoryV2, reserved) == 16 &&
              offsetof(MemoryV2, free) == 24 && offsetof(MemoryV2, used) == 32);
static_assert(VersionOf<MemoryV2>(2) == 33554472);

struct Utilization {
  uint32_t gpu_percent = 0;
  uint32_t memory_percent = 0;
};
static_assert(sizeof(Utilization) == 8 && offsetof(Utilization, memory_percent) == 4);

struct PciInfo {
  char bus_id_legacy[16] = {};
  uint32_t domain = 0;
  uint32_t bus = 0;
  uint32_t device = 0;
  uint32_t pci_device_id = 0;
  uint32_t pci_subsystem_id = 0;
  char bus_id[32] = {};
};
static_assert(sizeof(PciInfo) == 68 && offsetof(PciInfo, domain) == 16 && offsetof(PciInfo, bus) == 20 &&
              offsetof(PciInfo, device) == 24 && offsetof(PciInfo, pci_device_id) == 28 &&
              offsetof(PciInfo, pci_subsystem_id) == 32 && offsetof(PciInfo, bus_id) == 36);

// nvmlProcessInfo_v2_t, which the _v2 and the _v3 functions fill.
struct ProcessInfo {
  uint32_t pid = 0;
  uint64_t used_memory_bytes = 0;
  uint32_t gpu_instance = 0;
  uint32_t compute_instance = 0;
};
static_assert(sizeof(ProcessInfo) == 24 && offsetof(ProcessInfo, used_memory_bytes) == 8 &&
              offsetof(ProcessInfo, gpu_instance) == 16 && offsetof(ProcessInfo, compute_instance) == 20);

struct EventData {
  Device device = nullptr;
  uint64_t type = 0;
  uint64_t data = 0;
  uint32_t gpu_instance = kNotAvailable32;
  uint32_t compute_instance = kNotAvailable32;
};
static_assert(sizeof(EventData) == 32 && offsetof(EventData, type) == 8 && offsetof(EventData, data) == 16 &&
              offsetof(EventData, gpu_instance) == 24 && offsetof(EventData, compute_instance) == 28);

struct Temperature {
  uint32_t version = VersionOf<Temperature>(1);
  int sensor = kSensorGpu;
  int32_t celsius = 0;
};
static_assert(sizeof(Temperature) == 12 && offsetof(Temperature, sensor) == 4 && offsetof(Temperature, celsius) == 8);
static_assert(VersionOf<Temperature>(1) == 16777228);

struct MarginTemperature {
  uint32_t version = VersionOf<MarginTemperature>(1);
  int32_t celsius = 0;
};
static_assert(sizeof(MarginTemperature) == 8 && offsetof(MarginTemperature, celsius) == 4);
static_assert(VersionOf<MarginTemperature>(1) == 16777224);

struct FanSpeed {
  uint32_t version = VersionOf<FanSpeed>(1);
  uint32_t fan = 0;
  uint32_t rpm = 0;
};
static_assert(sizeof(FanSpeed) == 12 && offsetof(FanSpeed, fan) == 4 && offsetof(FanSpeed, rpm) == 8);
static_assert(VersionOf<FanSpeed>(1) == 16777228);

struct ViolationTime {
  uint64_t reference_us = 0;
  uint64_t violation_ns = 0;
};
static_assert(sizeof(ViolationTime) == 16 && offsetof(ViolationTime, violation_ns) == 8);

struct SramEccStatus {
  uint32_t version = VersionOf<SramEccStatus>(1);
  uint64_t counters[11] = {};  // By kind and by unit of the chip; only the verdict below is read.
  uint32_t threshold_exceeded = 0;
};
static_assert(sizeof(SramEccStatus) == 104 && offsetof(SramEccStatus, counters) == 8 &&
              offsetof(SramEccStatus, threshold_exceeded) == 96);

}  // namespace skos::nvml

#endif  // SKOS_PROBES_NVML_ABI_H_
