// What NVML answers and what each call costs, for scripts/bench/nvml and test/sensors/nvml-real.test.ts. Prints JSON.
//
//   bench-nvml channels [LIBRARY]          every GPU with its channels and one reading of each
//   bench-nvml calls [LIBRARY] [ROUNDS]    of the first GPU: µs of opening and discovery, p50 and p99 of
//                                         each call and of a round of each rate; proportional memory of the process in KiB

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "probes/nvml.h"
#include "sampler/clock.h"

namespace {

using namespace skos;

constexpr char kLibrary[] = "libnvidia-ml.so.1";
constexpr int kRounds = 200;

std::string Quoted(const std::string& text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') json += '\\';
    json += c >= ' ' && c <= '~' ? c : '?';
  }
  return json + "\"";
}

double Microseconds(int64_t ns) { return static_cast<double>(ns) / 1000; }

const char* NameOf(Quality quality) {
  static const char* const kNames[] = {"ok", "no_data", "stale", "fault", "hung"};
  return kNames[static_cast<int>(quality)];
}

// Of this process, in KiB: what it has for itself and its share of what it shares. 0 where the kernel does not say.
long MemoryKib() {
  FILE* const file = std::fopen("/proc/self/smaps_rollup", "re");
  if (file == nullptr) return 0;
  char line[256];
  long kib = 0;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::sscanf(line, "Pss: %ld kB", &kib) == 1) break;
  }
  std::fclose(file);
  return kib;
}

int Fail(const std::string& why) {
  std::fprintf(stderr, "bench-nvml: %s\n", why.c_str());
  return 1;
}

std::string ChannelJson(const GpuChannel& channel) {
  // Twice: a channel's second read is always a call of its own time.
  channel.probe->Read(MonotonicNs());
  const Reading reading = channel.probe->Read(MonotonicNs());
  return "{\"name\":" + Quoted(channel.name) + ",\"quantity\":" + Quoted(channel.quantity) + ",\"path\":" + Quoted(channel.path) +
         ",\"quality\":" + Quoted(NameOf(reading.quality)) + ",\"value\":" + std::to_string(reading.value) + "}";
}

std::string GpuJson(GpuDevice& device) {
  std::string channels;
  for (const GpuChannel& channel : device.Discover()) channels += (channels.empty() ? "" : ",") + ChannelJson(channel);
  const GpuIdentity& identity = device.identity();
  std::string more;
  for (const auto& [key, value] : identity.more) more += "," + Quoted(key) + ":" + Quoted(value);
  return "{\"address\":" + Quoted(identity.address) + ",\"name\":" + Quoted(identity.name) + more + ",\"details\":" + device.Details() +
         ",\"channels\":[" + channels + "]}";
}

int PrintChannels(const std::string& library) {
  const NvmlList list = ListNvml(library);
  if (!list.why.empty()) return Fail(list.why);
  std::string gpus;
  for (const std::string& address : list.addresses) {
    const GpuOpening opening = OpenNvml(library, address);
    if (opening.device == nullptr) return Fail(address + ": " + opening.why);
    gpus += (gpus.empty() ? "" : ",") + GpuJson(*opening.device);
  }
  std::printf("[%s]\n", gpus.c_str());
  return 0;
}

// One channel of each call: the second read of it makes the call.
std::map<std::string, const GpuChannel*> OneOfEachCall(const std::vector<GpuChannel>& channels) {
  std::map<std::string, const GpuChannel*> calls;
  for (const GpuChannel& channel : channels) {
    // Fields of a rate are one call; other calls differ by their argument, and the first stands for all.
    const std::string function = channel.path.substr(0, channel.path.find(' '));
    static const char* const kRates[] = {" fast", " medium", " slow"};
    const bool fields = function != channel.path;
    calls.emplace(fields ? function + kRates[static_cast<int>(channel.rate)] : function, &channel);
  }
  return calls;
}

