// The sampler with its threads: rates, hangs, rejoining, stopping. Deadlines are short, bounds are wide: the machine that
// runs this under a sanitizer may be slow.
#include "sampler/sampler.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <vector>

#include "sampler/clock.h"
#include "test/check.h"
#include "test/temp_dir.h"

namespace skos::test {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kDeadlineNs = 100 * kMs;
constexpr int64_t kPatienceNs = 20 * kNsPerSecond;

// What the readings of the test's probes are, by path: "gate…" paths block while the gate is shut.
class World {
 public:
  void Shut(const std::string& gate) {
    std::lock_guard<std::mutex> lock(mutex_);
    shut_[gate] = true;
  }
  void Open(const std::string& gate) {
    std::lock_guard<std::mutex> lock(mutex_);
    shut_[gate] = false;
    changed_.notify_all();
  }
  void Pass(const std::string& gate) {
    std::unique_lock<std::mutex> lock(mutex_);
    ++inside_;
    changed_.wait(lock, [&] { return !shut_[gate]; });
    --inside_;
  }
  int inside() {
    std::lock_guard<std::mutex> lock(mutex_);
    return inside_;
  }

  std::atomic<int64_t> value{50};
  std::atomic<Quality> quality{Quality::kOk};

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, bool> shut_;
  int inside_ = 0;
};

class WorldProbe : public Probe {
 public:
  WorldProbe(std::shared_ptr<World> world, std::string path) : world_(std::move(world)), path_(std::move(path)) {}
  Reading Read(int64_t) override {
    if (path_.rfind("gate", 0) == 0) world_->Pass(path_);
    return {world_->value, MonotonicNs(), world_->quality};
  }

