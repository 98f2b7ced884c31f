// Setting, for skos-actuator: the power limit of a GPU, or where that is not permitted its clocks, through its driver.
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

// In the unit of the knob: README.md. `min` and `max` are the device's own constraints; 0: not known.
struct KnobState {
  int64_t value = 0;
  int64_t min = 0;
  int64_t max = 0;
};

// One limit of one GPU. Both calls may block as long as the driver does, and return 0 or an errno: EPERM, EOPNOTSUPP, ENODEV for a
// device or driver that is away, EINVAL for a value that it does not take, EIO for the rest.
class Knob {
 public:
  virtual ~Knob() = default;
  virtual int Read(KnobState* out) = 0;
  virtual int Write(int64_t value) = 0;
};

// nullptr and an errno in *error. `source` is nvml or amdgpu.
std::unique_ptr<Knob> OpenPowerKnob(const SetterSettings& settings, std::string_view source, const std::string& address, int* error);
// `source` is nvml_clocks or amdgpu_level.
std::unique_ptr<Knob> OpenClockKnob(const SetterSettings& settings, std::string_view source, const std::string& address, int* error);

// The answer to one request: "get" or "set N". *leave: the driver went away, and what is open is of no use any more.
std::string AnswerSetter(Knob* knob, std::string_view request, bool* leave);

}  // namespace skos::gpu

#endif  // SKOS_GPU_SETTER_H_
