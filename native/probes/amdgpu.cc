#include "probes/amdgpu.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "probes/amdgpu_probes.h"
#include "probes/amdgpu_text.h"
#include "probes/parse.h"
#include "sampler/clock.h"

namespace skos {
namespace {

constexpr char kTemperature[] = "temperatureMilliCelsius";
constexpr char kPower[] = "powerMilliWatts";
constexpr char kEnergy[] = "energyMilliJoules";
constexpr char kVoltage[] = "voltageMilliVolts";
constexpr char kCurrent[] = "currentMilliAmps";
constexpr char kClock[] = "frequencyHertz";
constexpr char kRatio[] = "ratioPartsPerMillion";
constexpr char kFan[] = "fanRpm";
constexpr char kSize[] = "sizeBytes";
constexpr char kCount[] = "countTotal";
constexpr char kState[] = "stateCode";

constexpr double kMilliPerMicro = 0.001;
constexpr double kPartsPerPercent = 10'000;
constexpr double kPartsPerMillion = 1'000'000;
constexpr int64_t kPwmMax = 255;        // Documentation/hwmon/sysfs-interface.rst.
constexpr int64_t kNouveauPwmMax = 100;  // In percent: Documentation/thermal/nouveau_thermal.rst.

// Drivers whose unset limits read as the end of their scale say −273.15 °C; a limit of 0 °C or above 1000 °C is none either.
constexpr int64_t kMaxPlausibleMilliCelsius = 1'000'000;

constexpr size_t kMaxChannels = 256;     // A card with all that is known has about 90.
constexpr size_t kMaxEntries = 1024;     // Of one directory: a device has about 150.
constexpr size_t kMaxNameCharacters = 24;  // Of a channel's name that is made from a driver's label.
constexpr size_t kMaxTextCharacters = 128;  // Of what is shown to people.

struct Driver {
  std::string_view name;
  std::string_view vendor;
  bool is_thermal_default;  // Its temperatures are those that the default table was made for.
};

constexpr Driver kDrivers[] = {
    {"amdgpu", "amd", true},  {"radeon", "amd", false}, {"nouveau", "nvidia", false},
    {"i915", "intel", false}, {"xe", "intel", false},
};

const Driver* FindDriver(std::string_view name) {
  const auto* const found =
      std::find_if(std::begin(kDrivers), std::end(kDrivers), [&](const Driver& driver) { return driver.name == name; });
  return found == std::end(kDrivers) ? nullptr : found;
}

bool IsDirectory(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// Regular files only: a FIFO in a test tree is no attribute.
bool IsFile(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

std::vector<std::string> Entries(const std::string& directory) {
  std::vector<std::string> names;
  DIR* const handle = opendir(directory.c_str());
  if (handle == nullptr) return names;
  while (const dirent* entry = readdir(handle)) {
    if (entry->d_name[0] != '.' && names.size() < kMaxEntries) names.emplace_back(entry->d_name);
  }
  closedir(handle);
  std::sort(names.begin(), names.end());
  return names;
}

// What people may read of a file: one line, printable, bounded. "" when there is none.
std::string TextOf(const std::string& path) {
  TextFile file(path);
  std::string_view text;
  if (file.Read(MonotonicNs(), 1, &text) != Quality::kOk) return "";
  std::string line(text.substr(0, std::min(text.find('\n'), kMaxTextCharacters)));
  line.erase(std::remove_if(line.begin(), line.end(), [](char c) { return c < ' ' || c > '~'; }), line.end());
  const size_t first = line.find_first_not_of(' ');
  return first == std::string::npos ? "" : line.substr(first, line.find_last_not_of(' ') - first + 1);
}

// The value of KEY=value in a uevent file.
std::string UeventValue(const std::string& directory, std::string_view key) {
  TextFile file(directory + "/uevent");
  std::string_view text;
  if (file.Read(MonotonicNs(), 1, &text) != Quality::kOk) return "";
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    if (line.size() > key.size() && line.substr(0, key.size()) == key && line[key.size()] == '=') {
      return std::string(line.substr(key.size() + 1, kMaxTextCharacters));
    }
    text = newline == std::string_view::npos ? std::string_view() : text.substr(newline + 1);
  }
  return "";
}

std::string BaseName(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

std::string ResolvedBaseName(const std::string& path) {
  char resolved[PATH_MAX];
  return realpath(path.c_str(), resolved) == nullptr ? "" : BaseName(resolved);
}

// temp1_input → {"temp", 1, "input"}; pwm1 → {"pwm", 1, ""}.
struct Attribute {
  std::string type;
  int number = 0;
  std::string item;
};

bool ParseAttribute(const std::string& file, Attribute* out) {
  const size_t digits = file.find_first_of("0123456789");
  if (digits == std::string::npos || digits == 0) return false;
  const size_t end = std::min(file.find('_', digits), file.size());
  int64_t number = 0;
  constexpr int64_t kMaxNumber = 999;
  if (!ParseInteger64(std::string_view(file).substr(digits, end - digits), &number) || number > kMaxNumber) return false;
  out->type = file.substr(0, digits);
  out->number = static_cast<int>(number);
  out->item = end == file.size() ? "" : file.substr(end + 1);
  return true;
}

// "fast PPT" → "fast_ppt": what stands in the name of a channel.
std::string NameOf(const std::string& label) {
  std::string name;
  for (const char c : label) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) name += c;
    else if (c >= 'A' && c <= 'Z') name += static_cast<char>(c - 'A' + 'a');
    else if (!name.empty() && name.back() != '_') name += '_';
    if (name.size() == kMaxNameCharacters) break;
  }
  while (!name.empty() && name.back() == '_') name.pop_back();
  return name;
}

using Features = std::map<int, std::set<std::string>>;  // Number → items that exist.

// Finds what one GPU has. Runs once.
class Discovery {
 public:
  Discovery(std::shared_ptr<GpuNode> node, const Driver& driver, std::string hwmon)
      : node_(std::move(node)), driver_(driver), hwmon_(std::move(hwmon)), now_ns_(MonotonicNs()) {}