 private:
  const std::shared_ptr<World> world_;  // Shared, because a stuck thread may outlive the test.
  const std::string path_;
};

SamplerOptions Options() {
  SamplerOptions options;
  options.read_deadline_ns = kDeadlineNs;
  return options;
}

ChannelSpec Channel(const std::string& path, const std::string& domain, int64_t period_ns = 10 * kMs) {
  ChannelSpec spec;
  spec.probe.path = path;
  spec.domain = domain;
  spec.period_ns = period_ns;
  return spec;
}

std::vector<ChannelSpec> In(const std::shared_ptr<World>& world, std::vector<ChannelSpec> channels) {
  for (ChannelSpec& spec : channels) spec.probe_object = std::make_shared<WorldProbe>(world, spec.probe.path);
  return channels;
}

std::vector<Reading> Latest(const Sampler& sampler) {
  std::vector<Reading> out(sampler.channel_count());
  sampler.Latest(out.data());
  return out;
}

template <typename Condition>
void Until(Condition condition) {
  const int64_t end_ns = MonotonicNs() + kPatienceNs;
  while (!condition()) {
    CHECK(MonotonicNs() < end_ns);
    usleep(1000);
  }
}

void UntilQuality(const Sampler& sampler, size_t channel, Quality quality) {
  Until([&] { return Latest(sampler)[channel].quality == quality; });
}

std::vector<Record> DrainAll(Sampler* sampler) {
  std::vector<Record> out(1 << 16);
  out.resize(sampler->Drain(out.data(), out.size()));
  return out;
}

// The longest time between two ok records of a channel.
int64_t LongestGapNs(const std::vector<Record>& records, uint32_t channel) {
  int64_t previous_ns = 0;
  int64_t longest_ns = 0;
  for (const Record& record : records) {
    if (record.channel != channel || record.reading.quality != Quality::kOk) continue;
    if (previous_ns != 0) longest_ns = std::max(longest_ns, record.reading.time_ns - previous_ns);
    CHECK(record.reading.time_ns > previous_ns);
    previous_ns = record.reading.time_ns;
  }
  return longest_ns;
}

void SamplesEachChannelAtItsRate() {
  auto world = std::make_shared<World>();
  Sampler sampler(In(world, {Channel("a", "x", 2 * kMs), Channel("b", "y", 20 * kMs), Channel("c", "x", 0),
                             Channel("d", "y", 50 * kMs)}),
                  {}, Options());
  CHECK_EQ(Latest(sampler)[0].quality, Quality::kNoData);
  const int64_t begin_ns = MonotonicNs();
  CHECK_EQ(sampler.Start(), 0);
  CHECK_EQ(sampler.Start(), EALREADY);
  usleep(500'000);
  sampler.Stop();
  const int64_t ran_ns = MonotonicNs() - begin_ns;
  size_t counts[4] = {};
  for (const Record& record : DrainAll(&sampler)) ++counts[record.channel];
  const int64_t periods[4] = {2 * kMs, 20 * kMs, 1 * kMs, 50 * kMs};  // 0 is clamped to 1 ms.
  for (int i = 0; i < 4; ++i) {
    const auto most = static_cast<size_t>(ran_ns / periods[i]) + 2;
    CHECK(counts[i] <= most);        // Never a burst, however late the machine was.
    CHECK(counts[i] * 4 >= most);    // A slow machine skips periods.
  }
  CHECK_EQ(sampler.Start(), EALREADY);
}

void HungDomainLeavesTheOthersTheirRate() {
  auto world = std::make_shared<World>();
  Sampler sampler(
      In(world, {Channel("a", "healthy"), Channel("gate", "stuck"), Channel("b", "stuck"), Channel("c", "other")}), {},
      Options());
  CHECK_EQ(sampler.Start(), 0);
  UntilQuality(sampler, 1, Quality::kOk);
  world->Shut("gate");
  UntilQuality(sampler, 1, Quality::kHung);
  UntilQuality(sampler, 2, Quality::kHung);  // The whole domain.
  usleep(200'000);
  CHECK_EQ(Latest(sampler)[0].quality, Quality::kOk);
  CHECK_EQ(Latest(sampler)[3].quality, Quality::kOk);
  CHECK_EQ(Latest(sampler)[1].quality, Quality::kHung);
  world->Open("gate");
  UntilQuality(sampler, 1, Quality::kOk);  // Rejoins.
  UntilQuality(sampler, 2, Quality::kOk);
  sampler.Stop();
  const std::vector<Record> records = DrainAll(&sampler);
  for (const uint32_t healthy : {0u, 3u}) {
    const int64_t gap_ns = LongestGapNs(records, healthy);
    CHECK(gap_ns >= kDeadlineNs / 2);          // There was one, so the test did test it,
    CHECK(gap_ns < kDeadlineNs + 150 * kMs);   // of one deadline, and what a slow machine adds.
  }
}

void EachDomainHangsOnItsOwnAgainAndAgain() {
  auto world = std::make_shared<World>();
  SamplerOptions options = Options();
  options.read_deadline_ns = 20 * kMs;
  Sampler sampler(
      In(world, {Channel("gate1", "one"), Channel("gate2", "two"), Channel("gate3", "three"), Channel("a", "four")}), {},
      std::move(options));
  CHECK_EQ(sampler.Start(), 0);
  for (int round = 0; round < 5; ++round) {
    for (const char* gate : {"gate1", "gate2", "gate3"}) world->Shut(gate);
    for (size_t i = 0; i < 3; ++i) UntilQuality(sampler, i, Quality::kHung);
    CHECK_EQ(world->inside(), 3);  // One stuck thread per domain, never more.
    UntilQuality(sampler, 3, Quality::kOk);
    for (const char* gate : {"gate3", "gate1", "gate2"}) world->Open(gate);
    for (size_t i = 0; i < 3; ++i) UntilQuality(sampler, i, Quality::kOk);
  }
  sampler.Stop();
}

void StopIsNotHeldUpByAStuckThread() {
  auto world = std::make_shared<World>();
  std::atomic<int> crossings{0};
  for (const bool found_out : {true, false}) {
    world->Shut("gate");
    SamplerOptions options = Options();
    options.on_crossing = [&crossings](const Crossing&) { ++crossings; };
    TripwireSpec wire;
    wire.raise = 10;
    auto sampler = std::make_unique<Sampler>(In(world, {Channel("gate", "stuck")}),
                                             std::vector<TripwireSpec>{wire}, std::move(options));
    CHECK_EQ(sampler->Start(), 0);
    Until([&] { return world->inside() == 1; });
    if (found_out) UntilQuality(*sampler, 0, Quality::kHung);
    const int64_t begin_ns = MonotonicNs();
    sampler->Stop();
    sampler->Stop();
    sampler.reset();
    CHECK(MonotonicNs() - begin_ns < 100 * kMs);
    const int before = crossings;
    world->Open("gate");  // The thread comes back into a sampler that is long gone.
    Until([&] { return world->inside() == 0; });
    usleep(20'000);
    CHECK_EQ(crossings.load(), before);
  }
}

void CrossingsComeAfterTheirData() {
  auto world = std::make_shared<World>();
  SamplerOptions options = Options();
  Sampler* handle = nullptr;
  std::atomic<int> raised{0};
  std::atomic<int> cleared{0};
  std::atomic<bool> data_first{true};
  options.on_crossing = [&](const Crossing& crossing) {
    const Reading latest = Latest(*handle)[crossing.channel];
    if (latest.value != crossing.reading.value || latest.time_ns != crossing.reading.time_ns) data_first = false;
    ++(crossing.raised ? raised : cleared);
  };
  TripwireSpec wire;
  wire.channel = 1;
  wire.raise = 80;
  wire.clear = 70;
  wire.samples = 2;
  Sampler sampler(In(world, {Channel("a", "x"), Channel("b", "x")}), {wire}, std::move(options));
  handle = &sampler;
  CHECK_EQ(sampler.Start(), 0);
  UntilQuality(sampler, 1, Quality::kOk);
  world->value = 90;
  Until([&] { return raised == 1; });
  world->quality = Quality::kNoData;
  usleep(50'000);
  CHECK_EQ(cleared.load(), 0);
  world->quality = Quality::kOk;
  world->value = 60;
  Until([&] { return cleared == 1; });
  sampler.Stop();
  CHECK(data_first);
  CHECK_EQ(raised.load(), 1);
}

void LossRaisesWhileHung() {
  auto world = std::make_shared<World>();
  SamplerOptions options = Options();
  std::atomic<int> raised{0};
  std::atomic<Quality> quality{Quality::kOk};
  options.on_crossing = [&](const Crossing& crossing) {
    quality = crossing.reading.quality;
    raised += crossing.raised ? 1 : -1;
  };
  TripwireSpec wire;
  wire.raise = 80;
  wire.clear = 70;
  wire.samples = 3;
  wire.loss_raises = true;
  TripwireSpec indifferent = wire;
  indifferent.loss_raises = false;
  Sampler sampler(In(world, {Channel("gate", "stuck")}), {wire, indifferent}, std::move(options));
  CHECK_EQ(sampler.Start(), 0);
  UntilQuality(sampler, 0, Quality::kOk);
  world->Shut("gate");
  Until([&] { return raised == 1; });
  CHECK_EQ(quality.load(), Quality::kHung);
  usleep(50'000);
  CHECK_EQ(raised.load(), 1);  // Only the one that asked for it, and once.
  world->Open("gate");
  Until([&] { return raised == 0; });
  CHECK_EQ(quality.load(), Quality::kOk);
  sampler.Stop();
}

void CallsAnOverdueReadingStale() {
  auto world = std::make_shared<World>();
  Sampler sampler(In(world, {Channel("a", "x")}), {}, Options());
  CHECK_EQ(sampler.Start(), 0);
  UntilQuality(sampler, 0, Quality::kOk);
  sampler.Stop();
  UntilQuality(sampler, 0, Quality::kStale);
  CHECK_EQ(Latest(sampler)[0].value, int64_t{0});
}

void CountsOverrunsOfTheRing() {
  auto world = std::make_shared<World>();
  SamplerOptions options = Options();
  options.ring_records = 16;
  Sampler sampler(In(world, {Channel("a", "x", kMs)}), {}, std::move(options));
  CHECK_EQ(sampler.Start(), 0);
  Until([&] { return sampler.overruns() > 10; });
  sampler.Stop();
  const std::vector<Record> records = DrainAll(&sampler);
  CHECK(records.size() == 16);
  CHECK(LongestGapNs(records, 0) > 0);
}

void DrainsWhileSampling() {
  auto world = std::make_shared<World>();
  SamplerOptions options = Options();
  options.ring_records = 64;
  std::vector<ChannelSpec> channels;
  for (int i = 0; i < 32; ++i) channels.push_back(Channel("a", "x", kMs));
  Sampler sampler(In(world, channels), {}, std::move(options));
  CHECK_EQ(sampler.Start(), 0);
  std::vector<int64_t> newest(32, 0);
  Record out[16];
  for (const int64_t end_ns = MonotonicNs() + 300 * kMs; MonotonicNs() < end_ns;) {
    const size_t count = sampler.Drain(out, 16);
    for (size_t i = 0; i < count; ++i) {
      CHECK(out[i].channel < 32);
      CHECK_EQ(out[i].reading.value, int64_t{50});  // Never torn.
      CHECK(out[i].reading.time_ns > newest[out[i].channel]);
      newest[out[i].channel] = out[i].reading.time_ns;
    }
    for (const Reading& reading : Latest(sampler)) {
      CHECK(reading.time_ns == 0 || reading.value == 50 || reading.quality == Quality::kStale);
    }
  }
  sampler.Stop();
}

void SurvivesAThousandStartsAndStops() {
  TempDir dir;
  const std::string path = dir.Write("value", "42\n");
  ChannelSpec channel = Channel(path, "x", kMs);
  const int64_t begin_ns = MonotonicNs();
  for (int i = 0; i < 1000; ++i) {
    Sampler sampler({channel, channel}, {}, SamplerOptions());
    CHECK_EQ(sampler.Start(), 0);
    if (i % 10 == 0) usleep(2000);
    if (i % 3 != 0) sampler.Stop();
  }
  CHECK(MonotonicNs() - begin_ns < 60 * kNsPerSecond);
}

void RunsWithoutChannelsAndWithoutRealTime() {
  SamplerOptions options;
  options.realtime_priority = 10;  // Where the kernel refuses it, it starts all the same.
  Sampler sampler({}, {}, options);
  CHECK_EQ(sampler.Start(), 0);
  usleep(10'000);
  sampler.Stop();
  static_cast<void>(sampler.realtime_refused());
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(SamplesEachChannelAtItsRate);
  RUN(HungDomainLeavesTheOthersTheirRate);
  RUN(EachDomainHangsOnItsOwnAgainAndAgain);
  RUN(StopIsNotHeldUpByAStuckThread);
  RUN(CrossingsComeAfterTheirData);
  RUN(LossRaisesWhileHung);
  RUN(CallsAnOverdueReadingStale);
  RUN(CountsOverrunsOfTheRing);
  RUN(DrainsWhileSampling);
  RUN(SurvivesAThousandStartsAndStops);
  RUN(RunsWithoutChannelsAndWithoutRealTime);
  return 0;
}
