// What skos-gpu says to the actuator: messages and descriptions of any bytes. Views must lie in the input, and names be as many as
// the region has channels.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "actuator/gpu_words.h"

namespace {

constexpr size_t kChannels = 64;

void CheckWithin(std::string_view part, std::string_view whole) {
  if (part.empty()) return;
  if (part.data() < whole.data() || part.data() + part.size() > whole.data() + whole.size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  skos::actuator::GpuWord word;
  if (skos::actuator::ParseGpuWord(text, &word)) {
    if (word.address.empty() || word.state.empty()) std::abort();
    CheckWithin(word.address, text);
    CheckWithin(word.state, text);
  }
  const std::vector<std::string> names = skos::actuator::ChannelNames(text, kChannels);
  if (names.size() > kChannels) std::abort();
  for (const std::string& name : names) {
    if (name.find('\\') != std::string::npos) std::abort();
  }
  return 0;
}