  std::vector<GpuChannel> Run();

 private:
  struct Spec {
    std::string name;
    std::string label;
    const char* quantity;
    GpuRate rate;
  };

  bool Has(const std::string& name) const { return names_.count(name) > 0; }
  GpuChannel* Add(Spec spec, const std::string& path, std::shared_ptr<Probe> probe);
  GpuChannel* AddInteger(Spec spec, const std::string& path, double multiplier);
  void AddText(Spec spec, const std::string& path, TextParser parser);
  void AddDevice(Spec spec, const std::string& file, double multiplier);
  void AddDeviceText(Spec spec, const std::string& file, TextParser parser);

  void Runtime();
  void Hwmon();
  void Temperatures(const Features& features);
  void Powers(const Features& features);
  void Voltages(const Features& features);
  void Clocks(const Features& features);
  void Fans(const Features& fans, const Features& pwms);
  void Energies(const Features& features);
  void Currents(const Features& features);
  void DeviceFiles();
  void Dpm();
  void Pcie();
  void Ras();
  void Metrics();

  std::string HwmonPath(const char* type, int number, const std::string& item) const {
    return hwmon_ + "/" + type + std::to_string(number) + (item.empty() ? "" : "_" + item);
  }
  std::string LabelOf(const char* type, int number) const { return TextOf(HwmonPath(type, number, "label")); }
  std::string FreeName(const std::string& stem, const std::string& label, int number) const;
  std::optional<int64_t> TemperatureLimit(int number, const char* item) const;
  std::optional<int64_t> IntegerOf(const std::string& path) const;

