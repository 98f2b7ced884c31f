// A region from both sides: what a sampler writes comes out in another mapping, and whatever else stands there harms nobody.
#include "sampler/region.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "probes/files.h"
#include "sampler/clock.h"
#include "sampler/memory.h"
#include "sampler/region_layout.h"
#include "test/check.h"
#include "test/temp_dir.h"

namespace skos::test {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kHungAfterNs = 200 * kMs;
constexpr int64_t kPatienceNs = 20 * kNsPerSecond;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

RegionSpec Spec(size_t channels, size_t ring_records = 1024) {
  RegionSpec spec;
  spec.description = "{\"v\":1}";
  spec.channels = channels;
  spec.ring_records = ring_records;
  spec.hung_after_ns = kHungAfterNs;
  return spec;
}

std::unique_ptr<RegionWriter> MakeWriter(const RegionSpec& spec) {
  int error = 0;
  auto writer = RegionWriter::Create(spec, &error);
  CHECK_EQ(error, 0);
  CHECK(writer != nullptr);
  return writer;
}

// As another process has it: a descriptor and a mapping of its own.
std::unique_ptr<RegionReader> OpenReader(const RegionWriter& writer) {
  std::string why;
  auto reader = RegionReader::Open(fcntl(writer.fd(), F_DUPFD_CLOEXEC, 0), &why);
  CHECK_EQ(why, std::string());
  CHECK(reader != nullptr);
  return reader;
}

// Writes as a sampler does, by hand: the tests say what and when.
class Hand {
 public:
  explicit Hand(const RegionWriter& writer) : memory_(writer.memory()), ring_(memory_->ring) {
    for (size_t i = 0; i < memory_->channels; ++i) memory_->latest[i].set_stale_after_ns(kNsPerSecond);
  }
  void Write(uint32_t channel, const Reading& reading) {
    if (channel < memory_->channels) memory_->latest[channel].Store(reading);
    ring_.Push(channel, reading);
  }
  SampleMemory& memory() { return *memory_; }
  char* base() { return reinterpret_cast<char*>(memory_->latest) - sizeof(RegionHeader); }

