// libnvidia-ml.so.1, loaded at run time, and its functions.
//
// Each function is looked up when it is first called, by the name with the version suffix: the header's macros map the bare name to it,
// and the symbol without one is an older interface. A symbol that this driver lacks answers NVML_ERROR_FUNCTION_NOT_FOUND. NVML is
// thread-safe, and so is all of this.
#ifndef SKOS_PROBES_NVML_LIBRARY_H_
#define SKOS_PROBES_NVML_LIBRARY_H_

#include <atomic>
#include <memory>
#include <string>

#include "probes/nvml_abi.h"

namespace skos::nvml {

// Owns a dlopen handle. Never unloaded: the library keeps threads and descriptors of its own, and a stuck call may still be in it.
class SharedObject {
 public:
  explicit SharedObject(void* handle) : handle_(handle) {}
  void* Symbol(const char* name) const;

 private:
  void* const handle_;
};

template <typename... Args>
class Function {
 public:
  Function(const SharedObject& library, const char* name) : library_(library), name_(name) {}

  int operator()(Args... args) {
    void* const symbol = Resolve();
    if (symbol == nullptr) return kFunctionNotFound;
    return reinterpret_cast<int (*)(Args...)>(symbol)(args...);
  }
  const char* name() const { return name_; }

 private:
  // Two threads at once look it up twice and find the same.
  void* Resolve() {
    if (!looked_up_.load(std::memory_order_acquire)) {
      symbol_.store(library_.Symbol(name_), std::memory_order_relaxed);
      looked_up_.store(true, std::memory_order_release);
    }
    return symbol_.load(std::memory_order_relaxed);
  }

  const SharedObject& library_;
  const char* const name_;
  std::atomic<void*> symbol_{nullptr};
  std::atomic<bool> looked_up_{false};
};

class Library {
 public:
  // nullptr and why; *absent: there is no such file, as opposed to one that cannot be loaded.
  static std::unique_ptr<Library> Load(const std::string& name, std::string* why, bool* absent);

  // "nvmlInit_v2: Driver Not Loaded (9)"
  std::string Explain(const char* call, int code) const;

 private:
  SharedObject object_;  // Before the functions, which refer to it.

 public:
  explicit Library(void* handle) : object_(handle) {}

  Function<> init{object_, "nvmlInit_v2"};
  Function<> shutdown{object_, "nvmlShutdown"};
  Function<char*, unsigned> driver_version{object_, "nvmlSystemGetDriverVersion"};
  Function<char*, unsigned> nvml_version{object_, "nvmlSystemGetNVMLVersion"};
  Function<unsigned*> count{object_, "nvmlDeviceGetCount_v2"};
  Function<unsigned, Device*> handle_by_index{object_, "nvmlDeviceGetHandleByIndex_v2"};
  Function<const char*, Device*> handle_by_address{object_, "nvmlDeviceGetHandleByPciBusId_v2"};
  Function<Device, PciInfo*> pci_info{object_, "nvmlDeviceGetPciInfo_v3"};
  Function<Device, char*, unsigned> name{object_, "nvmlDeviceGetName"};
  Function<Device, char*, unsigned> uuid{object_, "nvmlDeviceGetUUID"};
  Function<Device, char*, unsigned> serial{object_, "nvmlDeviceGetSerial"};
  Function<Device, char*, unsigned> vbios_version{object_, "nvmlDeviceGetVbiosVersion"};
  Function<Device, unsigned*> architecture{object_, "nvmlDeviceGetArchitecture"};

  Function<Device, Temperature*> temperature_v{object_, "nvmlDeviceGetTemperatureV"};
  Function<Device, int, unsigned*> temperature{object_, "nvmlDeviceGetTemperature"};
  Function<Device, int, unsigned*> temperature_threshold{object_, "nvmlDeviceGetTemperatureThreshold"};
  Function<Device, MarginTemperature*> margin{object_, "nvmlDeviceGetMarginTemperature"};
  Function<Device, int, FieldValue*> field_values{object_, "nvmlDeviceGetFieldValues"};
  Function<Device, unsigned*> power_usage{object_, "nvmlDeviceGetPowerUsage"};
  Function<Device, unsigned long long*> energy{object_, "nvmlDeviceGetTotalEnergyConsumption"};
  Function<Device, unsigned*> power_limit{object_, "nvmlDeviceGetPowerManagementLimit"};
  Function<Device, unsigned*> power_limit_default{object_, "nvmlDeviceGetPowerManagementDefaultLimit"};
  Function<Device, unsigned*> power_limit_enforced{object_, "nvmlDeviceGetEnforcedPowerLimit"};
  Function<Device, unsigned*, unsigned*> power_constraints{object_, "nvmlDeviceGetPowerManagementLimitConstraints"};
  Function<Device, unsigned> set_power_limit{object_, "nvmlDeviceSetPowerManagementLimit"};
  Function<Device, int, unsigned*> clock{object_, "nvmlDeviceGetClockInfo"};
  Function<Device, int, unsigned*> clock_max{object_, "nvmlDeviceGetMaxClockInfo"};
  // Of a setter, too.
  Function<Device, unsigned, unsigned> lock_clocks{object_, "nvmlDeviceSetGpuLockedClocks"};
  Function<Device> unlock_clocks{object_, "nvmlDeviceResetGpuLockedClocks"};
  Function<Device, unsigned long long*> event_reasons{object_, "nvmlDeviceGetCurrentClocksEventReasons"};
  Function<Device, unsigned long long*> throttle_reasons{object_, "nvmlDeviceGetCurrentClocksThrottleReasons"};
  Function<Device, int*> performance_state{object_, "nvmlDeviceGetPerformanceState"};
  Function<Device, int, ViolationTime*> violation{object_, "nvmlDeviceGetViolationStatus"};
  Function<Device, Utilization*> utilization{object_, "nvmlDeviceGetUtilizationRates"};
  Function<Device, MemoryV2*> memory_v2{object_, "nvmlDeviceGetMemoryInfo_v2"};
  Function<Device, Memory*> memory{object_, "nvmlDeviceGetMemoryInfo"};
  Function<Device, unsigned*> fan_count{object_, "nvmlDeviceGetNumFans"};
  Function<Device, unsigned, unsigned*> fan_v2{object_, "nvmlDeviceGetFanSpeed_v2"};
  Function<Device, unsigned*> fan{object_, "nvmlDeviceGetFanSpeed"};
  Function<Device, FanSpeed*> fan_rpm{object_, "nvmlDeviceGetFanSpeedRPM"};

