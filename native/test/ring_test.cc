// The ring of records: order, what is counted as lost, and readers that do not know of each other.
#include "sampler/ring.h"

#include <atomic>
#include <thread>
#include <vector>

#include "sampler/clock.h"
#include "sampler/memory.h"
#include "test/check.h"

namespace skos::test {
namespace {

constexpr uint64_t kFar = uint64_t{1} << 60;

ReadableRing Readable(const SampleMemory& memory) { return {memory.ring.slots, memory.ring.capacity, memory.ring.head}; }

// The record `number` from 1 on, whose parts betray whether they belong together.
void PushNumbered(RingWriter& writer, int64_t number) {
  writer.Push(static_cast<uint32_t>(number % 5), {number * 3, number, Quality::kOk});
}

bool IsWhole(const Record& record) {
  const int64_t number = record.reading.time_ns;
  return record.channel == number % 5 && record.reading.value == number * 3 && record.reading.quality == Quality::kOk;
}

std::vector<int64_t> Numbers(RingReader& reader, size_t max) {
  std::vector<Record> records(max);
  records.resize(reader.Drain(records.data(), max));
  std::vector<int64_t> out;
  for (const Record& record : records) {
    CHECK(IsWhole(record));
    out.push_back(record.reading.time_ns);
  }
  return out;
}

void GivesEachRecordOnceInOrder() {
  const auto memory = MakeOwnMemory(5, 8);
  RingWriter writer(memory->ring);
  RingReader reader(Readable(*memory), RingReader::From::kOldest);
  CHECK(Numbers(reader, 8).empty());
  for (int64_t i = 1; i <= 6; ++i) PushNumbered(writer, i);
  CHECK((Numbers(reader, 4) == std::vector<int64_t>{1, 2, 3, 4}));
  CHECK((Numbers(reader, 4) == std::vector<int64_t>{5, 6}));
  CHECK(Numbers(reader, 4).empty());
  CHECK_EQ(reader.overruns(), uint64_t{0});
}

void CountsWhatIsOverwritten() {
  const auto memory = MakeOwnMemory(5, 4);
  RingWriter writer(memory->ring);
  RingReader reader(Readable(*memory), RingReader::From::kOldest);
  for (int64_t i = 1; i <= 11; ++i) PushNumbered(writer, i);
  CHECK_EQ(reader.overruns(), uint64_t{7});  // Before anyone drains.
  CHECK((Numbers(reader, 2) == std::vector<int64_t>{8, 9}));
  CHECK_EQ(reader.overruns(), uint64_t{7});
  for (int64_t i = 12; i <= 14; ++i) PushNumbered(writer, i);
  CHECK((Numbers(reader, 8) == std::vector<int64_t>{11, 12, 13, 14}));
  CHECK_EQ(reader.overruns(), uint64_t{8});
}

void ReadersHaveCursorsOfTheirOwn() {
  const auto memory = MakeOwnMemory(5, 8);
  RingWriter writer(memory->ring);
  RingReader first(Readable(*memory), RingReader::From::kOldest);
  PushNumbered(writer, 1);
  CHECK((Numbers(first, 8) == std::vector<int64_t>{1}));
  RingReader from_now(Readable(*memory), RingReader::From::kNow);
  RingReader from_oldest(Readable(*memory), RingReader::From::kOldest);
  PushNumbered(writer, 2);
  CHECK((Numbers(first, 8) == std::vector<int64_t>{2}));
  CHECK((Numbers(from_now, 8) == std::vector<int64_t>{2}));
  CHECK((Numbers(from_oldest, 8) == std::vector<int64_t>{1, 2}));
}

// Another sampler may take over the memory of a region.
void AWriterGoesOnWhereTheLastOneStopped() {
  const auto memory = MakeOwnMemory(5, 4);
  RingReader reader(Readable(*memory), RingReader::From::kOldest);
  {
    RingWriter writer(memory->ring);
    for (int64_t i = 1; i <= 6; ++i) PushNumbered(writer, i);
  }
  RingWriter writer(memory->ring);
  PushNumbered(writer, 7);
  CHECK((Numbers(reader, 8) == std::vector<int64_t>{4, 5, 6, 7}));
}

void SurvivesAHeadThatJumps() {
  const auto memory = MakeOwnMemory(5, 4);
  RingWriter writer(memory->ring);
  RingReader reader(Readable(*memory), RingReader::From::kOldest);
  for (int64_t i = 1; i <= 6; ++i) PushNumbered(writer, i);
  CHECK((Numbers(reader, 8).size() == 4));
  const uint64_t before = reader.overruns();
  for (const uint64_t head : {uint64_t{2}, kFar, uint64_t{0}, UINT64_MAX, uint64_t{5}}) {
    memory->ring.head->store(head);
    // At most a ring's worth is looked at; only whole records come out of it, and nothing absurd is told of the rest.
    CHECK(reader.overruns() <= before + 20);
    CHECK(Numbers(reader, 8).size() <= 4);
    CHECK(Numbers(reader, 8).empty());
    CHECK(reader.overruns() <= before + 20);
  }
  memory->ring.head->store(6);
  RingWriter again(memory->ring);
  PushNumbered(again, 7);
  const std::vector<int64_t> numbers = Numbers(reader, 8);
  CHECK(!numbers.empty() && numbers.back() == 7);
}

void NeverGivesATornRecordToAnyReader() {
  const auto memory = MakeOwnMemory(5, 64);
  std::atomic<bool> done{false};
  auto read = [&] {
    RingReader reader(Readable(*memory), RingReader::From::kOldest);
    int64_t newest = 0;
    uint64_t taken = 0;
    while (!done) {
      for (const int64_t number : Numbers(reader, 16)) {
        CHECK(number > newest);
        newest = number;
        ++taken;
      }
    }
    for (std::vector<int64_t> rest = Numbers(reader, 64); !rest.empty(); rest = Numbers(reader, 64)) {
      newest = rest.back();
      taken += rest.size();
    }
    CHECK_EQ(taken + reader.overruns(), static_cast<uint64_t>(newest));  // Given or counted, each of them.
  };
  std::thread first(read);
  std::thread second(read);
  RingWriter writer(memory->ring);
  const int64_t end_ns = MonotonicNs() + kNsPerSecond / 5;
  for (int64_t number = 1; MonotonicNs() < end_ns; ++number) PushNumbered(writer, number);
  done = true;
  first.join();
  second.join();
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(GivesEachRecordOnceInOrder);
  RUN(CountsWhatIsOverwritten);
  RUN(ReadersHaveCursorsOfTheirOwn);
  RUN(AWriterGoesOnWhereTheLastOneStopped);
  RUN(SurvivesAHeadThatJumps);
  RUN(NeverGivesATornRecordToAnyReader);
  return 0;
}
