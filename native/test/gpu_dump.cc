// Shows one GPU of a sysfs tree, or one gpu_metrics blob, as JSON, so that tests in TypeScript can compare it with what is known.
//
//   gpu-dump card ROOT DEVICE_PATH [READS]   identity, channels and their last reading; READS batches, 10 ms apart
//   gpu-dump metrics FILE                    verdict, every field, and the channels that come of them
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "probes/amdgpu.h"
#include "probes/gpu_metrics.h"
#include "sampler/clock.h"

namespace skos {
namespace {

constexpr long kPauseNs = 10'000'000;  // Longer than a batch is held to be fresh.

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (c >= ' ') quoted += c;
  }
  return quoted + "\"";
}

const char* NameOf(Quality quality) {
  static const char* const kNames[] = {"ok", "no_data", "stale", "fault", "hung"};
  return kNames[static_cast<int>(quality)];
}

void PrintLimit(const char* name, const std::optional<int64_t>& limit, const char** comma) {
  if (!limit) return;
  std::printf("%s\"%s\":%lld", *comma, name, static_cast<long long>(*limit));
  *comma = ",";
}

void PrintChannel(const GpuChannel& channel, const Reading& reading) {
  static const char* const kRates[] = {"fast", "medium", "slow"};
  std::printf("{\"name\":%s,\"label\":%s,\"quantity\":%s,\"rate\":\"%s\",\"path\":%s,\"thermalDefault\":%s,\"limits\":{",
              Quoted(channel.name).c_str(), Quoted(channel.label).c_str(), Quoted(channel.quantity).c_str(),
              kRates[static_cast<int>(channel.rate)], Quoted(channel.path).c_str(),
              channel.thermal_default ? "true" : "false");
  const char* comma = "";
  PrintLimit("min", channel.limits.min, &comma);
  PrintLimit("max", channel.limits.max, &comma);
  PrintLimit("critical", channel.limits.critical, &comma);
  PrintLimit("emergency", channel.limits.emergency, &comma);
  std::printf("},\"quality\":\"%s\"", NameOf(reading.quality));
  if (reading.quality == Quality::kOk) std::printf(",\"value\":%lld", static_cast<long long>(reading.value));
  std::printf("}");
}

int DumpCard(const std::string& root, const std::string& device_path, int reads) {
  const GpuOpening opening = OpenSysfsGpu(root, device_path);
  if (opening.device == nullptr) {
    std::printf("{\"why\":%s}\n", Quoted(opening.why).c_str());
    return 0;
  }
  const std::vector<GpuChannel> channels = opening.device->Discover();
  std::vector<Reading> readings(channels.size());
  for (int i = 0; i < reads; ++i) {
    if (i > 0) {
      const timespec pause = {0, kPauseNs};
      nanosleep(&pause, nullptr);
    }
    for (size_t c = 0; c < channels.size(); ++c) readings[c] = channels[c].probe->Read(MonotonicNs());
  }
  const GpuIdentity& identity = opening.device->identity();
  std::printf("{\"device\":{\"id\":%s,\"source\":%s,\"vendor\":%s,\"address\":%s,\"name\":%s", Quoted(identity.id).c_str(),
              Quoted(identity.source).c_str(), Quoted(identity.vendor).c_str(), Quoted(identity.address).c_str(),
              Quoted(identity.name).c_str());
  for (const auto& [key, text] : identity.more) std::printf(",%s:%s", Quoted(key).c_str(), Quoted(text).c_str());
  std::printf("},\"serving\":%s,\"channels\":[", opening.device->condition() == GpuCondition::kServing ? "true" : "false");
  for (size_t c = 0; c < channels.size(); ++c) {
    if (c > 0) std::printf(",\n");
    PrintChannel(channels[c], readings[c]);
  }
  std::printf("]}\n");
  return 0;
}

void PrintField(const GpuMetrics& metrics, const GpuMetricsField& field) {
  std::printf("%s:", Quoted(field.name).c_str());
  if (field.count > 1) std::printf("[");
  for (size_t i = 0; i < field.count; ++i) {
    uint64_t value = 0;
    if (i > 0) std::printf(",");
    if (metrics.Value(field, i, &value)) std::printf("%llu", static_cast<unsigned long long>(value));
    else std::printf("null");
  }
  if (field.count > 1) std::printf("]");
}

int DumpMetrics(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string blob((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  GpuMetrics metrics;
  static const char* const kVerdicts[] = {"known", "truncated", "unknown"};
  const GpuMetricsVerdict verdict = GpuMetrics::Parse(blob, &metrics);
  std::printf("{\"verdict\":\"%s\",\"revision\":%s,\"fields\":{", kVerdicts[static_cast<int>(verdict)],
              Quoted(metrics.Revision()).c_str());
  if (const GpuMetricsLayout* const layout = metrics.layout(); layout != nullptr) {
    for (size_t i = 0; i < layout->field_count; ++i) {
      if (i > 0) std::printf(",\n");
      PrintField(metrics, layout->fields[i]);
    }
    std::printf("},\"channels\":{");
    const char* comma = "";
    for (size_t i = 0; i < kGpuMetricsChannelCount; ++i) {
      const GpuMetricsChannel& channel = kGpuMetricsChannels[i];
      int64_t value = 0;
      if (!AppliesTo(channel, *layout) || !GpuMetricsValue(metrics, channel, &value)) continue;
      std::printf("%s\"%s#%s\":%lld", comma, channel.name, channel.field, static_cast<long long>(value));
      comma = ",\n";
    }
  } else {
    std::printf("},\"channels\":{");
  }
  std::printf("}}\n");
  return 0;
}

}  // namespace
}  // namespace skos

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "card" && (argc == 4 || argc == 5)) return skos::DumpCard(argv[2], argv[3], argc == 5 ? std::atoi(argv[4]) : 1);
  if (what == "metrics" && argc == 3) return skos::DumpMetrics(argv[2]);
  std::fprintf(stderr, "gpu-dump card ROOT DEVICE_PATH [READS] | gpu-dump metrics FILE\n");
  return 2;
}
