#include "probes/gpu_metrics.h"

namespace skos {
namespace {

constexpr size_t kHeaderBytes = 4;  // u16 structure_size, u8 format_revision, u8 content_revision.
constexpr int64_t kPartsPerMillion = 1'000'000;
// Values travel to JavaScript, whose numbers are exact to 53 bits.
constexpr uint64_t kFlagsMask = (uint64_t{1} << 53) - 1;

// Byte by byte: fields of 1.0 and 2.0 are not aligned, and neither need the buffer be.
uint64_t LittleEndian(const char* at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i > 0; --i) value = value << 8 | static_cast<unsigned char>(at[i - 1]);
  return value;
}

uint64_t AllOnes(size_t bytes) { return bytes >= sizeof(uint64_t) ? UINT64_MAX : (uint64_t{1} << (bytes * 8)) - 1; }

bool Highest(const GpuMetrics& metrics, const GpuMetricsField& field, uint64_t* out) {
  bool any = false;
  for (size_t i = 0; i < field.count; ++i) {
    uint64_t value = 0;
    if (!metrics.Value(field, i, &value)) continue;
    if (!any || value > *out) *out = value;
    any = true;
  }
  return any;
}

}  // namespace

GpuMetricsVerdict GpuMetrics::Parse(std::string_view blob, GpuMetrics* out) {
  *out = GpuMetrics();
  if (blob.size() < kHeaderBytes) return GpuMetricsVerdict::kTruncated;
  out->stated_size_ = static_cast<uint16_t>(LittleEndian(blob.data(), 2));
  out->format_ = static_cast<uint8_t>(blob[2]);
  out->content_ = static_cast<uint8_t>(blob[3]);
  if (blob.size() > kGpuMetricsMaxBytes) return GpuMetricsVerdict::kUnknown;
  for (size_t i = 0; i < kGpuMetricsLayoutCount; ++i) {
    const GpuMetricsLayout& layout = kGpuMetricsLayouts[i];
    if (layout.format != out->format_ || layout.content != out->content_ || layout.size != out->stated_size_) continue;
    if (blob.size() < layout.size) return GpuMetricsVerdict::kTruncated;
    out->blob_ = blob.substr(0, layout.size);
    out->layout_ = &layout;
    return GpuMetricsVerdict::kKnown;
  }
  return GpuMetricsVerdict::kUnknown;
}

std::string GpuMetrics::Revision() const {
  return std::to_string(format_) + "." + std::to_string(content_) + ", " + std::to_string(stated_size_) + " bytes";
}

const GpuMetricsField* GpuMetrics::Find(std::string_view name) const {
  if (layout_ == nullptr) return nullptr;
  for (size_t i = 0; i < layout_->field_count; ++i) {
    if (name == layout_->fields[i].name) return &layout_->fields[i];
  }
  return nullptr;
}

bool GpuMetrics::Value(const GpuMetricsField& field, size_t index, uint64_t* out) const {
  const size_t at = field.offset + index * field.bytes;
  if (index >= field.count || at + field.bytes > blob_.size()) return false;
  *out = LittleEndian(blob_.data() + at, field.bytes);
  return *out != AllOnes(field.bytes);
}

bool AppliesTo(const GpuMetricsChannel& channel, const GpuMetricsLayout& layout) {
  return channel.format == layout.format && channel.first <= layout.content && layout.content <= channel.last;
}

bool GpuMetricsValue(const GpuMetrics& metrics, const GpuMetricsChannel& channel, int64_t* out) {
  const GpuMetricsField* const field = metrics.Find(channel.field);
  if (field == nullptr) return false;
  uint64_t raw = 0;
  const bool has = channel.kind == GpuMetricsChannel::Kind::kHighest ? Highest(metrics, *field, &raw)
                                                                     : metrics.Value(*field, 0, &raw);
  if (!has || (channel.zero_is_absent && raw == 0)) return false;
  const std::string_view quantity = channel.quantity;
  if (quantity == "flagsBitmask") raw &= kFlagsMask;
  // 128 bits: the energy accumulator has 64 of its own.
  const auto scaled = (static_cast<unsigned __int128>(raw) * channel.multiplier + channel.divisor / 2) / channel.divisor;
  if (scaled > INT64_MAX) return false;
  // More than all of the time: the firmware means another unit than the sources say.
  if (quantity == "ratioPartsPerMillion" && scaled > kPartsPerMillion) return false;
  *out = static_cast<int64_t>(scaled);
  return true;
}

}  // namespace skos
