// What skos-gpu says, as far as standing orders need it (native/gpu/README.md is the contract): pure functions over text that is
// not trusted, because a vendor's library runs beside who writes it. What is not exactly as expected means nothing.
#ifndef SKOS_ACTUATOR_GPU_WORDS_H_
#define SKOS_ACTUATOR_GPU_WORDS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace skos::actuator {

// Of a `device` message.
struct GpuWord {
  std::string_view address;
  std::string_view state;
};

// False for every other message, and for what is none. The views are into `packet`.
bool ParseGpuWord(std::string_view packet, GpuWord* out);

// The channels' names of a region's description, in its order; at most `max`, none where it is malformed. A name that would have to be
// unescaped is "".
std::vector<std::string> ChannelNames(std::string_view description, size_t max);

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_GPU_WORDS_H_
