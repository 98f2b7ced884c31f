// The requests that skos-gpu takes, and what it refuses; JSON that no garbage breaks; the tripwires; what counts as a GPU in sysfs.
#include <cstdint>
#include <random>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <filesystem>

#include "gpu/detached_file.h"
#include "gpu/devices.h"
#include "gpu/protocol.h"
#include "gpu/uevents.h"
#include "gpu/wires.h"
#include "test/check.h"
#include "test/temp_dir.h"

using namespace skos;
using namespace skos::gpu;

namespace {

bool Parses(const std::string& packet, Request* request) {
  std::string why;
  const bool parsed = ParseRequest(packet, request, &why);
  CHECK(parsed == why.empty());
  return parsed;
}

void TakesEachRequest() {
  Request request;
  CHECK(Parses("1 hello 1", &request));
  CHECK(request.verb == Verb::kHello && request.seq == 1);
  CHECK(Parses("9007199254740991 configure 100 60000", &request));
  CHECK_EQ(request.seq, uint64_t{9007199254740991});
  CHECK_EQ(request.rate_mhz, int64_t{100});
  CHECK_EQ(request.deadline_ms, int64_t{60000});
  CHECK(Parses("2 detach 0000:3b:00.0", &request));
  CHECK_EQ(request.address, std::string("0000:3b:00.0"));
  CHECK(Parses("3 attach card0", &request));
  CHECK(Parses("4 wires 0000:3b:00.0", &request));
  CHECK(request.wires.empty());
  CHECK(Parses("5 wires 0000:3b:00.0 0:95000:90000:3 12:-5:-9223372036854775808:1", &request));
  CHECK_EQ(request.wires.size(), size_t{2});
  CHECK(request.wires[1] == (Wire{12, -5, INT64_MIN, 1}));
  CHECK_EQ(FormatWires(request.wires), std::string("0:95000:90000:3 12:-5:-9223372036854775808:1"));
}

void RefusesWhatIsNone() {
  const char* const bad[] = {"",
                             " ",
                             "1",
                             "1 ",
                             " 1 hello 1",
                             "hello 1",
                             "-1 hello 1",
                             "1.0 hello 1",
                             "9007199254740992 hello 1",
                             "1 hello",
                             "1 hello 2",
                             "1 hello 1 ",
                             "1  hello 1",
                             "1 HELLO 1",
                             "1 configure 99 1000",
                             "1 configure 10000",
                             "1 configure 10000 1000 1",
                             "1 configure +10000 1000",
                             "1 detach",
                             "1 detach a/b",
                             "1 detach a b",
                             "1 wires a 1:2:1",
                             "1 wires a 1:2:1:1:1",
                             "1 wires a 1:2:3:1",
                             "1 wires a 1:2:1:0",
                             "1 wires a -1:2:1:1",
                             "1 wires a 1:9223372036854775808:1:1",
                             "1 wires a 1:2:1:1  1:2:1:1",
                             "1 wires a 1:2:1:1 ",
                             "1 detach aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
  Request request;
  for (const char* packet : bad) {
    if (Parses(packet, &request)) test::Fail(__FILE__, __LINE__, std::string("taken: ") + packet);
  }
  CHECK(!Parses(std::string("1 hello 1\0", 10), &request));
  CHECK(!Parses(std::string(kMaxPacketBytes + 1, '1'), &request));
  CHECK(!Parses("7 nonsense", &request));
  CHECK(request.has_seq && request.seq == 7);
  CHECK(!Parses("x nonsense", &request));
  CHECK(!request.has_seq);
}

void TakesSixtyFourWires() {
  std::string packet = "1 wires a";
  for (size_t i = 0; i < kMaxWires; ++i) packet += " 1:2:1:1";
  Request request;
  CHECK(Parses(packet, &request));
  CHECK(!Parses(packet + " 1:2:1:1", &request));
}

// Mutations of requests: nothing crashes, and what is taken means the same when it is written down again.
void SurvivesMutations() {
  const std::string seeds[] = {"1 hello 1", "22 configure 10000 1000", "3 wires 0000:3b:00.0 0:95000:90000:3 1:2:1:1",
                               "4 detach 0000:3b:00.0"};
  std::mt19937 random(1);
  for (int i = 0; i < 200'000; ++i) {
    std::string packet = seeds[random() % 4];
    for (unsigned edits = random() % 4; edits > 0; --edits) {
      const size_t at = random() % (packet.size() + 1);
      if (random() % 2 == 0 && at < packet.size()) packet.erase(at, 1);
      else packet.insert(at, 1, static_cast<char>(random() % 3 == 0 ? random() % 256 : " :019-a"[random() % 7]));
    }
    Request request;
    if (!Parses(packet, &request) || request.verb != Verb::kWires) continue;
    std::vector<Wire> again;
    std::string why;
    CHECK(ParseWires(FormatWires(request.wires), &again, &why));
    CHECK(again == request.wires);
  }
}

void WritesJsonThatNothingBreaks() {
  CHECK_EQ(JsonText("a\"b\\c\nd\x7f"), std::string("\"a\\\"b\\\\c\\u000ad\\u007f\""));
  CHECK_EQ(JsonText("\xC3\xA9 \xE2\x82\xAC"), std::string("\"\xC3\xA9 \xE2\x82\xAC\""));
  CHECK_EQ(JsonText("\xC0\xAF"), std::string("\"\xEF\xBF\xBD\xEF\xBF\xBD\""));  // An overlong form.
  CHECK_EQ(JsonText("\xED\xA0\x80"), std::string("\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""));  // A surrogate.
  CHECK_EQ(JsonText("\xE2\x82"), std::string("\"\xEF\xBF\xBD\xEF\xBF\xBD\""));  // Cut off.
  CHECK(LooksLikeJsonObject("{\"a\":\"\xC3\xA9\"}"));
  for (const char* bad : {"", "{", "[]", "{}\n", "{\"a\":\n1}", "{\"\xFF\":1}"}) CHECK(!LooksLikeJsonObject(bad));
}

Reading Ok(int64_t value, int64_t time_ns) { return {value, time_ns, Quality::kOk}; }

void ExchangesWires() {
  Wires wires;
  CHECK(!wires.Look(0, Ok(100, 1)));
  wires.Set({{0, 90, 80, 1}, {1, 50, 40, 2}});
  CHECK(wires.Look(0, Ok(91, 2)));
  CHECK(!wires.Look(0, Ok(92, 3)));
  CHECK(!wires.Look(1, Ok(51, 4)));
  CHECK_EQ(wires.Take().size(), size_t{1});
  // The first stays as it is, raised; the second begins anew.
  wires.Set({{0, 90, 80, 1}, {1, 60, 40, 1}});
  CHECK(!wires.Look(0, Ok(93, 5)));
  CHECK(wires.Look(1, Ok(61, 6)));
  CHECK(wires.Look(0, Ok(79, 7)));
  const std::vector<Crossed> crossed = wires.Take();
  CHECK_EQ(crossed.size(), size_t{2});
  CHECK_EQ(crossed[1].time_ns, int64_t{7});
  wires.Set({});
  CHECK(!wires.Look(0, Ok(100, 8)));
}

void FindsGpusInSysfs() {
  test::TempDir root;
  const auto put = [&root](const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root.File(path)).parent_path());
    root.Write(path, text);
  };
  const auto device = [&put](const std::string& address, const char* vendor, const char* kind) {
    put("bus/pci/devices/" + address + "/vendor", vendor);
    put("bus/pci/devices/" + address + "/class", kind);
  };
  CHECK(ListGpus(root.File("nowhere")).empty());
  device("0000:3b:00.0", "0x10de\n", "0x030200\n");
  device("0000:3b:00.1", "0x10de\n", "0x040300\n");   // Its sound.
  device("0000:05:00.0", "0x10de\n", "0x068000\n");   // An NVSwitch.
  device("0000:01:00.0", "0x10de\n", "0x030000\n");   // With nouveau.
  device("0000:07:00.0", "0x1af4\n", "0x030000\n");
  device("garbage", "0x10de\n", "0x030200\n");
  device("10000:e1:00.0", "0x10de\n", "0x030000\n");  // Behind a VMD: five digits of domain.
  std::filesystem::create_directories(root.File("bus/pci/drivers/nouveau"));
  CHECK(symlink("../../drivers/nouveau", root.File("bus/pci/devices/0000:01:00.0/driver").c_str()) == 0);
  put("class/drm/card0-DP-1/status", "connected");
  put("class/drm/renderD128/dev", "226:128");
  put("class/drm/card2/device/uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:C3:00.0\n");
  put("class/drm/card2/device/hwmon/hwmon4/name", "amdgpu\n");
  put("class/drm/card3/device/hwmon/hwmon5/name", "i915\n");
  put("class/drm/card4/device/hwmon/hwmon6/name", "another\n");
  std::filesystem::create_directories(root.File("class/drm/card1"));
  CHECK(symlink("../../../bus/pci/devices/0000:01:00.0", root.File("class/drm/card1/device").c_str()) == 0);
  // A FIFO must not block.
  std::filesystem::create_directories(root.File("class/drm/card5/device/hwmon/hwmon7"));
  CHECK(mkfifo(root.File("class/drm/card5/device/hwmon/hwmon7/name").c_str(), 0600) == 0);

  const std::vector<Listing> expected = {{"0000:01:00.0", "nouveau", "class/drm/card1/device"},
                                         {"0000:3b:00.0", "nvml", ""},
                                         {"0000:c3:00.0", "amdgpu", "class/drm/card2/device"},
                                         {"10000:e1:00.0", "nvml", ""},
                                         {"card3", "i915", "class/drm/card3/device"}};
  CHECK(ListGpus(root.File("")) == expected);
  for (int i = 0; i < 80; ++i) device("0001:" + std::to_string(10 + i) + ":00.0", "0x10de\n", "0x030000\n");
  CHECK_EQ(ListGpus(root.File("")).size(), kMaxGpus);
}

void KeepsWhatIsDetached() {
  test::TempDir directory;
  std::string why;
  {
    DetachedFile file(directory.File("s.detached"));
    file.Read();
    CHECK(file.Add("0000:3b:00.0", &why) && file.Add("card0", &why) && file.Add("card0", &why));
  }
  {
    DetachedFile file(directory.File("s.detached"));
    file.Read();
    CHECK(file.Has("0000:3b:00.0") && file.Has("card0"));
    file.Remove("card0");
    file.Remove("never");
  }
  directory.Write("torn", std::string("0000:3b:00.0\n../etc\n\n") + std::string(100, 'a') + "\ncard7");
  DetachedFile torn(directory.File("torn"));
  torn.Read();
  CHECK(torn.Has("0000:3b:00.0") && torn.Has("card7") && !torn.Has("../etc") && !torn.Has(""));
  DetachedFile file(directory.File("s.detached"));
  file.Read();
  CHECK(!file.Has("card0"));
  for (int i = 0; i < 255; ++i) CHECK(file.Add("gpu" + std::to_string(i), &why));
  CHECK(!file.Add("one-more", &why) && !why.empty());
}

void KnowsWhichUeventsConcernIt() {
  const auto message = [](const std::string& subsystem) {
    return std::string("add@/devices/x") + '\0' + "ACTION=add" + '\0' + "SUBSYSTEM=" + subsystem + '\0' + "SEQNUM=1" + '\0';
  };
  CHECK(ConcernsGpus(message("pci")) && ConcernsGpus(message("drm")) && ConcernsGpus(message("module")));
  CHECK(!ConcernsGpus(message("block")) && !ConcernsGpus(message("pci_bus")) && !ConcernsGpus("") && !ConcernsGpus("SUBSYSTEM="));
}

}  // namespace

int main() {
  RUN(TakesEachRequest);
  RUN(RefusesWhatIsNone);
  RUN(TakesSixtyFourWires);
  RUN(SurvivesMutations);
  RUN(WritesJsonThatNothingBreaks);
  RUN(ExchangesWires);
  RUN(FindsGpusInSysfs);
  RUN(KeepsWhatIsDetached);
  RUN(KnowsWhichUeventsConcernIt);
  return 0;
}