std::string CostJson(const std::string& call, const GpuChannel& channel, int rounds) {
  std::vector<int64_t> costs;
  channel.probe->Read(MonotonicNs());
  for (int i = 0; i < rounds; ++i) {
    const int64_t begin_ns = MonotonicNs();
    channel.probe->Read(begin_ns);
    costs.push_back(MonotonicNs() - begin_ns);
  }
  std::sort(costs.begin(), costs.end());
  char json[256];
  std::snprintf(json, sizeof json, "{\"call\":%s,\"p50Us\":%.2f,\"p99Us\":%.2f}", Quoted(call).c_str(),
                Microseconds(costs[costs.size() / 2]), Microseconds(costs[costs.size() * 99 / 100]));
  return json;
}

int64_t ThreadCpuNs() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return int64_t{now.tv_sec} * kNsPerSecond + now.tv_nsec;
}

// All channels of a rate, once each, as the sampler reads them.
std::string RoundJson(const std::vector<GpuChannel>& channels, GpuRate rate, int rounds) {
  std::vector<int64_t> costs;
  size_t count = 0;
  const int64_t cpu_begin_ns = ThreadCpuNs();
  for (int i = 0; i < rounds; ++i) {
    const int64_t begin_ns = MonotonicNs();
    count = 0;
    for (const GpuChannel& channel : channels) {
      if (channel.rate != rate) continue;
      channel.probe->Read(begin_ns);
      ++count;
    }
    costs.push_back(MonotonicNs() - begin_ns);
  }
  const double cpu_us = Microseconds(ThreadCpuNs() - cpu_begin_ns) / rounds;
  std::sort(costs.begin(), costs.end());
  char json[256];
  std::snprintf(json, sizeof json, "{\"channels\":%zu,\"cpuUs\":%.2f,\"p50Us\":%.2f,\"p99Us\":%.2f}", count, cpu_us,
                Microseconds(costs[costs.size() / 2]), Microseconds(costs[costs.size() * 99 / 100]));
  return json;
}

int PrintCalls(const std::string& library, int rounds) {
  const NvmlList list = ListNvml(library);
  if (!list.why.empty()) return Fail(list.why);
  if (list.addresses.empty()) return Fail("the library has no GPU");
  const int64_t begin_ns = MonotonicNs();
  const GpuOpening opening = OpenNvml(library, list.addresses[0]);
  const int64_t open_ns = MonotonicNs() - begin_ns;
  if (opening.device == nullptr) return Fail(opening.why);
  const std::vector<GpuChannel> channels = opening.device->Discover();
  const int64_t discover_ns = MonotonicNs() - begin_ns - open_ns;
  const long memory_kib = MemoryKib();
  std::string costs;
  for (const auto& [call, channel] : OneOfEachCall(channels)) {
    costs += (costs.empty() ? "" : ",") + CostJson(call, *channel, rounds);
  }
  const std::string all_rounds = "\"fast\":" + RoundJson(channels, GpuRate::kFast, rounds) +
                                 ",\"medium\":" + RoundJson(channels, GpuRate::kMedium, rounds) +
                                 ",\"slow\":" + RoundJson(channels, GpuRate::kSlow, rounds);
  std::printf("{\"gpu\":%s,\"driver\":%s,\"channels\":%zu,\"openUs\":%.0f,\"discoverUs\":%.0f,\"memoryKib\":%ld,\"rounds\":{%s},"
              "\"calls\":[%s]}\n",
              Quoted(opening.device->identity().name).c_str(), Quoted(list.version).c_str(), channels.size(),
              Microseconds(open_ns), Microseconds(discover_ns), memory_kib, all_rounds.c_str(), costs.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const std::string library = argc > 2 ? argv[2] : kLibrary;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : kRounds;
  if (mode == "channels") return PrintChannels(library);
  if (mode == "calls" && rounds > 0) return PrintCalls(library, rounds);
  std::fprintf(stderr, "usage: bench-nvml channels|calls [LIBRARY] [ROUNDS]\n");
  return 2;
}
