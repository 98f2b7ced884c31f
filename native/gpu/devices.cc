#include "gpu/devices.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include "gpu/protocol.h"
#include "probes/files.h"
#include "probes/gpu_device.h"
#include "probes/parse.h"

namespace skos::gpu {
namespace {

constexpr size_t kMaxEntries = 4096;     // Of one directory; a large node has some hundred PCI functions.
constexpr size_t kMaxTextBytes = 4096;   // sysfs files are at most a page.
constexpr size_t kMaxNameBytes = 256;
constexpr std::array<std::string_view, 5> kSysfsDrivers = {"amdgpu", "i915", "xe", "nouveau", "radeon"};

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

std::vector<std::string> EntriesOf(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, CloseDirectory> directory(opendir(path.c_str()));
  if (!directory) return names;
  for (const dirent* entry; names.size() < kMaxEntries && (entry = readdir(directory.get())) != nullptr;) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  return names;
}

// "" for whatever cannot be read. O_NONBLOCK, so that a FIFO in a test's tree cannot block.
std::string TextOf(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return "";
  char buffer[kMaxTextBytes];
  const ssize_t length = read(fd.get(), buffer, sizeof buffer);
  return length > 0 ? std::string(buffer, static_cast<size_t>(length)) : "";
}

std::string WordOf(const std::string& path) {
  const std::string text = TextOf(path);
  return std::string(WordAt(FindLine(text, ""), 0));
}

// Last part of where a link points; "" for what is no link.
std::string LinkName(const std::string& path) {
  char target[kMaxTextBytes];
  const ssize_t length = readlink(path.c_str(), target, sizeof target);
  if (length <= 0) return "";
  const std::string_view text(target, static_cast<size_t>(length));
  const size_t slash = text.rfind('/');
  return std::string(slash == std::string_view::npos ? text : text.substr(slash + 1));
}

// PCI_SLOT_NAME=0000:03:00.0
std::string SlotOfUevent(const std::string& text) {
  constexpr std::string_view kKey = "PCI_SLOT_NAME=";
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    const std::string_view line = std::string_view(text).substr(start, end - start);
    if (line.substr(0, kKey.size()) == kKey) return NormalPciAddress(std::string(line.substr(kKey.size())));
    start = end + 1;
  }
  return "";
}

// "card0", not the connector "card0-DP-1".
bool IsCard(std::string_view name) {
  int64_t number = 0;
  return name.substr(0, 4) == "card" && ParseDecimal(name.substr(4), 0, INT32_MAX, &number) && name[4] != '-';
}

std::string KnownDriver(const std::string& name) {
  const bool known = std::find(kSysfsDrivers.begin(), kSysfsDrivers.end(), name) != kSysfsDrivers.end();
  return known ? name : "";
}

// A captured tree has no links; there the name of the hwmon chip is the driver's. The hwmon core answers it.
std::string DriverOf(const std::string& device) {
  const std::string driver = LinkName(device + "/driver");
  if (!driver.empty()) return KnownDriver(driver);
  for (const std::string& chip : EntriesOf(device + "/hwmon")) {
    const std::string known = KnownDriver(WordOf(device + "/hwmon/" + chip + "/name"));
    if (!known.empty()) return known;
  }
  return "";
}

std::string AddressOf(const std::string& device, const std::string& card) {
  const std::string linked = NormalPciAddress(LinkName(device));
  if (!linked.empty()) return linked;
  const std::string slot = SlotOfUevent(TextOf(device + "/uevent"));
  return slot.empty() ? card : slot;
}

void AddNvidia(const std::string& root, std::vector<Listing>* found) {
  const std::string bus = root + "/bus/pci/devices";
  for (const std::string& name : EntriesOf(bus)) {
    const std::string address = NormalPciAddress(name);
    if (address.empty() || WordOf(bus + "/" + name + "/vendor") != "0x10de") continue;
    // Display controllers; a GPU's sound and USB functions, and NVSwitch (0x0680), are none.
    if (WordOf(bus + "/" + name + "/class").substr(0, 4) != "0x03") continue;
    // Without NVIDIA's driver NVML does not know it; class/drm has it.
    if (LinkName(bus + "/" + name + "/driver") == "nouveau") continue;
    found->push_back({address, "nvml", ""});
  }
}

void AddSysfs(const std::string& root, std::vector<Listing>* found) {
  for (const std::string& card : EntriesOf(root + "/class/drm")) {
    if (!IsCard(card) || card.size() > kMaxNameBytes) continue;
    const std::string path = "class/drm/" + card + "/device";
    const std::string driver = DriverOf(root + "/" + path);
    if (driver.empty()) continue;
    const std::string address = AddressOf(root + "/" + path, card);
    if (IsAddress(address)) found->push_back({address, driver, path});
  }
}

}  // namespace

std::vector<Listing> ListGpus(const std::string& sysfs_root) {
  std::vector<Listing> found;
  AddNvidia(sysfs_root, &found);
  AddSysfs(sysfs_root, &found);
  std::sort(found.begin(), found.end(), [](const Listing& a, const Listing& b) {
    return a.address != b.address ? a.address < b.address : a.path < b.path;
  });
  const auto same = [](const Listing& a, const Listing& b) { return a.address == b.address; };
  found.erase(std::unique(found.begin(), found.end(), same), found.end());
  if (found.size() > kMaxGpus) found.resize(kMaxGpus);
  return found;
}

}  // namespace skos::gpu