  const std::shared_ptr<GpuNode> node_;
  const Driver& driver_;
  const std::string hwmon_;  // "" when there is none.
  const int64_t now_ns_;
  std::vector<GpuChannel> channels_;
  std::set<std::string> names_;
};

// The first source of a name counts; null when it is taken.
GpuChannel* Discovery::Add(Spec spec, const std::string& path, std::shared_ptr<Probe> probe) {
  if (channels_.size() >= kMaxChannels || !names_.insert(spec.name).second) return nullptr;
  GpuChannel channel;
  channel.name = std::move(spec.name);
  channel.label = std::move(spec.label);
  channel.quantity = spec.quantity;
  channel.rate = spec.rate;
  channel.path = path;
  channel.probe = std::move(probe);
  channels_.push_back(std::move(channel));
  return &channels_.back();
}

// Files exist that the card does not support: the driver makes some for all cards, and says so when they are read.
bool IsUnsupported(int error) { return error == EOPNOTSUPP || error == EINVAL || error == ENOENT; }

GpuChannel* Discovery::AddInteger(Spec spec, const std::string& path, double multiplier) {
  if (Has(spec.name) || !IsFile(path)) return nullptr;
  KeptFile file(path);
  char buffer[64];
  size_t length = 0;
  errno = 0;
  if (file.ReadAt(now_ns_, 0, buffer, sizeof buffer, &length) != Quality::kOk && IsUnsupported(errno)) return nullptr;
  return Add(std::move(spec), path, MakeGpuIntegerProbe(node_, path, multiplier));
}

void Discovery::AddText(Spec spec, const std::string& path, TextParser parser) {
  if (Has(spec.name) || !IsFile(path)) return;
  GpuText& file = node_->Text(path);
  std::string_view text;
  if (file.Read(now_ns_, &text) != Quality::kOk) {
    if (IsUnsupported(file.error())) return;
  } else if (WordAt(text, 0).data() == nullptr && parser != CountLines) {
    return;  // A list without entries: the card has no such levels.
  }
  Add(std::move(spec), path, MakeGpuTextProbe(node_, path, parser));
}

void Discovery::AddDevice(Spec spec, const std::string& file, double multiplier) {
  AddInteger(std::move(spec), node_->Path(file), multiplier);
}

void Discovery::AddDeviceText(Spec spec, const std::string& file, TextParser parser) {
  AddText(std::move(spec), node_->Path(file), parser);
}

std::vector<GpuChannel> Discovery::Run() {
  Runtime();
  if (node_->IsUndiscovered(now_ns_)) return std::move(channels_);
  Hwmon();
  if (driver_.name == "amdgpu" || driver_.name == "radeon") {
    DeviceFiles();
    Dpm();
    Metrics();
    // The firmware's own numbers are better than the level that it was asked for.
    AddDeviceText({"clock_soc", "socclk", kClock, GpuRate::kMedium}, "pp_dpm_socclk", ActiveClockHertz);
    AddDeviceText({"clock_video", "vclk", kClock, GpuRate::kMedium}, "pp_dpm_vclk", ActiveClockHertz);
    Ras();
  }
  Pcie();
  return std::move(channels_);
}

void Discovery::Runtime() {
  const std::string path = node_->Path("power/runtime_status");
  if (!IsFile(path)) return;
  Add({"runtime_state", "runtime power state", kState, GpuRate::kMedium}, path, MakeGpuRuntimeProbe(node_));
}

// ---- hwmon ----------------------------------------------------------------------------------------------------------

void Discovery::Hwmon() {
  if (hwmon_.empty()) return;
  std::map<std::string, Features> types;
  for (const std::string& file : Entries(hwmon_)) {
    Attribute attribute;
    if (ParseAttribute(file, &attribute)) types[attribute.type][attribute.number].insert(attribute.item);
  }
  Temperatures(types["temp"]);
  Powers(types["power"]);
  Voltages(types["in"]);
  Clocks(types["freq"]);
  Fans(types["fan"], types["pwm"]);
  Energies(types["energy"]);
  Currents(types["curr"]);
}

// "temperature", else "temperature_vram_ch_1" by the driver's label, else "temperature_2".
std::string Discovery::FreeName(const std::string& stem, const std::string& label, int number) const {
  const std::string name = NameOf(label);
  if (name.empty()) return !Has(stem) ? stem : stem + "_" + std::to_string(number);
  return stem + "_" + name;
}

std::optional<int64_t> Discovery::IntegerOf(const std::string& path) const {
  if (!IsFile(path)) return std::nullopt;
  KeptFile file(path);
  char buffer[64];
  size_t length = 0;
  int64_t value = 0;
  if (file.ReadAt(now_ns_, 0, buffer, sizeof buffer, &length) != Quality::kOk || length == sizeof buffer) return std::nullopt;
  if (!ParseInteger64({buffer, length}, &value)) return std::nullopt;
  return value;
}

std::optional<int64_t> Discovery::TemperatureLimit(int number, const char* item) const {
  const std::optional<int64_t> limit = IntegerOf(HwmonPath("temp", number, item));
  return limit && *limit > 0 && *limit < kMaxPlausibleMilliCelsius ? limit : std::nullopt;
}

void Discovery::Temperatures(const Features& features) {
  // Labels of amdgpu (Documentation/gpu/amdgpu/thermal.rst) and of xe ("pkg", "vram").
  static const std::map<std::string, std::string> kByLabel = {
      {"edge", "temperature"},         {"junction", "temperature_hotspot"}, {"mem", "temperature_memory"},
      {"pkg", "temperature"},          {"vram", "temperature_memory"},
  };
  for (const auto& [number, items] : features) {
    if (items.count("input") == 0) continue;
    const std::string label = LabelOf("temp", number);
    const auto known = kByLabel.find(label);
    const bool is_known = known != kByLabel.end();
    const bool is_only = features.size() == 1;
    const std::string name =
        is_known ? known->second : is_only ? "temperature" : FreeName("temperature", label, number);
    GpuChannel* const channel = AddInteger({name, label.empty() ? "GPU" : label, kTemperature, GpuRate::kFast},
                                           HwmonPath("temp", number, "input"), 1);
    if (channel == nullptr) continue;
    channel->limits.max = TemperatureLimit(number, "max");
    channel->limits.critical = TemperatureLimit(number, "crit");
    channel->limits.emergency = TemperatureLimit(number, "emergency");
    channel->thermal_default = driver_.is_thermal_default && (is_known || name == "temperature");
  }
}

void Discovery::Powers(const Features& features) {
  for (const auto& [number, items] : features) {
    const std::string label = LabelOf("power", number);
    const std::string suffix = number == 1 ? "" : "_" + (NameOf(label).empty() ? std::to_string(number) : NameOf(label));
    const std::string shown = label.empty() ? "power" : label;
    const auto path = [this, number = number](const char* item) { return HwmonPath("power", number, item); };
    AddInteger({"power" + suffix, shown, kPower, GpuRate::kFast}, path("average"), kMilliPerMicro);
    const bool has_average = Has("power" + suffix);
    AddInteger({(has_average ? "power_instant" : "power") + suffix, shown, kPower, GpuRate::kFast}, path("input"),
               kMilliPerMicro);
    // amdgpu calls its limit cap; i915 and xe call it max, and what the card is rated for rated_max.
    const std::pair<const char*, const char*> limits[] = {
        {"power_limit", "cap"},           {"power_limit", "max"},
        {"power_limit_default", "cap_default"}, {"power_limit_default", "rated_max"},
        {"power_limit_min", "cap_min"},   {"power_limit_max", "cap_max"},
    };
    for (const auto& [name, item] : limits) {
      AddInteger({name + suffix, shown + " limit", kPower, GpuRate::kSlow}, path(item), kMilliPerMicro);
    }
  }
}

void Discovery::Voltages(const Features& features) {
  static const std::map<std::string, std::string> kByLabel = {{"vddgfx", "voltage"}, {"vddnb", "voltage_soc"}};
  for (const auto& [number, items] : features) {
    const std::string label = LabelOf("in", number);
    const auto known = kByLabel.find(label);
    const std::string name = known != kByLabel.end() ? known->second : FreeName("voltage", label, number);
    AddInteger({name, label.empty() ? "voltage" : label, kVoltage, GpuRate::kMedium}, HwmonPath("in", number, "input"), 1);
  }
}

void Discovery::Clocks(const Features& features) {
  static const std::map<std::string, std::string> kByLabel = {{"sclk", "clock_graphics"}, {"mclk", "clock_memory"}};
  for (const auto& [number, items] : features) {
    const std::string label = LabelOf("freq", number);
    const auto known = kByLabel.find(label);
    const std::string name = known != kByLabel.end() ? known->second : FreeName("clock", label, number);
    AddInteger({name, label.empty() ? "clock" : label, kClock, GpuRate::kMedium}, HwmonPath("freq", number, "input"), 1);
  }
}

void Discovery::Fans(const Features& fans, const Features& pwms) {
  const auto suffix = [](int number) { return number == 1 ? "" : "_" + std::to_string(number); };
  for (const auto& [number, items] : fans) {
    GpuChannel* const channel = AddInteger({"fan_rpm" + suffix(number), "fan", kFan, GpuRate::kMedium},
                                           HwmonPath("fan", number, "input"), 1);
    if (channel == nullptr) continue;
    const std::optional<int64_t> max = IntegerOf(HwmonPath("fan", number, "max"));
    if (max && *max > 0) channel->limits.max = max;
  }
  for (const auto& [number, items] : pwms) {
    if (items.count("") == 0) continue;
    // pwm1_max of nouveau is a bound that may be set, not the scale.
    const bool is_nouveau = driver_.name == "nouveau";
    const std::optional<int64_t> stated = is_nouveau ? std::nullopt : IntegerOf(HwmonPath("pwm", number, "max"));
    const int64_t max = stated && *stated > 0 ? *stated : is_nouveau ? kNouveauPwmMax : kPwmMax;
    AddInteger({"fan" + suffix(number), "fan", kRatio, GpuRate::kMedium}, HwmonPath("pwm", number, ""),
               kPartsPerMillion / static_cast<double>(max));
  }
}

void Discovery::Energies(const Features& features) {
  for (const auto& [number, items] : features) {
    const std::string label = LabelOf("energy", number);
    AddInteger({FreeName("energy", number == 1 ? "" : label, number), label.empty() ? "energy" : label, kEnergy, GpuRate::kMedium},
               HwmonPath("energy", number, "input"), kMilliPerMicro);
  }
}

void Discovery::Currents(const Features& features) {
  for (const auto& [number, items] : features) {
    const std::string label = LabelOf("curr", number);
    AddInteger({FreeName("current", number == 1 ? "" : label, number), label.empty() ? "current" : label, kCurrent, GpuRate::kMedium},
               HwmonPath("curr", number, "input"), 1);
  }
}

// ---- Files of the device --------------------------------------------------------------------------------------------

void Discovery::DeviceFiles() {
  constexpr GpuRate kMedium = GpuRate::kMedium;
  constexpr GpuRate kSlow = GpuRate::kSlow;
  AddDevice({"utilization", "GPU busy", kRatio, kMedium}, "gpu_busy_percent", kPartsPerPercent);
  AddDevice({"utilization_memory", "memory busy", kRatio, kMedium}, "mem_busy_percent", kPartsPerPercent);
  AddDevice({"utilization_video", "video busy", kRatio, kMedium}, "vcn_busy_percent", kPartsPerPercent);
  AddDevice({"memory_used", "VRAM used", kSize, kMedium}, "mem_info_vram_used", 1);
  AddDevice({"memory_total", "VRAM", kSize, kSlow}, "mem_info_vram_total", 1);
  AddDevice({"memory_visible_used", "visible VRAM used", kSize, kMedium}, "mem_info_vis_vram_used", 1);
  AddDevice({"memory_visible_total", "visible VRAM", kSize, kSlow}, "mem_info_vis_vram_total", 1);
  AddDevice({"gtt_used", "GTT used", kSize, kMedium}, "mem_info_gtt_used", 1);
  AddDevice({"gtt_total", "GTT", kSize, kSlow}, "mem_info_gtt_total", 1);
}

void Discovery::Dpm() {
  struct List {
    const char* file;
    const char* label;
    const char* clock;
    const char* highest;
    const char* level;
  };
  constexpr List kLists[] = {
      {"pp_dpm_sclk", "sclk", "clock_graphics", "clock_graphics_max", "power_state_core"},
      {"pp_dpm_mclk", "mclk", "clock_memory", "clock_memory_max", "power_state_memory"},
      {"pp_dpm_socclk", "socclk", nullptr, "clock_soc_max", nullptr},
      {"pp_dpm_vclk", "vclk", nullptr, "clock_video_max", nullptr},
      {"pp_dpm_pcie", "PCIe", nullptr, nullptr, "power_state_pcie"},
  };
  for (const List& list : kLists) {
    const std::string label = list.label;
    if (list.clock != nullptr) {
      AddDeviceText({list.clock, label, kClock, GpuRate::kMedium}, list.file, ActiveClockHertz);
    }
    if (list.highest != nullptr) {
      AddDeviceText({list.highest, label + " maximum", kClock, GpuRate::kSlow}, list.file, HighestClockHertz);
    }
    if (list.level != nullptr) {
      AddDeviceText({list.level, label + " level", kState, GpuRate::kMedium}, list.file, ActiveLevel);
    }
  }
}

void Discovery::Pcie() {
  constexpr GpuRate kSlow = GpuRate::kSlow;
  AddDeviceText({"pcie_generation", "PCIe generation", kState, kSlow}, "current_link_speed", LinkGeneration);
  AddDeviceText({"pcie_width", "PCIe lanes", kState, kSlow}, "current_link_width", LinkWidth);
  AddDeviceText({"pcie_generation_max", "PCIe generation maximum", kState, kSlow}, "max_link_speed", LinkGeneration);
  AddDeviceText({"pcie_width_max", "PCIe lanes maximum", kState, kSlow}, "max_link_width", LinkWidth);
  AddDeviceText({"pcie_generation", "PCIe generation", kState, kSlow}, "pp_dpm_pcie", ActivePcieGeneration);
  AddDeviceText({"pcie_width", "PCIe lanes", kState, kSlow}, "pp_dpm_pcie", ActivePcieWidth);
  AddDeviceText({"pcie_generation_max", "PCIe generation maximum", kState, kSlow}, "pp_dpm_pcie", HighestPcieGeneration);
  AddDeviceText({"pcie_width_max", "PCIe lanes maximum", kState, kSlow}, "pp_dpm_pcie", HighestPcieWidth);
}

void Discovery::Ras() {
  constexpr GpuRate kSlow = GpuRate::kSlow;
  static constexpr std::string_view kSuffix = "_err_count";
  for (const std::string& file : Entries(node_->Path("ras"))) {
    if (file.size() <= kSuffix.size() || file.substr(file.size() - kSuffix.size()) != kSuffix) continue;
    const std::string block = NameOf(file.substr(0, file.size() - kSuffix.size()));
    if (block.empty()) continue;
    const std::string path = node_->Path("ras/" + file);
    AddText({"ras_" + block + "_uncorrected", block + " uncorrected", kCount, kSlow}, path, RasUncorrected);
    AddText({"ras_" + block + "_corrected", block + " corrected", kCount, kSlow}, path, RasCorrected);
    std::string_view text;
    int64_t count = 0;
    if (node_->Text(path).Read(now_ns_, &text) == Quality::kOk && RasDeferred(text, &count) == Quality::kOk) {
      AddText({"ras_" + block + "_deferred", block + " deferred", kCount, kSlow}, path, RasDeferred);
    }
  }
  AddText({"bad_pages", "bad VRAM pages", kCount, kSlow}, node_->Path("ras/gpu_vram_bad_pages"), CountLines);
  const std::string xgmi = node_->Path("xgmi_error");
  // Reading it clears it (amdgpu_xgmi_show_error): it is not read to see whether it can be.
  if (IsFile(xgmi)) Add({"xgmi_errors", "xGMI errors", kCount, kSlow}, xgmi, MakeGpuClearedCounterProbe(node_, xgmi));
}

void Discovery::Metrics() {
  // Before the firmware's counter, which some chips have too: the driver counts since it was loaded.
  AddDevice({"pcie_replays", "PCIe replays", kCount, GpuRate::kSlow}, "pcie_replay_count", 1);
  GpuMetricsFile* const file = node_->metrics();
  if (file == nullptr || file->Read(now_ns_) != Quality::kOk) return;
  const GpuMetrics& metrics = file->metrics();
  for (size_t i = 0; i < kGpuMetricsChannelCount; ++i) {
    const GpuMetricsChannel& row = kGpuMetricsChannels[i];
    const GpuMetricsField* const field = metrics.Find(row.field);
    if (!AppliesTo(row, *metrics.layout()) || field == nullptr || Has(row.name)) continue;
    int64_t value = 0;
    uint64_t raw = 0;
    const bool is_share = row.kind == GpuMetricsChannel::Kind::kShare;
    if (is_share ? !metrics.Value(*field, 0, &raw) : !GpuMetricsValue(metrics, row, &value)) continue;
    GpuChannel* const channel = Add({row.name, row.label, row.quantity, row.rate},
                                    node_->Path("gpu_metrics") + "#" + row.field, MakeGpuMetricsProbe(node_, row));
    if (channel != nullptr) channel->thermal_default = row.thermal && driver_.is_thermal_default;
  }
}

// ---- The device -----------------------------------------------------------------------------------------------------

class SysfsGpu final : public GpuDevice {
 public:
  SysfsGpu(GpuIdentity identity, std::shared_ptr<GpuNode> node, const Driver& driver, std::string hwmon)
      : identity_(std::move(identity)), node_(std::move(node)), driver_(driver), hwmon_(std::move(hwmon)) {}

