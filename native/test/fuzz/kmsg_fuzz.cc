// Any bytes as a record of /dev/kmsg: nothing is read beyond them, and what is taken for an event keeps its bounds.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "probes/kernel_event.h"
#include "probes/kmsg.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

void Classify(std::string_view text) {
  skos::KernelEvent event;
  if (!skos::ClassifyKernelLine(text, &event)) return;
  Require(event.detail_count <= skos::kMaxEventDetails);
  Require(event.address_length <= skos::kMaxEventAddressBytes);
  for (size_t i = 0; i < event.detail_count; ++i) {
    Require(event.details[i].value.size() <= skos::kMaxEventDetailBytes);
    unsigned sum = 0;
    for (const char c : event.details[i].value) sum += static_cast<unsigned char>(c);
    Require(sum <= 255 * skos::kMaxEventDetailBytes);  // Reads every byte, so that a sanitizer sees where it lies.
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  char text[1024];
  skos::KmsgRecord record;
  // The record as it comes, and the same bytes as the text of one: a fuzzer seldom finds the head of a record by itself.
  if (skos::ParseKmsgRecord(bytes, &record)) Classify(std::string_view(text, skos::UnescapeKmsg(record.text, text, sizeof text)));
  Classify(std::string_view(text, skos::UnescapeKmsg(bytes, text, sizeof text)));
  Classify(bytes);
  return 0;
}
