// gpu_metrics of amdgpu: one binary structure of a GPU's own firmware, in revisions that differ in layout, units and meaning.
//
// A blob counts only when its revision and its size are those of a known layout: a revision has been released with two layouts
// (1.6), and a field at another place would be an invented reading. All-ones of a field's width is "not available". Units
// are the business of gpu_metrics_channels: what the sources do not state for a revision is no channel.
#ifndef SKOS_PROBES_GPU_METRICS_H_
#define SKOS_PROBES_GPU_METRICS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "probes/gpu_device.h"

namespace skos {

// A field: `count` little-endian unsigned integers of `bytes` each.
struct GpuMetricsField {
  const char* name;  // The header's own, "xcp_stats[0].vcn_busy" within a partition.
  uint16_t offset;
  uint8_t bytes;  // 1, 2, 4 or 8.
  uint8_t count;
};

struct GpuMetricsLayout {
  uint8_t format;
  uint8_t content;
  uint16_t size;
  size_t field_count;
  const GpuMetricsField* fields;
};

// gpu_metrics_table.cc, generated.
extern const GpuMetricsLayout* const kGpuMetricsLayouts;
extern const size_t kGpuMetricsLayoutCount;

constexpr size_t kGpuMetricsMaxBytes = 4096;  // sysfs gives at most a page for an attribute.

enum class GpuMetricsVerdict : uint8_t {
  kKnown,
  kTruncated,  // Shorter than its own header says.
  kUnknown,    // No layout of this revision and size.
};

// A decoded blob. Borrows the bytes; plain value.
class GpuMetrics {
 public:
  // `blob` may be longer than the structure (padded to a page), at most kGpuMetricsMaxBytes. kUnknown: layout() is null, the header's
  // numbers are in Revision().
  static GpuMetricsVerdict Parse(std::string_view blob, GpuMetrics* out);

  const GpuMetricsLayout* layout() const { return layout_; }
  // "1.3, 120 bytes": what the header says.
  std::string Revision() const;
  // Null when this revision has no such field.
  const GpuMetricsField* Find(std::string_view name) const;
  // False: all-ones, the firmware has no value. `field` is one of this layout's, `index` below its count.
  bool Value(const GpuMetricsField& field, size_t index, uint64_t* out) const;

 private:
  std::string_view blob_;
  const GpuMetricsLayout* layout_ = nullptr;
  uint16_t stated_size_ = 0;
  uint8_t format_ = 0;
  uint8_t content_ = 0;
};

// How a field becomes a channel, for the revisions format.first … format.last.
struct GpuMetricsChannel {
  enum class Kind : uint8_t {
    kOne,      // A single value.
    kHighest,  // The highest of the instances that have one.
    kShare,    // Growth of the field over the growth of accumulation_counter, between two reads.
  };

  const char* name;
  const char* label;
  const char* quantity;
  GpuRate rate;
  uint8_t format;
  uint8_t first;
  uint8_t last;
  const char* field;
  Kind kind;
  uint32_t multiplier;  // canonical = raw × multiplier ÷ divisor, rounded to nearest.
  uint32_t divisor;
  bool zero_is_absent;  // Firmware that does not measure it leaves 0 there.
  bool thermal;         // One of the three temperatures that the default table guards.
};

// In order of preference: of rows with one name, the first that has a value counts.
extern const GpuMetricsChannel* const kGpuMetricsChannels;
extern const size_t kGpuMetricsChannelCount;

bool AppliesTo(const GpuMetricsChannel& channel, const GpuMetricsLayout& layout);

// The canonical value of a channel that applies; not for kShare. False: no value.
bool GpuMetricsValue(const GpuMetrics& metrics, const GpuMetricsChannel& channel, int64_t* out);

}  // namespace skos

#endif  // SKOS_PROBES_GPU_METRICS_H_
