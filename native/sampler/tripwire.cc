#include "sampler/tripwire.h"

namespace skos {

bool Tripwire::IsAbove(const Reading& reading) const {
  return reading.quality == Quality::kOk ? reading.value > spec_.raise : spec_.loss_raises;
}

bool Tripwire::IsBelow(const Reading& reading) const {
  return reading.quality == Quality::kOk && reading.value < spec_.clear;
}

bool Tripwire::Update(const Reading& reading) {
  // What is unknown says nothing: it does not even break a run.
  if (reading.quality != Quality::kOk && !spec_.loss_raises) return false;
  const bool speaks_for_change = raised_ ? IsBelow(reading) : IsAbove(reading);
  if (!speaks_for_change) {
    run_ = 0;
    return false;
  }
  if (++run_ < spec_.samples) return false;
  run_ = 0;
  raised_ = !raised_;
  return true;
}

}  // namespace skos
