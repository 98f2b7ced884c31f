#include "probes/nvml_details.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "probes/files.h"

namespace skos::nvml {
namespace {

constexpr size_t kMaxDetailsBytes = 6 * 1024;  // A packet to the agent has 8 KiB.
constexpr size_t kTailBytes = 128;             // What follows the lists.
constexpr size_t kMaxMigEntries = 16;          // At most 250 bytes each; an H100 has 7.
constexpr size_t kMaxNameBytes = 64;

struct Process {
  uint32_t pid;
  std::optional<uint64_t> bytes;
  bool compute;
};

// Printable ASCII: names come from other people's programs.
std::string Quoted(std::string_view text) {
  std::string json = "\"";
  for (const char c : text.substr(0, kMaxNameBytes)) {
    if (c == '"' || c == '\\') json += '\\';
    json += c >= ' ' && c <= '~' ? c : '?';
  }
  return json + "\"";
}

std::string BytesJson(std::optional<uint64_t> bytes) { return bytes ? std::to_string(*bytes) : "null"; }

std::string ModeJson(int code, unsigned mode) {
  if (code != kSuccess || mode > 1) return "null";
  return mode == 1 ? "true" : "false";
}

// From /proc and not from NVML, which would read the same file in a call that may hang. "" in another namespace of processes.
std::string NameOf(uint32_t pid) {
  const UniqueFd fd(open(("/proc/" + std::to_string(pid) + "/comm").c_str(), O_RDONLY | O_CLOEXEC));
  char name[32];
  const ssize_t length = fd.get() < 0 ? 0 : read(fd.get(), name, sizeof name);
  if (length <= 0) return "";
  const std::string_view text(name, static_cast<size_t>(length));
  return std::string(text.substr(0, text.find('\n')));
}

// The largest first; where the driver does not say how large, last.
std::vector<Process> Processes(const Gpu& gpu) {
  std::vector<Process> all;
  for (const bool compute : {true, false}) {
    std::vector<ProcessInfo> some;
    if (gpu.Processes(compute, &some) != kSuccess) continue;
    for (const ProcessInfo& info : some) {
      const bool known = info.used_memory_bytes != kNotAvailable64;
      all.push_back({info.pid, known ? std::optional<uint64_t>(info.used_memory_bytes) : std::nullopt, compute});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Process& a, const Process& b) { return a.bytes > b.bytes; });
  return all;
}

std::string MigJson(Library& library, Device device) {
  unsigned gpu_instance = 0;
  unsigned compute_instance = 0;
  char uuid[kUuidBytes] = {};
  char name[kNameBytes] = {};
  Memory memory;
  if (library.gpu_instance(device, &gpu_instance) != kSuccess) return "";
  if (library.compute_instance(device, &compute_instance) != kSuccess) return "";
  if (library.uuid(device, uuid, sizeof uuid) != kSuccess) uuid[0] = '\0';
  if (library.name(device, name, sizeof name) != kSuccess) name[0] = '\0';
  const bool sized = library.memory(device, &memory) == kSuccess && memory.used != kNotAvailable64;
  return "{\"gpuInstance\":" + std::to_string(gpu_instance) + ",\"computeInstance\":" + std::to_string(compute_instance) +
         ",\"uuid\":" + Quoted({uuid, strnlen(uuid, sizeof uuid)}) + ",\"name\":" + Quoted({name, strnlen(name, sizeof name)}) +
         ",\"memoryBytes\":" + BytesJson(sized ? std::optional<uint64_t>(memory.used) : std::nullopt) + "}";
}

std::string MigListJson(const Gpu& gpu) {
  std::string list;
  size_t entries = 0;
  for (const Device device : gpu.MigDevices()) {
    if (++entries > kMaxMigEntries) break;
    const std::string one = MigJson(*gpu.library, device);
    if (!one.empty()) list += (list.empty() ? "" : ",") + one;
  }
  return list;
}

std::string ProcessListJson(const Gpu& gpu, size_t max_bytes) {
  std::string list;
  for (const Process& process : Processes(gpu)) {
    const std::string one = "{\"pid\":" + std::to_string(process.pid) + ",\"name\":" + Quoted(NameOf(process.pid)) +
                            ",\"memoryBytes\":" + BytesJson(process.bytes) + ",\"type\":\"" +
                            (process.compute ? "compute" : "graphics") + "\"}";
    if (list.size() + one.size() + 1 > max_bytes) break;
    list += (list.empty() ? "" : ",") + one;
  }
  return list;
}

}  // namespace

std::string DetailsJson(const Gpu& gpu) {
  int persistence = 0;
  int ecc = 0;
  int ecc_pending = 0;
  unsigned mig = 0;
  unsigned mig_pending = 0;
  const int persistence_code = gpu.library->persistence_mode(gpu.handle, &persistence);
  const int ecc_code = gpu.library->ecc_mode(gpu.handle, &ecc, &ecc_pending);
  const int mig_code = gpu.library->mig_mode(gpu.handle, &mig, &mig_pending);
  const std::string instances = mig_code == kSuccess && mig == 1 ? MigListJson(gpu) : "";
  const std::string processes = ProcessListJson(gpu, kMaxDetailsBytes - kTailBytes - instances.size());
  return "{\"processes\":[" + processes + "],\"mig\":[" + instances +
         "],\"persistenceMode\":" + ModeJson(persistence_code, static_cast<unsigned>(persistence)) +
         ",\"migMode\":" + ModeJson(mig_code, mig) + ",\"eccMode\":" + ModeJson(ecc_code, static_cast<unsigned>(ecc)) + "}";
}

}  // namespace skos::nvml
