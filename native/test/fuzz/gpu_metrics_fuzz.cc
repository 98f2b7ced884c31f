// gpu_metrics as firmware and files could make it, and the texts that only amdgpu writes. Memory errors are the sanitizers' to find;
// what must hold of every answer is checked here.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "probes/amdgpu_text.h"
#include "probes/gpu_metrics.h"

namespace skos {
namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

unsigned Byte(std::string_view blob, size_t at) { return static_cast<unsigned char>(blob[at]); }

void CheckFields(const GpuMetrics& metrics, const GpuMetricsLayout& layout) {
  for (size_t i = 0; i < layout.field_count; ++i) {
    const GpuMetricsField& field = layout.fields[i];
    Require(metrics.Find(field.name) != nullptr);
    for (size_t n = 0; n <= field.count; ++n) {
      uint64_t value = 0;
      const bool has = metrics.Value(field, n, &value);
      Require(!has || n < field.count);
      Require(field.bytes == 8 || value >> (8 * field.bytes) == 0);
    }
  }
}

void CheckChannels(const GpuMetrics& metrics, const GpuMetricsLayout& layout) {
  for (size_t i = 0; i < kGpuMetricsChannelCount; ++i) {
    const GpuMetricsChannel& channel = kGpuMetricsChannels[i];
    if (!AppliesTo(channel, layout)) continue;
    int64_t value = 0;
    if (!GpuMetricsValue(metrics, channel, &value)) continue;
    Require(value >= 0);  // No field is signed.
    Require(std::string_view(channel.quantity) != "ratioPartsPerMillion" || value <= 1'000'000);
    Require(std::string_view(channel.quantity) != "flagsBitmask" || value < INT64_C(1) << 53);
  }
}

void CheckMetrics(std::string_view blob) {
  GpuMetrics metrics;
  const GpuMetricsVerdict verdict = GpuMetrics::Parse(blob, &metrics);
  Require((verdict == GpuMetricsVerdict::kKnown) == (metrics.layout() != nullptr));
  Require(!metrics.Revision().empty());
  if (verdict != GpuMetricsVerdict::kKnown) {
    Require(metrics.Find("temperature_hotspot") == nullptr);
    return;
  }
  const GpuMetricsLayout& layout = *metrics.layout();
  // Only what its own header says that it is, and all of it there.
  Require(blob.size() >= layout.size && blob.size() <= kGpuMetricsMaxBytes);
  Require(Byte(blob, 0) + 256 * Byte(blob, 1) == layout.size);
  Require(Byte(blob, 2) == layout.format && Byte(blob, 3) == layout.content);
  CheckFields(metrics, layout);
  CheckChannels(metrics, layout);
}

void CheckText(TextParser parser, std::string_view text) {
  int64_t value = -1;
  const Quality quality = parser(text, &value);
  Require(quality == Quality::kOk || quality == Quality::kNoData || quality == Quality::kFault);
  Require(quality != Quality::kOk || value >= 0);  // Clocks, levels, lanes and counts.
}

}  // namespace
}  // namespace skos

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skos;
  // A copy without an end: a look beyond it is a finding.
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  CheckMetrics(bytes);
  if (size > 0) {
    // The rest under the header of each layout, so that the fuzzer need not guess it.
    const GpuMetricsLayout& layout = kGpuMetricsLayouts[data[0] % kGpuMetricsLayoutCount];
    std::string blob = bytes.substr(1, layout.size);
    blob.resize(layout.size, '\xff');
    blob[0] = static_cast<char>(layout.size);
    blob[1] = static_cast<char>(layout.size >> 8);
    blob[2] = static_cast<char>(layout.format);
    blob[3] = static_cast<char>(layout.content);
    CheckMetrics(blob);
  }
  for (const TextParser parser :
       {ActiveClockHertz, HighestClockHertz, ActiveLevel, LinkGeneration, LinkWidth, ActivePcieGeneration, ActivePcieWidth,
        HighestPcieGeneration, HighestPcieWidth, RasUncorrected, RasCorrected, RasDeferred, CountLines, RuntimeState}) {
    CheckText(parser, bytes);
  }
  return 0;
}
