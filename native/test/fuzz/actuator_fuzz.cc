// Packets of any bytes to an actuator with a target of each way to be written, a job and an order, a packet a line. Each is
// answered, at once or by Settle(), in answers that fit; and when all leases are released, what stood before stands again.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "actuator/actuator.h"
#include "test/temp_dir.h"

namespace skos {
namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

const char kList[] =
    "skos-allow 1\n"
    "target cpufreq/policy0 cpufreq policy0 floor_ppm=200000\n"
    "target quota/w quota w floor_ppm=10000\n"
    "target freeze/w freeze w floor_ppm=0\n"
    "target u unit_quota x.service floor_ppm=10000\n"
    "order hot sensor=temp raise=95000 clear=90000 samples=2 rate_mhz=1000 cap_ppm=500000 targets=cpufreq/policy0\n"
    "job act/x start x.service timeout_ms=1000\n"
    "end 6\n";

class Node {
 public:
  Node() {
    std::filesystem::create_directories(dir_.File("policy0"));
    std::filesystem::create_directories(dir_.File("w"));
    dir_.Write("policy0/scaling_max_freq", "3000000\n");
    dir_.Write("policy0/cpuinfo_max_freq", "3000000\n");
    dir_.Write("policy0/cpuinfo_min_freq", "800000\n");
    dir_.Write("w/cpu.max", "max 100000\n");
    dir_.Write("w/cgroup.freeze", "0\n");
    dir_.Write("temp", "50000\n");
    chmod(dir_.Write("allow", kList).c_str(), 0644);
    actuator::Settings settings;
    settings.allow_path = dir_.File("allow");
    settings.state_directory = settings.sysfs_root = settings.cgroup_root = dir_.File(".");
    actuator::Roots roots;
    roots.sysfs_fd = roots.cgroup_fd = open(dir_.File(".").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    Require(state_.Open(settings.state_directory.c_str()).empty());
    actuator_ = new actuator::Actuator(settings, roots, &state_, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), 0);
    Require(actuator_->Load().empty());
  }

  void Ask(std::string_view packet) {
    // Reading files anew a thousand times a second finds nothing in packets.
    if (packet.find("reload") != std::string_view::npos) return;
    actuator_->Request(packet, &Node::Take, nullptr);
  }

  void ComeToRest() {
    Ask("1 release-all");
    for (int i = 0; i < 20'000; ++i) {
      actuator_->Settle(&Node::Take, nullptr);
      if (actuator_->AtRest()) break;
      usleep(50);
    }
    actuator_->ClientGone();
    Require(Reads("policy0/scaling_max_freq", "3000000") && Reads("w/cpu.max", "max 100000") && Reads("w/cgroup.freeze", "0"));
  }

 private:
  static bool Take(void*, const char* packet, size_t size) {
    Require(size > 2 && size <= actuator::kMaxPacketBytes);
    for (const char c : std::string_view(packet, size)) Require(c >= ' ' && c <= '~');
    return true;
  }

  bool Reads(const char* name, const char* expected) const {
    std::ifstream file(dir_.File(name));
    std::string line;
    std::getline(file, line);
    return line == expected;
  }

  test::TempDir dir_;
  actuator::StateFile& state_ = *new actuator::StateFile;
  actuator::Actuator* actuator_ = nullptr;
};

}  // namespace
}  // namespace skos

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto& node = *new skos::Node;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  while (!text.empty()) {
    const size_t end = text.find('\n');
    node.Ask(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  node.ComeToRest();
  return 0;
}
