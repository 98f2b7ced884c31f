// Setting, for skos-actuator: the power limit of a GPU, through its driver.
//
// `skos-gpu --setters` listens, as root, and gives each connection a process of its own, `skos-gpu --setter`: a call that hangs in
// the driver takes its own GPU's connection with it and no other's. Nobody but root may connect. The contract of the packets is in
// README.md beside this file.
#ifndef SKOS_GPU_SETTER_H_
#define SKOS_GPU_SETTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "gpu/settings.h"

namespace skos::gpu {

// In microwatts. `min` and `max` are the device's own constraints; 0: not known.
struct PowerLimit {
  int64_t value_uw = 0;
  int64_t min_uw = 0;
  int64_t max_uw = 0;
};

// The power limit of one GPU. Both calls may block as long as the driver does, and return 0 or an errno: EPERM, EOPNOTSUPP, ENODEV for a
// device or driver that is away, EINVAL for a value that it does not take, EIO for the rest.
class PowerKnob {
 public:
  virtual ~PowerKnob() = default;
  virtual int Read(PowerLimit* out) = 0;
  virtual int Write(int64_t value_uw) = 0;
};

// nullptr and an errno in *error. `source` is nvml or amdgpu.
std::unique_ptr<PowerKnob> OpenPowerKnob(const SetterSettings& settings, std::string_view source, const std::string& address,
                                         int* error);

// The answer to one request: "get" or "set N". *leave: the driver went away, and what is open is of no use any more.
std::string AnswerSetter(PowerKnob* knob, std::string_view request, bool* leave);

}  // namespace skos::gpu

#endif  // SKOS_GPU_SETTER_H_
