// gpu_metrics: what counts as one, and what its fields mean. The layouts themselves are compared with the public headers' by
// test/sensors/amdgpu.test.ts; here are blobs as firmware, files and adversaries make them.
#include <cstring>
#include <string>

#include "probes/gpu_metrics.h"
#include "test/check.h"

namespace skos::test {
namespace {

const GpuMetricsLayout& LayoutOf(int format, int content) {
  for (size_t i = 0; i < kGpuMetricsLayoutCount; ++i) {
    const GpuMetricsLayout& layout = kGpuMetricsLayouts[i];
    if (layout.format == format && layout.content == content) return layout;
  }
  Fail(__FILE__, __LINE__, "no such layout");
}

void Put(std::string* blob, size_t offset, size_t bytes, uint64_t value) {
  for (size_t i = 0; i < bytes; ++i) (*blob)[offset + i] = static_cast<char>(value >> (8 * i));
}

// A blob of that revision, every field as the driver sets it before it fills in what it knows: all-ones.
std::string BlobOf(const GpuMetricsLayout& layout) {
  std::string blob(layout.size, '\xff');
  Put(&blob, 0, 2, layout.size);
  Put(&blob, 2, 1, layout.format);
  Put(&blob, 3, 1, layout.content);
  return blob;
}

void Set(std::string* blob, const GpuMetricsLayout& layout, std::string_view name, uint64_t value, size_t index = 0) {
  for (size_t i = 0; i < layout.field_count; ++i) {
    const GpuMetricsField& field = layout.fields[i];
    if (name != field.name) continue;
    CHECK(index < field.count);
    Put(blob, field.offset + index * field.bytes, field.bytes, value);
    return;
  }
  Fail(__FILE__, __LINE__, "no field " + std::string(name));
}

// The canonical value of the channel, or -1 where it has none. The first row that has one counts.
int64_t ValueOf(const std::string& blob, std::string_view channel) {
  GpuMetrics metrics;
  CHECK(GpuMetrics::Parse(blob, &metrics) == GpuMetricsVerdict::kKnown);
  for (size_t i = 0; i < kGpuMetricsChannelCount; ++i) {
    const GpuMetricsChannel& row = kGpuMetricsChannels[i];
    int64_t value = 0;
    if (channel == row.name && AppliesTo(row, *metrics.layout()) && GpuMetricsValue(metrics, row, &value)) return value;
  }
  return -1;
}

int64_t ValueWith(int format, int content, std::string_view channel, std::string_view field, uint64_t raw) {
  const GpuMetricsLayout& layout = LayoutOf(format, content);
  std::string blob = BlobOf(layout);
  Set(&blob, layout, field, raw);
  return ValueOf(blob, channel);
}

GpuMetricsVerdict VerdictOf(std::string_view blob) {
  GpuMetrics metrics;
  const GpuMetricsVerdict verdict = GpuMetrics::Parse(blob, &metrics);
  // Only a known blob has fields to read.
  CHECK((verdict == GpuMetricsVerdict::kKnown) == (metrics.layout() != nullptr));
  return verdict;
}

void KnowsEveryRevisionByItsSize() {
  CHECK_EQ(kGpuMetricsLayoutCount, 15u);
  for (size_t i = 0; i < kGpuMetricsLayoutCount; ++i) {
    const std::string blob = BlobOf(kGpuMetricsLayouts[i]);
    CHECK(VerdictOf(blob) == GpuMetricsVerdict::kKnown);
    std::string other = blob;
    Put(&other, 0, 2, kGpuMetricsLayouts[i].size + 8u);
    other.resize(other.size() + 8);
    CHECK(VerdictOf(other) == GpuMetricsVerdict::kUnknown);  // Linux had 1.6 in another size for a while.
  }
}

void RefusesATruncatedBlobAtEveryLength() {
  for (size_t i = 0; i < kGpuMetricsLayoutCount; ++i) {
    const std::string blob = BlobOf(kGpuMetricsLayouts[i]);
    for (size_t length = 0; length < blob.size(); ++length) {
      // A copy of its own, so that a look beyond its end is seen.
      const std::string head = blob.substr(0, length);
      CHECK(VerdictOf(head) == GpuMetricsVerdict::kTruncated);
    }
  }
}

void TakesABlobThatIsPaddedToAPageButNoLongerOne() {
  std::string blob = BlobOf(LayoutOf(1, 3));
  Set(&blob, LayoutOf(1, 3), "temperature_hotspot", 91);
  blob.resize(kGpuMetricsMaxBytes, '\0');
  CHECK_EQ(ValueOf(blob, "temperature_hotspot"), 91'000);
  blob.push_back('\0');
  CHECK(VerdictOf(blob) == GpuMetricsVerdict::kUnknown);
}

void SaysWhichRevisionItDoesNotKnow() {
  std::string blob(512, '\0');
  Put(&blob, 0, 2, 512);
  Put(&blob, 2, 1, 9);
  Put(&blob, 3, 1, 1);
  GpuMetrics metrics;
  CHECK(GpuMetrics::Parse(blob, &metrics) == GpuMetricsVerdict::kUnknown);
  CHECK_EQ(metrics.Revision(), std::string("9.1, 512 bytes"));
  CHECK(metrics.Find("temperature_edge") == nullptr);
  // Neither a file of zeros nor one of ones is a revision.
  CHECK(VerdictOf(std::string(120, '\0')) == GpuMetricsVerdict::kUnknown);
  CHECK(VerdictOf(std::string(120, '\xff')) == GpuMetricsVerdict::kUnknown);
}

void TakesAllOnesOfTheFieldsWidthForAbsent() {
  for (size_t i = 0; i < kGpuMetricsLayoutCount; ++i) {
    const GpuMetricsLayout& layout = kGpuMetricsLayouts[i];
    const std::string blob = BlobOf(layout);
    GpuMetrics metrics;
    CHECK(GpuMetrics::Parse(blob, &metrics) == GpuMetricsVerdict::kKnown);
    for (size_t f = 0; f < layout.field_count; ++f) {
      uint64_t value = 0;
      for (size_t n = 0; n < layout.fields[f].count; ++n) CHECK(!metrics.Value(layout.fields[f], n, &value));
    }
    for (size_t c = 0; c < kGpuMetricsChannelCount; ++c) CHECK_EQ(ValueOf(blob, kGpuMetricsChannels[c].name), -1);
  }
  // 0xff in two bytes is a value, in one byte it is none.
  CHECK_EQ(ValueWith(1, 3, "temperature_hotspot", "temperature_hotspot", 0xff), 255'000);
}

void ReadsNoFieldOutsideTheBlobOrBeyondItsCount() {
  const GpuMetricsLayout& layout = LayoutOf(1, 4);
  const std::string blob = BlobOf(layout);
  GpuMetrics metrics;
  CHECK(GpuMetrics::Parse(blob, &metrics) == GpuMetricsVerdict::kKnown);
  uint64_t value = 0;
  const GpuMetricsField* const clocks = metrics.Find("current_gfxclk");
  CHECK(clocks != nullptr && clocks->count == 8);
  CHECK(!metrics.Value(*clocks, 8, &value));
  const GpuMetricsField outside = {"outside", layout.size, 2, 1};
  CHECK(!metrics.Value(outside, 0, &value));
}

void RespectsTheUnitsOfEachRevision() {
  CHECK_EQ(ValueWith(1, 0, "temperature", "temperature_edge", 61), 61'000);           // °C
  CHECK_EQ(ValueWith(2, 0, "temperature", "temperature_gfx", 6150), 61'500);          // 0.01 °C
  CHECK_EQ(ValueWith(2, 4, "temperature_soc", "temperature_soc", 4205), 42'050);
  CHECK_EQ(ValueWith(3, 0, "temperature", "temperature_gfx", 6150), 61'500);
  CHECK_EQ(ValueWith(1, 3, "power", "average_socket_power", 305), 305'000);           // W
  CHECK_EQ(ValueWith(1, 5, "power", "curr_socket_power", 750), 750'000);
  CHECK_EQ(ValueWith(1, 8, "power", "current_socket_power", 1000), 1'000'000);
  CHECK_EQ(ValueWith(2, 4, "power", "average_socket_power", 15'000), 15'000);         // mW
  CHECK_EQ(ValueWith(3, 0, "power", "average_socket_power", 54'000), 54'000);
  CHECK_EQ(ValueWith(1, 3, "utilization", "average_gfx_activity", 97), 970'000);      // %
  CHECK_EQ(ValueWith(2, 4, "utilization", "average_gfx_activity", 9700), 970'000);    // 0.01 %
  CHECK_EQ(ValueWith(1, 3, "clock_soc", "current_socclk", 1200), 1'200'000'000);      // MHz
  CHECK_EQ(ValueWith(1, 4, "energy", "energy_accumulator", 65'536), 1000);            // 2^-16 J
  CHECK_EQ(ValueWith(1, 8, "energy", "energy_accumulator", uint64_t{65'536} * 1'000'000), 1'000'000'000);
  CHECK_EQ(ValueWith(1, 3, "voltage_soc", "voltage_soc", 1050), 1050);
  CHECK_EQ(ValueWith(1, 2, "fan_rpm", "current_fan_speed", 0), 0);
}

void LeavesOutWhatNoSourceStatesTheUnitOf() {
  CHECK_EQ(ValueWith(1, 3, "energy", "energy_accumulator", 65'536), -1);
  CHECK_EQ(ValueWith(2, 2, "power", "average_socket_power", 15'000), -1);
  CHECK_EQ(ValueWith(2, 2, "utilization", "average_gfx_activity", 50), -1);
  CHECK_EQ(ValueWith(3, 0, "utilization", "average_gfx_activity", 50), -1);
  // Bits of throttle_status mean another thing on every chip.
  CHECK_EQ(ValueWith(1, 1, "throttle_reasons", "throttle_status", 1), -1);
  CHECK_EQ(ValueWith(1, 3, "throttle_reasons", "throttle_status", 1), -1);
}

void TakesThrottleReasonsAsTheyAreWithin53Bits() {
  const uint64_t hotspot = uint64_t{1} << 36;
  CHECK_EQ(ValueWith(1, 3, "throttle_reasons", "indep_throttle_status", hotspot | 1), static_cast<int64_t>(hotspot | 1));
  CHECK_EQ(ValueWith(2, 2, "throttle_reasons", "indep_throttle_status", 0), 0);
  CHECK_EQ(ValueWith(2, 4, "throttle_reasons", "indep_throttle_status", (uint64_t{1} << 56) | 2), 2);
}

void BelievesNoTemperatureOfZeroAndNoShareAboveTheWhole() {
  CHECK_EQ(ValueWith(1, 3, "temperature_memory", "temperature_mem", 0), -1);  // "zero (0) if unsupported"
  CHECK_EQ(ValueWith(1, 3, "utilization", "average_gfx_activity", 0), 0);
  CHECK_EQ(ValueWith(1, 3, "utilization", "average_gfx_activity", 100), 1'000'000);
  CHECK_EQ(ValueWith(1, 3, "utilization", "average_gfx_activity", 101), -1);
}

void TakesTheHighestOfTheDiesThatHaveAClock() {
  const GpuMetricsLayout& layout = LayoutOf(1, 6);
  std::string blob = BlobOf(layout);
  Set(&blob, layout, "current_gfxclk", 132, 0);
  Set(&blob, layout, "current_gfxclk", 2100, 3);
  CHECK_EQ(ValueOf(blob, "clock_graphics"), 2'100'000'000);
}

void FallsBackToTheAverageWhereAnApuGivesNoCurrentClock() {
  const GpuMetricsLayout& layout = LayoutOf(2, 3);
  std::string blob = BlobOf(layout);
  Set(&blob, layout, "average_socclk_frequency", 400);
  CHECK_EQ(ValueOf(blob, "clock_soc"), 400'000'000);
  Set(&blob, layout, "current_socclk", 600);
  CHECK_EQ(ValueOf(blob, "clock_soc"), 600'000'000);
}

void SurvivesTheLargestValues() {
  // One below all-ones: 2^64 - 2 ticks of energy are 2.8e17 mJ.
  CHECK_EQ(ValueWith(1, 4, "energy", "energy_accumulator", UINT64_MAX - 1), INT64_C(281'474'976'710'656'000));
  CHECK_EQ(ValueWith(1, 4, "pcie_replays", "pcie_replay_count_acc", UINT64_MAX - 1), -1);  // Beyond 63 bits.
}

void EveryRowNamesAFieldOfEachRevisionThatItAppliesTo() {
  for (size_t c = 0; c < kGpuMetricsChannelCount; ++c) {
    const GpuMetricsChannel& row = kGpuMetricsChannels[c];
    CHECK(row.divisor > 0 && row.first <= row.last);
    for (size_t i = 0; i < kGpuMetricsLayoutCount; ++i) {
      if (!AppliesTo(row, kGpuMetricsLayouts[i])) continue;
      GpuMetrics metrics;
      const std::string blob = BlobOf(kGpuMetricsLayouts[i]);
      CHECK(GpuMetrics::Parse(blob, &metrics) == GpuMetricsVerdict::kKnown);
      if (metrics.Find(row.field) == nullptr) Fail(__FILE__, __LINE__, std::string(row.field) + " of " + metrics.Revision());
    }
  }
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(KnowsEveryRevisionByItsSize);
  RUN(RefusesATruncatedBlobAtEveryLength);
  RUN(TakesABlobThatIsPaddedToAPageButNoLongerOne);
  RUN(SaysWhichRevisionItDoesNotKnow);
  RUN(TakesAllOnesOfTheFieldsWidthForAbsent);
  RUN(ReadsNoFieldOutsideTheBlobOrBeyondItsCount);
  RUN(RespectsTheUnitsOfEachRevision);
  RUN(LeavesOutWhatNoSourceStatesTheUnitOf);
  RUN(TakesThrottleReasonsAsTheyAreWithin53Bits);
  RUN(BelievesNoTemperatureOfZeroAndNoShareAboveTheWhole);
  RUN(TakesTheHighestOfTheDiesThatHaveAClock);
  RUN(FallsBackToTheAverageWhereAnApuGivesNoCurrentClock);
  RUN(SurvivesTheLargestValues);
  RUN(EveryRowNamesAFieldOfEachRevisionThatItAppliesTo);
  return 0;
}