  const GpuIdentity& identity() const override { return identity_; }
  std::vector<GpuChannel> Discover() override { return Discovery(node_, driver_, hwmon_).Run(); }
  std::string Details() override { return ""; }
  bool WaitEvents(const GpuEventSink&) override { return false; }
  GpuCondition condition() const override { return node_->condition(); }

 private:
  const GpuIdentity identity_;
  const std::shared_ptr<GpuNode> node_;
  const Driver& driver_;
  const std::string hwmon_;
};

// The chip below the device; where a driver made several, the first that has the driver's name.
std::string FindHwmon(const std::string& device, std::string_view driver) {
  std::string first;
  for (const std::string& name : Entries(device + "/hwmon")) {
    const std::string path = device + "/hwmon/" + name;
    if (name.substr(0, 5) != "hwmon" || !IsDirectory(path)) continue;
    if (TextOf(path + "/name") == driver) return path;
    if (first.empty()) first = path;
  }
  return first;
}

// By address and not by unique_id: that one cannot be read while the GPU is reset, and ids of channels must not change.
GpuIdentity IdentityOf(const std::string& device, const Driver& driver, const std::string& address) {
  GpuIdentity identity;
  identity.id = "pci-" + address;
  identity.source = driver.name;
  identity.vendor = driver.vendor;
  identity.address = address;
  identity.more["driver"] = driver.name;
  const std::string pci_id = UeventValue(device, "PCI_ID");
  if (!pci_id.empty()) identity.more["pci_id"] = pci_id;
  identity.name = std::string(driver.name) + (pci_id.empty() ? "" : " " + pci_id);
  return identity;
}

// What the driver tells of a GPU that is awake.
void DescribeAwake(const GpuNode& node, GpuIdentity* identity) {
  static const std::pair<const char*, const char*> kFiles[] = {
      {"vbios", "vbios_version"},          {"serial", "serial_number"},
      {"unique_id", "unique_id"},          {"product_number", "product_number"},
      {"board", "board_info"},             {"vram_vendor", "mem_info_vram_vendor"},
      {"performance_level", "power_dpm_force_performance_level"},
  };
  for (const auto& [key, file] : kFiles) {
    const std::string text = TextOf(node.Path(file));
    if (!text.empty()) identity->more[key] = text;
  }
  const std::string product = TextOf(node.Path("product_name"));
  if (!product.empty()) identity->name = product;
}

// Keeps the file where it can be understood, and says so where it cannot.
void OpenMetrics(GpuNode* node, GpuIdentity* identity) {
  const std::string path = node->Path("gpu_metrics");
  if (!IsFile(path)) return;
  auto file = std::make_unique<GpuMetricsFile>(path);
  const Quality quality = file->Read(MonotonicNs());
  const std::string revision = "revision " + file->metrics().Revision();
  std::string& notice = identity->more["gpu_metrics"];
  if (quality == Quality::kOk) {
    notice = revision;
  } else if (quality == Quality::kNoData) {
    notice = "gives nothing: hwmon only";
  } else if (file->verdict() == GpuMetricsVerdict::kUnknown) {
    notice = revision + ": unknown, hwmon only";
  } else {
    notice = "cannot be read or is truncated: hwmon only";
  }
  node->KeepMetrics(std::move(file));
}

GpuOpening Refused(std::string why) {
  GpuOpening opening;
  opening.why = std::move(why);
  return opening;
}

}  // namespace

GpuOpening OpenSysfsGpu(const std::string& sysfs_root, const std::string& device_path) {
  const std::string directory = sysfs_root + "/" + device_path;
  if (!IsDirectory(directory)) return Refused(device_path + ": no such device");
  std::string name = ResolvedBaseName(directory + "/driver");
  if (name.empty()) name = UeventValue(directory, "DRIVER");
  if (name.empty()) return Refused(device_path + ": no driver is bound to it");
  const Driver* const driver = FindDriver(name);
  if (driver == nullptr) return Refused(device_path + ": its driver " + name + " shows no sensors in sysfs");
  std::string address = NormalPciAddress(ResolvedBaseName(directory));
  if (address.empty()) address = NormalPciAddress(UeventValue(directory, "PCI_SLOT_NAME"));
  if (address.empty()) return Refused(device_path + ": has no PCI address");

  GpuIdentity identity = IdentityOf(directory, *driver, address);
  const std::string version = TextOf(sysfs_root + "/module/" + name + "/version");
  if (!version.empty()) identity.more["driver_version"] = version;
  const auto node = std::make_shared<GpuNode>(directory, sysfs_root + "/" + device_path.substr(0, device_path.find_last_of('/')));
  std::string hwmon;
  if (!node->IsUndiscovered(MonotonicNs())) {
    hwmon = FindHwmon(directory, driver->name);
    if (!hwmon.empty()) node->Watch(hwmon);
    DescribeAwake(*node, &identity);
    if (driver->name == "amdgpu") OpenMetrics(node.get(), &identity);
  }
  GpuOpening opening;
  opening.device = std::make_unique<SysfsGpu>(std::move(identity), node, *driver, hwmon);
  return opening;
}

}  // namespace skos
