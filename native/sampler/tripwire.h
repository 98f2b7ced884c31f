// One tripwire's state: a pure function of the readings that it is shown, in order. See TripwireSpec for its meaning.
#ifndef SKOS_SAMPLER_TRIPWIRE_H_
#define SKOS_SAMPLER_TRIPWIRE_H_

#include <cstdint>

#include "sampler/sampler.h"

namespace skos {

class Tripwire {
 public:
  explicit Tripwire(const TripwireSpec& spec) : spec_(spec), raised_(spec.raised) {}

  // The thread that samples. True when this reading raised or cleared it; raised() says which.
  bool Update(const Reading& reading);
  bool raised() const { return raised_; }
  uint32_t channel() const { return spec_.channel; }

 private:
  bool IsAbove(const Reading& reading) const;
  bool IsBelow(const Reading& reading) const;

  const TripwireSpec spec_;
  bool raised_;
  uint32_t run_ = 0;  // Consecutive readings that speak for the other state.
};

}  // namespace skos

#endif  // SKOS_SAMPLER_TRIPWIRE_H_
