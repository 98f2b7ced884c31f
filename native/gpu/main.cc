// skos-gpu: the command line. README.md beside this file is the contract.
#include <pwd.h>
#include <signal.h>
#include <sys/un.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gpu/protocol.h"
#include "gpu/settings.h"

namespace skos::gpu {
namespace {

constexpr size_t kMaxControllers = 8;

enum class Part : unsigned char { kSupervisor, kWorker, kLister, kSetters, kSetter };

struct CommandLine {
  Part part = Part::kSupervisor;
  Settings settings;
  Listing gpu;
};

Part PartOf(std::string_view name) {
  if (name == "--worker") return Part::kWorker;
  if (name == "--list") return Part::kLister;
  if (name == "--setters") return Part::kSetters;
  return name == "--setter" ? Part::kSetter : Part::kSupervisor;
}

// A number, or the name of a user.
bool AddController(const std::string& who, std::vector<uid_t>* controllers) {
  if (controllers->size() >= kMaxControllers) return false;
  int64_t uid = 0;
  if (ParseDecimal(who, 0, UINT32_MAX - 1, &uid)) {
    controllers->push_back(static_cast<uid_t>(uid));
    return true;
  }
  const passwd* user = getpwnam(who.c_str());
  if (user == nullptr) {
    std::fprintf(stderr, "skos-gpu: --controller %s: no such user\n", who.c_str());
    return false;
  }
  controllers->push_back(user->pw_uid);
  return true;
}

bool TakeOption(std::string_view name, const std::string& value, CommandLine* line) {
  Settings& settings = line->settings;
  if (name == "--rate-mhz") return ParseDecimal(value, kMinRateMilliHertz, kMaxRateMilliHertz, &settings.rate_mhz);
  if (name == "--deadline-ms") return ParseDecimal(value, kMinDeadlineMs, kMaxDeadlineMs, &settings.deadline_ms);
  if (name == "--controller") return AddController(value, &settings.controllers);
  std::string* text = name == "--socket"    ? &settings.socket_path
                      : name == "--sysfs"   ? &settings.sysfs_root
                      : name == "--nvml"    ? &settings.nvml
                      : name == "--source"  ? &line->gpu.source
                      : name == "--address" ? &line->gpu.address
                      : name == "--path"    ? &line->gpu.path
                                            : nullptr;
  if (text == nullptr) return false;
  *text = value;
  return true;
}

bool IsUsable(const CommandLine& line) {
  const Settings& settings = line.settings;
  if (settings.nvml.empty() || settings.sysfs_root.empty()) return false;
  // ".lock" and ".detached.new" stand beside the socket; sun_path limits the socket itself.
  if (line.part == Part::kSupervisor || line.part == Part::kSetters) {
    return !settings.socket_path.empty() && settings.socket_path[0] == '/' &&
           settings.socket_path.size() < sizeof(sockaddr_un::sun_path);
  }
  if (line.part == Part::kLister || line.part == Part::kSetter) return true;
  return IsAddress(line.gpu.address) && !line.gpu.source.empty();
}

bool Parse(int argc, char** argv, CommandLine* line) {
  if (const char* library = std::getenv("SKOS_NVML"); library != nullptr && *library != '\0') line->settings.nvml = library;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (const Part part = PartOf(name); part != Part::kSupervisor) {
      line->part = part;
      continue;
    }
    if (i + 1 >= argc || !TakeOption(name, argv[i + 1], line)) return false;
    ++i;
  }
  return IsUsable(*line);
}

int Main(int argc, char** argv) {
  CommandLine line;
  if (!Parse(argc, argv, &line)) {
    std::fputs("usage: skos-gpu --socket PATH [--sysfs ROOT] [--nvml LIBRARY|none] [--rate-mhz N] [--deadline-ms N]\n"
               "                [--controller USER]...\n"
               "       skos-gpu --setters --socket PATH [--sysfs ROOT] [--nvml LIBRARY|none]\n", stderr);
    return kExitUsage;
  }
  const Settings& settings = line.settings;
  switch (line.part) {
    case Part::kSupervisor:
      return RunSupervisor(settings);
    case Part::kWorker:
      return RunWorker({line.gpu, settings.sysfs_root, settings.nvml, settings.rate_mhz, settings.deadline_ms});
    case Part::kLister:
      return RunLister(settings.nvml);
    case Part::kSetters:
      return RunSetters({settings.socket_path, settings.sysfs_root, settings.nvml});
    case Part::kSetter:
      return RunSetter({settings.socket_path, settings.sysfs_root, settings.nvml});
  }
  return kExitUsage;
}

}  // namespace
}  // namespace skos::gpu

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // Who reads our standard error may leave before us; our workers inherit this.
  return skos::gpu::Main(argc, argv);
}
