// Standing orders on GPUs against a skos-gpu that is made by hand: what counts as hot, what does not, and what nobody is harmed by.
#include "actuator/gpu_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "actuator/gpu_words.h"
#include "gpu/packets.h"
#include "sampler/clock.h"
#include "sampler/latest.h"
#include "sampler/memory.h"
#include "test/check.h"
#include "test/temp_dir.h"

namespace skos::test {
namespace {

using actuator::GpuStance;
using actuator::GpuWatch;
using actuator::OrderSpec;
using actuator::OrderState;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kPatienceNs = 10 * kNsPerSecond;
constexpr size_t kStackBytes = 256 * 1024;  // Sanitizers need more than 64.
constexpr int64_t kUnservedNs = 300 * kMs;
constexpr int64_t kHungAfterNs = 200 * kMs;
constexpr const char* kAddress = "0000:3b:00.0";

void Sleep(int64_t ns) {
  const timespec time = ToTimespec(ns);
  clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

// skos-gpu's end, as far as the contract goes.
class Server {
 public:
  explicit Server(const std::string& path) : path_(path) { Open(); }

  void Open() {
    unlink(path_.c_str());
    listener_.Reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path_.c_str());
    CHECK_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    CHECK_EQ(listen(listener_.get(), 1), 0);
  }

  void Accept() {
    pollfd wait = {listener_.get(), POLLIN, 0};
    CHECK_EQ(poll(&wait, 1, static_cast<int>(kPatienceNs / kMs)), 1);
    client_.Reset(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    CHECK(client_.valid());
    char hello[64] = {};
    CHECK(recv(client_.get(), hello, sizeof hello - 1, 0) > 0);
    CHECK_EQ(std::string(hello), std::string("1 hello 1"));
  }

  void Say(const std::string& packet, int fd = -1) { (void)gpu::SendPacket(client_.get(), packet, fd, 0); }
  void SayState(const char* state, int fd = -1) {
    Say(std::string("{\"type\":\"device\",\"address\":\"") + kAddress + "\",\"source\":\"nvml\",\"state\":\"" + state +
            "\",\"why\":\"a \\\"quoted\\\" {why\",\"region\":" + (fd < 0 ? "false}" : "true}"),
        fd);
  }
  void Close() {
    client_.Reset();
    listener_.Reset();
  }

 private:
  const std::string path_;
  UniqueFd listener_;
  UniqueFd client_;
};

std::string Description(const std::vector<std::string>& names) {
  std::string text = "{\"v\":1,\"device\":{\"name\":\"a \\\"[}\"},\"channels\":[";
  for (const std::string& name : names) {
    if (text.back() != '[') text += ',';
    text += "{\"name\":\"" + name + "\",\"limits\":{\"max\":1},\"thermalDefault\":true}";
  }
  return text + "]}";
}

// A worker's region, written by hand.
class Region {
 public:
  explicit Region(const std::vector<std::string>& names) {
    RegionSpec spec;
    spec.description = Description(names);
    spec.channels = names.size();
    spec.ring_records = 1;
    spec.hung_after_ns = kHungAfterNs;
    int error = 0;
    writer_ = RegionWriter::Create(spec, &error);
    CHECK_EQ(error, 0);
    memory_ = writer_->memory();
    for (size_t i = 0; i < names.size(); ++i) memory_->latest[i].set_stale_after_ns(500 * kMs);
  }
  int fd() const { return writer_->fd(); }
  void Beat() { writer_->Beat(MonotonicNs()); }
  void Put(size_t channel, int64_t value, Quality quality = Quality::kOk) {
    memory_->latest[channel].Store({value, MonotonicNs(), quality});
    Beat();
  }

 private:
  std::unique_ptr<RegionWriter> writer_;
  std::shared_ptr<SampleMemory> memory_;
};

std::shared_ptr<OrderState> Order(bool raised = false, const char* channel = "temperature") {
  auto order = std::make_shared<OrderState>();
  order->spec.name = "hot";
  order->spec.gpu = kAddress;
  order->spec.sensor = channel;
  order->spec.raise = 90'000;
  order->spec.clear = 85'000;
  order->spec.samples = 2;
  order->spec.rate_mhz = 50'000;  // 20 ms.
  order->raised.store(raised);
  return order;
}

struct Fixture {
  explicit Fixture(const char* channel = "temperature", bool raised = false, std::atomic<uint32_t>* was_read = nullptr)
      : server(directory.File("s")), order(Order(raised, channel)) {
    order->was_read = was_read;
    watch = new GpuWatch(directory.File("s"), [this](OrderState& crossed, bool is_raised, const Reading&) {
      crossed.raised.store(is_raised);
      ++crossings;
    }, kUnservedNs, [this] {
      ++stances;
      if (order->stance.load() == GpuStance::kAway && order->raised.load()) ++raised_when_away;
    });
    CHECK_EQ(watch->Set({order}, kStackBytes, 0), 0);
    server.Accept();
  }
  // Its thread goes on, with nothing to do.
  ~Fixture() { CHECK_EQ(watch->Set({}, kStackBytes, 0), 0); }

  bool Becomes(bool raised, Region* region = nullptr, int64_t value = 0) {
    for (const int64_t until_ns = MonotonicNs() + kPatienceNs; MonotonicNs() < until_ns; Sleep(5 * kMs)) {
      if (region != nullptr) region->Put(0, value);
      if (order->raised.load() == raised) return true;
    }
    return false;
  }
  bool Stays(bool raised, int64_t for_ns, Region* region = nullptr, int64_t value = 0) {
    for (const int64_t until_ns = MonotonicNs() + for_ns; MonotonicNs() < until_ns; Sleep(5 * kMs)) {
      if (region != nullptr) region->Put(0, value);
      if (order->raised.load() != raised) return false;
    }
    return true;
  }
  GpuWatch::Latest Latest() { return watch->Readings(MonotonicNs())[0]; }

  TempDir directory;
  Server server;
  std::shared_ptr<OrderState> order;
  std::atomic<int> crossings{0};
  std::atomic<int> stances{0};
  std::atomic<int> raised_when_away{0};
  GpuWatch* watch = nullptr;  // Never freed, as in the actuator.
};

void RaisesAndClearsByTheReadingsOfTheRegion() {
  Fixture each;
  Region region({"power", "temperature"});
  region.Put(1, 60'000);
  each.server.SayState("serving", region.fd());
  const auto becomes = [&](bool raised, int64_t value) {
    for (int i = 0; i < 400 && each.order->raised.load() != raised; ++i, Sleep(20 * kMs)) region.Put(1, value);
    return each.order->raised.load() == raised;
  };
  CHECK(becomes(true, 91'000));
  for (int i = 0; i < 10; ++i, Sleep(20 * kMs)) region.Put(1, 87'000);
  CHECK(each.order->raised.load());
  CHECK(becomes(false, 84'000));
  CHECK_EQ(each.crossings.load(), 2);
}

void CountsAReadingOnceHoweverOftenItIsLookedAt() {
  Fixture each;
  Region region({"temperature"});
  region.Put(0, 60'000);
  each.server.SayState("serving", region.fd());
  for (int i = 0; i < 400 && each.Latest().reading.quality != Quality::kOk; ++i) Sleep(5 * kMs);
  region.Put(0, 95'000);
  for (int i = 0; i < 20; ++i, Sleep(20 * kMs)) region.Beat();
  CHECK(!each.order->raised.load());
  region.Put(0, 95'000);
  CHECK(each.Becomes(true));
}

void AHungWorkerIsHotOnlyIfItsGpuWasReadBefore() {
  {
    Fixture each;
    Region region({"temperature"});
    each.server.SayState("serving", region.fd());
    CHECK(each.Stays(false, 2 * kHungAfterNs));
    CHECK(each.Latest().exempt);
  }
  Fixture each;
  Region region({"temperature"});
  region.Put(0, 60'000);
  each.server.SayState("serving", region.fd());
  CHECK(each.Stays(false, 100 * kMs, &region, 60'000));
  CHECK(each.Becomes(true));
  CHECK(each.Latest().reading.quality == Quality::kHung);
  CHECK(!each.Latest().exempt);
  each.server.SayState("hung");
  CHECK(each.Becomes(false, &region, 60'000));
}

void AFaultCountsAsHotAndAGpuThatSleepsDoesNot() {
  Fixture each;
  Region region({"temperature", "runtime_state"});
  region.Put(1, 0);
  region.Put(0, 60'000);
  each.server.SayState("serving", region.fd());
  CHECK(each.Stays(false, 100 * kMs, &region, 60'000));
  const auto hold = [&](Quality quality, int64_t runtime, bool raised) {
    for (int i = 0; i < 20; ++i, Sleep(20 * kMs)) {
      region.Put(1, runtime);
      region.Put(0, 0, quality);
    }
    return each.order->raised.load() == raised;
  };
  CHECK(hold(Quality::kNoData, 1, false));
  CHECK(each.Latest().exempt);  // Or what an agent froze before it died stays so for as long as a GPU sleeps.
  CHECK(hold(Quality::kFault, 0, true));
  CHECK(!each.Latest().exempt);
  CHECK(hold(Quality::kNoData, 1, true));
}

void AGpuThatNobodyServesIsHotAfterAWhileUnlessItIsDetached() {
  Fixture each;
  {
    Region region({"temperature"});
    each.server.SayState("serving", region.fd());
    CHECK(each.Stays(false, 100 * kMs, &region, 60'000));
  }
  each.server.Close();
  const int64_t since_ns = MonotonicNs();
  CHECK(each.Becomes(true));
  CHECK(MonotonicNs() - since_ns >= kUnservedNs - 20 * kMs);
  CHECK(each.Latest().reading.quality == Quality::kStale);
  each.server.Open();
  each.server.Accept();
  each.server.SayState("failed");
  CHECK(each.Stays(true, 2 * kUnservedNs));
  each.server.SayState("detached");
  CHECK(each.Becomes(false));
  CHECK(each.Latest().exempt);
  // It has not been read since it was attached: as at the start.
  each.server.SayState("opening");
  CHECK(each.Stays(false, 2 * kUnservedNs));
}

void ARestartOfSkosGpuIsNoLoss() {
  Fixture each;
  Region first({"temperature"});
  each.server.SayState("serving", first.fd());
  CHECK(each.Stays(false, 100 * kMs, &first, 60'000));
  each.server.Close();
  Sleep(kUnservedNs / 2);
  each.server.Open();
  each.server.Accept();
  Region second({"margin", "temperature"});
  second.Put(1, 60'000);
  each.server.SayState("serving", second.fd());
  CHECK(each.Stays(false, 100 * kMs));
  for (int i = 0; i < 400 && !each.order->raised.load(); ++i, Sleep(20 * kMs)) second.Put(1, 95'000);
  CHECK(each.order->raised.load());
}

void WhatStoodBeforeTheStartStaysUntilItIsReadCool() {
  Fixture each("temperature", true);
  CHECK(each.Stays(true, 2 * kUnservedNs));
  Region region({"temperature"});
  region.Put(0, 95'000);
  each.server.SayState("serving", region.fd());
  CHECK(each.Stays(true, 100 * kMs, &region, 95'000));
  CHECK(each.Becomes(false, &region, 60'000));
}

void WhoWasReadBeforeTheStartIsHotWhenItCannotBeReadUnlessItIsDetached() {
  std::atomic<uint32_t> was_read{1};
  Fixture each("temperature", false, &was_read);
  const int64_t since_ns = MonotonicNs();
  CHECK(each.Becomes(true));
  CHECK(MonotonicNs() - since_ns >= kUnservedNs - 20 * kMs);
  CHECK(!each.Latest().exempt);
  each.server.SayState("detached");
  CHECK(each.Becomes(false));
  CHECK_EQ(was_read.load(), 0u);
  Region region({"temperature"});
  each.server.SayState("serving", region.fd());
  CHECK(each.Stays(false, 100 * kMs, &region, 60'000));
  CHECK_EQ(was_read.load(), 1u);
}

void SaysWhatASetterIsToBeReadyFor() {
  Fixture each;
  const auto becomes = [&](const char* state, GpuStance stance, int fd = -1) {
    each.server.SayState(state, fd);
    for (int i = 0; i < 400 && each.order->stance.load() != stance; ++i) Sleep(5 * kMs);
    return each.order->stance.load() == stance;
  };
  const auto stays = [&](const char* state, GpuStance stance) {
    each.server.SayState(state);
    Sleep(50 * kMs);
    return each.order->stance.load() == stance;
  };
  Region region({"temperature"});
  CHECK(stays("hung", GpuStance::kIdle));
  CHECK(becomes("serving", GpuStance::kWarm, region.fd()));
  CHECK(stays("hung", GpuStance::kWarm));
  CHECK(stays("opening", GpuStance::kWarm));
  CHECK(becomes("reset_required", GpuStance::kAway));
  CHECK(becomes("opening", GpuStance::kIdle));
  CHECK(becomes("gone", GpuStance::kAway));
  CHECK(becomes("serving", GpuStance::kWarm, region.fd()));
  CHECK(becomes("failed", GpuStance::kIdle));
  CHECK(becomes("detached", GpuStance::kAway));
  CHECK_EQ(each.stances.load(), 7);
  // Known to an order that comes later.
  const auto later = Order();
  CHECK_EQ(each.watch->Set({later}, kStackBytes, 0), 0);
  CHECK(later->stance.load() == GpuStance::kAway);
}

// The setter that stands ready gives back what the order capped: it must hear of that before it is let go of.
void AnOrderEndsBeforeTheSetterOfADetachedGpuIsLetGoOf() {
  Fixture each;
  Region region({"temperature"});
  region.Put(0, 95'000);
  each.server.SayState("serving", region.fd());
  for (int round = 0; round < 5; ++round) {
    CHECK(each.Becomes(true, &region, 95'000));
    each.server.SayState("detached");
    CHECK(each.Becomes(false));
    for (int i = 0; i < 400 && each.order->stance.load() != GpuStance::kAway; ++i) Sleep(5 * kMs);
    each.server.SayState("serving", region.fd());
  }
  CHECK_EQ(each.raised_when_away.load(), 0);
}

void SaysHowOftenAGpuBeganToBeServed() {
  Fixture each;
  Region region({"temperature"});
  const auto becomes = [&](uint64_t served) {
    for (int i = 0; i < 400 && each.order->served.load() != served; ++i) Sleep(5 * kMs);
    return each.order->served.load() == served;
  };
  each.server.SayState("serving", region.fd());
  CHECK(becomes(1));
  each.server.SayState("opening");
  each.server.SayState("serving", region.fd());
  CHECK(becomes(2));
  const auto later = Order();
  CHECK_EQ(each.watch->Set({later}, kStackBytes, 0), 0);
  CHECK_EQ(later->served.load(), 2u);
}

void AChannelThatTheGpuDoesNotHaveIsNeverHot() {
  Fixture each("temperature_memory");
  Region region({"temperature"});
  each.server.SayState("serving", region.fd());
  CHECK(each.Stays(false, 2 * kUnservedNs, &region, 99'000));
  CHECK(each.Latest().exempt);
  CHECK(each.Latest().reading.quality == Quality::kNoData);
}

void NoWordOfSkosGpuHarmsAnybody() {
  Fixture each;
  std::mt19937_64 random(20260707);
  const std::string whole = std::string("{\"type\":\"device\",\"address\":\"") + kAddress + "\",\"state\":\"serving\"}";
  for (int i = 0; i < 3'000; ++i) {
    std::string packet = whole;
    for (uint64_t edits = random() % 5; edits > 0 && !packet.empty(); --edits) {
      packet[random() % packet.size()] = "\"\\{}[],: \0a"[random() % 11];
    }
    if (i % 7 == 0) packet = std::string(1 + random() % 8'000, '[');
    each.server.Say(packet.empty() ? "x" : packet, i % 50 == 0 ? STDIN_FILENO : -1);
  }
  Region garbage({"temperature"});
  each.server.SayState("serving", STDOUT_FILENO);
  each.server.SayState("serving", garbage.fd());
  CHECK(each.Becomes(true, &garbage, 95'000));
}

void NamesAreThoseOfTheRegionOrNone() {
  using actuator::ChannelNames;
  const std::string text = Description({"temperature", "temperature_memory", "a-b~c"});
  CHECK((ChannelNames(text, 8) == std::vector<std::string>{"temperature", "temperature_memory", "a-b~c"}));
  CHECK(ChannelNames(text, 2).empty());
  for (size_t cut = 0; cut + 1 < text.size(); ++cut) CHECK(ChannelNames(text.substr(0, cut), 8).empty());
  CHECK((ChannelNames("{\"channels\":[{\"x\":[1,{}],\"name\":\"b\\u0041\"},{ \"name\" : \"c\" }]}", 8) ==
         std::vector<std::string>{"", "c"}));
  for (const char* wrong : {"", "[]", "{\"channels\":{}}", "{\"channels\":[1]}", "{\"channels\":[{\"name\":\"a\"}{}]}"}) {
    CHECK(ChannelNames(wrong, 8).empty());
  }
  CHECK(ChannelNames("{\"channels\":" + std::string(100'000, '[') + "}", 8).empty());
}

int Main() {
  RUN(RaisesAndClearsByTheReadingsOfTheRegion);
  RUN(CountsAReadingOnceHoweverOftenItIsLookedAt);
  RUN(AHungWorkerIsHotOnlyIfItsGpuWasReadBefore);
  RUN(AFaultCountsAsHotAndAGpuThatSleepsDoesNot);
  RUN(AGpuThatNobodyServesIsHotAfterAWhileUnlessItIsDetached);
  RUN(ARestartOfSkosGpuIsNoLoss);
  RUN(WhatStoodBeforeTheStartStaysUntilItIsReadCool);
  RUN(WhoWasReadBeforeTheStartIsHotWhenItCannotBeReadUnlessItIsDetached);
  RUN(SaysWhatASetterIsToBeReadyFor);
  RUN(AnOrderEndsBeforeTheSetterOfADetachedGpuIsLetGoOf);
  RUN(SaysHowOftenAGpuBeganToBeServed);
  RUN(AChannelThatTheGpuDoesNotHaveIsNeverHot);
  RUN(NoWordOfSkosGpuHarmsAnybody);
  RUN(NamesAreThoseOfTheRegionOrNone);
  // Not exit(): the threads are never joined, and destructors must not run under them.
  std::fflush(nullptr);
  _exit(0);
}

}  // namespace
}  // namespace skos::test

int main() { return skos::test::Main(); }
