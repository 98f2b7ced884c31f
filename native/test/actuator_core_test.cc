// The actuator without its process: parsers fed with garbage, and leases, orders and reloads at once while its workers write.
// Under TSan this is the proof that wishes, verdicts and results cross the threads as target.h says.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "actuator/actuator.h"
#include "actuator/allow_list.h"
#include "actuator/jobs.h"
#include "sampler/clock.h"
#include "test/check.h"
#include "test/temp_dir.h"

namespace skos::test {
namespace {

using actuator::Actuator;
using actuator::AllowList;

const char* const kItems[] = {
    "controller 998",
    "target cpufreq/policy0 cpufreq cpufreq/policy0 floor_ppm=200000",
    "target quota/w quota w floor_ppm=10000",
    "target freeze/w freeze w floor_ppm=0",
    "order hot sensor=temp raise=95000 clear=90000 samples=1 rate_mhz=1000000 cap_ppm=500000 targets=cpufreq/policy0",
    "target gpu/0000:3b:00.0 nvml_power 0000:3b:00.0 floor_ppm=300000",
    "target gpu-clocks/0000:3b:00.0 nvml_clocks 0000:3b:00.0 floor_ppm=300000",
    "target fan/a fan devices/x/hwmon/*/pwm1 floor_ppm=0",
    ("order gpu gpu=0000:3b:00.0 channel=temperature raise=95000 clear=90000 samples=2 rate_mhz=10000 cap_ppm=500000 "
     "targets=gpu/0000:3b:00.0"),
    "energy rapl/intel-rapl:0 rapl max_uj=262143328850",
    "target freeze/u unit_freeze u.service floor_ppm=0",
    "job unit/u/restart restart u.service timeout_ms=60000",
    "# a comment",
};

std::string ListOf(const std::vector<std::string>& items) {
  std::string text = "skos-allow 1\n";
  for (const std::string& item : items) text += item + "\n";
  return text + "end " + std::to_string(items.size()) + "\n";
}

std::string WholeList() { return ListOf({std::begin(kItems), std::end(kItems)}); }

std::string Mutated(std::string text, std::mt19937_64& random) {
  for (uint64_t edits = 1 + random() % 4; edits > 0 && !text.empty(); --edits) {
    const size_t at = random() % text.size();
    switch (random() % 4) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, 1 + random() % 8);
        break;
      case 2:
        text.insert(at, 1, "0 9=-/.\n\0,"[random() % 10]);
        break;
      default:
        text.resize(at);
    }
  }
  return text;
}