  Function<Device, int, int, unsigned long long*> ecc_total{object_, "nvmlDeviceGetTotalEccErrors"};
  Function<Device, int, int, int, unsigned long long*> ecc_at{object_, "nvmlDeviceGetMemoryErrorCounter"};
  Function<Device, SramEccStatus*> sram_status{object_, "nvmlDeviceGetSramEccErrorStatus"};
  Function<Device, unsigned*, unsigned*, unsigned*, unsigned*> remapped_rows{object_, "nvmlDeviceGetRemappedRows"};
  Function<Device, int, unsigned*, unsigned long long*> retired_pages{object_, "nvmlDeviceGetRetiredPages"};
  Function<Device, int*> retired_pending{object_, "nvmlDeviceGetRetiredPagesPendingStatus"};
  Function<Device, unsigned*> pcie_generation{object_, "nvmlDeviceGetCurrPcieLinkGeneration"};
  Function<Device, unsigned*> pcie_width{object_, "nvmlDeviceGetCurrPcieLinkWidth"};
  Function<Device, unsigned*> pcie_generation_max{object_, "nvmlDeviceGetMaxPcieLinkGeneration"};
  Function<Device, unsigned*> pcie_width_max{object_, "nvmlDeviceGetMaxPcieLinkWidth"};
  Function<Device, unsigned*> pcie_replays{object_, "nvmlDeviceGetPcieReplayCounter"};
  Function<Device, unsigned, int*> link_state{object_, "nvmlDeviceGetNvLinkState"};
  Function<Device, unsigned, int, unsigned long long*> link_errors{object_, "nvmlDeviceGetNvLinkErrorCounter"};
  Function<Device, int*> persistence_mode{object_, "nvmlDeviceGetPersistenceMode"};
  Function<Device, int*, int*> ecc_mode{object_, "nvmlDeviceGetEccMode"};

  using ListProcesses = Function<Device, unsigned*, ProcessInfo*>;
  ListProcesses compute_processes_v3{object_, "nvmlDeviceGetComputeRunningProcesses_v3"};
  ListProcesses compute_processes_v2{object_, "nvmlDeviceGetComputeRunningProcesses_v2"};
  ListProcesses graphics_processes_v3{object_, "nvmlDeviceGetGraphicsRunningProcesses_v3"};
  ListProcesses graphics_processes_v2{object_, "nvmlDeviceGetGraphicsRunningProcesses_v2"};

  Function<Device, unsigned*, unsigned*> mig_mode{object_, "nvmlDeviceGetMigMode"};
  Function<Device, unsigned*> mig_capacity{object_, "nvmlDeviceGetMaxMigDeviceCount"};
  Function<Device, unsigned, Device*> mig_device{object_, "nvmlDeviceGetMigDeviceHandleByIndex"};
  Function<Device, unsigned*> gpu_instance{object_, "nvmlDeviceGetGpuInstanceId"};
  Function<Device, unsigned*> compute_instance{object_, "nvmlDeviceGetComputeInstanceId"};

  Function<EventSet*> event_set_create{object_, "nvmlEventSetCreate"};
  Function<Device, unsigned long long*> event_types{object_, "nvmlDeviceGetSupportedEventTypes"};
  Function<Device, unsigned long long, EventSet> event_register{object_, "nvmlDeviceRegisterEvents"};
  Function<EventSet, EventData*, unsigned> event_wait{object_, "nvmlEventSetWait_v2"};
  Function<EventSet> event_set_free{object_, "nvmlEventSetFree"};
};

}  // namespace skos::nvml

#endif  // SKOS_PROBES_NVML_LIBRARY_H_
