#include "probes/nvml_source.h"

#include <cmath>

#include "sampler/clock.h"

namespace skos::nvml {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr double kMaxExact = 9.2e18;  // Below 2^63, so that the conversion is defined.

// Half the period. The rate of the fast group is the config's, 10 Hz by default; slower ones get a fresh value all the same.
int64_t MaxAgeNs(GpuRate rate) {
  switch (rate) {
    case GpuRate::kFast:
      return 50 * kNsPerMs;
    case GpuRate::kMedium:
      return 500 * kNsPerMs;
    case GpuRate::kSlow:
      break;
  }
  return 5000 * kNsPerMs;
}

Datum Of(Quality quality) { return {kSuccess, quality, 0}; }

Datum Scaled(int64_t raw, int64_t multiplier) {
  Datum datum;
  if (__builtin_mul_overflow(raw, multiplier, &datum.value)) return Of(Quality::kFault);
  return datum;
}

Datum FromDouble(double raw) {
  if (!std::isfinite(raw) || std::fabs(raw) > kMaxExact) return Of(Quality::kFault);
  return {kSuccess, Quality::kOk, std::llround(raw)};
}

Datum Unscaled(const FieldValue& field) {
  switch (field.value_type) {
    case kTypeUnsignedInt:
      return FromUnsigned(field.value.u);
    case kTypeUnsignedLong:
    case kTypeUnsignedLongLong:
      return FromUnsigned64(field.value.ull);
    case kTypeSignedLongLong:
      return field.value.ll == INT64_MIN ? Of(Quality::kNoData) : Scaled(field.value.ll, 1);
    case kTypeSignedInt:
      return field.value.i == INT32_MIN ? Of(Quality::kNoData) : Scaled(field.value.i, 1);
    case kTypeUnsignedShort:
      return Scaled(field.value.us, 1);
    default:
      return Of(Quality::kFault);
  }
}

}  // namespace

Datum FromUnsigned(unsigned raw, int64_t multiplier) {
  if (raw == kNotAvailable32) return Of(Quality::kNoData);
  return Scaled(static_cast<int64_t>(raw), multiplier);
}

Datum FromUnsigned64(unsigned long long raw, int64_t multiplier) {
  if (raw == kNotAvailable64) return Of(Quality::kNoData);
  if (raw > static_cast<unsigned long long>(INT64_MAX)) return Of(Quality::kFault);
  return Scaled(static_cast<int64_t>(raw), multiplier);
}

Datum FromField(const FieldValue& field, int64_t multiplier, int64_t divisor) {
  if (field.result != kSuccess) return {field.result, Quality::kOk, 0};
  if (field.value_type == kTypeDouble) {
    return FromDouble(field.value.d * static_cast<double>(multiplier) / static_cast<double>(divisor));
  }
  Datum datum = Unscaled(field);
  if (datum.quality != Quality::kOk) return datum;
  datum = Scaled(datum.value, multiplier);
  datum.value /= divisor;
  return datum;
}

Source::Source(std::shared_ptr<const Gpu> gpu, GpuRate rate, size_t slots, Call call)
    : gpu_(std::move(gpu)), max_age_ns_(MaxAgeNs(rate)), call_(std::move(call)), slots_(slots), answers_(slots) {}

void Source::Refresh() {
  for (Datum& answer : answers_) answer = Datum();
  const int code = call_(answers_.data());
  refreshed_ns_ = MonotonicNs();
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.datum = answers_[i];
    if (code != kSuccess) slot.datum = {code, Quality::kOk, 0};
    slot.given = false;
    gpu_->health.Note(slot.datum.code, &slot.state);
  }
}

Reading Source::Read(size_t index, int64_t now_ns) {
  Slot& slot = slots_[index];
  if (refreshed_ns_ == 0 || slot.given || now_ns - refreshed_ns_ > max_age_ns_) Refresh();
  slot.given = true;
  Reading reading;
  reading.time_ns = refreshed_ns_;
  reading.quality = slot.datum.code == kSuccess ? slot.datum.quality : QualityOf(slot.datum.code);
  if (reading.quality == Quality::kOk) reading.value = slot.datum.value;
  return reading;
}

}  // namespace skos::nvml