void AcceptsTheWholeFormat() {
  AllowList list;
  CHECK_EQ(actuator::ParseAllowList(WholeList(), &list), std::string());
  CHECK_EQ(list.targets.size(), size_t{7});
  CHECK_EQ(list.jobs.size(), size_t{1});
  CHECK_EQ(list.jobs[0].unit, std::string("u.service"));
  CHECK_EQ(list.orders.size(), size_t{2});
  CHECK_EQ(list.orders[1].gpu, std::string("0000:3b:00.0"));
  CHECK_EQ(list.orders[1].sensor, std::string("temperature"));
  CHECK_EQ(list.orders[0].targets[0], size_t{0});
  CHECK_EQ(list.energies.size(), size_t{1});
  CHECK_EQ(list.energies[0].path, std::string("rapl"));
  CHECK_EQ(list.energies[0].max_uj, int64_t{262'143'328'850});
}

void NeverAcceptsAListThatIsUnsafe() {
  std::mt19937_64 random(20260101);
  int accepted = 0;
  for (int round = 0; round < 100'000; ++round) {
    AllowList list;
    if (!actuator::ParseAllowList(Mutated(WholeList(), random), &list).empty()) continue;
    ++accepted;
    CHECK(list.targets.size() <= actuator::kMaxTargets);
    for (const auto& target : list.targets) {
      CHECK(target.path.front() != '/');
      CHECK(("/" + target.path + "/").find("/../") == std::string::npos);
      CHECK(target.floor_ppm >= (actuator::IsSwitch(target.kind) ? 0 : 1));
      if (target.kind == actuator::Kind::kFan) CHECK(target.path.find("/pwm") != std::string::npos);
    }
    for (const auto& order : list.orders) {
      CHECK(order.clear < order.raise);
      CHECK(("/" + order.sensor + "/").find("/../") == std::string::npos);
      for (const size_t index : order.targets) {
        CHECK(index < list.targets.size());
        CHECK(order.cap_ppm >= list.targets[index].floor_ppm);
      }
    }
    for (const auto& energy : list.energies) {
      CHECK(("/" + energy.path + "/").find("/../") == std::string::npos);
      CHECK(energy.max_uj > 0 && energy.max_uj <= int64_t{1} << 53);
    }
  }
  CHECK(accepted > 0);  // Or nothing but refusals was tested.
}

void RefusesTheCgroupsThatItNeedsItself() {
  AllowList list;
  for (const std::string path : {"skos.slice", "skos.slice/", "skos.slice/.//", "freezer/skos.slice", "skos.slice/skos-actuator.service", "init.scope",
                                 "unified/system.slice", "system.slice/systemd-journald.service"}) {
    CHECK(!actuator::ParseAllowList(ListOf({"target a freeze " + path + " floor_ppm=0"}), &list).empty());
    CHECK(!actuator::ParseAllowList(ListOf({"target a quota " + path + " floor_ppm=1"}), &list).empty());
  }
  for (const std::string path : {"system.slice/batch.service", "skos.slice/skos-act-x.service", "skos.slice-of-mine"}) {
    CHECK_EQ(actuator::ParseAllowList(ListOf({"target a freeze " + path + " floor_ppm=0"}), &list), std::string());
  }
}

void RefusesEnergiesThatAreNone() {
  const char* const lines[] = {
      "energy",
      "energy a",
      "energy a b",
      "energy a b max_uj=",
      "energy a b max_uj=0",
      "energy a b max_uj=-1",
      "energy a b max_uj=9007199254740993",
      "energy a b max_uj=1 ",
      "energy a b max_uj=1 x",
      "energy a b floor_ppm=1",
      "energy A b max_uj=1",
      "energy a /b max_uj=1",
      "energy a ../b max_uj=1",
      "energy a  b max_uj=1",
  };
  AllowList list;
  CHECK_EQ(actuator::ParseAllowList(ListOf({"energy a b max_uj=1"}), &list), std::string());
  for (const char* line : lines) CHECK(!actuator::ParseAllowList(ListOf({line}), &list).empty());
  CHECK(!actuator::ParseAllowList(ListOf({"energy a b max_uj=1", "energy a c max_uj=1"}), &list).empty());
  std::vector<std::string> many;
  for (int i = 0; i < 65; ++i) many.push_back("energy e" + std::to_string(i) + " b max_uj=1");
  CHECK(!actuator::ParseAllowList(ListOf(many), &list).empty());
  many.pop_back();
  CHECK_EQ(actuator::ParseAllowList(ListOf(many), &list), std::string());
}

// A node on tmpfs and an actuator over it, in this process.
struct Node {
  TempDir dir;
  actuator::StateFile* state = new actuator::StateFile;  // Never freed, as in the program: its workers outlive this.
  actuator::Settings settings;
  actuator::Roots roots;
  int done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  Actuator* actuator = nullptr;
  std::vector<std::string> replies;

  // `before`: what an earlier actuator left behind.
  explicit Node(const std::string& list = WholeList(), void (*before)(Node&) = nullptr) {
    std::filesystem::create_directories(dir.File("cpufreq/policy0"));
    std::filesystem::create_directories(dir.File("w"));
    Put("cpufreq/policy0/scaling_max_freq", "3000000\n");
    Put("cpufreq/policy0/cpuinfo_max_freq", "3000000\n");
    Put("cpufreq/policy0/cpuinfo_min_freq", "800000\n");
    Put("w/cpu.max", "max 100000\n");
    Put("w/cgroup.freeze", "0\n");
    Put("temp", "50000\n");
    Allow(list);
    settings.allow_path = dir.File("allow");
    settings.state_directory = dir.File(".");
    settings.sysfs_root = dir.File(".");
    settings.cgroup_root = dir.File(".");
    roots.sysfs_fd = roots.cgroup_fd = open(dir.File(".").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_EQ(state->Open(settings.state_directory.c_str()), std::string());
    if (before != nullptr) before(*this);
    actuator = new Actuator(settings, roots, state, done_fd, 0);
    CHECK_EQ(actuator->Load(), std::string());
  }

  void Allow(const std::string& text) const {
    dir.Write("allow", text);
    chmod(dir.File("allow").c_str(), 0644);
  }

  // In place, as the kernel changes an attribute.
  void Put(const std::string& name, const std::string& text) const {
    const int fd = open(dir.File(name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    CHECK(fd >= 0);
    CHECK(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    close(fd);
  }

  std::string Get(const std::string& name) const {
    std::ifstream file(dir.File(name));
    std::string text;
    std::getline(file, text);
    return text;
  }

  static bool Keep(void* self, const char* packet, size_t size) {
    static_cast<Node*>(self)->replies.emplace_back(packet, size);
    return true;
  }

  void Ask(const std::string& packet) { actuator->Request(packet, &Node::Keep, this); }

  void Settle() {
    uint64_t count = 0;
    (void)!read(done_fd, &count, sizeof count);
    actuator->Settle(&Node::Keep, this);
  }

  template <typename Condition>
  void Until(Condition condition) {
    for (int i = 0; i < 10'000 && !condition(); ++i) {
      Settle();
      usleep(1'000);
    }
    CHECK(condition());
  }
};

void AnswersEveryPacketWithoutHarm() {
  Node node;
  std::mt19937_64 random(7);
  const char* const seeds[] = {"1 hello 1",   "2 set a cpufreq/policy0 500000 1000", "3 release a", "4 renew 1000 a b", "5 targets",
                               "6 events 0",  "7 set b quota/w 200000 1000",         "8 orders",    "9 leases",         "10 reload",
                               "11 set c freeze/w 0 1000", "12 powers"};
  for (int round = 0; round < 20'000; ++round) {
    const std::string seed = seeds[random() % (sizeof seeds / sizeof *seeds)];
    const size_t before = node.replies.size();
    node.Ask(random() % 3 == 0 ? seed : Mutated(seed, random));
    if (round % 64 == 0) node.Settle();
    if (node.replies.size() == before) continue;  // It waits for a device; Settle answers.
    CHECK(node.replies.back().find(' ') != std::string::npos);
    if (node.replies.size() > 10'000) node.replies.clear();
  }
  node.Ask("99 release-all");
  node.Until([&] { return node.actuator->AtRest(); });
  CHECK_EQ(node.Get("cpufreq/policy0/scaling_max_freq"), std::string("3000000"));
  CHECK_EQ(node.Get("w/cpu.max"), std::string("max 100000"));
}

void EndsAtTheFormerValuesWhateverHappensAtOnce() {
  Node node;
  std::mt19937_64 random(11);
  for (int round = 0; round < 1'500; ++round) {
    const std::string lease = "l" + std::to_string(random() % 5);
    switch (random() % 6) {
      case 0:
        node.Ask("1 set " + lease + " cpufreq/policy0 " + std::to_string(200'000 + random() % 800'000) + " 1000");
        break;
      case 1:
        node.Ask("2 release " + lease);
        break;
      case 2:
        node.Put("temp", random() % 2 == 0 ? "97000\n" : "50000\n");
        break;
      case 3:
        node.Ask("3 renew 1000 " + lease);
        break;
      case 4:
        if (random() % 20 == 0) node.Ask("4 reload");
        break;
      default:
        node.Settle();
    }
    if (round % 4 == 0) usleep(500);
  }
  node.Put("temp", "50000\n");
  node.Ask("9 release-all");
  node.Until([&] { return node.actuator->AtRest(); });
  CHECK_EQ(node.Get("cpufreq/policy0/scaling_max_freq"), std::string("3000000"));
}

// Whether an event of this kind about this subject is in the log.
bool Happened(const Node& node, const std::string& kind, const std::string& subject) {
  for (uint64_t seq = 1; seq <= node.state->last_event(); ++seq) {
    actuator::EventRecord event;
    if (node.state->ReadEvent(seq, &event) && kind == event.kind && subject == event.subject) return true;
  }
  return false;
}

constexpr int kPolicies = 64;

std::string PolicyName(int i) { return "p" + std::to_string(i); }

// Many, so that the worker looks at the first ones while the last ones are still being adopted.
std::string ManyPolicies() {
  std::vector<std::string> items;
  for (int i = 0; i < kPolicies; ++i) items.push_back("target " + PolicyName(i) + " cpufreq " + PolicyName(i) + " floor_ppm=200000");
  return ListOf(items);
}

void LeaveCapsBehind(Node& node) {
  for (int i = 0; i < kPolicies; ++i) {
    const std::string name = PolicyName(i);
    std::filesystem::create_directories(node.dir.File(name));
    node.Put(name + "/scaling_max_freq", "1500000\n");
    node.Put(name + "/cpuinfo_max_freq", "3000000\n");
    actuator::TargetRecord* record = node.state->Claim({name, actuator::Kind::kCpufreq, name, 200'000});
    record->known = record->held = 1;
    record->former = {3'000'000, 0};
    record->written = record->read_back = {1'500'000, 0};
    actuator::LeaseRecord* lease = &node.state->leases()[i];
    lease->cap_ppm = 500'000;
    lease->ttl_ns = 600'000'000'000;
    lease->deadline_ns = actuator::NowNs() + lease->ttl_ns;
    std::snprintf(lease->target, sizeof lease->target, "%s", name.c_str());
    std::snprintf(lease->id, sizeof lease->id, "l%d", i);
  }
}

void NeverLetsGoOfACapThatItTakesOver() {
  for (int round = 0; round < 20; ++round) {
    Node node(ManyPolicies(), &LeaveCapsBehind);
    usleep(20'000);
    node.Settle();
    for (int i = 0; i < kPolicies; ++i) CHECK(!Happened(node, "released", PolicyName(i)));
  }
}

constexpr int64_t kFormerUw = 100'000'000;

template <uint32_t kHeld, int64_t kReadBack, int64_t kStands>
void LeaveARaplCapBehind(Node& node) {
  std::filesystem::create_directories(node.dir.File("rapl"));
  node.Put("rapl/constraint_0_power_limit_uw", std::to_string(kStands) + "\n");
  actuator::TargetRecord* record = node.state->Claim({"rapl/0", actuator::Kind::kRapl, "rapl", 300'000});
  record->known = 1;
  record->held = kHeld;
  record->former = {kFormerUw, 0};
  record->written = {50'000'000, 0};
  record->read_back = {kReadBack, 0};
}

// A zone counts in eighths of a watt, so that it reads back otherwise than it was written. Killed between the two, nobody knows how.
void GivesBackWhatItWasKilledBeforeReadingBack() {
  const std::string list = ListOf({"target rapl/0 rapl rapl floor_ppm=300000"});
  const auto limit = [](const Node& node) { return node.Get("rapl/constraint_0_power_limit_uw"); };
  Node killed(list, &LeaveARaplCapBehind<actuator::kUnproven, kFormerUw, 49'875'000>);
  killed.Until([&] { return killed.actuator->AtRest(); });
  CHECK_EQ(limit(killed), std::to_string(kFormerUw));
  Node proven(list, &LeaveARaplCapBehind<actuator::kProven, 49'875'000, 40'000'000>);
  proven.Until([&] { return proven.actuator->AtRest(); });
  CHECK_EQ(limit(proven), std::string("40000000"));
  CHECK(Happened(proven, "foreign_change", "rapl/0"));
}

// As an actuator leaves it that was killed: the fan is in manual control, `duty` is what it turns at, and `read_back` is what was noted.
void LeaveFanBehind(Node& node, const char* duty, uint32_t held, const actuator::Raw& read_back) {
  std::filesystem::create_directories(node.dir.File("devices/x/hwmon/hwmon3"));
  node.Put("devices/x/hwmon/hwmon3/pwm1_enable", "1\n");
  node.Put("devices/x/hwmon/hwmon3/pwm1", duty);
  actuator::TargetRecord* record = node.state->Claim({"fan/a", actuator::Kind::kFan, "devices/x/hwmon/*/pwm1", 0});
  record->known = 1;
  record->held = held;
  record->former = {0, 5};
  record->written = {255, 1};
  record->read_back = read_back;
}

// Between the mode and the duty the curve is frozen at whatever the fan turned at: nothing is more dangerous to leave behind.
void GivesAFanBackThatItWasKilledInTheMiddleOf() {
  const std::string list = ListOf({"target fan/a fan devices/x/hwmon/*/pwm1 floor_ppm=0"});
  const auto mode = [](const Node& node) { return node.Get("devices/x/hwmon/hwmon3/pwm1_enable"); };
  Node half(list, [](Node& node) { LeaveFanBehind(node, "90\n", actuator::kUnproven, {0, 5}); });
  half.Until([&] { return mode(half) == "5"; });
  Node theirs(list, [](Node& node) { LeaveFanBehind(node, "120\n", actuator::kProven, {255, 1}); });
  theirs.Until([&] { return Happened(theirs, "foreign_change", "fan/a"); });
  CHECK_EQ(mode(theirs), std::string("1"));
}

// Killed between mode and duty, and the duty is refused from then on: the fan still turns as it was left, by our hand.
void GivesAFanBackWhoseDutyCannotBeWritten() {
  struct rlimit before = {};
  CHECK_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, SIG_IGN);
  Node node(ListOf({"target fan/a fan devices/x/hwmon/*/pwm1 floor_ppm=0"}), [](Node& half) {
    LeaveFanBehind(half, "90\n", actuator::kUnproven, {0, 5});
    actuator::LeaseRecord* lease = &half.state->leases()[0];
    lease->ttl_ns = 600'000'000'000;
    lease->deadline_ns = actuator::NowNs() + lease->ttl_ns;
    std::snprintf(lease->target, sizeof lease->target, "fan/a");
    std::snprintf(lease->id, sizeof lease->id, "l");
    // A mode is one byte long, a duty three.
    struct rlimit one_byte = {};
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &one_byte), 0);
    one_byte.rlim_cur = 1;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &one_byte), 0);
  });
  node.Until([&] { return Happened(node, "failed", "fan/a"); });
  node.Ask("1 release l");
  node.Until([&] { return node.actuator->AtRest(); });
  CHECK_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  CHECK_EQ(node.Get("devices/x/hwmon/hwmon3/pwm1_enable"), std::string("5"));
}

void FreezesNoCgroupInWhichItRunsHoweverThatIsWritten() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  std::vector<std::string> paths = {".", "./"};
  while (std::getline(file, line)) {
    const size_t start = line.find(":/");
    if (start == std::string::npos || start + 2 == line.size()) continue;
    const std::string own = line.substr(start + 2);
    for (const std::string& path : {own + "/", own + "/.", "./" + own, "freezer//" + own + "/"}) paths.push_back(path);
  }
  for (const std::string& path : paths) {
    actuator::AllowList list;
    const std::string text = ListOf({"target f freeze " + path + " floor_ppm=0"});
    if (!actuator::ParseAllowList(text, &list).empty()) continue;  // Too vital, or a path that no list can name.
    Node node(text);
    std::filesystem::create_directories(node.dir.File(path));
    node.Put(path + "/cgroup.freeze", "0\n");
    node.Ask("1 set a f 0 60000");
    node.Until([&] { return !node.replies.empty(); });
    CHECK(node.replies[0].find("ok failed") != std::string::npos);
    CHECK_EQ(node.Get(path + "/cgroup.freeze"), std::string("0"));
    node.Ask("2 release a");
    node.Until([&] { return node.actuator->AtRest(); });
  }
}

// An order that a reload took over must not end on one cool reading: its tripwire would go on as raised, and be blind.
void KeepsARaisedOrderOverAReloadUntilItIsCoolForAllSamples() {
  const std::string order = "order hot sensor=temp raise=95000 clear=90000 samples=40 rate_mhz=100000 cap_ppm=500000 targets=p";
  Node node(ListOf({"target p cpufreq cpufreq/policy0 floor_ppm=200000", order}));
  const auto cap = [&] { return node.Get("cpufreq/policy0/scaling_max_freq"); };
  node.Put("temp", "97000\n");
  node.Until([&] { return cap() == "1500000"; });
  node.Ask("1 reload");
  usleep(600'000);  // The new sampler sees it hot for 40 samples.
  node.Settle();
  node.Put("temp", "50000\n");
  usleep(100'000);  // Cool for ten.
  node.Settle();
  usleep(20'000);
  CHECK_EQ(cap(), std::string("1500000"));
  node.Put("temp", "97000\n");
  usleep(600'000);
  node.Settle();
  CHECK_EQ(cap(), std::string("1500000"));
  node.Put("temp", "50000\n");
  node.Until([&] { return cap() == "3000000"; });
}

// The former values of this boot are nowhere else: a file that this program cannot read is refused, not begun anew.
void KeepsAStateFileOfThisBootThatAnotherVersionWrote() {
  TempDir dir;
  const std::string path = dir.File("actuator.state");
  {
    actuator::StateFile state;
    CHECK_EQ(state.Open(dir.File(".").c_str()), std::string());
    CHECK(state.Claim({"a", actuator::Kind::kCpufreq, "a", 1}) != nullptr);
  }
  const auto size = std::filesystem::file_size(path);
  for (const auto other : {size - 8, size + 8}) {
    std::filesystem::resize_file(path, other);
    actuator::StateFile state;
    CHECK(!state.Open(dir.File(".").c_str()).empty());
    CHECK_EQ(std::filesystem::file_size(path), other);
  }
  // Unless that one left with everything restored. The same version goes on with the events.
  std::filesystem::resize_file(path, size);
  for (const auto other : {size, size + 8}) {
    actuator::StateFile left;
    CHECK_EQ(left.Open(dir.File(".").c_str()), std::string());
    left.Event("stopped", "actuator", "%s", "");
    left.Leave();
    std::filesystem::resize_file(path, other);
    actuator::StateFile state;
    CHECK_EQ(state.Open(dir.File(".").c_str()), std::string());
    CHECK_EQ(state.last_event(), other == size ? uint64_t{1} : uint64_t{0});
  }
  // What another boot left is begun anew, whatever its size; and so is what was cut off while it was made.
  for (const size_t cut : {size_t{0}, size_t{20}}) {
    std::filesystem::resize_file(path, cut);
    actuator::StateFile state;
    CHECK_EQ(state.Open(dir.File(".").c_str()), std::string());
    CHECK_EQ(std::filesystem::file_size(path), size);
  }
}

void HoldsLeasesToTheListThatIsReadAgain() {
  Node node;
  const auto cap = [&] { return node.Get("cpufreq/policy0/scaling_max_freq"); };
  node.Ask("1 set a cpufreq/policy0 300000 600000");
  node.Until([&] { return cap() == "900000"; });
  node.Allow(ListOf({"target cpufreq/policy0 cpufreq cpufreq/policy0 floor_ppm=500000"}));
  node.Ask("2 reload");
  node.Until([&] { return cap() == "1500000"; });
  node.Allow(ListOf({}));
  node.Ask("3 reload");
  node.Until([&] { return cap() == "3000000"; });
  node.Ask("4 renew 1000 a");
  CHECK_EQ(node.replies.back(), std::string("4 ok renewed 0"));
  node.Until([&] { return node.actuator->AtRest(); });
}

// What a second brings is checked only where that second has not gone by: the machine may be busy, and memcheck is slow.
void TellsTheAveragePowerAndNeverTheCounter() {
  constexpr int64_t kSpanNs = 1'000'000'000;
  const int64_t started_ns = MonotonicNs();
  Node node(ListOf({"energy rapl/a rapl max_uj=262143328850", "energy rapl/b none max_uj=1"}), [](Node& before) {
    std::filesystem::create_directories(before.dir.File("rapl"));
    before.Put("rapl/energy_uj", "100000000\n");
  });
  const auto ask = [&] {
    node.replies.clear();
    node.Settle();
    node.Ask("1 powers");
    CHECK_EQ(node.replies.size(), size_t{3});
    CHECK_EQ(node.replies[1], std::string("1 row rapl/b no_data 0"));
    CHECK_EQ(node.replies[2], std::string("1 ok end"));
    return node.replies[0];
  };
  const auto stays = [&](const std::string& row, int64_t since_ns) {
    const std::string now = ask();
    if (MonotonicNs() - since_ns < kSpanNs) CHECK_EQ(now, row);
  };
  while (MonotonicNs() - started_ns < kSpanNs * 2 / 5) {
    stays("1 row rapl/a no_data 0", started_ns);
    usleep(1'000);
  }
  node.Put("rapl/energy_uj", "320000000\n");
  std::string row;
  int64_t untold_ns = started_ns;
  node.Until([&] {
    const int64_t now_ns = MonotonicNs();
    row = ask();
    const bool is_told = row.find(" ok ") != std::string::npos;
    if (!is_told) untold_ns = now_ns;
    return is_told;
  });
  // 220 J in a second or a little more, and certainly in the time since the start.
  const int64_t milliwatts = std::atoll(row.c_str() + row.rfind(' '));
  CHECK(milliwatts <= 220'000);
  CHECK(milliwatts >= 220'000 * (kSpanNs / 1000) / ((MonotonicNs() - started_ns) / 1000));
  stays(row, untold_ns);
  // The list is read again: the average goes on.
  node.Ask("2 reload");
  stays(row, untold_ns);
  node.Allow(ListOf({}));
  node.Ask("3 reload");
  node.Ask("4 powers");
  CHECK_EQ(node.replies.back(), std::string("4 ok end"));
  node.Ask("5 powers x");
  CHECK_EQ(node.replies.back(), std::string("5 err malformed"));
}

// What stands where skos-units listens; it answers as it is told.
struct Runner {
  int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  std::vector<int> connections;

  explicit Runner(const std::string& path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    CHECK(path.size() < sizeof address.sun_path);
    path.copy(address.sun_path, path.size());
    CHECK_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    CHECK_EQ(listen(listener, 64), 0);
  }
  ~Runner() {
    for (const int fd : connections) close(fd);
    close(listener);
  }
  // The request on the next connection; "" where nobody comes.
  std::string Next() {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return "";
    connections.push_back(fd);
    char packet[700];
    const ssize_t n = recv(fd, packet, sizeof packet, 0);
    return n < 0 ? "" : std::string(packet, static_cast<size_t>(n));
  }
  void Answer(size_t connection, const std::string& words) const {
    CHECK(send(connections[connection], words.data(), words.size(), 0) > 0);
  }
};

std::string Row(const actuator::Jobs& jobs) {
  std::string row = "none";
  jobs.List([&](const char* id, const actuator::JobRecord* last) {
    row = std::string(id) + " " + (last == nullptr ? "-" : actuator::JobStateWord(last->state));
    if (last != nullptr && last->exit != actuator::kNoExit) row += " " + std::to_string(last->exit);
  });
  return row;
}

// An actuator that is killed is another Jobs over the same file; each of these is killed one step later than the one before.
void NeverStartsAKeyTwiceWhereverItWasKilled() {
  TempDir dir;
  actuator::StateFile file;
  actuator::StateFile* const state = &file;
  CHECK_EQ(state->Open(dir.File(".").c_str()), std::string());
  const std::string socket = dir.File("u");
  const actuator::JobSpec spec = {"hook/x", actuator::JobVerb::kStart, "x.service", 60'000};
  {
    actuator::Jobs jobs(socket, state);
    jobs.SetList({spec});
    CHECK_EQ(std::string(jobs.Run("hook/x", "k0")), std::string("ok started"));
    CHECK_EQ(Row(jobs), std::string("hook/x unavailable"));
    CHECK_EQ(std::string(jobs.Run("hook/x", "k0")), std::string("ok known"));
  }
  Runner runner(socket);
  // Before the last store: nothing was asked for, so that it may be.
  state->jobs()[0].state = actuator::JobState::kIdle;
  {
    actuator::Jobs jobs(socket, state);
    jobs.SetList({spec});
    jobs.Serve();
    CHECK_EQ(runner.Next(), std::string());
    CHECK_EQ(std::string(jobs.Run("hook/x", "k0")), std::string("ok started"));
    CHECK_EQ(runner.Next(), std::string("job hook/x:k0 start x.service 60000"));
  }
  // Behind it, before it was heard, and without a list that names it: only asked after, by each one.
  for (size_t i = 0; i < 3; ++i) {
    actuator::Jobs jobs(socket, state);
    if (i > 0) jobs.SetList({spec});
    jobs.Serve();
    CHECK_EQ(runner.Next().substr(0, 38), std::string("await hook/x:k0 start x.service 60000 "));
    CHECK_EQ(Row(jobs), std::string("hook/x running"));
    if (i > 0) CHECK_EQ(std::string(jobs.Run("hook/x", "k0")), std::string("ok known"));
    if (i > 0) CHECK_EQ(std::string(jobs.Run("hook/x", "k1")), std::string("err busy"));
    if (i < 2) continue;
    // A runner that closes at once is asked again, no more than once in a second.
    close(runner.connections.back());
    runner.connections.pop_back();
    for (int round = 0; round < 50; ++round) jobs.Serve();
    CHECK_EQ(runner.Next(), std::string());
    usleep(1'050'000);
    jobs.Serve();
    CHECK_EQ(runner.Next().substr(0, 6), std::string("await "));
    runner.Answer(runner.connections.size() - 1, "failed 3");
    jobs.Serve();
    CHECK_EQ(Row(jobs), std::string("hook/x failed 3"));
  }
  actuator::Jobs jobs(socket, state);
  jobs.SetList({spec});
  jobs.Serve();
  CHECK_EQ(runner.Next(), std::string());
  CHECK_EQ(std::string(jobs.Run("hook/x", "k0")), std::string("ok known"));
  // Nonsense is no success.
  int key = 0;
  for (const char* words : {" ", "done", "ok", "err", "err x", "done 0 0", "failed\n", "err 16", "unknown 1", "done -1x"}) {
    CHECK_EQ(std::string(jobs.Run("hook/x", "n" + std::to_string(++key))), std::string("ok started"));
    CHECK(runner.Next().substr(0, 4) == "job ");
    runner.Answer(runner.connections.size() - 1, words);
    jobs.Serve();
    CHECK_EQ(Row(jobs), std::string("hook/x failed"));
  }
}

void RunsSixteenJobsAtOnceAndRemembersThemAll() {
  TempDir dir;
  actuator::StateFile file;
  actuator::StateFile* const state = &file;
  CHECK_EQ(state->Open(dir.File(".").c_str()), std::string());
  Runner runner(dir.File("u"));
  std::vector<actuator::JobSpec> list;
  for (size_t i = 0; i < actuator::kMaxJobs; ++i) {
    list.push_back({"j" + std::to_string(i), actuator::JobVerb::kStop, "x.service", 60'000});
  }
  actuator::Jobs jobs(dir.File("u"), state);
  jobs.SetList(list);
  for (size_t i = 0; i < actuator::kMaxRunningJobs; ++i) CHECK_EQ(std::string(jobs.Run(list[i].id, "k")), std::string("ok started"));
  CHECK_EQ(std::string(jobs.Run("j16", "k")), std::string("err too_many"));
  for (size_t i = 0; i < actuator::kMaxRunningJobs; ++i) {
    CHECK_EQ(runner.Next(), "job j" + std::to_string(i) + ":k stop x.service 60000");
    runner.Answer(i, "done 0");
  }
  jobs.Serve();
  for (size_t i = actuator::kMaxRunningJobs; i < list.size(); ++i) {
    CHECK_EQ(std::string(jobs.Run(list[i].id, "k")), std::string("ok started"));
    CHECK(!runner.Next().empty());
    runner.Answer(runner.connections.size() - 1, "done 0");
    jobs.Serve();
  }
  for (const auto& spec : list) CHECK_EQ(std::string(jobs.Run(spec.id, "k")), std::string("ok known"));
  // Another list takes the places of what is no longer listed.
  jobs.SetList({{"other", actuator::JobVerb::kStop, "x.service", 60'000}});
  CHECK_EQ(std::string(jobs.Run("other", "k")), std::string("ok started"));
  CHECK_EQ(std::string(jobs.Run("j3", "k")), std::string("err not_listed"));
}

int Main() {
  RUN(NeverStartsAKeyTwiceWhereverItWasKilled);
  RUN(RunsSixteenJobsAtOnceAndRemembersThemAll);
  RUN(AcceptsTheWholeFormat);
  RUN(NeverAcceptsAListThatIsUnsafe);
  RUN(RefusesTheCgroupsThatItNeedsItself);
  RUN(RefusesEnergiesThatAreNone);
  RUN(TellsTheAveragePowerAndNeverTheCounter);
  RUN(AnswersEveryPacketWithoutHarm);
  RUN(EndsAtTheFormerValuesWhateverHappensAtOnce);
  RUN(KeepsARaisedOrderOverAReloadUntilItIsCoolForAllSamples);
  RUN(KeepsAStateFileOfThisBootThatAnotherVersionWrote);
  RUN(HoldsLeasesToTheListThatIsReadAgain);
  RUN(NeverLetsGoOfACapThatItTakesOver);
  RUN(GivesBackWhatItWasKilledBeforeReadingBack);
  RUN(GivesAFanBackThatItWasKilledInTheMiddleOf);
  RUN(GivesAFanBackWhoseDutyCannotBeWritten);
  RUN(FreezesNoCgroupInWhichItRunsHoweverThatIsWritten);
  // Not exit(): the workers are never joined, and destructors must not run under them.
  std::fflush(nullptr);
  _exit(0);
}

}  // namespace
}  // namespace skos::test

int main() { return skos::test::Main(); }
