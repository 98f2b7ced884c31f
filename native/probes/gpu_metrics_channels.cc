// Which fields of gpu_metrics are channels, and in which unit each revision states them. The sources:
//   [K]  comments of drivers/gpu/drm/amd/include/kgd_pp_interface.h: 1.4 and later, 2.4 and 3.0 state units there
//   [S]  comments of amdsmi.h and rocm_smi.h (amdsmi_gpu_metrics_t): temperatures in °C, utilisation in %, power in W, clocks in
//        MHz, fan in RPM, voltages in mV, for all of 1.x; and "it will be zero (0) if unsupported" for the temperatures
//   [D]  what the driver itself does with the same firmware value for hwmon: TemperatureEdge × 1000 (1.x, in °C),
//        GfxTemperature ÷ 100 × 1000 (renoir, vangogh, yellow carp, smu 13.0.4/5, smu 14.0.0: 2.x and 3.0, in 0.01 °C)
//   [A]  amdsmi's violation status: share of time = growth of a residency ÷ growth of accumulation_counter
// Left out, because no source states their unit or they contradict each other: activity and power of 2.0 to 2.3 (APUs give
// percent or hundredths, mW or W), activity of 3.0 ([K] says percent, readers divide by 100), the energy accumulator before 1.4,
// throttle_status (its bits differ by chip; only indep_throttle_status has one meaning), throttle residencies of 3.0.
#include <iterator>

#include "probes/gpu_metrics.h"

