// NVML's reader against a library that behaves, or misbehaves, as a script says (nvml_double.c).
#include "probes/nvml.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <thread>

#include "probes/nvml_abi.h"
#include "sampler/clock.h"
#include "test/check.h"
#include "test/temp_dir.h"

namespace skos::test {

std::string Show(GpuCondition condition) {
  static const char* const kNames[] = {"serving", "lost", "reset_required", "driver_gone"};
  return kNames[static_cast<int>(condition)];
}

namespace {

constexpr char kAddress[] = "0000:3b:00.0";
constexpr char kOther[] = "0000:5e:00.0";
constexpr char kTwoGpus[] =
    "gpu 0 pci 00000000:3B:00.0\ngpu 0 preset h100\ngpu 1 pci 00000000:5E:00.0\ngpu 1 preset h100\n";

TempDir* directory = nullptr;  // Of the whole program: the double finds its files through the environment.

void Script(const std::string& text) { directory->Write("script", text); }
// Two GPUs, and these lines.
void Machine(const std::string& lines = "") { Script(kTwoGpus + lines); }

// Beside this program: the build puts the doubles there.
std::string Double(const char* kind = "double") {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  return (self.parent_path() / kind / "libnvidia-ml.so.1").string();
}

std::unique_ptr<GpuDevice> Open(const std::string& address = kAddress, const char* kind = "double") {
  GpuOpening opening = OpenNvml(Double(kind), address);
  CHECK_EQ(opening.why, "");
  CHECK(opening.device != nullptr);
  return std::move(opening.device);
}

using Channels = std::map<std::string, GpuChannel>;

Channels Discover(GpuDevice& device) {
  Channels channels;
  for (GpuChannel& channel : device.Discover()) {
    const std::string name = channel.name;
    CHECK(channels.emplace(name, std::move(channel)).second);
  }
  return channels;
}

// What the driver says now: a second read of a channel is never served from the first one's call.
Reading Fresh(const GpuChannel& channel) {
  channel.probe->Read(MonotonicNs());
  return channel.probe->Read(MonotonicNs());
}

const GpuChannel& At(const Channels& channels, const std::string& name) {
  const auto found = channels.find(name);
  if (found == channels.end()) Fail(__FILE__, __LINE__, "no channel " + name);
  return found->second;
}

void CheckValue(const Channels& channels, const std::string& name, int64_t value) {
  const Reading reading = Fresh(At(channels, name));
  if (reading.quality != Quality::kOk || reading.value != value) {
    Fail(__FILE__, __LINE__, name + " is " + Show(reading.quality) + " " + std::to_string(reading.value) + ", expected " +
                                 std::to_string(value));
  }
  CHECK(reading.time_ns > 0);
}

void CheckQuality(const Channels& channels, const std::string& name, Quality quality) {
  const Reading reading = Fresh(At(channels, name));
  if (reading.quality != quality) {
    Fail(__FILE__, __LINE__, name + " is " + Show(reading.quality) + ", expected " + Show(quality));
  }
}

std::string Call(const GpuChannel& channel) { return channel.path.substr(0, channel.path.find(' ')); }

size_t Logged(const std::string& call, int gpu) {
  std::ifstream log(directory->File("log"));
  std::string pid, name, index, code;
  size_t count = 0;
  while (log >> pid >> name >> index >> code) count += name == call && index == std::to_string(gpu) ? 1 : 0;
  return count;
}

// ---- Opening and listing ----------------------------------------------------------------------------------------------

void GivesPciAddressesOneForm() {
  CHECK_EQ(NormalPciAddress("00000000:3B:00.0"), "0000:3b:00.0");
  CHECK_EQ(NormalPciAddress("0000:3b:00.0"), "0000:3b:00.0");
  CHECK_EQ(NormalPciAddress("00010000:E1:1F.7"), "10000:e1:1f.7");
  const char* const refused[] = {"",          "0000:3b:00",    "3b:00.0",        "0000:3b:20.0",       "0000:3b:00.8",
                                 "000g:3b:00.0", "0000:3b:00.0 ", "0000:3b:00.0\n", "000000000:3b:00.0", "0000:3b-00.0"};
  for (const char* text : refused) CHECK_EQ(NormalPciAddress(text), "");
}

void SaysWhyThereIsNoLibrary() {
  const GpuOpening missing = OpenNvml("libnvidia-none.so.1", kAddress);
  CHECK(missing.device == nullptr && missing.library_absent && !missing.why.empty());
  const NvmlList unlisted = ListNvml(directory->File("nowhere.so"));
  CHECK(unlisted.absent && unlisted.addresses.empty());
  const std::string garbage = directory->Write("garbage.so", "not a library");
  const GpuOpening broken = OpenNvml(garbage, kAddress);
  CHECK(broken.device == nullptr && !broken.library_absent && !broken.why.empty());
}

void ListsTheGpusOfTheLibrary() {
  Machine("driver 570.86.15\n");
  const NvmlList list = ListNvml(Double());
  CHECK_EQ(list.why, "");
  CHECK_EQ(list.version, "570.86.15");
  CHECK_EQ(list.addresses.size(), size_t{2});
  CHECK_EQ(list.addresses[0], kAddress);
  CHECK_EQ(list.addresses[1], kOther);
  Script("driver unloaded\n");
  const NvmlList none = ListNvml(Double());
  CHECK(!none.absent && none.addresses.empty());
  CHECK_EQ(none.why, "nvmlInit_v2: Driver Not Loaded (9)");
}

void SaysWhyAGpuCannotBeOpened() {
  Machine();
  CHECK_EQ(OpenNvml(Double(), "0000:99:00.0").why, "nvmlDeviceGetHandleByPciBusId_v2: Not Found (6)");
  for (const int code : {4, 9, 18, 999}) {
    Machine("return nvmlInit_v2 " + std::to_string(code) + "\n");
    const GpuOpening opening = OpenNvml(Double(), kAddress);
    CHECK(opening.device == nullptr && !opening.library_absent);
    CHECK(opening.why.find("(" + std::to_string(code) + ")") != std::string::npos);
    CHECK_EQ(opening.library_version, "12.570.86.15");
  }
}

void TouchesItsOwnGpuAndGivesAllBack() {
  directory->Remove("log");
  Machine("log all\ngpu 0 event xid 31 after 0\n");
  {
    const auto device = Open();
    Discover(*device);
    device->Details();
    CHECK(device->WaitEvents([](const std::string&) {}));
  }
  OpenNvml(Double(), "0000:99:00.0");
  CHECK_EQ(Logged("nvmlInit_v2", -1), size_t{2});
  CHECK_EQ(Logged("nvmlShutdown", -1), size_t{2});
  CHECK_EQ(Logged("nvmlDeviceGetHandleByPciBusId_v2", 0), size_t{1});
  CHECK_EQ(Logged("nvmlEventSetCreate", -1), size_t{1});
  CHECK_EQ(Logged("nvmlEventSetFree", -1), size_t{1});
  std::ifstream log(directory->File("log"));
  std::string pid, name, index, code;
  while (log >> pid >> name >> index >> code) CHECK(index != "1");
}

void KnowsWhatTheGpuIs() {
  Machine();
  const auto device = Open();
  const GpuIdentity& identity = device->identity();
  CHECK_EQ(identity.id, "GPU-00000000-0000-4000-8000-000000000000");
  CHECK_EQ(identity.source, "nvml");
  CHECK_EQ(identity.vendor, "nvidia");
  CHECK_EQ(identity.address, kAddress);
  CHECK_EQ(identity.name, "NVIDIA H100 80GB HBM3");
  CHECK_EQ(identity.more.at("serial"), "1654522001234");
  CHECK_EQ(identity.more.at("vbios"), "96.00.5E.00.01");
  CHECK_EQ(identity.more.at("driver"), "570.86.15");
  CHECK_EQ(identity.more.at("architecture"), "Hopper");
  Machine("gpu 0 return nvmlDeviceGetUUID 3\ngpu 0 return nvmlDeviceGetSerial 3\n");
  const auto unnamed = Open();
  CHECK_EQ(unnamed->identity().id, "pci-0000:3b:00.0");
  CHECK_EQ(unnamed->identity().more.count("serial"), size_t{0});
}

// ---- Channels ---------------------------------------------------------------------------------------------------------

void ReadsAWholeH100() {
  Machine("gpu 0 process 100 1073741824 compute\ngpu 0 process 200 2147483648 compute\ngpu 0 process 200 4096 graphics\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  const std::map<std::string, int64_t> expected = {
      {"temperature", 45000}, {"temperature_memory", 52000}, {"margin", 42000}, {"power", 120000}, {"power_average", 118000},
      {"power_instant", 121000}, {"throttle_reasons", 1}, {"energy", 123456789}, {"throttled_power", 5000},
      {"throttled_thermal", 2000}, {"throttled_hardware", 1000}, {"throttled_power_brake", 0}, {"clock_graphics", 1755000000},
      {"clock_sm", 1755000000}, {"clock_memory", 2619000000}, {"clock_video", 1380000000}, {"clock_graphics_max", 1980000000},
      {"clock_sm_max", 1980000000}, {"clock_memory_max", 2619000000}, {"clock_video_max", 1545000000}, {"utilization", 630000},
      {"utilization_memory", 210000}, {"memory_used", 12884901888}, {"memory_reserved", 642580480}, {"memory_total", 85899345920},
      {"performance_state", 0}, {"power_limit", 700000}, {"power_limit_enforced", 700000}, {"power_limit_default", 700000},
      {"power_limit_min", 200000}, {"power_limit_max", 700000}, {"ecc_corrected_volatile", 4}, {"ecc_uncorrected_volatile", 0},
      {"ecc_corrected_aggregate", 12}, {"ecc_uncorrected_aggregate", 1}, {"ecc_corrected_volatile_dram", 3},
      {"ecc_corrected_volatile_sram", 1}, {"ecc_uncorrected_volatile_dram", 0}, {"ecc_uncorrected_volatile_sram", 0},
      {"ecc_corrected_aggregate_dram", 10}, {"ecc_corrected_aggregate_sram", 2}, {"ecc_uncorrected_aggregate_dram", 1},
      {"ecc_uncorrected_aggregate_sram", 0}, {"ecc_sram_threshold_exceeded", 0}, {"remapped_corrected", 0},
      {"remapped_uncorrected", 1}, {"remapped_pending", 0}, {"remapped_failure", 0}, {"pcie_generation", 5}, {"pcie_width", 16},
      {"pcie_generation_max", 5}, {"pcie_width_max", 16}, {"pcie_replays", 2}, {"pcie_correctable", 3}, {"pcie_nonfatal", 0},
      {"pcie_fatal", 0}, {"nvlink_crc_flit", 0}, {"nvlink_crc_data", 0}, {"nvlink_replay", 5}, {"nvlink_recovery", 1},
      {"nvlink_active", 18}, {"recovery_action", 0}, {"processes", 2}, {"process_memory", 3221225472}, {"persistence_mode", 1},
      {"ecc_mode", 1}, {"mig_mode", 0}, {"mig_instances", 0}};
  for (const auto& [name, value] : expected) CheckValue(channels, name, value);
  for (const auto& [name, channel] : channels) {
    if (expected.count(name) == 0) Fail(__FILE__, __LINE__, "a channel that the GPU does not have: " + name);
    CHECK(!channel.label.empty() && !channel.quantity.empty() && !channel.path.empty());
  }
  CHECK(device->condition() == GpuCondition::kServing);
}

void TakesLimitsFromTheThresholds() {
  Machine("gpu 1 threshold.1 0\ngpu 1 threshold.3 na\ngpu 1 absent threshold.0\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  const GpuLimits& gpu = At(channels, "temperature").limits;
  CHECK(gpu.max == 87000 && gpu.critical == 89000 && gpu.emergency == 92000 && !gpu.min);
  const GpuLimits& memory = At(channels, "temperature_memory").limits;
  CHECK(memory.critical == 95000 && !memory.max && !memory.emergency);
  CHECK(At(channels, "temperature").thermal_default && At(channels, "temperature_memory").thermal_default);
  CHECK(!At(channels, "power").thermal_default);
  const auto other = Open(kOther);
  const Channels without = Discover(*other);
  const GpuLimits& none = At(without, "temperature").limits;
  CHECK(!none.max && !none.critical && !none.emergency);
}

// At 45 °C with a margin of 42, so from 87 °C on.
constexpr char kTlimits[] =
    "gpu 0 absent threshold.0\ngpu 0 absent threshold.1\ngpu 0 absent threshold.3\n"
    "gpu 0 field.193 -8\ngpu 0 field.194 -2\ngpu 0 field.196 0\n";

GpuLimits LimitsWith(const std::string& lines) {
  Machine(kTlimits + lines);
  const auto device = Open();
  const Channels channels = Discover(*device);
  return At(channels, "temperature").limits;
}

void TakesLimitsFromTheMarginWhereThereAreNoThresholds() {
  const auto are = [](const GpuLimits& limits, int64_t max, int64_t critical, int64_t emergency) {
    return limits.max == max && limits.critical == critical && limits.emergency == emergency && !limits.min;
  };
  CHECK(are(LimitsWith(""), 87000, 89000, 95000));
  CHECK(are(LimitsWith("gpu 0 type.193 1\ngpu 0 type.194 1\n"), 87000, 89000, 95000));  // Negative, and called unsigned.
  CHECK(are(LimitsWith("gpu 0 temperature 90\ngpu 0 margin -3\n"), 87000, 89000, 95000));
  CHECK(are(LimitsWith("gpu 0 threshold.1 88\n"), 87000, 88000, 95000));  // What is stated goes before what is computed.
  CHECK(are(LimitsWith("gpu 0 temperature seq 44 45\n"), 87000, 89000, 95000));  // It moved: asked again.
  CHECK(are(LimitsWith("gpu 0 temperature seq 40 41 42 43 44 45\n"), 82000, 84000, 90000));
}

void TakesNoLimitFromNumbersThatDoNotBelongTogether() {
  const auto none = [](const GpuLimits& limits) { return !limits.max && !limits.critical && !limits.emergency; };
  CHECK(none(LimitsWith("gpu 0 absent margin\n")));
  CHECK(none(LimitsWith("gpu 0 return nvmlDeviceGetMarginTemperature 999\n")));
  CHECK(none(LimitsWith("gpu 0 return nvmlDeviceGetTemperatureV 999\n")));
  CHECK(none(LimitsWith("gpu 0 margin 0\n")));                                // 45 °C is no limit of a GPU.
  CHECK(none(LimitsWith("gpu 0 margin 100\n")));
  CHECK(none(LimitsWith("gpu 0 field.193 0\ngpu 0 field.194 0\n")));
  CHECK(none(LimitsWith("gpu 0 return field.193 3\ngpu 0 return field.194 3\ngpu 0 return field.196 3\n")));
  CHECK(none(LimitsWith("gpu 0 field.193 na\ngpu 0 field.194 na\ngpu 0 field.196 na\n")));
  const GpuLimits some = LimitsWith("gpu 0 field.193 -70\ngpu 0 return field.196 3\n");
  CHECK(!some.max && some.critical == 89000 && !some.emergency);
}

void KeepsRatesApart() {
  Machine();
  const auto device = Open();
  for (const auto& [name, channel] : Discover(*device)) {
    static const std::set<std::string> kFast = {"temperature", "temperature_memory", "margin",          "power",
                                                "power_average", "power_instant",    "throttle_reasons"};
    CHECK_EQ(channel.rate == GpuRate::kFast, kFast.count(name) != 0);
  }
}

void LeavesOutWhatTheGpuDoesNotHave() {
  Machine("gpu 0 absent field.82\ngpu 0 absent margin\ngpu 0 absent utilization.gpu\ngpu 0 absent field.230\ngpu 0 absent ecc_mode\n"
          "gpu 0 return field.185 2\ngpu 0 return nvmlDeviceGetPowerUsage 999\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  for (const char* name : {"temperature_memory", "margin", "utilization", "utilization_memory", "recovery_action", "ecc_mode",
                           "power_average", "fan", "fan_rpm", "retired_pages_single"}) {
    CHECK_EQ(channels.count(name), size_t{0});
  }
  CheckQuality(channels, "power", Quality::kFault);  // There, and broken.
  Script("gpu 0 pci 0000:3b:00.0\ngpu 0 return nvmlDeviceGetComputeRunningProcesses_v3 3\n");
  const auto bare = Open();
  CHECK_EQ(Discover(*bare).size(), size_t{0});
}

void ReadsEachFan() {
  Machine("gpu 0 fans 2\ngpu 0 fan.0 30\ngpu 0 fan.1 45\ngpu 0 fan_rpm.0 1500\ngpu 0 fan_rpm.1 2250\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  CheckValue(channels, "fan", 300000);
  CheckValue(channels, "fan_2", 450000);
  CheckValue(channels, "fan_rpm", 1500);
  CheckValue(channels, "fan_rpm_2", 2250);
}

void CountsPagesWithoutAskingForAddresses() {
  Machine("gpu 0 retired.0 3\ngpu 0 retired.1 0\ngpu 0 retired_pending 1\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  CheckValue(channels, "retired_pages_single", 3);
  CheckValue(channels, "retired_pages_double", 0);
  CheckValue(channels, "retired_pending", 1);
}

void SumsLinksWhereTheDriverHasNoTotal() {
  Machine("gpu 0 absent field.38\ngpu 0 absent field.52\ngpu 0 link.0.2 4\ngpu 0 link.1.2 5\ngpu 0 link.3 0\ngpu 0 link.0.0 18446744073709551614\n"
          "gpu 0 link.1.0 9\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  CheckValue(channels, "nvlink_crc_flit", 9);
  CheckValue(channels, "nvlink_crc_data", 0);
  CheckValue(channels, "nvlink_active", 17);
  CheckQuality(channels, "nvlink_replay", Quality::kFault);  // A sum beyond 64 bits.
  Machine("gpu 0 link.0.2 4\ngpu 0 link.1.2 5\ngpu 0 return link.1.2 15\n");
  CheckQuality(channels, "nvlink_crc_flit", Quality::kFault);  // Never the sum of those that still answer.
}

void ReadsTimesInNanosecondsByTheNumbersOfTheDriver() {
  const std::string both = "gpu 0 field.252 7000000\ngpu 0 field.253 8000000\ngpu 0 field.270 9000000\ngpu 0 field.271 10000000\n";
  Machine(both + "driver 580.65.06\n");
  const auto before = Open();
  const Channels old_numbers = Discover(*before);
  CheckValue(old_numbers, "throttled_hardware", 7);
  CheckValue(old_numbers, "throttled_power_brake", 8);
  Machine(both + "driver 610.10\n");
  const auto after = Open();
  const Channels new_numbers = Discover(*after);
  CheckValue(new_numbers, "throttled_hardware", 9);
  CheckValue(new_numbers, "throttled_power_brake", 10);
  Machine(both + "driver 590.48\n");
  const auto between = Open();
  CHECK_EQ(Discover(*between).count("throttled_hardware"), size_t{0});
  Machine("gpu 0 absent field.74\ngpu 0 absent field.75\n");
  const auto deprecated = Open();
  const Channels violations = Discover(*deprecated);
  CheckValue(violations, "throttled_power", 5000);
  CheckValue(violations, "throttled_thermal", 2000);
}

void TakesMarkersForAbsentAndGarbageForFaults() {
  Machine();
  const auto device = Open();
  const Channels channels = Discover(*device);
  Machine("gpu 0 temperature -2147483648\ngpu 0 margin -2147483648\ngpu 0 power na\ngpu 0 field.82 na\ngpu 0 reasons na\n"
          "gpu 0 utilization.gpu na\ngpu 0 memory.used na\ngpu 0 pstate 32\ngpu 0 field.83 na\n");
  for (const char* name : {"temperature", "margin", "power", "temperature_memory", "throttle_reasons", "utilization", "memory_used",
                           "performance_state", "energy"}) {
    CheckQuality(channels, name, Quality::kNoData);
  }
  Machine("gpu 0 type.82 99\ngpu 0 type.185 -1\ngpu 0 memory.used 18446744073709551614\ngpu 0 field.83 9223372036854775808\n");
  for (const char* name : {"temperature_memory", "power_average", "memory_used", "energy"}) {
    CheckQuality(channels, name, Quality::kFault);
  }
  Machine("gpu 0 field.82 52.4\ngpu 0 field.185 -5\ngpu 0 field.186 300\ngpu 0 type.186 6\ngpu 0 temperature 0\ngpu 0 margin -3\n");
  CheckValue(channels, "temperature_memory", 52400);
  CheckValue(channels, "power_average", -5);
  CheckValue(channels, "power_instant", 300);
  CheckValue(channels, "temperature", 0);
  CheckValue(channels, "margin", -3000);
  Machine("gpu 0 temperature 255\ngpu 0 field.82 nan.0\n");  // A line that the double refuses: every call fails.
  CheckQuality(channels, "temperature", Quality::kFault);
  Machine("gpu 0 temperature 255\n");
  CheckValue(channels, "temperature", 255000);
}

void FollowsValuesOverTime() {
  Machine("gpu 0 temperature seq 91 92 93\n");
  const auto device = Open();
  const Channels channels = Discover(*device);  // The first step is discovery's.
  CHECK(Fresh(At(channels, "temperature")).value >= 92000);
  CheckValue(channels, "temperature", 93000);
  Machine("gpu 0 temperature 91\ngpu 0 field.82 101\ngpu 0 reasons 0x60\n");
  CheckValue(channels, "temperature", 91000);
  CheckValue(channels, "temperature_memory", 101000);
  CheckValue(channels, "throttle_reasons", 0x60);
  Machine("gpu 0 power ramp 100000 300000 60000\n");
  const Reading first = Fresh(At(channels, "power"));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const Reading second = Fresh(At(channels, "power"));
  CHECK(first.value >= 100000 && second.value > first.value && second.value < 110000);
}

void AsksOnceForAllFieldsOfARate() {
  directory->Remove("log");
  Machine("log all\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  const size_t before = Logged("nvmlDeviceGetFieldValues", 0);
  constexpr int kRounds = 5;
  for (int round = 0; round < kRounds; ++round) {
    for (const auto& [name, channel] : channels) {
      if (channel.rate == GpuRate::kFast) channel.probe->Read(MonotonicNs());
    }
  }
  const size_t calls = Logged("nvmlDeviceGetFieldValues", 0) - before;
  CHECK(calls >= kRounds - 1 && calls <= kRounds);  // The first round may have what discovery read.
}

void KeepsOneAnswerForASlowRoundOnly() {
  Machine("gpu 0 utilization.gpu 10\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  const GpuChannel& gpu = At(channels, "utilization");
  const GpuChannel& memory = At(channels, "utilization_memory");
  gpu.probe->Read(MonotonicNs());
  Machine("gpu 0 utilization.gpu 20\ngpu 0 utilization.memory 30\n");
  CHECK_EQ(memory.probe->Read(MonotonicNs()).value, int64_t{210000});  // The same call as its neighbour's.
  CHECK_EQ(memory.probe->Read(MonotonicNs()).value, int64_t{300000});
  CHECK_EQ(gpu.probe->Read(MonotonicNs()).value, int64_t{200000});
  Machine("gpu 0 utilization.memory 40\n");
  CHECK_EQ(memory.probe->Read(MonotonicNs() + 600'000'000).value, int64_t{400000});  // Older than half a second.
}

// ---- Errors -----------------------------------------------------------------------------------------------------------

bool IsAbsent(int code) {
  static const std::set<int> kAbsent = {1, 3, 9, 13, 18, 21, 27, 28};
  return kAbsent.count(code) != 0;
}

// Calls with an older version, which then answers.
bool FallsBack(const std::string& call, int code) {
  static const std::set<std::string> kVersioned = {"nvmlDeviceGetTemperatureV", "nvmlDeviceGetCurrentClocksEventReasons",
                                                   "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3",
                                                   "nvmlDeviceGetFanSpeed_v2"};
  return kVersioned.count(call) != 0 && (code == 13 || code == 25 || code == 26);
}

GpuCondition ExpectedCondition(int code) {
  if (code == 15) return GpuCondition::kLost;
  if (code == 16) return GpuCondition::kResetRequired;
  const bool gone = code == 1 || code == 9 || code == 18 || code == 28;
  return gone ? GpuCondition::kDriverGone : GpuCondition::kServing;
}

void CheckCodeOnCall(const GpuDevice& device, const Channels& channels, const std::string& call, int code) {
  Machine("gpu 0 fans 1\ngpu 0 fan.0 20\ngpu 0 fan_rpm.0 900\ngpu 0 retired.0 1\ngpu 0 retired_pending 0\ngpu 0 return " + call + " " +
          std::to_string(code) + "\n");
  const bool counts = call == "nvmlDeviceGetRetiredPages" && code == 7;  // There, 7 comes with the count.
  const Quality failed = IsAbsent(code) ? Quality::kNoData : Quality::kFault;
  for (const auto& [name, channel] : channels) {
    if (Call(channel) != call) continue;
    if (counts) continue;
    // Reserved memory has no fall-back.
    const bool answers = FallsBack(call, code) && name != "memory_reserved";
    CheckQuality(channels, name, answers ? Quality::kOk : FallsBack(call, code) ? Quality::kNoData : failed);
  }
  const char* const neighbour = call == "nvmlDeviceGetPowerUsage" ? "clock_sm" : "power";
  CheckQuality(channels, neighbour, Quality::kOk);
  if (!FallsBack(call, code) && !counts) CHECK_EQ(device.condition(), ExpectedCondition(code));
}

void AnswersEveryCodeOfEveryGetter() {
  const std::string extras = "gpu 0 fans 1\ngpu 0 fan.0 20\ngpu 0 fan_rpm.0 900\ngpu 0 retired.0 1\ngpu 0 retired_pending 0\n";
  std::vector<int> codes;
  for (int code = 1; code <= 30; ++code) codes.push_back(code);
  for (const int code : {31, 999, -1, std::numeric_limits<int>::max()}) codes.push_back(code);
  size_t calls_seen = 0;
  for (const int code : codes) {
    Machine(extras);
    const auto device = Open();
    const Channels channels = Discover(*device);
    std::set<std::string> calls;
    for (const auto& [name, channel] : channels) calls.insert(Call(channel));
    calls_seen = calls.size();
    for (const std::string& call : calls) {
      CheckCodeOnCall(*device, channels, call, code);
      Machine(extras);
      for (const auto& [name, channel] : channels) {
        if (Call(channel) == call) CheckQuality(channels, name, Quality::kOk);
      }
      if (ExpectedCondition(code) != GpuCondition::kDriverGone) CHECK(device->condition() == GpuCondition::kServing);
    }
  }
  CHECK_EQ(calls_seen, size_t{29});
}

void TellsFailedFieldsFromAFailedBatch() {
  Machine();
  const auto device = Open();
  const Channels channels = Discover(*device);
  for (int code = 1; code <= 30; ++code) {
    if (ExpectedCondition(code) != GpuCondition::kServing) continue;
    Machine("gpu 0 return field.82 " + std::to_string(code) + "\n");
    CheckQuality(channels, "temperature_memory", IsAbsent(code) ? Quality::kNoData : Quality::kFault);
    CheckValue(channels, "power_average", 118000);
  }
  Machine("gpu 0 return nvmlDeviceGetFieldValues 999\n");
  CheckQuality(channels, "temperature_memory", Quality::kFault);
  CheckQuality(channels, "power_average", Quality::kFault);
  CheckQuality(channels, "recovery_action", Quality::kFault);
  CheckQuality(channels, "temperature", Quality::kOk);
}

void LosesOneGpuAndNoOther() {
  Machine();
  const auto lost = Open();
  const auto other = Open(kOther);
  const Channels lost_channels = Discover(*lost);
  const Channels other_channels = Discover(*other);
  Machine("gpu 0 lost\ngpu 0 answers nvmlDeviceGetPowerUsage\n");
  for (const auto& [name, channel] : lost_channels) CheckQuality(lost_channels, name, name == "power" ? Quality::kOk : Quality::kFault);
  CHECK(lost->condition() == GpuCondition::kLost);
  for (const auto& [name, channel] : other_channels) CheckQuality(other_channels, name, Quality::kOk);
  CHECK(other->condition() == GpuCondition::kServing);
  CHECK_EQ(OpenNvml(Double(), kAddress).why, "nvmlDeviceGetHandleByPciBusId_v2: GPU is lost (15)");
  CHECK(Open(kOther) != nullptr);
  CheckQuality(lost_channels, "power", Quality::kOk);  // It had never failed: no sign that the GPU is back.
  CHECK(lost->condition() == GpuCondition::kLost);
  Machine("gpu 0 forget\n");
  CheckQuality(lost_channels, "temperature", Quality::kOk);
  CHECK(lost->condition() == GpuCondition::kServing);
}

void SurvivesALossInTheMiddleOfDiscovery() {
  for (const int calls : {0, 1, 5, 20, 60}) {
    Machine("gpu 0 lost after " + std::to_string(calls + 1) + "\n");
    GpuOpening opening = OpenNvml(Double(), kAddress);
    CHECK(opening.device != nullptr);
    const Channels channels = Discover(*opening.device);
    CHECK(opening.device->condition() == GpuCondition::kLost);
    for (const auto& [name, channel] : channels) CheckQuality(channels, name, Quality::kFault);
    opening.device->Details();
  }
}

void LeavesWithItsDriverAndComesBack() {
  Machine();
  auto device = Open();
  const Channels channels = Discover(*device);
  Script("driver unloaded\n");
  for (const auto& [name, channel] : channels) CheckQuality(channels, name, Quality::kNoData);
  CHECK(device->condition() == GpuCondition::kDriverGone);
  CHECK_EQ(OpenNvml(Double(), kAddress).why, "nvmlInit_v2: Driver Not Loaded (9)");
  Machine("driver 580.65.06\n");
  CheckQuality(channels, "temperature", Quality::kNoData);  // This initialisation is over.
  CHECK(device->condition() == GpuCondition::kDriverGone);
  device.reset();
  const auto again = Open();
  CheckValue(Discover(*again), "temperature", 45000);
  CHECK_EQ(again->identity().more.at("driver"), "580.65.06");
}

void ReadsOldDriversByOldCalls() {
  Machine("gpu 0 process 7 4096 compute\ngpu 0 fans 1\ngpu 0 fan.0 33\n");
  const auto device = Open(kAddress, "double_old");
  const Channels channels = Discover(*device);
  CheckValue(channels, "temperature", 45000);
  CheckValue(channels, "throttle_reasons", 1);
  CheckValue(channels, "memory_used", 12884901888 + 642580480);
  CheckValue(channels, "memory_total", 85899345920);
  CheckValue(channels, "processes", 1);
  CheckValue(channels, "fan", 330000);
  for (const char* name : {"margin", "memory_reserved", "ecc_sram_threshold_exceeded", "fan_rpm"}) {
    CHECK_EQ(channels.count(name), size_t{0});
  }
  CHECK(device->Details().find("\"pid\":7") != std::string::npos);
}

// ---- Whole device -----------------------------------------------------------------------------------------------------

void LetsGoWhenTheDriverAsksForAResetOfAnIdleGpu() {
  for (const int action : {1, 4}) {
    Machine("gpu 0 process 100 4096 compute\n");
    const auto device = Open();
    const Channels channels = Discover(*device);
    const auto ask = [&channels] {
      Fresh(At(channels, "recovery_action"));
      Fresh(At(channels, "processes"));
    };
    const std::string wants = "gpu 0 field.230 " + std::to_string(action) + "\n";
    Machine(wants + "gpu 0 process 100 4096 compute\n");
    ask();
    CHECK(device->condition() == GpuCondition::kServing);
    Machine(wants + "gpu 0 process 100 4096 graphics\n");
    ask();
    CHECK(device->condition() == GpuCondition::kServing);
    Machine(wants + "gpu 0 return nvmlDeviceGetComputeRunningProcesses_v3 999\n");  // Not known whether it is idle.
    ask();
    CHECK(device->condition() == GpuCondition::kServing);
    Machine(wants);
    ask();
    CHECK(device->condition() == GpuCondition::kResetRequired);
    Machine();
    ask();
    CHECK(device->condition() == GpuCondition::kServing);
  }
  Machine("gpu 0 field.230 2\n");  // A reboot: not this program's to prepare.
  const auto device = Open();
  Discover(*device);
  CHECK(device->condition() == GpuCondition::kServing);
}

void ListsProcessesThatGrowBetweenTwoCalls() {
  Machine("gpu 0 process 100 4096 compute\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  Machine("gpu 0 process 100 4096 compute\ngpu 0 grow 10\n");
  const Reading grown = Fresh(At(channels, "processes"));
  CHECK(grown.quality == Quality::kOk && grown.value >= 11);
  Machine("gpu 0 process 100 4096 compute\ngpu 0 grow 30\n");  // Faster than there is slack, for ever.
  CheckQuality(channels, "processes", Quality::kFault);
  CheckQuality(channels, "process_memory", Quality::kFault);
  Machine("gpu 0 process_flood 1000000\n");
  CheckQuality(channels, "processes", Quality::kFault);
  CHECK(device->Details().find("\"processes\":[]") != std::string::npos);
}

void SaysNullForMemoryThatTheDriverDoesNotTell() {
  Machine("gpu 0 process 100 na compute\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  CheckValue(channels, "processes", 1);
  CheckQuality(channels, "process_memory", Quality::kNoData);
  CHECK(device->Details().find("\"pid\":100,\"name\":\"") != std::string::npos);
  CHECK(device->Details().find("\"memoryBytes\":null,\"type\":\"compute\"") != std::string::npos);
  Machine();
  CheckValue(channels, "process_memory", 0);
}

void DetailsNameProcessesInstancesAndModes() {
  const std::string self = std::to_string(getpid());
  Machine("gpu 0 process 999999 4096 graphics\ngpu 0 process " + self + " 8192 compute\ngpu 0 mig_mode 1\n"
          "gpu 0 mig 1 0 MIG-1 10737418240 H100 MIG \"1g\".10gb\ngpu 0 mig 2 0 MIG-2 4096 H100 MIG 1g.10gb\n");
  const auto device = Open();
  const Channels channels = Discover(*device);
  CheckValue(channels, "mig_mode", 1);
  CheckValue(channels, "mig_instances", 2);
  CHECK_EQ(device->Details(),
           "{\"processes\":[{\"pid\":" + self + ",\"name\":\"nvml_test\",\"memoryBytes\":8192,\"type\":\"compute\"},"
           "{\"pid\":999999,\"name\":\"\",\"memoryBytes\":4096,\"type\":\"graphics\"}],"
           "\"mig\":[{\"gpuInstance\":1,\"computeInstance\":0,\"uuid\":\"MIG-1\",\"name\":\"H100 MIG \\\"1g\\\".10gb\",\"memoryBytes\":10737418240},"
           "{\"gpuInstance\":2,\"computeInstance\":0,\"uuid\":\"MIG-2\",\"name\":\"H100 MIG 1g.10gb\",\"memoryBytes\":4096}],"
           "\"persistenceMode\":true,\"migMode\":true,\"eccMode\":true}");
  Machine("gpu 0 absent mig_mode\ngpu 0 return nvmlDeviceGetEccMode 999\ngpu 0 persistence 0\n");
  CHECK_EQ(device->Details(), "{\"processes\":[],\"mig\":[],\"persistenceMode\":false,\"migMode\":null,\"eccMode\":null}");
}

void KeepsDetailsWithinAPacket() {
  Machine("gpu 0 process_flood 4000\ngpu 0 process 5 99999999999 compute\n");
  const auto device = Open();
  const std::string details = device->Details();
  CHECK(details.size() > 4000 && details.size() <= 6 * 1024);
  CHECK_EQ(details.rfind("{\"processes\":[{\"pid\":5,", 0), size_t{0});  // The largest first.
  CHECK_EQ(details.back(), '}');
}

// ---- Events -----------------------------------------------------------------------------------------------------------

using Told = std::vector<std::string>;

Told WaitFor(GpuDevice& device, size_t count, int max_waits = 20) {
  Told told;
  for (int i = 0; i < max_waits && told.size() < count; ++i) {
    if (!device.WaitEvents([&told](const std::string& json) { told.push_back(json); })) break;
  }
  return told;
}

// An event at once for whoever begins to listen, so that no test waits for nothing.
constexpr char kHello[] = "gpu 0 event 0x2 0 after 0\n";
constexpr char kHelloJson[] = "{\"kind\":\"double_bit_ecc\"}";

std::unique_ptr<GpuDevice> Listening() {
  Machine(kHello);
  auto device = Open();
  const Told told = WaitFor(*device, 1, 1);
  CHECK(told.size() == 1 && told[0] == kHelloJson);
  return device;
}

void TellsWhatTheDriverAnnounces() {
  const auto device = Listening();
  Machine("gpu 0 event xid 79\ngpu 0 event xid 64 instance 1 0\ngpu 1 event xid 31\ngpu 0 event recovery_action 0\n"
          "gpu 0 event 0x400 7\ngpu 0 event 0x1 1\n");
  const Told told = WaitFor(*device, 4);
  CHECK_EQ(told.size(), size_t{4});
  CHECK_EQ(told[0], "{\"kind\":\"xid\",\"code\":79}");
  CHECK_EQ(told[1], "{\"kind\":\"xid\",\"code\":64,\"gpuInstance\":1,\"computeInstance\":0}");
  CHECK_EQ(told[2], "{\"kind\":\"recovery_action\",\"recovery_code\":\"0\"}");
  CHECK_EQ(told[3], "{\"kind\":\"dram_retirement\",\"data\":7}");
  CHECK(device->condition() == GpuCondition::kServing);
}

void SaysWhichRecoveryTheDriverAsksFor() {
  const auto device = Listening();
  Machine("gpu 0 field.230 2\ngpu 0 event xid 154\ngpu 0 event recovery_action 0\ngpu 0 event xid 79\n");
  Told told = WaitFor(*device, 3);
  CHECK_EQ(told.size(), size_t{3});
  CHECK_EQ(told[0], "{\"kind\":\"xid\",\"code\":154,\"recovery_code\":\"2\"}");
  CHECK_EQ(told[1], "{\"kind\":\"recovery_action\",\"recovery_code\":\"2\"}");
  CHECK_EQ(told[2], "{\"kind\":\"xid\",\"code\":79}");
  int number = 0;
  for (const char* line : {"gpu 0 return field.230 3\n", "gpu 0 return nvmlDeviceGetFieldValues 999\n", "gpu 0 field.230 na\n",
                           "gpu 0 field.230 -1\n"}) {
    Machine(std::string(line) + "gpu 0 event recovery_action 0 tag t" + std::to_string(++number) + "\n");
    told = WaitFor(*device, 1);
    CHECK_EQ(told.size(), size_t{1});
    CHECK_EQ(told[0], "{\"kind\":\"recovery_action\"}");
  }
  Machine("gpu 0 field.230 31\ngpu 0 event recovery_action 0 tag hex\n");
  told = WaitFor(*device, 1);
  CHECK_EQ(told[0], "{\"kind\":\"recovery_action\",\"recovery_code\":\"1f\"}");
}

void TellsNothingFromBeforeItListened() {
  Machine(std::string("gpu 0 event xid 79\n") + kHello);
  const auto device = Open();
  const Told told = WaitFor(*device, 1, 1);
  CHECK(told.size() == 1 && told[0] == kHelloJson);
}

void WaitsAtMostASecond() {
  const auto device = Listening();
  const int64_t begin_ns = MonotonicNs();
  CHECK(device->WaitEvents([](const std::string&) { Fail(__FILE__, __LINE__, "an event out of nothing"); }));
  const int64_t waited_ns = MonotonicNs() - begin_ns;
  CHECK(waited_ns > kNsPerSecond / 2 && waited_ns < 2 * kNsPerSecond);
}

void MakesNoBusyLoopOfAWaitThatDoesNotWait() {
  const auto device = Listening();
  for (const int code : {10, 999}) {
    Machine("return nvmlEventSetWait_v2 " + std::to_string(code) + "\n");
    const int64_t begin_ns = MonotonicNs();
    CHECK(device->WaitEvents([](const std::string&) { Fail(__FILE__, __LINE__, "an event out of nothing"); }));
    CHECK(MonotonicNs() - begin_ns >= kNsPerSecond / 2);
  }
  Machine("gpu 0 event xid 8 tag after\n");
  CHECK_EQ(WaitFor(*device, 1).size(), size_t{1});
}

void TellsTheEventThatComesWithTheLoss() {
  const auto device = Listening();
  Machine("gpu 0 lost\ngpu 0 event xid 79 lost\n");
  const Told told = WaitFor(*device, 1);
  CHECK_EQ(told.size(), size_t{1});
  CHECK_EQ(told[0], "{\"kind\":\"xid\",\"code\":79}");
  CHECK(device->condition() == GpuCondition::kLost);
  const int64_t begin_ns = MonotonicNs();
  CHECK(WaitFor(*device, 1, 1).empty());
  CHECK(MonotonicNs() - begin_ns >= kNsPerSecond / 2);  // A loss that answers at once makes no busy loop.
  Machine("gpu 0 event xid 8\n");
  CHECK_EQ(WaitFor(*device, 1).size(), size_t{1});
  CHECK(device->condition() == GpuCondition::kServing);
}

void LetsGoOfAGpuThatIsAnnouncedAsUnavailable() {
  const auto device = Listening();
  Machine("gpu 0 event gpu_unavailable 0\n");
  const Told told = WaitFor(*device, 1);
  CHECK_EQ(told.size(), size_t{1});
  CHECK_EQ(told[0], "{\"kind\":\"gpu_unavailable\"}");
  CHECK(device->condition() == GpuCondition::kResetRequired);
}

void TellsAStormWholeAndInPieces() {
  const auto device = Listening();
  constexpr size_t kStorm = 10000;
  Machine("gpu 0 event xid 13 times " + std::to_string(kStorm) + "\n");
  size_t told = 0;
  size_t largest = 0;
  for (size_t waits = 0; waits < kStorm && told < kStorm; ++waits) {
    const size_t before = told;
    CHECK(device->WaitEvents([&told](const std::string&) { ++told; }));
    largest = std::max(largest, told - before);
  }
  CHECK_EQ(told, kStorm);
  CHECK(largest <= 64);
}

void SaysWhenThereAreNoEvents() {
  for (const char* line : {"gpu 0 absent event_types\n", "gpu 0 event_types 0x14\n", "gpu 0 return nvmlDeviceRegisterEvents 3\n",
                           "gpu 0 return nvmlDeviceGetSupportedEventTypes 13\n"}) {
    Machine(line);
    const auto device = Open();
    CHECK(!device->WaitEvents([](const std::string&) {}));
  }
  Machine("gpu 0 return nvmlDeviceRegisterEvents 999\n");
  const auto device = Open();
  CHECK(device->WaitEvents([](const std::string&) {}));  // Failed: tried again.
  Machine(kHello);
  CHECK_EQ(WaitFor(*device, 1, 1).size(), size_t{1});
}

void ListensToNoDriverThatIsGone() {
  const auto device = Listening();
  Script("driver unloaded\n");
  CHECK(device->WaitEvents([](const std::string&) {}));
  CHECK(device->condition() == GpuCondition::kDriverGone);
}

// ---- Threads ----------------------------------------------------------------------------------------------------------

void HangsInOneCallOnly() {
  Machine();
  const auto stuck = Open();
  const auto other = Open(kOther);
  const Channels stuck_channels = Discover(*stuck);
  const Channels other_channels = Discover(*other);
  Machine("gpu 0 hang nvmlDeviceGetPowerUsage\n");
  std::atomic<bool> returned{false};
  std::thread reader([&] {
    CheckQuality(stuck_channels, "power", Quality::kOk);
    returned = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(!returned);
  for (const auto& [name, channel] : other_channels) CheckQuality(other_channels, name, Quality::kOk);
  stuck->Details();  // Another call of the same GPU, in another thread.
  CHECK(!returned);
  Machine();
  reader.join();
}

void WaitsOutAnInitialisationThatHangs() {
  Machine("hang nvmlInit_v2 150\n");
  const int64_t begin_ns = MonotonicNs();
  CHECK(Open() != nullptr);
  CHECK(MonotonicNs() - begin_ns >= 150'000'000);
}

void ServesThreadsWhileTheWorldChanges() {
  Machine();
  const auto device = Open();
  const Channels channels = Discover(*device);
  std::atomic<bool> stop{false};
  std::thread details([&] {
    while (!stop) CHECK(!device->Details().empty());
  });
  std::thread events([&] {
    while (!stop) device->WaitEvents([](const std::string&) {});
  });
  const char* const worlds[] = {"", "gpu 0 lost\n", "gpu 0 return nvmlDeviceGetFieldValues 16\n", "gpu 0 grow 5\n",
                                "gpu 0 event xid 31 times 100\n", "gpu 0 temperature 99\n"};
  for (int i = 0; i < 60; ++i) {
    Machine(worlds[i % 6]);
    for (const auto& [name, channel] : channels) channel.probe->Read(MonotonicNs());
    device->condition();
  }
  stop = true;
  Machine();
  details.join();
  events.join();
}

void ProbesMayOutliveTheDevice() {
  Machine();
  auto device = Open();
  const Channels channels = Discover(*device);
  device.reset();
  CheckQuality(channels, "temperature", Quality::kNoData);
}

// ---- The double's setters, which the actuator's tests rely on -----------------------------------------------------------

template <typename T>
int AskTyped(const char* function, nvml::Device device, T* structure) {
  void* const library = dlopen(Double().c_str(), RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<int (*)(nvml::Device, T*)>(dlsym(library, function))(device, structure);
}

nvml::Device HandleOf(const char* address) {
  void* const library = dlopen(Double().c_str(), RTLD_NOW | RTLD_LOCAL);
  using ByAddress = int (*)(const char*, nvml::Device*);
  nvml::Device handle = nullptr;
  CHECK_EQ(reinterpret_cast<ByAddress>(dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2"))(address, &handle), 0);
  return handle;
}

// The double is as strict as the driver; what was read above was therefore asked with the right version.
void RefusesStructuresOfAnotherVersion() {
  Machine("gpu 0 fan_rpm.0 900\n");
  const auto device = Open();
  const nvml::Device handle = HandleOf(kAddress);
  const auto check = [handle](const char* function, auto structure) {
    CHECK_EQ(AskTyped(function, handle, &structure), 0);
    structure.version += 1 << 24;
    CHECK_EQ(AskTyped(function, handle, &structure), 25);
    structure.version = 0;
    CHECK_EQ(AskTyped(function, handle, &structure), 25);
  };
  check("nvmlDeviceGetTemperatureV", nvml::Temperature());
  check("nvmlDeviceGetMarginTemperature", nvml::MarginTemperature());
  check("nvmlDeviceGetMemoryInfo_v2", nvml::MemoryV2());
  check("nvmlDeviceGetFanSpeedRPM", nvml::FanSpeed());
  check("nvmlDeviceGetSramEccErrorStatus", nvml::SramEccStatus());
}

int Set(const char* function, nvml::Device device, unsigned value) {
  void* const library = dlopen(Double().c_str(), RTLD_NOW | RTLD_LOCAL);
  using Setter = int (*)(nvml::Device, unsigned);
  return reinterpret_cast<Setter>(dlsym(library, function))(device, value);
}

void SetsStickClampOrAreRefusedAsToldByTheScript() {
  directory->Remove("state");
  Machine();
  const auto device = Open();
  const Channels channels = Discover(*device);
  const nvml::Device handle = HandleOf(kAddress);
  constexpr char kLimit[] = "nvmlDeviceSetPowerManagementLimit";
  CHECK_EQ(Set(kLimit, handle, 350000), 0);
  CheckValue(channels, "power_limit", 350000);
  CheckValue(channels, "power_limit_enforced", 350000);
  CHECK_EQ(Set(kLimit, handle, 100), 2);
  Machine("gpu 0 set power_limit ignored\n");
  CHECK_EQ(Set(kLimit, handle, 400000), 0);
  CheckValue(channels, "power_limit", 350000);
  Machine("gpu 0 set power_limit 4\n");
  CHECK_EQ(Set(kLimit, handle, 400000), 4);
  Machine("gpu 0 set power_limit clamps\n");
  CHECK_EQ(Set(kLimit, handle, 100), 0);
  CheckValue(channels, "power_limit", 200000);
  std::ifstream state(directory->File("state"));
  std::string line;
  CHECK(std::getline(state, line) && line == "0 power_limit 200000");
  Machine("gpu 0 forget\n");
  CheckValue(channels, "power_limit", 700000);
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  TempDir temporary;
  directory = &temporary;
  setenv("SKOS_NVML_SCRIPT", temporary.File("script").c_str(), 1);
  setenv("SKOS_NVML_LOG", temporary.File("log").c_str(), 1);
  setenv("SKOS_NVML_STATE", temporary.File("state").c_str(), 1);
  RUN(GivesPciAddressesOneForm);
  RUN(SaysWhyThereIsNoLibrary);
  RUN(ListsTheGpusOfTheLibrary);
  RUN(SaysWhyAGpuCannotBeOpened);
  RUN(TouchesItsOwnGpuAndGivesAllBack);
  RUN(KnowsWhatTheGpuIs);
  RUN(ReadsAWholeH100);
  RUN(TakesLimitsFromTheThresholds);
  RUN(TakesLimitsFromTheMarginWhereThereAreNoThresholds);
  RUN(TakesNoLimitFromNumbersThatDoNotBelongTogether);
  RUN(KeepsRatesApart);
  RUN(LeavesOutWhatTheGpuDoesNotHave);
  RUN(ReadsEachFan);
  RUN(CountsPagesWithoutAskingForAddresses);
  RUN(SumsLinksWhereTheDriverHasNoTotal);
  RUN(ReadsTimesInNanosecondsByTheNumbersOfTheDriver);
  RUN(TakesMarkersForAbsentAndGarbageForFaults);
  RUN(FollowsValuesOverTime);
  RUN(AsksOnceForAllFieldsOfARate);
  RUN(KeepsOneAnswerForASlowRoundOnly);
  RUN(AnswersEveryCodeOfEveryGetter);
  RUN(TellsFailedFieldsFromAFailedBatch);
  RUN(LosesOneGpuAndNoOther);
  RUN(SurvivesALossInTheMiddleOfDiscovery);
  RUN(LeavesWithItsDriverAndComesBack);
  RUN(ReadsOldDriversByOldCalls);
  RUN(LetsGoWhenTheDriverAsksForAResetOfAnIdleGpu);
  RUN(ListsProcessesThatGrowBetweenTwoCalls);
  RUN(SaysNullForMemoryThatTheDriverDoesNotTell);
  RUN(DetailsNameProcessesInstancesAndModes);
  RUN(KeepsDetailsWithinAPacket);
  RUN(TellsWhatTheDriverAnnounces);
  RUN(SaysWhichRecoveryTheDriverAsksFor);
  RUN(TellsNothingFromBeforeItListened);
  RUN(WaitsAtMostASecond);
  RUN(MakesNoBusyLoopOfAWaitThatDoesNotWait);
  RUN(TellsTheEventThatComesWithTheLoss);
  RUN(LetsGoOfAGpuThatIsAnnouncedAsUnavailable);
  RUN(TellsAStormWholeAndInPieces);
  RUN(SaysWhenThereAreNoEvents);
  RUN(ListensToNoDriverThatIsGone);
  RUN(HangsInOneCallOnly);
  RUN(WaitsOutAnInitialisationThatHangs);
  RUN(ServesThreadsWhileTheWorldChanges);
  RUN(ProbesMayOutliveTheDevice);
  RUN(RefusesStructuresOfAnotherVersion);
  RUN(SetsStickClampOrAreRefusedAsToldByTheScript);
  return 0;
}
