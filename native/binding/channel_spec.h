// Channels and tripwires as src/core has them, to the sampler's plain data. Everything is checked: what comes from JS is
// never trusted to have the right type.
#ifndef SKOS_BINDING_CHANNEL_SPEC_H_
#define SKOS_BINDING_CHANNEL_SPEC_H_

#include <napi.h>

#include <string>
#include <vector>

#include "sampler/sampler.h"

namespace skos::binding {

// JS thread. Return "" and fill `out`, or say what is wrong.
std::string ToChannels(Napi::Value value, std::vector<ChannelSpec>* out);
std::string ToTripwires(Napi::Value value, size_t channels, std::vector<TripwireSpec>* out);

// A finite number within bounds.
bool ToNumber(Napi::Value value, double min, double max, double* out);

}  // namespace skos::binding

#endif  // SKOS_BINDING_CHANNEL_SPEC_H_
