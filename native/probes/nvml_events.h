// The event set of one GPU: what its driver announces by itself.
#ifndef SKOS_PROBES_NVML_EVENTS_H_
#define SKOS_PROBES_NVML_EVENTS_H_

#include <memory>

#include "probes/gpu_device.h"
#include "probes/nvml_gpu.h"

namespace skos::nvml {

// One thread at a time. Events that happened before the first Wait() are not told.
class Events {
 public:
  explicit Events(std::shared_ptr<const Gpu> gpu) : gpu_(std::move(gpu)) {}
  ~Events();  // Frees the set; before nvmlShutdown.
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  // As GpuDevice::WaitEvents().
  bool Wait(const GpuEventSink& sink);

 private:
  bool Register(int* code);
  void Deliver(const EventData& event, const GpuEventSink& sink);

  const std::shared_ptr<const Gpu> gpu_;
  EventSet set_ = nullptr;
  GetterState state_;
};

}  // namespace skos::nvml

#endif  // SKOS_PROBES_NVML_EVENTS_H_
