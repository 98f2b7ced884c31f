#include "binding/channel_spec.h"

#include <cmath>

namespace skos::binding {
namespace {

constexpr uint32_t kMaxChannels = 65536;   // A node has hundreds; the bound only keeps a mistake from eating memory.
constexpr uint32_t kMaxTripwires = 65536;
constexpr size_t kMaxPathBytes = 4095;     // PATH_MAX without its end.
constexpr uint32_t kMaxWords = 64;         // The longest list of states has a dozen.
constexpr size_t kMaxWordBytes = 63;       // What the probe reads.
constexpr double kMaxColumn = 1000;
constexpr double kMaxSamples = 1'000'000;
constexpr double kMaxExact = 9007199254740992.0;  // 2^53: what a JS number holds exactly.

bool ToText(Napi::Value value, std::string* out) {
  if (!value.IsString()) return false;
  *out = value.As<Napi::String>().Utf8Value();
  return out->find('\0') == std::string::npos;
}

bool ToPath(Napi::Value value, std::string* out) {
  return ToText(value, out) && !out->empty() && out->front() == '/' && out->size() <= kMaxPathBytes;
}

bool ToOptionalNumber(Napi::Value value, double* out) {
  return value.IsUndefined() || ToNumber(value, -kMaxExact, kMaxExact, out);
}

bool ToOptionalFlag(Napi::Value value, bool* out) {
  if (value.IsUndefined()) return true;
  if (!value.IsBoolean()) return false;
  *out = value.As<Napi::Boolean>().Value();
  return true;
}

bool ToStatvfsField(Napi::Value value, StatvfsField* out) {
  std::string name;
  if (!ToText(value, &name)) return false;
  if (name == "total_bytes") *out = StatvfsField::kTotalBytes;
  else if (name == "available_bytes") *out = StatvfsField::kAvailableBytes;
  else if (name == "used_ppm") *out = StatvfsField::kUsedPpm;
  else if (name == "inodes_used_ppm") *out = StatvfsField::kInodesUsedPpm;
  else return false;
  return true;
}

bool ToWords(Napi::Value value, std::vector<std::string>* out) {
  if (!value.IsArray()) return false;
  Napi::Array list = value.As<Napi::Array>();
  if (list.Length() < 1 || list.Length() > kMaxWords) return false;
  out->resize(list.Length());
  for (uint32_t i = 0; i < list.Length(); ++i) {
    if (!ToText(list.Get(i), &(*out)[i]) || (*out)[i].size() > kMaxWordBytes) return false;
  }
  return true;
}

const char* ToKind(Napi::Object probe, ProbeSpec* out) {
  std::string kind;
  double column = 0;
  if (!ToText(probe.Get("kind"), &kind)) return "probe.kind is no string";
  if (!ToPath(probe.Get("path"), &out->path)) return "probe.path is no absolute path";
  if (kind == "integer") {
    out->kind = ProbeKind::kInteger;
  } else if (kind == "field") {
    out->kind = ProbeKind::kField;
    if (!ToText(probe.Get("key"), &out->key)) return "probe.key is no string";
    if (!ToNumber(probe.Get("column"), 0, kMaxColumn, &column)) return "probe.column is not 0 to 1000";
    out->column = static_cast<int>(column);
  } else if (kind == "cpu_busy") {
    out->kind = ProbeKind::kCpuBusy;
    if (!ToText(probe.Get("key"), &out->key)) return "probe.key is no string";
  } else if (kind == "statvfs") {
    out->kind = ProbeKind::kStatvfs;
    if (!ToStatvfsField(probe.Get("field"), &out->field)) return "probe.field is none of the statvfs fields";
  } else if (kind == "hexadecimal") {
    out->kind = ProbeKind::kHexadecimal;
  } else if (kind == "word") {
    out->kind = ProbeKind::kWord;
    if (!ToWords(probe.Get("words"), &out->words)) return "probe.words is no list of 1 to 64 strings";
  } else {
    return "probe.kind is none of integer, field, cpu_busy, statvfs, word, hexadecimal";
  }
  return nullptr;
}

const char* ToProbe(Napi::Value value, ProbeSpec* out) {
  if (!value.IsObject()) return "probe is no object";
  Napi::Object probe = value.As<Napi::Object>();
  if (const char* wrong = ToKind(probe, out)) return wrong;
  if (!ToOptionalNumber(probe.Get("multiplier"), &out->multiplier)) return "probe.multiplier is no number";
  if (!ToOptionalNumber(probe.Get("offset"), &out->offset)) return "probe.offset is no number";
  if (!ToOptionalFlag(probe.Get("perSecond"), &out->per_second)) return "probe.perSecond is not true or false";
  Napi::Value fault = probe.Get("faultPath");
  if (!fault.IsUndefined() && !ToPath(fault, &out->fault_path)) return "probe.faultPath is no absolute path";
  return nullptr;
}

const char* ToChannel(Napi::Value value, ChannelSpec* out) {
  if (!value.IsObject()) return "is no object";
  Napi::Object channel = value.As<Napi::Object>();
  if (const char* wrong = ToProbe(channel.Get("probe"), &out->probe)) return wrong;
  double rate_hz = 0;
  if (!ToNumber(channel.Get("rateHz"), 0.1, 1000, &rate_hz)) return "rateHz is not 0.1 to 1000";
  out->period_ns = std::llround(1e9 / rate_hz);
  return ToText(channel.Get("domain"), &out->domain) ? nullptr : "domain is no string";
}

const char* ToTripwire(Napi::Value value, size_t channels, TripwireSpec* out) {
  if (!value.IsObject()) return "is no object";
  Napi::Object wire = value.As<Napi::Object>();
  double channel = 0;
  double raise = 0;
  double clear = 0;
  double samples = 1;
  const double last = static_cast<double>(channels) - 1;
  if (!ToNumber(wire.Get("channel"), 0, last, &channel) || channel != std::floor(channel)) return "channel is not one of the channels";
  if (!ToNumber(wire.Get("raise"), -kMaxExact, kMaxExact, &raise)) return "raise is no number";
  if (!ToNumber(wire.Get("clear"), -kMaxExact, kMaxExact, &clear)) return "clear is no number";
  if (clear > raise) return "clear is above raise";
  if (!ToNumber(wire.Get("samples"), 1, kMaxSamples, &samples)) return "samples is not 1 to 1000000";
  if (!ToOptionalFlag(wire.Get("lossRaises"), &out->loss_raises)) return "lossRaises is not true or false";
  out->channel = static_cast<uint32_t>(channel);
  out->raise = std::llround(raise);
  out->clear = std::llround(clear);
  out->samples = static_cast<uint32_t>(samples);
  return nullptr;
}

std::string At(const char* list, uint32_t index, const char* wrong) {
  return std::string(list) + "[" + std::to_string(index) + "]: " + wrong;
}

}  // namespace

bool ToNumber(Napi::Value value, double min, double max, double* out) {
  if (!value.IsNumber()) return false;
  *out = value.As<Napi::Number>().DoubleValue();
  return std::isfinite(*out) && *out >= min && *out <= max;
}

std::string ToChannels(Napi::Value value, std::vector<ChannelSpec>* out) {
  if (!value.IsArray()) return "channels is no array";
  Napi::Array list = value.As<Napi::Array>();
  if (list.Length() > kMaxChannels) return "more than 65536 channels";
  for (uint32_t i = 0; i < list.Length(); ++i) {
    Napi::HandleScope scope(value.Env());
    ChannelSpec spec;
    if (const char* wrong = ToChannel(list.Get(i), &spec)) return At("channels", i, wrong);
    out->push_back(std::move(spec));
  }
  return "";
}

std::string ToTripwires(Napi::Value value, size_t channels, std::vector<TripwireSpec>* out) {
  if (!value.IsArray()) return "tripwires is no array";
  Napi::Array list = value.As<Napi::Array>();
  if (list.Length() > kMaxTripwires) return "more than 65536 tripwires";
  for (uint32_t i = 0; i < list.Length(); ++i) {
    Napi::HandleScope scope(value.Env());
    TripwireSpec spec;
    if (const char* wrong = ToTripwire(list.Get(i), channels, &spec)) return At("tripwires", i, wrong);
    out->push_back(spec);
  }
  return "";
}

}  // namespace skos::binding