namespace skos {
namespace {

using Kind = GpuMetricsChannel::Kind;

constexpr char kTemperature[] = "temperatureMilliCelsius";
constexpr char kPower[] = "powerMilliWatts";
constexpr char kEnergy[] = "energyMilliJoules";
constexpr char kClock[] = "frequencyHertz";
constexpr char kRatio[] = "ratioPartsPerMillion";
constexpr char kVoltage[] = "voltageMilliVolts";
constexpr char kFlags[] = "flagsBitmask";
constexpr char kCount[] = "countTotal";
constexpr char kFan[] = "fanRpm";

constexpr uint32_t kMilli = 1000;
constexpr uint32_t kMega = 1'000'000;
constexpr uint32_t kCentiToMilli = 10;
constexpr uint32_t kPercent = 10'000;  // To parts per million.
constexpr uint32_t kCentiPercent = 100;
constexpr uint32_t kEnergyTicks = 65'536;  // 15.259 µJ is 2^-16 J.

constexpr GpuRate kFast = GpuRate::kFast;
constexpr GpuRate kMedium = GpuRate::kMedium;
constexpr GpuRate kSlow = GpuRate::kSlow;

// Last two: zero is absent; thermal.
constexpr GpuMetricsChannel kChannels[] = {
    // Discrete GPUs. [S][D]
    {"temperature", "edge", kTemperature, kFast, 1, 0, 3, "temperature_edge", Kind::kOne, kMilli, 1, true, true},
    {"temperature_hotspot", "hotspot", kTemperature, kFast, 1, 0, 8, "temperature_hotspot", Kind::kOne, kMilli, 1, true, true},
    {"temperature_memory", "mem", kTemperature, kFast, 1, 0, 8, "temperature_mem", Kind::kOne, kMilli, 1, true, true},
    {"temperature_vr_graphics", "VR gfx", kTemperature, kFast, 1, 0, 3, "temperature_vrgfx", Kind::kOne, kMilli, 1, true, false},
    {"temperature_vr_soc", "VR soc", kTemperature, kFast, 1, 0, 8, "temperature_vrsoc", Kind::kOne, kMilli, 1, true, false},
    {"temperature_vr_memory", "VR mem", kTemperature, kFast, 1, 0, 3, "temperature_vrmem", Kind::kOne, kMilli, 1, true, false},
    // [S]; W also by [K] from 1.4 on. ROCm's header of 1.6 to 1.8 calls the kernel's curr_socket_power by another name.
    {"power", "socket", kPower, kFast, 1, 0, 3, "average_socket_power", Kind::kOne, kMilli, 1, false, false},
    {"power", "socket", kPower, kFast, 1, 4, 5, "curr_socket_power", Kind::kOne, kMilli, 1, false, false},
    {"power", "socket", kPower, kFast, 1, 6, 8, "current_socket_power", Kind::kOne, kMilli, 1, false, false},
    // [K] "15.259uJ (2^-16) units".
    {"energy", "energy", kEnergy, kMedium, 1, 4, 8, "energy_accumulator", Kind::kOne, kMilli, kEnergyTicks, true, false},
    // [S]; % also by [K] from 1.4 on.
    {"utilization", "GPU busy", kRatio, kMedium, 1, 0, 8, "average_gfx_activity", Kind::kOne, kPercent, 1, false, false},
    {"utilization_memory", "memory busy", kRatio, kMedium, 1, 0, 8, "average_umc_activity", Kind::kOne, kPercent, 1, false, false},
    // [S]; "Current clocks (Mhz)" by [K] from 1.4 on, where each die has its own.
    {"clock_graphics", "gfxclk", kClock, kMedium, 1, 0, 3, "current_gfxclk", Kind::kOne, kMega, 1, false, false},
    {"clock_memory", "uclk", kClock, kMedium, 1, 0, 8, "current_uclk", Kind::kOne, kMega, 1, false, false},
    {"clock_soc", "socclk", kClock, kMedium, 1, 0, 3, "current_socclk", Kind::kOne, kMega, 1, false, false},
    {"clock_video", "vclk0", kClock, kMedium, 1, 0, 3, "current_vclk0", Kind::kOne, kMega, 1, false, false},
    {"clock_graphics", "gfxclk", kClock, kMedium, 1, 4, 8, "current_gfxclk", Kind::kHighest, kMega, 1, false, false},
    {"clock_soc", "socclk", kClock, kMedium, 1, 4, 8, "current_socclk", Kind::kHighest, kMega, 1, false, false},
    {"clock_video", "vclk0", kClock, kMedium, 1, 4, 8, "current_vclk0", Kind::kHighest, kMega, 1, false, false},
    {"fan_rpm", "fan", kFan, kMedium, 1, 0, 3, "current_fan_speed", Kind::kOne, 1, 1, false, false},
    // [K] "Voltage (mV)".
    {"voltage", "vddgfx", kVoltage, kMedium, 1, 3, 3, "voltage_gfx", Kind::kOne, 1, 1, true, false},
    {"voltage_soc", "vddsoc", kVoltage, kMedium, 1, 3, 3, "voltage_soc", Kind::kOne, 1, 1, true, false},
    {"voltage_memory", "vddmem", kVoltage, kMedium, 1, 3, 3, "voltage_mem", Kind::kOne, 1, 1, true, false},
    // [K] "Throttle status (ASIC independent)"; bits: SMU_THROTTLER_*_BIT of amdgpu_smu.h.
    {"throttle_reasons", "throttle", kFlags, kFast, 1, 3, 3, "indep_throttle_status", Kind::kOne, 1, 1, false, false},
    // [K] "PCIE replay accumulated count".
    {"pcie_replays", "PCIe replays", kCount, kSlow, 1, 4, 8, "pcie_replay_count_acc", Kind::kOne, 1, 1, false, false},
    // [A], fields of [K] from 1.6 on.
    {"throttled_share_power", "PPT", kRatio, kMedium, 1, 6, 8, "ppt_residency_acc", Kind::kShare, kMega, 1, false, false},
    {"throttled_share_thermal", "socket thermal", kRatio, kMedium, 1, 6, 8, "socket_thm_residency_acc", Kind::kShare, kMega, 1, false, false},
    {"throttled_share_memory", "HBM thermal", kRatio, kMedium, 1, 6, 8, "hbm_thm_residency_acc", Kind::kShare, kMega, 1, false, false},
    {"throttled_share_vr", "VR thermal", kRatio, kMedium, 1, 6, 8, "vr_thm_residency_acc", Kind::kShare, kMega, 1, false, false},
    {"throttled_share_prochot", "PROCHOT", kRatio, kMedium, 1, 6, 8, "prochot_residency_acc", Kind::kShare, kMega, 1, false, false},

    // APUs. [D], for 2.4 also [K] "unit: centi-Celsius".
    {"temperature", "gfx", kTemperature, kFast, 2, 0, 4, "temperature_gfx", Kind::kOne, kCentiToMilli, 1, true, true},
    {"temperature_soc", "soc", kTemperature, kFast, 2, 0, 4, "temperature_soc", Kind::kOne, kCentiToMilli, 1, true, false},
    // [K] "unit: mW" and "unit: centi": of 2.4 only.
    {"power", "socket", kPower, kFast, 2, 4, 4, "average_socket_power", Kind::kOne, 1, 1, false, false},
    {"utilization", "GPU busy", kRatio, kMedium, 2, 4, 4, "average_gfx_activity", Kind::kOne, kCentiPercent, 1, false, false},
    {"voltage", "vddgfx", kVoltage, kMedium, 2, 4, 4, "average_gfx_voltage", Kind::kOne, 1, 1, true, false},
    {"voltage_soc", "vddsoc", kVoltage, kMedium, 2, 4, 4, "average_soc_voltage", Kind::kOne, 1, 1, true, false},
    // [K] "unit: MHz" of 2.4; the same firmware values in all of 2.x. Some chips fill only the averages.
    {"clock_graphics", "gfxclk", kClock, kMedium, 2, 0, 4, "current_gfxclk", Kind::kOne, kMega, 1, false, false},
    {"clock_graphics", "gfxclk", kClock, kMedium, 2, 0, 4, "average_gfxclk_frequency", Kind::kOne, kMega, 1, false, false},
    {"clock_memory", "uclk", kClock, kMedium, 2, 0, 4, "current_uclk", Kind::kOne, kMega, 1, false, false},
    {"clock_memory", "uclk", kClock, kMedium, 2, 0, 4, "average_uclk_frequency", Kind::kOne, kMega, 1, false, false},
    {"clock_soc", "socclk", kClock, kMedium, 2, 0, 4, "current_socclk", Kind::kOne, kMega, 1, false, false},
    {"clock_soc", "socclk", kClock, kMedium, 2, 0, 4, "average_socclk_frequency", Kind::kOne, kMega, 1, false, false},
    {"clock_video", "vclk", kClock, kMedium, 2, 0, 4, "current_vclk", Kind::kOne, kMega, 1, false, false},
    {"clock_video", "vclk", kClock, kMedium, 2, 0, 4, "average_vclk_frequency", Kind::kOne, kMega, 1, false, false},
    {"throttle_reasons", "throttle", kFlags, kFast, 2, 2, 4, "indep_throttle_status", Kind::kOne, 1, 1, false, false},

    // [D] temperatures; [K] "[mW]", "time filtered clocks [MHz]".
    {"temperature", "gfx", kTemperature, kFast, 3, 0, 0, "temperature_gfx", Kind::kOne, kCentiToMilli, 1, true, true},
    {"temperature_soc", "soc", kTemperature, kFast, 3, 0, 0, "temperature_soc", Kind::kOne, kCentiToMilli, 1, true, false},
    {"power", "socket", kPower, kFast, 3, 0, 0, "average_socket_power", Kind::kOne, 1, 1, false, false},
    {"clock_graphics", "gfxclk", kClock, kMedium, 3, 0, 0, "average_gfxclk_frequency", Kind::kOne, kMega, 1, false, false},
    {"clock_memory", "uclk", kClock, kMedium, 3, 0, 0, "average_uclk_frequency", Kind::kOne, kMega, 1, false, false},
    {"clock_soc", "socclk", kClock, kMedium, 3, 0, 0, "average_socclk_frequency", Kind::kOne, kMega, 1, false, false},
    {"clock_video", "vclk", kClock, kMedium, 3, 0, 0, "average_vclk_frequency", Kind::kOne, kMega, 1, false, false},
};

}  // namespace

const GpuMetricsChannel* const kGpuMetricsChannels = kChannels;
const size_t kGpuMetricsChannelCount = std::size(kChannels);

}  // namespace skos