 private:
  const std::shared_ptr<SampleMemory> memory_;
  RingWriter ring_;
};

std::vector<Reading> Latest(RegionReader& reader, int64_t now_ns) {
  std::vector<Reading> out(reader.channel_count());
  reader.Latest(now_ns, out.data());
  return out;
}

std::vector<Record> Drain(RegionReader& reader, int64_t now_ns, size_t max = 65536) {
  std::vector<Record> out(max);
  out.resize(reader.Drain(now_ns, out.data(), max));
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

class CountingProbe : public Probe {
 public:
  Reading Read(int64_t) override { return {++count_, MonotonicNs(), Quality::kOk}; }

 private:
  int64_t count_ = 0;
};

void CarriesWhatASamplerReads() {
  auto writer = MakeWriter(Spec(3));
  std::vector<ChannelSpec> channels(3);
  for (ChannelSpec& channel : channels) {
    channel.probe_object = std::make_shared<CountingProbe>();
    channel.period_ns = 2 * kMs;
  }
  SamplerOptions options;
  options.memory = writer->memory();
  Sampler sampler(channels, {}, std::move(options));
  const auto first = OpenReader(*writer);
  const auto second = OpenReader(*writer);
  CHECK_EQ(std::string(first->description()), std::string("{\"v\":1}"));
  CHECK_EQ(first->channel_count(), size_t{3});
  CHECK_EQ(Latest(*first, MonotonicNs())[1].quality, Quality::kNoData);
  CHECK(Drain(*first, MonotonicNs()).empty());
  CHECK_EQ(sampler.Start(), 0);
  int64_t next[2] = {1, 1};
  Until([&] {
    writer->Beat(MonotonicNs());
    RegionReader* const readers[2] = {first.get(), second.get()};
    for (int i = 0; i < 2; ++i) {
      for (const Record& record : Drain(*readers[i], MonotonicNs(), 7)) {
        if (record.channel != 2) continue;
        CHECK_EQ(record.reading.value, next[i]);  // Each of them, to each reader.
        ++next[i];
      }
    }
    return next[0] > 20 && next[1] > 20;
  });
  const Reading latest = Latest(*first, MonotonicNs())[2];
  CHECK_EQ(latest.quality, Quality::kOk);
  CHECK(latest.value >= next[0] - 1);
  CHECK_EQ(first->overruns(), uint64_t{0});
  // The sampler may outlive who made the region, and the readers both of them.
  writer.reset();
  usleep(10'000);
  sampler.Stop();
  CHECK(sampler.overruns() <= 1'000'000);
  CHECK(Latest(*first, MonotonicNs() + kNsPerSecond)[2].quality == Quality::kHung);
}

void BeginsWithTheLatestOfEachChannel() {
  const auto writer = MakeWriter(Spec(4));
  Hand hand(*writer);
  const int64_t now_ns = MonotonicNs();
  hand.Write(0, {1, now_ns - 30 * kMs, Quality::kOk});
  hand.Write(0, {2, now_ns - 20 * kMs, Quality::kOk});
  hand.Write(1, {0, now_ns - 10 * kMs, Quality::kFault});
  hand.Write(2, {3, now_ns - 2 * kNsPerSecond, Quality::kOk});  // Overdue.
  const auto reader = OpenReader(*writer);
  hand.Write(0, {2, now_ns - 20 * kMs, Quality::kOk});  // As if it came between the two looks of Open().
  hand.Write(0, {4, now_ns - 5 * kMs, Quality::kOk});
  const std::vector<Record> records = Drain(*reader, now_ns);
  CHECK_EQ(records.size(), size_t{3});
  CHECK_EQ(records[0].channel, uint32_t{0});
  CHECK_EQ(records[0].reading.value, int64_t{2});
  CHECK_EQ(records[1].reading.quality, Quality::kFault);
  CHECK_EQ(records[2].reading.value, int64_t{4});
  CHECK_EQ(reader->overruns(), uint64_t{0});
  CHECK(Drain(*reader, now_ns).empty());
}

void CallsAnOverdueReadingStale() {
  const auto writer = MakeWriter(Spec(1));
  Hand hand(*writer);
  const auto reader = OpenReader(*writer);
  const int64_t now_ns = MonotonicNs();
  hand.Write(0, {42, now_ns, Quality::kOk});
  CHECK_EQ(Latest(*reader, now_ns)[0].value, int64_t{42});
  writer->Beat(now_ns + kNsPerSecond + 1);
  const Reading stale = Latest(*reader, now_ns + kNsPerSecond + 1)[0];
  CHECK_EQ(stale.quality, Quality::kStale);
  CHECK_EQ(stale.value, int64_t{0});
}

void TellsOnceThatTheWriterHangs() {
  const auto writer = MakeWriter(Spec(3));
  Hand hand(*writer);
  const auto reader = OpenReader(*writer);
  const int64_t start_ns = MonotonicNs();
  writer->Beat(start_ns);
  for (uint32_t i = 0; i < 3; ++i) hand.Write(i, {5, start_ns, Quality::kOk});
  CHECK_EQ(Latest(*reader, start_ns + kHungAfterNs)[0].quality, Quality::kOk);
  const int64_t hung_ns = start_ns + kHungAfterNs + 1;
  for (const Reading& reading : Latest(*reader, hung_ns)) CHECK_EQ(reading.quality, Quality::kHung);
  // In small bites: first what it wrote before, then one kHung a channel, then nothing.
  std::vector<Record> records;
  for (int i = 0; i < 6; ++i) {
    for (const Record& record : Drain(*reader, hung_ns + i, 2)) records.push_back(record);
  }
  CHECK_EQ(records.size(), size_t{6});
  for (size_t i = 0; i < 6; ++i) {
    CHECK_EQ(records[i].channel, static_cast<uint32_t>(i % 3));
    CHECK_EQ(records[i].reading.quality, i < 3 ? Quality::kOk : Quality::kHung);
    CHECK(i < 3 || records[i].reading.time_ns >= hung_ns);
  }
  // Without a beat its readings count for nothing; with one those count that came after what was told.
  hand.Write(0, {6, hung_ns - 10, Quality::kOk});
  hand.Write(0, {7, hung_ns + 100, Quality::kOk});
  CHECK(Drain(*reader, hung_ns + 100).empty());
  writer->Beat(hung_ns + 200);
  const std::vector<Record> after = Drain(*reader, hung_ns + 200);
  CHECK_EQ(after.size(), size_t{1});
  CHECK_EQ(after[0].reading.value, int64_t{7});
  CHECK_EQ(reader->overruns(), uint64_t{1});
  CHECK_EQ(Latest(*reader, hung_ns + 200)[0].value, int64_t{7});
  // And again.
  CHECK_EQ(Drain(*reader, hung_ns + 200 + kHungAfterNs + 1).size(), size_t{3});
  CHECK(Drain(*reader, hung_ns + 300 + kHungAfterNs).empty());
}

void AHeartbeatOfNoTimeIsNone() {
  const auto writer = MakeWriter(Spec(1));
  const auto reader = OpenReader(*writer);
  const int64_t now_ns = MonotonicNs();
  for (const int64_t beat_ns : {int64_t{0}, int64_t{-1}, INT64_MIN, INT64_MAX, now_ns + 2 * kNsPerSecond}) {
    writer->Beat(beat_ns);
    CHECK_EQ(Latest(*reader, now_ns)[0].quality, Quality::kHung);
  }
  writer->Beat(now_ns);
  CHECK_EQ(Latest(*reader, now_ns)[0].quality, Quality::kNoData);
}

// What the kernel says of a descriptor that is closed.
bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

void Refuses(int fd, const std::string& expected) {
  std::string why;
  const auto reader = RegionReader::Open(fd, &why);
  CHECK(reader == nullptr);
  if (why.find(expected) == std::string::npos) Fail(__FILE__, __LINE__, "\"" + why + "\" is not \"" + expected + "\"");
  CHECK(fd < 0 || !IsOpen(fd));
}

int Memfd(const std::string& content, int seals) {
  const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CHECK(fd >= 0);
  CHECK_EQ(write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
  if (seals != 0) CHECK_EQ(fcntl(fd, F_ADD_SEALS, seals), 0);
  return fd;
}

std::string ContentOf(const RegionWriter& writer) {
  std::string content(static_cast<size_t>(lseek(writer.fd(), 0, SEEK_END)), '\0');
  CHECK_EQ(pread(writer.fd(), content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  return content;
}

void RefusesWhatIsNoSealedRegion() {
  const TempDir dir;
  Refuses(-1, "sealed");
  int ends[2];
  CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
  Refuses(ends[0], "sealed");
  close(ends[1]);
  Refuses(open(dir.Write("file", "text").c_str(), O_RDONLY), "seal");
  Refuses(open("/dev/null", O_RDWR), "sealed");
  const std::string good = ContentOf(*MakeWriter(Spec(2)));
  Refuses(Memfd(good, 0), "sealed");
  Refuses(Memfd(good, F_SEAL_GROW | F_SEAL_SEAL), "sealed");
  Refuses(Memfd(good, F_SEAL_SHRINK | F_SEAL_SEAL), "sealed");
  // Who may still add seals could seal it against writing, which would be harmless; but it is none of ours.
  Refuses(Memfd(good, F_SEAL_SHRINK | F_SEAL_GROW), "sealed");
  Refuses(Memfd("", kSeals), "shorter");
  Refuses(Memfd(good.substr(0, sizeof(RegionHeader) - 1), kSeals), "shorter");
  Refuses(Memfd(good.substr(0, good.size() - 1), kSeals), "do not fit");
  Refuses(Memfd(good + "x", kSeals), "do not fit");
  std::string why;
  CHECK(RegionReader::Open(Memfd(good, kSeals), &why) != nullptr);  // The tests above refuse for their own reason.
}

template <typename Change>
void RefusesShape(const std::string& expected, Change change) {
  std::string content = ContentOf(*MakeWriter(Spec(2)));
  RegionShape shape;
  std::memcpy(&shape, content.data(), sizeof shape);
  change(shape);
  std::memcpy(content.data(), &shape, sizeof shape);
  Refuses(Memfd(content, kSeals), expected);
}

void RefusesAGarbageHeader() {
  RefusesShape("no region", [](RegionShape& shape) { shape.magic ^= 1; });
  RefusesShape("version", [](RegionShape& shape) { shape.version = kRegionVersion + 1; });
  for (const uint64_t number : {kMaxRegionChannels + 1, UINT64_MAX, UINT64_MAX / sizeof(LatestSlot) + 1}) {
    RefusesShape("out of bounds", [number](RegionShape& shape) { shape.channels = number; });
  }
  for (const uint64_t number : {size_t{0}, kMaxRegionRecords + 1, UINT64_MAX / sizeof(RingSlot) + 1}) {
    RefusesShape("out of bounds", [number](RegionShape& shape) { shape.ring_records = number; });
  }
  RefusesShape("out of bounds", [](RegionShape& shape) { shape.description_bytes = kMaxDescriptionBytes + 1; });
  for (const int64_t ns : {int64_t{0}, int64_t{-1}, kMaxHungAfterNs + 1, INT64_MAX}) {
    RefusesShape("out of bounds", [ns](RegionShape& shape) { shape.hung_after_ns = ns; });
  }
  RefusesShape("do not fit", [](RegionShape& shape) { shape.channels = 3; });
  RefusesShape("do not fit", [](RegionShape& shape) { shape.ring_records = 1; });
  RefusesShape("do not fit", [](RegionShape& shape) { shape.total_bytes += 8; });
}

void RefusesToMakeWhatNoReaderTakes() {
  auto refused = [](auto change) {
    RegionSpec spec = Spec(1);
    change(spec);
    int error = 0;
    CHECK(RegionWriter::Create(spec, &error) == nullptr);
    CHECK_EQ(error, EINVAL);
  };
  refused([](RegionSpec& spec) { spec.channels = kMaxRegionChannels + 1; });
  refused([](RegionSpec& spec) { spec.ring_records = 0; });
  refused([](RegionSpec& spec) { spec.ring_records = kMaxRegionRecords + 1; });
  refused([](RegionSpec& spec) { spec.description.resize(kMaxDescriptionBytes + 1); });
  refused([](RegionSpec& spec) { spec.hung_after_ns = 0; });
  RegionSpec largest = Spec(kMaxRegionChannels, kMaxRegionRecords);
  largest.description.resize(kMaxDescriptionBytes, 'x');
  CHECK_EQ(OpenReader(*MakeWriter(largest))->description().size(), kMaxDescriptionBytes);
  CHECK_EQ(OpenReader(*MakeWriter(Spec(0)))->channel_count(), size_t{0});
}

// Where the kernel knows F_SEAL_FUTURE_WRITE (5.1), whoever is handed the descriptor cannot write either.
void NobodyElseCanChangeItsSize() {
  const auto writer = MakeWriter(Spec(1));
  CHECK_EQ(ftruncate(writer->fd(), 0), -1);
  CHECK_EQ(errno, EPERM);
  CHECK_EQ(ftruncate(writer->fd(), 1 << 24), -1);
  const int seals = fcntl(writer->fd(), F_GET_SEALS);
  CHECK((seals & kSeals) == kSeals);
  if ((seals & F_SEAL_FUTURE_WRITE) == 0) return;
  CHECK_EQ(pwrite(writer->fd(), "x", 1, 0), ssize_t{-1});
  CHECK(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer->fd(), 0) == MAP_FAILED);
}

void DropsRecordsOfNoChannelAndKnowsNoOtherQuality() {
  const auto writer = MakeWriter(Spec(2));
  Hand hand(*writer);
  const auto reader = OpenReader(*writer);
  const int64_t now_ns = MonotonicNs();
  hand.Write(2, {1, now_ns, Quality::kOk});
  hand.Write(UINT32_MAX, {1, now_ns, Quality::kOk});
  hand.Write(0, {7, now_ns, static_cast<Quality>(5)});
  hand.Write(1, {7, now_ns + 2 * kNsPerSecond, Quality::kOk});  // Not yet.
  const std::vector<Reading> latest = Latest(*reader, now_ns);
  CHECK_EQ(latest[0].quality, Quality::kFault);
  CHECK_EQ(latest[0].value, int64_t{0});
  CHECK_EQ(latest[1].quality, Quality::kFault);
  CHECK_EQ(latest[1].time_ns, now_ns);
  const std::vector<Record> records = Drain(*reader, now_ns);
  CHECK_EQ(records.size(), size_t{2});
  for (const Record& record : records) CHECK_EQ(record.reading.quality, Quality::kFault);
  CHECK_EQ(reader->overruns(), uint64_t{2});
}

void DoesNotWaitForAWriteThatWasStopped() {
  const auto writer = MakeWriter(Spec(1));
  Hand hand(*writer);
  const auto reader = OpenReader(*writer);
  const int64_t now_ns = MonotonicNs();
  hand.Write(0, {42, now_ns, Quality::kOk});
  CHECK_EQ(Latest(*reader, now_ns)[0].value, int64_t{42});
  const uint32_t odd = 77;
  std::memcpy(static_cast<void*>(hand.memory().latest), &odd, sizeof odd);
  CHECK_EQ(Latest(*reader, now_ns)[0].value, int64_t{42});  // What was known, as long as it is not overdue.
  writer->Beat(now_ns + kNsPerSecond + 1);
  CHECK_EQ(Latest(*reader, now_ns + kNsPerSecond + 1)[0].quality, Quality::kStale);
}

void GarbageEverywhereHarmsNobody() {
  const auto writer = MakeWriter(Spec(5, 64));
  Hand hand(*writer);
  const auto reader = OpenReader(*writer);
  const size_t words = (RegionOffsets(RegionShape()).latest + 5 * sizeof(LatestSlot) + 64 * sizeof(RingSlot)) / 8;
  std::atomic<bool> done{false};
  std::thread vandal([&] {
    std::mt19937_64 random(1);
    auto* memory = reinterpret_cast<std::atomic<uint64_t>*>(hand.base());
    while (!done) {
      // Now and then the numbers that its other checks let pass: a heartbeat, and a head that is near.
      const uint64_t kind = random() % 8;
      if (kind == 0) writer->Beat(MonotonicNs());
      else if (kind == 1) hand.memory().ring.head->fetch_add(random() % 100);
      else if (kind == 2) hand.Write(static_cast<uint32_t>(random() % 6), {1, MonotonicNs(), Quality::kOk});
      else memory[random() % words].store(kind < 5 ? random() : random() % 16);
    }
  });
  const int64_t end_ns = MonotonicNs() + kNsPerSecond / 2;
  // On a busy machine the vandal may have had no turn by then in which a record came through.
  const int64_t patience_ns = end_ns + 20 * kNsPerSecond;
  std::vector<int64_t> newest_ns(5, -1);
  size_t seen = 0;
  while (MonotonicNs() < end_ns || (seen == 0 && MonotonicNs() < patience_ns)) {
    const int64_t now_ns = MonotonicNs();
    for (const Reading& reading : Latest(*reader, now_ns)) {
      CHECK(reading.quality <= Quality::kHung);
      CHECK(reading.quality == Quality::kOk || reading.value == 0);
      CHECK(reading.time_ns >= 0 && reading.time_ns <= now_ns + kNsPerSecond);
    }
    for (const Record& record : Drain(*reader, now_ns, 16)) {
      ++seen;
      CHECK(record.channel < 5);
      CHECK(record.reading.quality <= Quality::kHung);
      CHECK(record.reading.time_ns > newest_ns[record.channel]);
      newest_ns[record.channel] = record.reading.time_ns;
    }
  }
  done = true;
  vandal.join();
  CHECK(seen > 0);
  CHECK_EQ(reader->channel_count(), size_t{5});  // Its sizes are its own.
  CHECK_EQ(std::string(reader->description()), std::string("{\"v\":1}"));
}

// ---- A writer that is another process -------------------------------------------------------------------------------

class Child {
 public:
  explicit Child(RegionWriter& writer) : pid_(fork()) {
    CHECK(pid_ >= 0);
    if (pid_ > 0) return;
    Hand hand(writer);
    for (int64_t count = 1;; ++count) {
      const int64_t now_ns = MonotonicNs();
      writer.Beat(now_ns);
      hand.Write(0, {count, now_ns, Quality::kOk});
      usleep(1000);
      if (getppid() == 1) _exit(0);
    }
  }
  ~Child() { Kill(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void Signal(int signal) { CHECK_EQ(kill(pid_, signal), 0); }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_;
};

void AStoppedProcessHangsAndRejoins() {
  const auto writer = MakeWriter(Spec(2));
  const auto reader = OpenReader(*writer);
  Child child(*writer);
  size_t hung = 0;
  int64_t newest_ns = -1;
  int64_t newest = 0;
  auto drain = [&] {
    for (const Record& record : Drain(*reader, MonotonicNs())) {
      if (record.reading.quality == Quality::kHung) ++hung;
      if (record.channel != 0) continue;
      CHECK(record.reading.time_ns > newest_ns);
      newest_ns = record.reading.time_ns;
      if (record.reading.quality != Quality::kOk) continue;
      CHECK(record.reading.value > newest);
      newest = record.reading.value;
    }
  };
  auto quality = [&] { return Latest(*reader, MonotonicNs())[0].quality; };
  Until([&] { return drain(), newest > 20; });
  for (size_t round = 1; round <= 2; ++round) {
    const size_t before = hung;
    child.Signal(SIGSTOP);
    Until([&] { return drain(), hung >= before + 2; });
    CHECK_EQ(quality(), Quality::kHung);
    CHECK_EQ(Latest(*reader, MonotonicNs())[1].quality, Quality::kHung);
    usleep(30'000);
    drain();
    CHECK_EQ(hung, before + 2);  // Once a channel.
    const int64_t stopped_at = newest;
    child.Signal(SIGCONT);
    Until([&] { return drain(), newest > stopped_at + 5; });
    Until([&] { return quality() == Quality::kOk; });
  }
  child.Kill();
  Until([&] { return quality() == Quality::kHung; });
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(CarriesWhatASamplerReads);
  RUN(BeginsWithTheLatestOfEachChannel);
  RUN(CallsAnOverdueReadingStale);
  RUN(TellsOnceThatTheWriterHangs);
  RUN(AHeartbeatOfNoTimeIsNone);
  RUN(RefusesWhatIsNoSealedRegion);
  RUN(RefusesAGarbageHeader);
  RUN(RefusesToMakeWhatNoReaderTakes);
  RUN(NobodyElseCanChangeItsSize);
  RUN(DropsRecordsOfNoChannelAndKnowsNoOtherQuality);
  RUN(DoesNotWaitForAWriteThatWasStopped);
  RUN(GarbageEverywhereHarmsNobody);
  RUN(AStoppedProcessHangsAndRejoins);
  return 0;
}
