// Uevents as the kernel writes them, and what is none.
#include "probes/uevent.h"

#include <random>
#include <string>

#include "test/check.h"

namespace skos::test {
namespace {

std::string Datagram(std::string text) {
  for (char& c : text) {
    if (c == '|') c = '\0';
  }
  return text;
}

const char* const kDisk =
    "add@/devices/pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0/nvme0n1|ACTION=add|DEVPATH=/devices/x|SUBSYSTEM=block|"
    "MAJOR=259|MINOR=0|DEVNAME=nvme0n1|DEVTYPE=disk|DISKSEQ=9|SEQNUM=4711|";

bool Parse(const std::string& text, Uevent* out) {
  static std::string kept;  // The event is views into it.
  kept = Datagram(text);
  return ParseUevent(kept, out);
}

void ReadsWhatTheKernelWrites() {
  Uevent event;
  CHECK(Parse(kDisk, &event));
  CHECK_EQ(event.action, std::string_view("add"));
  CHECK_EQ(event.subsystem, std::string_view("block"));
  CHECK(!event.is_virtual);
  CHECK(Parse("unbind@/devices/pci0000:00/0000:00:02.0|SUBSYSTEM=pci|", &event));
  CHECK_EQ(event.action, std::string_view("unbind"));
  CHECK(Parse("change@/devices/LNXSYSTM:00/PNP0C0A:00/power_supply/BAT0|SUBSYSTEM=power_supply", &event));
  CHECK_EQ(event.subsystem, std::string_view("power_supply"));
}

void KnowsDisksAndInterfacesWithNothingBehindThem() {
  const char* const virtual_paths[] = {"net/veth1", "block/loop0", "block/dm-3", "block/zram0"};
  const char* const others[] = {"block/md127", "thermal/thermal_zone0", "nvme-subsystem/nvme-subsys0/nvme0n1"};
  Uevent event;
  for (const char* path : virtual_paths) {
    CHECK(Parse("add@/devices/virtual/" + std::string(path) + "|SUBSYSTEM=x|", &event));
    CHECK(event.is_virtual);
  }
  for (const char* path : others) {
    CHECK(Parse("add@/devices/virtual/" + std::string(path) + "|SUBSYSTEM=x|", &event));
    CHECK(!event.is_virtual);
  }
}

void RefusesWhatIsNoUevent() {
  const char* const texts[] = {"", "|", "libudev|xxx|SUBSYSTEM=block|", "add@/devices/x|", "add@/devices/x|ACTION=add|",
                               "@/devices/x|SUBSYSTEM=block|", "add@devices/x|SUBSYSTEM=block|", "add@|SUBSYSTEM=block|",
                               "ADD@/x|SUBSYSTEM=block|", "add@/x|SUBSYSTEM=|", "add@/x|SUBSYSTEM=a b|", "add@/x|XSUBSYSTEM=a|",
                               "add@/x|SUBSYSTEM=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|", "a\n@/x|SUBSYSTEM=block|"};
  Uevent event;
  for (const char* text : texts) CHECK(!Parse(text, &event));
  CHECK(!Parse(std::string(1 << 20, 'a'), &event));
}

void SurvivesAnything() {
  std::mt19937_64 random(5);
  const std::string whole = Datagram(kDisk);
  for (int round = 0; round < 200'000; ++round) {
    std::string text = whole;
    for (uint64_t edits = 1 + random() % 8; edits > 0; --edits) text[random() % text.size()] = static_cast<char>(random());
    text.resize(random() % (text.size() + 1));
    Uevent event;
    if (ParseUevent(text, &event)) CHECK(event.action.size() <= 32 && event.subsystem.size() <= 32);
  }
}

int Main() {
  RUN(ReadsWhatTheKernelWrites);
  RUN(KnowsDisksAndInterfacesWithNothingBehindThem);
  RUN(RefusesWhatIsNoUevent);
  RUN(SurvivesAnything);
  return 0;
}

}  // namespace
}  // namespace skos::test

int main() { return skos::test::Main(); }
