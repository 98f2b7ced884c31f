// GPUs in sysfs, as drivers show them and as an adversary would: asleep, reset, gone, half there. Captured cards are read by
// test/sensors/amdgpu.test.ts.
#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "probes/amdgpu.h"
#include "probes/amdgpu_probes.h"
#include "probes/amdgpu_text.h"
#include "sampler/clock.h"
#include "test/check.h"
#include "test/temp_dir.h"

namespace skos::test {
namespace {

constexpr char kDevice[] = "class/drm/card0/device";
constexpr int64_t kBatch = 10'000'000;   // Later than what is shared within a batch.
constexpr int64_t kLater = 2 * kNsPerSecond;  // Later than a missing file or directory is looked for again.

using Files = std::map<std::string, std::string>;

// A sysfs with one GPU. Paths are relative to its device.
class Tree {
 public:
  explicit Tree(const Files& files, const std::string& driver = "amdgpu") {
    Set("uevent", "DRIVER=" + driver + "\nPCI_ID=1002:74A1\nPCI_SLOT_NAME=0000:0C:00.0\n");
    for (const auto& [path, content] : files) Set(path, content);
  }

  std::string root() const { return dir_.File(""); }
  std::string Path(const std::string& path) const { return dir_.File(std::string(kDevice) + "/" + path); }
  void Set(const std::string& path, std::string_view content) const {
    const std::filesystem::path at(Path(path));
    std::filesystem::create_directories(at.parent_path());
    dir_.Write(std::string(kDevice) + "/" + path, content);
  }
  // In the same file, which a reader that keeps it open sees at once.
  void Overwrite(const std::string& path, std::string_view content) const {
    const UniqueFd fd(open(Path(path).c_str(), O_WRONLY | O_CLOEXEC));
    CHECK_EQ(pwrite(fd.get(), content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  }
  void Remove(const std::string& path) const { dir_.Remove(std::string(kDevice) + "/" + path); }
  void RemoveCard() const { dir_.Remove("class/drm/card0"); }

 private:
  TempDir dir_;
};

// The GPU of a tree, opened and discovered.
class Gpu {
 public:
  explicit Gpu(const Files& files, const std::string& driver = "amdgpu") : Gpu(std::make_unique<Tree>(files, driver)) {}
  explicit Gpu(const Tree& tree) : opening_(OpenSysfsGpu(tree.root(), kDevice)) {
    if (opening_.device == nullptr) Fail(__FILE__, __LINE__, opening_.why);
    for (GpuChannel& channel : opening_.device->Discover()) {
      const std::string name = channel.name;
      CHECK(channels_.emplace(name, std::move(channel)).second);  // Names are unique.
    }
    now_ns_ = MonotonicNs();
  }

  void Advance(int64_t ns) { now_ns_ += ns; }
  bool Has(const std::string& name) const { return channels_.count(name) > 0; }
  size_t Count() const { return channels_.size(); }
  const GpuChannel& operator[](const std::string& name) const {
    const auto found = channels_.find(name);
    if (found == channels_.end()) Fail(__FILE__, __LINE__, "no channel " + name);
    return found->second;
  }
  Reading Read(const std::string& name) const { return (*this)[name].probe->Read(now_ns_); }
  void Check(const std::string& name, int64_t value) const {
    const Reading reading = Read(name);
    if (reading.quality != Quality::kOk) Fail(__FILE__, __LINE__, name + " is " + Show(reading.quality));
    CHECK_EQ(reading.value, value);
    CHECK(reading.time_ns > 0);
  }
  void CheckQuality(const std::string& name, Quality quality) const {
    const Reading reading = Read(name);
    if (reading.quality != quality) Fail(__FILE__, __LINE__, name + " is " + Show(reading.quality));
    CHECK_EQ(reading.value, quality == Quality::kOk ? reading.value : 0);
  }
  GpuCondition condition() const { return opening_.device->condition(); }
  const GpuIdentity& identity() const { return opening_.device->identity(); }
  std::string More(const std::string& key) const {
    const auto found = identity().more.find(key);
    return found == identity().more.end() ? "" : found->second;
  }
  GpuDevice& device() const { return *opening_.device; }

 private:
  explicit Gpu(std::unique_ptr<Tree> tree) : Gpu(*tree) { tree_ = std::move(tree); }

  std::unique_ptr<Tree> tree_;  // Null when it is the test's own.
  GpuOpening opening_;
  std::map<std::string, GpuChannel> channels_;
  int64_t now_ns_ = 0;
};

std::string WhyNot(const Tree& tree, const std::string& path = kDevice) {
  const GpuOpening opening = OpenSysfsGpu(tree.root(), path);
  CHECK(opening.device == nullptr);
  return opening.why;
}

// Header and all-ones, as the driver begins every blob.
std::string Metrics(int format, int content, size_t size) {
  std::string blob(size, '\xff');
  blob[0] = static_cast<char>(size);
  blob[1] = static_cast<char>(size >> 8);
  blob[2] = static_cast<char>(format);
  blob[3] = static_cast<char>(content);
  return blob;
}

void Put(std::string* blob, size_t offset, size_t bytes, uint64_t value) {
  for (size_t i = 0; i < bytes; ++i) (*blob)[offset + i] = static_cast<char>(value >> (8 * i));
}

void TellsWhatTheGpuIs() {
  const Tree tree(Files{{"vbios_version", "113-M3000100-103\n"},
                   {"unique_id", "a1b2c3d4e5f60708\n"},
                   {"serial_number", "  692231000131 \n"},
                   {"product_name", "AMD INSTINCT MI300X \x01\xff(OAM)\n"}});
  const Gpu gpu(tree);
  CHECK_EQ(gpu.identity().id, std::string("pci-0000:0c:00.0"));
  CHECK_EQ(gpu.identity().address, std::string("0000:0c:00.0"));
  CHECK_EQ(gpu.identity().source, std::string("amdgpu"));
  CHECK_EQ(gpu.identity().vendor, std::string("amd"));
  CHECK_EQ(gpu.identity().name, std::string("AMD INSTINCT MI300X (OAM)"));
  CHECK_EQ(gpu.More("vbios"), std::string("113-M3000100-103"));
  CHECK_EQ(gpu.More("serial"), std::string("692231000131"));
  CHECK_EQ(gpu.More("unique_id"), std::string("a1b2c3d4e5f60708"));
  CHECK_EQ(gpu.More("pci_id"), std::string("1002:74A1"));
  CHECK_EQ(gpu.device().Details(), std::string());
  CHECK(!gpu.device().WaitEvents([](const std::string&) {}));
}

void SaysInALineWhyAGpuCannotBeOpened() {
  CHECK_EQ(WhyNot(Tree(Files()), "class/drm/card7/device"), std::string("class/drm/card7/device: no such device"));
  CHECK(WhyNot(Tree(Files(), "nvidia")).find("its driver nvidia shows no sensors") != std::string::npos);
  const Tree unbound((Files()));
  unbound.Set("uevent", "PCI_SLOT_NAME=0000:0c:00.0\n");
  CHECK(WhyNot(unbound).find("no driver is bound") != std::string::npos);
  const Tree elsewhere((Files()));
  elsewhere.Set("uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=platform\n");
  CHECK(WhyNot(elsewhere).find("no PCI address") != std::string::npos);
}

void OpensAGpuThatShowsNothing() {
  const Gpu gpu(Files{});
  CHECK_EQ(gpu.Count(), 0u);
  CHECK(gpu.condition() == GpuCondition::kServing);
}

void TellsTemperaturesByTheirLabelsAndNotTheirNumbers() {
  const Tree tree(Files{{"hwmon/hwmon3/name", "amdgpu\n"},
                   {"hwmon/hwmon3/temp1_input", "91000\n"},
                   {"hwmon/hwmon3/temp1_label", "junction\n"},
                   {"hwmon/hwmon3/temp1_crit", "110000\n"},
                   {"hwmon/hwmon3/temp1_emergency", "115000\n"},
                   {"hwmon/hwmon3/temp2_input", "101000\n"},
                   {"hwmon/hwmon3/temp2_label", "mem\n"},
                   {"hwmon/hwmon3/temp3_input", "70000\n"},
                   {"hwmon/hwmon3/temp3_label", "edge\n"},
                   {"hwmon/hwmon3/temp4_input", "50000\n"},
                   {"hwmon/hwmon3/temp4_label", "Board / VRM\n"}});
  const Gpu gpu(tree);
  gpu.Check("temperature_hotspot", 91'000);
  gpu.Check("temperature_memory", 101'000);
  gpu.Check("temperature", 70'000);
  gpu.Check("temperature_board_vrm", 50'000);
  CHECK_EQ(*gpu["temperature_hotspot"].limits.critical, 110'000);
  CHECK_EQ(*gpu["temperature_hotspot"].limits.emergency, 115'000);
  CHECK(gpu["temperature"].thermal_default && gpu["temperature_memory"].thermal_default);
  CHECK(!gpu["temperature_board_vrm"].thermal_default);
}

void TakesTheOnlyTemperatureForTheGpus() {
  const Gpu gpu(Files{{"hwmon/hwmon0/temp1_input", "45000\n"}});
  gpu.Check("temperature", 45'000);
  CHECK(gpu["temperature"].thermal_default);
}

void DropsLimitsThatNoSensorCanMean() {
  for (const char* limit : {"-273150\n", "0\n", "65261850\n", "hot\n", "", "99999999999999999999\n"}) {
    const Tree tree(Files{{"hwmon/hwmon0/temp1_input", "45000\n"}, {"hwmon/hwmon0/temp1_label", "edge\n"}});
    tree.Set("hwmon/hwmon0/temp1_crit", limit);
    tree.Set("hwmon/hwmon0/temp1_emergency", limit);
    const Gpu gpu(tree);
    CHECK(!gpu["temperature"].limits.critical && !gpu["temperature"].limits.emergency);
  }
}

void PrefersTheAveragePowerAndGivesBothWhereThereAreTwo() {
  const Gpu average(Files{{"hwmon/hwmon0/power1_average", "305123456\n"}, {"hwmon/hwmon0/power1_cap", "750000000\n"}});
  average.Check("power", 305'123);
  average.Check("power_limit", 750'000);
  CHECK(!average.Has("power_instant"));
  const Gpu input(Files{{"hwmon/hwmon0/power1_input", "41000000\n"}});
  input.Check("power", 41'000);
  CHECK(!input.Has("power_instant"));
  const Gpu both(Files{{"hwmon/hwmon0/power1_average", "3218000\n"}, {"hwmon/hwmon0/power1_input", "4057000\n"}});
  both.Check("power", 3218);
  both.Check("power_instant", 4057);
}

void ScalesAFanByItsOwnMaximum() {
  const Gpu gpu(Files{{"hwmon/hwmon0/pwm1", "51\n"}, {"hwmon/hwmon0/pwm1_max", "255\n"}, {"hwmon/hwmon0/fan1_input", "1200\n"},
                      {"hwmon/hwmon0/fan1_max", "3200\n"}, {"hwmon/hwmon0/pwm1_enable", "2\n"}});
  gpu.Check("fan", 200'000);
  gpu.Check("fan_rpm", 1200);
  CHECK_EQ(*gpu["fan_rpm"].limits.max, 3200);
  CHECK(!gpu.Has("fan_2"));
  // Its pwm1 is a percentage, and pwm1_max a bound that someone has set.
  const Gpu nouveau(Files{{"hwmon/hwmon0/pwm1", "40\n"}, {"hwmon/hwmon0/pwm1_max", "80\n"}}, "nouveau");
  nouveau.Check("fan", 400'000);
  CHECK_EQ(nouveau.identity().source, std::string("nouveau"));
}

void ReadsIntelGpusByTheSameReader() {
  const Gpu gpu(Files{{"hwmon/hwmon5/name", "xe\n"},
                      {"hwmon/hwmon5/temp2_input", "48000\n"},
                      {"hwmon/hwmon5/temp2_label", "pkg\n"},
                      {"hwmon/hwmon5/temp3_input", "56000\n"},
                      {"hwmon/hwmon5/temp3_label", "vram\n"},
                      {"hwmon/hwmon5/power1_max", "190000000\n"},
                      {"hwmon/hwmon5/power1_rated_max", "225000000\n"},
                      {"hwmon/hwmon5/energy1_input", "123456789\n"},
                      {"hwmon/hwmon5/energy1_label", "card\n"},
                      {"hwmon/hwmon5/energy2_input", "9000\n"},
                      {"hwmon/hwmon5/energy2_label", "pkg\n"},
                      {"hwmon/hwmon5/in0_input", "750\n"},
                      {"gpu_busy_percent", "3\n"}}, "xe");
  gpu.Check("temperature", 48'000);
  gpu.Check("temperature_memory", 56'000);
  gpu.Check("power_limit", 190'000);
  gpu.Check("power_limit_default", 225'000);
  gpu.Check("energy", 123'457);
  gpu.Check("energy_pkg", 9);
  gpu.Check("voltage", 750);
  CHECK_EQ(gpu.identity().vendor, std::string("intel"));
  CHECK(!gpu["temperature"].thermal_default);  // The default table was made for other chips.
  CHECK(!gpu.Has("utilization"));              // Not a file of this driver.
}

Quality Parsed(TextParser parser, std::string_view text, int64_t* value) {
  *value = -1;
  return parser(text, value);
}

void CheckText(TextParser parser, std::string_view text, int64_t expected) {
  int64_t value = 0;
  const Quality quality = Parsed(parser, text, &value);
  if (quality != Quality::kOk) Fail(__FILE__, __LINE__, std::string(text) + " is " + Show(quality));
  CHECK_EQ(value, expected);
}

void CheckNone(TextParser parser, std::string_view text, Quality quality) {
  int64_t value = 0;
  CHECK_EQ(Parsed(parser, text, &value), quality);
}

void ReadsListsOfClocks() {
  CheckText(ActiveClockHertz, "0: 300Mhz \n1: 800Mhz *\n2: 900Mhz \n", 800'000'000);
  CheckText(HighestClockHertz, "0: 300Mhz \n1: 800Mhz *\n2: 900Mhz \n", 900'000'000);
  CheckText(ActiveClockHertz, "S: 19Mhz *\n0: 500Mhz\n1: 2100Mhz\n", 19'000'000);
  CheckText(HighestClockHertz, "S: 19Mhz *\n0: 500Mhz\n1: 2100Mhz\n", 2'100'000'000);
  CheckNone(ActiveLevel, "S: 19Mhz *\n0: 500Mhz\n", Quality::kNoData);
  CheckNone(ActiveClockHertz, "0: 300Mhz \n1: 800Mhz \n", Quality::kNoData);
  CheckText(ActiveLevel, "0: 300MHz \n1: 800MHz *", 1);
  // Two marks: they agree on the clock but not on the level.
  CheckText(ActiveClockHertz, "2: 687Mhz *\n3: 687Mhz *\n", 687'000'000);
  CheckNone(ActiveLevel, "2: 687Mhz *\n3: 687Mhz *\n", Quality::kNoData);
  CheckNone(ActiveClockHertz, "2: 687Mhz *\n3: 700Mhz *\n", Quality::kNoData);
  for (const TextParser parser : {ActiveClockHertz, HighestClockHertz, ActiveLevel}) {
    CheckNone(parser, "", Quality::kNoData);
    CheckNone(parser, " \n\n", Quality::kNoData);
  }
  for (const char* garbage : {"0 300Mhz *", "0: Mhz *", "0: -3Mhz *", "x: 300Mhz *", "0: 300 *", "0: 3.5.1Mhz *",
                              "0: 99999999999999999999Mhz *", "0: 2000000Mhz *", "-1: 300Mhz *", "OD_SCLK:\n0: 5Mhz *"}) {
    CheckNone(ActiveClockHertz, garbage, Quality::kFault);
    CheckNone(HighestClockHertz, garbage, Quality::kFault);
  }
  std::string endless;
  for (int i = 0; i < 100; ++i) endless += std::to_string(i) + ": 100Mhz\n";
  CheckNone(HighestClockHertz, endless, Quality::kFault);
}

void ReadsPcieLinks() {
  CheckText(LinkGeneration, "2.5 GT/s PCIe\n", 1);
  CheckText(LinkGeneration, "16.0 GT/s PCIe\n", 4);
  CheckText(LinkGeneration, "32.0 GT/s PCIe\n", 5);
  CheckText(LinkGeneration, "64.0 GT/s PCIe\n", 6);
  CheckText(LinkGeneration, "8 GT/s\n", 3);  // Before Linux 5.7.
  CheckNone(LinkGeneration, "Unknown\n", Quality::kNoData);
  CheckNone(LinkGeneration, "", Quality::kNoData);
  CheckNone(LinkGeneration, "17.0 GT/s PCIe\n", Quality::kFault);
  CheckNone(LinkGeneration, "16.0 furlongs\n", Quality::kFault);
  CheckText(LinkWidth, "16\n", 16);
  CheckNone(LinkWidth, "0\n", Quality::kNoData);
  CheckNone(LinkWidth, "255\n", Quality::kNoData);
  CheckNone(LinkWidth, "-16\n", Quality::kFault);
  CheckNone(LinkWidth, "wide\n", Quality::kFault);
  const char* const levels = "0: 2.5GT/s, x8 \n1: 8.0GT/s, x16 619Mhz *\n";
  CheckText(ActivePcieGeneration, levels, 3);
  CheckText(ActivePcieWidth, levels, 16);
  CheckText(HighestPcieGeneration, "0: 16.0GT/s, x16 78Mhz *\n1: 2.5GT/s, x1\n", 4);
  CheckText(HighestPcieWidth, "0: 16.0GT/s, x16 78Mhz *\n1: 2.5GT/s, x1\n", 16);
  CheckNone(ActivePcieGeneration, "\n", Quality::kNoData);
  CheckNone(ActivePcieWidth, "0: 2.5GT/s, 8 *\n", Quality::kFault);
}

void FallsBackToTheLevelsWhereTheKernelShowsNoLink() {
  const Gpu gpu(Files{{"current_link_speed", "Unknown\n"}, {"pp_dpm_pcie", "0: 2.5GT/s, x8 \n1: 8.0GT/s, x16 *\n"}});
  gpu.CheckQuality("pcie_generation", Quality::kNoData);  // The file is there and says that the link is not up.
  gpu.Check("pcie_width", 16);
  gpu.Check("pcie_generation_max", 3);
  gpu.Check("power_state_pcie", 1);
}

void TakesClocksFromHwmonBeforeTheLists() {
  const Files lists = {{"pp_dpm_sclk", "0: 500Mhz *\n1: 2100Mhz\n"}, {"pp_dpm_mclk", "0: 96Mhz\n1: 1249Mhz *\n"}};
  const Gpu without(lists);
  without.Check("clock_graphics", 500'000'000);
  without.Check("clock_memory", 1'249'000'000);
  Files files = lists;
  files["hwmon/hwmon0/freq1_input"] = "798080000\n";
  files["hwmon/hwmon0/freq1_label"] = "sclk\n";
  const Gpu with(files);
  with.Check("clock_graphics", 798'080'000);
  with.Check("clock_graphics_max", 2'100'000'000);
  with.Check("power_state_core", 0);
  CHECK(!Gpu(Files{{"pp_dpm_mclk", "\n"}}).Has("power_state_memory"));
}

void CountsErrorsOfEachBlock() {
  const Tree tree(Files{{"ras/umc_err_count", "ue: 2\nce: 41\nde: 3\n"},
                   {"ras/xgmi_wafl_err_count", "ue: 0\nce: 0\n"},
                   {"ras/sdma_err_count", "Query currently inaccessible\n"},
                   {"ras/gfx_err_count", "ue: many\n"},
                   {"ras/features", "feature mask: 0xffffff\n"},
                   {"ras/_err_count", "ue: 1\nce: 1\n"},
                   {"ras/gpu_vram_bad_pages", "0x00001234 : 0x00001000 : R\n0x00005678 : 0x00001000 : P\n\n"}});
  const Gpu gpu(tree);
  gpu.Check("ras_umc_uncorrected", 2);
  gpu.Check("ras_umc_corrected", 41);
  gpu.Check("ras_umc_deferred", 3);
  gpu.Check("ras_xgmi_wafl_corrected", 0);
  CHECK(!gpu.Has("ras_xgmi_wafl_deferred"));
  gpu.CheckQuality("ras_sdma_corrected", Quality::kNoData);
  gpu.CheckQuality("ras_gfx_uncorrected", Quality::kFault);
  gpu.Check("bad_pages", 2);
}

void ReadsNoBadPagesAsNone() {
  const Gpu gpu(Files{{"ras/gpu_vram_bad_pages", ""}});
  gpu.Check("bad_pages", 0);
}

void AddsUpWhatReadingClears() {
  const Tree tree(Files{{"xgmi_error", "2\n"}});
  Gpu gpu(tree);
  gpu.Check("xgmi_errors", 2);  // Nobody has read it before: discovery would have taken the first ones.
  gpu.Advance(kLater);
  tree.Set("xgmi_error", "0\n");
  gpu.Check("xgmi_errors", 2);
  gpu.Advance(kLater);
  tree.Set("xgmi_error", "1\n");
  gpu.Check("xgmi_errors", 3);
  gpu.Advance(kLater);
  tree.Set("xgmi_error", "-7\n");
  gpu.CheckQuality("xgmi_errors", Quality::kFault);
}

// What was opened below a directory since the last question.
class Opens {
 public:
  explicit Opens(const std::vector<std::string>& directories) : fd_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    for (const std::string& directory : directories) CHECK(inotify_add_watch(fd_.get(), directory.c_str(), IN_OPEN | IN_ACCESS) >= 0);
  }
  std::vector<std::string> Take() {
    std::vector<std::string> names;
    alignas(inotify_event) char buffer[4096];
    ssize_t n;
    while ((n = read(fd_.get(), buffer, sizeof buffer)) > 0) {
      for (ssize_t at = 0; at < n;) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
        if (event->len > 0) names.emplace_back(event->name);
        at += static_cast<ssize_t>(sizeof *event + event->len);
      }
    }
    return names;
  }

 private:
  UniqueFd fd_;
};

Files AwakeGpu() {
  return {{"power/runtime_status", "active\n"},
          {"gpu_busy_percent", "7\n"},
          {"pp_dpm_sclk", "0: 500Mhz *\n"},
          {"vbios_version", "113\n"},
          {"xgmi_error", "0\n"},
          {"hwmon/hwmon1/name", "amdgpu\n"},
          {"hwmon/hwmon1/temp1_input", "45000\n"},
          {"hwmon/hwmon1/temp1_label", "edge\n"}};
}

void LeavesASuspendedGpuAsleep() {
  const Tree tree(AwakeGpu());
  Gpu gpu(tree);
  gpu.Check("temperature", 45'000);
  gpu.Check("runtime_state", 0);
  Opens opens({tree.Path(""), tree.Path("hwmon/hwmon1")});
  gpu.Advance(kBatch);
  gpu.Check("utilization", 70'000);
  CHECK(!opens.Take().empty());  // What the watch would have seen.
  tree.Set("power/runtime_status", "suspended\n");
  opens.Take();
  for (int i = 0; i < 5; ++i) {
    gpu.Advance(kLater);
    gpu.Check("runtime_state", 1);
    for (const char* name : {"temperature", "utilization", "clock_graphics", "xgmi_errors"}) gpu.CheckQuality(name, Quality::kNoData);
  }
  CHECK_EQ(opens.Take().size(), 0u);
  tree.Set("power/runtime_status", "resuming\n");
  gpu.Advance(kLater);
  gpu.Check("runtime_state", 2);
  gpu.CheckQuality("temperature", Quality::kNoData);
  tree.Set("power/runtime_status", "active\n");
  gpu.Advance(kLater);
  gpu.Check("temperature", 45'000);
  CHECK(gpu.condition() == GpuCondition::kServing);
}

void OpensASleepingGpuWithoutWakingItAndIsOpenedAfreshWhenItWakes() {
  Files files = AwakeGpu();
  files["power/runtime_status"] = "suspended\n";
  const Tree tree(files);
  Opens opens({tree.Path(""), tree.Path("hwmon/hwmon1")});
  Gpu gpu(tree);
  // uevent is the PCI core's and power/ the driver core's.
  for (const std::string& name : opens.Take()) CHECK(name == "uevent" || name == "power");
  CHECK_EQ(gpu.Count(), 1u);
  CHECK_EQ(gpu.identity().id, std::string("pci-0000:0c:00.0"));  // The same as awake.
  gpu.Check("runtime_state", 1);
  CHECK(gpu.condition() == GpuCondition::kServing);
  tree.Set("power/runtime_status", "active\n");
  gpu.Advance(kLater);
  gpu.Check("runtime_state", 0);
  CHECK(gpu.condition() == GpuCondition::kDriverGone);
  const Gpu afresh(tree);
  CHECK(afresh.Count() > 4);
  CHECK_EQ(afresh.identity().id, gpu.identity().id);
}

void AssumesNoSleepWhereTheKernelShowsNoRuntimeState() {
  Files files = AwakeGpu();
  files.erase("power/runtime_status");
  const Gpu gpu(files);
  CHECK(!gpu.Has("runtime_state"));
  CHECK(gpu.Has("temperature"));
  files["power/runtime_status"] = "unsupported\n";  // Runtime power management is off.
  const Gpu off(files);
  off.Check("runtime_state", 0);
  CHECK(off.Has("temperature"));
}

void SaysThatTheDriverIsGone() {
  const Tree tree(AwakeGpu());
  Gpu gpu(tree);
  gpu.Check("temperature", 45'000);
  tree.RemoveCard();
  gpu.Advance(kLater);
  gpu.CheckQuality("temperature", Quality::kNoData);
  CHECK(gpu.condition() == GpuCondition::kDriverGone);
  // Also when it comes back: it is another instance.
  for (const auto& [path, content] : AwakeGpu()) tree.Set(path, content);
  gpu.Advance(kLater);
  gpu.CheckQuality("temperature", Quality::kNoData);
  CHECK(gpu.condition() == GpuCondition::kDriverGone);
}

void SaysThatTheDriverIsGoneWhenItsChipGetsAnotherNumber() {
  const Tree tree(AwakeGpu());
  Gpu gpu(tree);
  tree.Remove("hwmon/hwmon1");
  tree.Set("hwmon/hwmon4/temp1_input", "99000\n");
  gpu.Advance(kLater);
  gpu.CheckQuality("temperature", Quality::kNoData);
  CHECK(gpu.condition() == GpuCondition::kDriverGone);
}

void LosesOnlyTheFileThatVanishes() {
  const Tree tree(AwakeGpu());
  Gpu gpu(tree);
  gpu.Check("temperature", 45'000);
  tree.Remove("hwmon/hwmon1/temp1_input");
  gpu.Advance(kLater);
  gpu.CheckQuality("temperature", Quality::kNoData);
  gpu.Check("utilization", 70'000);
  CHECK(gpu.condition() == GpuCondition::kServing);
  tree.Set("hwmon/hwmon1/temp1_input", "46000\n");
  gpu.Advance(kLater);
  gpu.Check("temperature", 46'000);
}

void TakesGarbageForAFaultAndNotForAValue() {
  for (const char* garbage : {"", "hot\n", "45000 46000\n", "0x45\n", "99999999999999999999\n", "4.5e4\n"}) {
    const Tree tree(Files{{"hwmon/hwmon0/temp1_input", garbage}, {"mem_info_vram_used", std::string(100, '1')}});
    const Gpu gpu(tree);
    gpu.CheckQuality("temperature", Quality::kFault);
    gpu.CheckQuality("memory_used", Quality::kFault);
  }
}

void IsNotHeldUpByAFifoOrADirectoryInThePlaceOfAFile() {
  const Tree tree(Files{{"gpu_busy_percent", "1\n"}, {"power/x", ""}});
  std::filesystem::create_directories(tree.Path("hwmon/hwmon0/temp2_input"));
  for (const char* name : {"hwmon/hwmon0/temp1_input", "hwmon/hwmon0/temp1_label", "pp_dpm_sclk", "gpu_metrics", "vbios_version",
                           "power/runtime_status", "xgmi_error"}) {
    CHECK_EQ(mkfifo(tree.Path(name).c_str(), 0600), 0);
  }
  const Gpu gpu(tree);
  CHECK_EQ(gpu.Count(), 1u);
  gpu.Check("utilization", 10'000);
}

void GivesWhatOnlyTheFirmwareKnows() {
  std::string blob = Metrics(1, 3, 120);
  Put(&blob, 6, 2, 91);                         // temperature_hotspot
  Put(&blob, 10, 2, 60);                        // temperature_vrgfx
  Put(&blob, 22, 2, 305);                       // average_socket_power
  Put(&blob, 56, 2, 1200);                      // current_socclk
  Put(&blob, 112, 8, (uint64_t{1} << 36) | 1);  // indep_throttle_status
  const Tree tree(Files{{"gpu_metrics", blob}, {"hwmon/hwmon0/power1_average", "300000000\n"}, {"pp_dpm_socclk", "0: 500Mhz *\n"}});
  const Gpu gpu(tree);
  gpu.Check("temperature_hotspot", 91'000);
  CHECK(gpu["temperature_hotspot"].thermal_default);
  gpu.Check("temperature_vr_graphics", 60'000);
  gpu.Check("clock_soc", 1'200'000'000);
  gpu.Check("throttle_reasons", (INT64_C(1) << 36) | 1);
  gpu.Check("power", 300'000);  // hwmon's.
  CHECK(!gpu.Has("temperature_memory") && !gpu.Has("fan_rpm"));  // All-ones.
  CHECK_EQ(gpu.More("gpu_metrics"), std::string("revision 1.3, 120 bytes"));
  CHECK(gpu["clock_soc"].path.find("gpu_metrics#current_socclk") != std::string::npos);
}

void ReadsFieldsThatBelongTogetherInOneRead() {
  std::string blob = Metrics(1, 3, 120);
  Put(&blob, 6, 2, 91);
  Put(&blob, 8, 2, 101);
  const Tree tree(Files{{"gpu_metrics", blob}});
  Gpu gpu(tree);
  gpu.Advance(kLater);
  gpu.Check("temperature_hotspot", 91'000);
  Put(&blob, 6, 2, 50);
  Put(&blob, 8, 2, 51);
  tree.Overwrite("gpu_metrics", blob);
  gpu.Check("temperature_memory", 101'000);  // Of the same batch as the hot spot.
  gpu.Advance(kLater);
  gpu.Check("temperature_memory", 51'000);
  gpu.Check("temperature_hotspot", 50'000);
}

void SaysOnceWhichGpuMetricsItCannotUse() {
  const Files rest = {{"hwmon/hwmon0/temp1_input", "45000\n"}};
  const auto notice = [&](const std::string& blob) {
    Files files = rest;
    files["gpu_metrics"] = blob;
    const Gpu gpu(files);
    CHECK_EQ(gpu.Count(), 1u);
    gpu.Check("temperature", 45'000);
    return gpu.More("gpu_metrics");
  };
  CHECK_EQ(notice(Metrics(9, 1, 512)), std::string("revision 9.1, 512 bytes: unknown, hwmon only"));
  CHECK_EQ(notice(Metrics(1, 3, 128)), std::string("revision 1.3, 128 bytes: unknown, hwmon only"));
  CHECK_EQ(notice(Metrics(1, 3, 120).substr(0, 90)), std::string("cannot be read or is truncated: hwmon only"));
  CHECK_EQ(notice(""), std::string("cannot be read or is truncated: hwmon only"));
  CHECK_EQ(notice(Metrics(1, 3, 120) + std::string(4096, '\0')), std::string("revision 1.3, 120 bytes: unknown, hwmon only"));
  CHECK_EQ(notice(Metrics(1, 3, 120)), std::string("revision 1.3, 120 bytes"));  // All-ones: nothing to say.
}

void InventsNothingWhenTheRevisionChangesUnderIt() {
  std::string blob = Metrics(1, 3, 120);
  Put(&blob, 6, 2, 91);
  const Tree tree(Files{{"gpu_metrics", blob}});
  Gpu gpu(tree);
  gpu.Check("temperature_hotspot", 91'000);
  std::string apu = Metrics(2, 2, 128);
  Put(&apu, 6, 2, 4500);
  tree.Set("gpu_metrics", apu);
  gpu.Advance(kLater);
  gpu.CheckQuality("temperature_hotspot", Quality::kNoData);
  tree.Set("gpu_metrics", blob.substr(0, 50));
  gpu.Advance(kLater);
  gpu.CheckQuality("temperature_hotspot", Quality::kFault);
  tree.Set("gpu_metrics", blob);
  gpu.Advance(kLater);
  gpu.Check("temperature_hotspot", 91'000);
}

void GivesTheShareOfTimeThatTheFirmwareThrottled() {
  const size_t cycles = 32;
  const size_t ppt = 40;
  std::string blob = Metrics(1, 6, 1664);
  const auto at = [&](uint32_t counter, uint32_t residency) {
    Put(&blob, cycles, 4, counter);
    Put(&blob, ppt, 4, residency);
    return blob;
  };
  const Tree tree(Files{{"gpu_metrics", at(UINT32_MAX - 99, 50)}});
  Gpu gpu(tree);
  CHECK(!gpu.Has("throttled_share_vr"));                              // All-ones.
  gpu.CheckQuality("throttled_share_power", Quality::kNoData);        // Of one look there is no growth.
  const auto next = [&](const std::string& content) {
    tree.Set("gpu_metrics", content);
    gpu.Advance(kLater);
  };
  next(at(900, 300));  // The counter has wrapped: 1000 cycles, of them 250.
  gpu.Check("throttled_share_power", 250'000);
  next(at(900, 300));
  gpu.Check("throttled_share_power", 250'000);  // The firmware stands still.
  next(at(1900, 1300));
  gpu.Check("throttled_share_power", 1'000'000);
  next(at(5, 0));  // Started afresh.
  gpu.CheckQuality("throttled_share_power", Quality::kNoData);
  next(at(105, 0));
  gpu.Check("throttled_share_power", 0);
}

void TakesAResetOrASleepThatTheDriverSaysForNoFault() {
  CHECK_EQ(GpuQuality(Quality::kFault, EPERM), Quality::kNoData);
  CHECK_EQ(GpuQuality(Quality::kFault, EIO), Quality::kFault);
  CHECK_EQ(GpuQuality(Quality::kFault, EACCES), Quality::kFault);
  CHECK_EQ(GpuQuality(Quality::kNoData, ENODEV), Quality::kNoData);
}

void OutlivesItsProbes() {
  const Tree tree(AwakeGpu());
  std::shared_ptr<Probe> probe;
  {
    const Gpu gpu(tree);
    probe = gpu["clock_graphics"].probe;
  }
  const Reading reading = probe->Read(MonotonicNs() + kLater);
  CHECK_EQ(reading.quality, Quality::kOk);
  CHECK_EQ(reading.value, 500'000'000);
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(TellsWhatTheGpuIs);
  RUN(SaysInALineWhyAGpuCannotBeOpened);
  RUN(OpensAGpuThatShowsNothing);
  RUN(TellsTemperaturesByTheirLabelsAndNotTheirNumbers);
  RUN(TakesTheOnlyTemperatureForTheGpus);
  RUN(DropsLimitsThatNoSensorCanMean);
  RUN(PrefersTheAveragePowerAndGivesBothWhereThereAreTwo);
  RUN(ScalesAFanByItsOwnMaximum);
  RUN(ReadsIntelGpusByTheSameReader);
  RUN(ReadsListsOfClocks);
  RUN(ReadsPcieLinks);
  RUN(FallsBackToTheLevelsWhereTheKernelShowsNoLink);
  RUN(TakesClocksFromHwmonBeforeTheLists);
  RUN(CountsErrorsOfEachBlock);
  RUN(ReadsNoBadPagesAsNone);
  RUN(AddsUpWhatReadingClears);
  RUN(LeavesASuspendedGpuAsleep);
  RUN(OpensASleepingGpuWithoutWakingItAndIsOpenedAfreshWhenItWakes);
  RUN(AssumesNoSleepWhereTheKernelShowsNoRuntimeState);
  RUN(SaysThatTheDriverIsGone);
  RUN(SaysThatTheDriverIsGoneWhenItsChipGetsAnotherNumber);
  RUN(LosesOnlyTheFileThatVanishes);
  RUN(TakesGarbageForAFaultAndNotForAValue);
  RUN(IsNotHeldUpByAFifoOrADirectoryInThePlaceOfAFile);
  RUN(GivesWhatOnlyTheFirmwareKnows);
  RUN(ReadsFieldsThatBelongTogetherInOneRead);
  RUN(SaysOnceWhichGpuMetricsItCannotUse);
  RUN(InventsNothingWhenTheRevisionChangesUnderIt);
  RUN(GivesTheShareOfTimeThatTheFirmwareThrottled);
  RUN(TakesAResetOrASleepThatTheDriverSaysForNoFault);
  RUN(OutlivesItsProbes);
  return 0;
}
