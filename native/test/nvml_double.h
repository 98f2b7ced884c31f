/* NVML's binary interface as the double implements it: declared a second time, in plain C and apart from native/probes/nvml_abi.h, so
 * that a mistake in one of them does not agree with itself. Sizes and offsets: nvml.h of NVML 13.3, x86-64 Linux. */
#ifndef SKOS_TEST_NVML_DOUBLE_H_
#define SKOS_TEST_NVML_DOUBLE_H_

#include <stddef.h>
#include <stdint.h>

enum {
  SUCCESS = 0,
  UNINITIALIZED = 1,
  INVALID_ARGUMENT = 2,
  NOT_SUPPORTED = 3,
  NO_PERMISSION = 4,
  NOT_FOUND = 6,
  INSUFFICIENT_SIZE = 7,
  DRIVER_NOT_LOADED = 9,
  TIMEOUT = 10,
  FUNCTION_NOT_FOUND = 13,
  GPU_IS_LOST = 15,
  RESET_REQUIRED = 16,
  LIB_RM_VERSION_MISMATCH = 18,
  NO_DATA = 21,
  ARGUMENT_VERSION_MISMATCH = 25,
  NOT_READY = 27,
  GPU_NOT_FOUND = 28,
  UNKNOWN = 999
};

typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { unsigned gpu, memory; } nvmlUtilization_t;
typedef struct {
  char busIdLegacy[16];
  unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
  char busId[32];
} nvmlPciInfo_t;
typedef struct {
  unsigned pid;
  unsigned long long usedGpuMemory;
  unsigned gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;
typedef struct {
  unsigned fieldId, scopeId;
  long long timestamp, latencyUsec;
  int valueType, nvmlReturn;
  union {
    double dVal;
    int siVal;
    unsigned uiVal;
    unsigned long ulVal;
    unsigned long long ullVal;
    long long sllVal;
    unsigned short usVal;
  } value;
} nvmlFieldValue_t;
typedef struct {
  void *device;
  unsigned long long eventType, eventData;
  unsigned gpuInstanceId, computeInstanceId;
} nvmlEventData_t;
typedef struct { unsigned version; int sensorType, temperature; } nvmlTemperature_t;
typedef struct { unsigned version; int marginTemperature; } nvmlMarginTemperature_t;
typedef struct { unsigned version, fan, speed; } nvmlFanSpeedInfo_t;
typedef struct { unsigned version; unsigned char powerScope; unsigned powerValueMw; } nvmlPowerValue_v2_t;
typedef struct { unsigned long long referenceTime, violationTime; } nvmlViolationTime_t;
typedef struct {
  unsigned version;
  unsigned long long counters[11];
  unsigned bThresholdExceeded;
} nvmlEccSramErrorStatus_t;

_Static_assert(sizeof(nvmlMemory_t) == 24, "");
_Static_assert(sizeof(nvmlMemory_v2_t) == 40 && offsetof(nvmlMemory_v2_t, used) == 32, "");
_Static_assert(sizeof(nvmlUtilization_t) == 8, "");
_Static_assert(sizeof(nvmlPciInfo_t) == 68 && offsetof(nvmlPciInfo_t, busId) == 36, "");
_Static_assert(sizeof(nvmlProcessInfo_t) == 24 && offsetof(nvmlProcessInfo_t, gpuInstanceId) == 16, "");
_Static_assert(sizeof(nvmlFieldValue_t) == 40 && offsetof(nvmlFieldValue_t, value) == 32, "");
_Static_assert(sizeof(nvmlEventData_t) == 32 && offsetof(nvmlEventData_t, gpuInstanceId) == 24, "");
_Static_assert(sizeof(nvmlTemperature_t) == 12 && sizeof(nvmlMarginTemperature_t) == 8, "");
_Static_assert(sizeof(nvmlFanSpeedInfo_t) == 12 && sizeof(nvmlPowerValue_v2_t) == 12, "");
_Static_assert(sizeof(nvmlViolationTime_t) == 16, "");
_Static_assert(sizeof(nvmlEccSramErrorStatus_t) == 104 && offsetof(nvmlEccSramErrorStatus_t, bThresholdExceeded) == 96, "");

#endif
