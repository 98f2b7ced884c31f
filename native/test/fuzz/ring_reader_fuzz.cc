// A region of another process, which may hold anything and change under the reader: the fuzzer is the writer. Either its bytes
// are the file as a whole, or the header is put right, so that they come to the slots, which it goes on to change between reads.
//
// Whatever stands there, RegionReader gives only channels that are there, known qualities, no value but with kOk, times that
// are not to come, and each channel's records in order of time.
#include <fcntl.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "probes/files.h"
#include "sampler/clock.h"
#include "sampler/region.h"
#include "sampler/region_layout.h"

namespace skos {
namespace {

constexpr int64_t kAheadNs = kNsPerSecond;  // What the reader lets pass.
constexpr size_t kMaxBatch = 16;
constexpr size_t kMaxSteps = 64;

void Require(bool condition) {
  if (!condition) std::abort();
}

// The writer's side: a memfd with these bytes, sealed, still writable through the map.
class Region {
 public:
  explicit Region(const std::vector<uint8_t>& bytes) : bytes_(bytes.size()), fd_(memfd_create("fuzz", MFD_ALLOW_SEALING)) {
    Require(fd_.valid());
    Require(write(fd_.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    map_ = static_cast<uint8_t*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
    Require(map_ != MAP_FAILED);
    Require(fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
  }
  ~Region() { munmap(map_, bytes_); }

  int TakeFd() { return fd_.Release(); }
  void Poke(size_t offset, uint64_t value) {
    if (offset + sizeof value <= bytes_) std::memcpy(map_ + offset, &value, sizeof value);
  }

 private:
  const size_t bytes_;
  UniqueFd fd_;
  uint8_t* map_;
};

std::vector<uint8_t> WithHeader(FuzzedDataProvider& data) {
  RegionShape shape;
  shape.channels = data.ConsumeIntegralInRange<uint64_t>(0, 6);
  shape.ring_records = data.ConsumeIntegralInRange<uint64_t>(1, 12);
  shape.description_bytes = data.ConsumeIntegralInRange<uint64_t>(0, 8);
  shape.hung_after_ns = data.ConsumeIntegralInRange<int64_t>(1, kMaxHungAfterNs);
  shape.total_bytes = RegionOffsets(shape).total;
  std::vector<uint8_t> bytes(shape.total_bytes);
  std::memcpy(bytes.data(), &shape, sizeof shape);
  const std::vector<uint8_t> body = data.ConsumeBytes<uint8_t>(data.ConsumeIntegralInRange<size_t>(0, bytes.size() - sizeof shape));
  if (!body.empty()) std::memcpy(bytes.data() + sizeof shape, body.data(), body.size());
  return bytes;
}

void CheckReading(const Reading& reading, int64_t now_ns) {
  Require(reading.quality <= Quality::kHung);
  Require(reading.quality == Quality::kOk || reading.value == 0);
  Require(reading.time_ns >= 0 && reading.time_ns <= now_ns + kAheadNs);
}

// Numbers that reach every branch: small, close to the head, and any.
uint64_t SomeNumber(FuzzedDataProvider& data, int64_t now_ns) {
  switch (data.ConsumeIntegralInRange<int>(0, 3)) {
    case 0:
      return data.ConsumeIntegralInRange<uint64_t>(0, 32);
    case 1:
      return static_cast<uint64_t>(now_ns - data.ConsumeIntegralInRange<int64_t>(-2 * kAheadNs, now_ns));
    case 2:
      return UINT64_MAX - data.ConsumeIntegralInRange<uint64_t>(0, 32);
    default:
      return data.ConsumeIntegral<uint64_t>();
  }
}

void ReadIt(FuzzedDataProvider& data, Region& region, RegionReader& reader) {
  int64_t now_ns = 1000 * kNsPerSecond;
  std::vector<Reading> latest(reader.channel_count());
  std::vector<int64_t> newest_ns(reader.channel_count(), INT64_MIN);
  Record records[kMaxBatch];
  for (size_t step = 0; step < kMaxSteps && data.remaining_bytes() > 0; ++step) {
    switch (data.ConsumeIntegralInRange<int>(0, 3)) {
      case 0:
        reader.Latest(now_ns, latest.data());
        for (const Reading& reading : latest) CheckReading(reading, now_ns);
        break;
      case 1: {
        const size_t max = data.ConsumeIntegralInRange<size_t>(0, kMaxBatch);
        const size_t count = reader.Drain(now_ns, records, max);
        Require(count <= max);
        for (size_t i = 0; i < count; ++i) {
          Require(records[i].channel < reader.channel_count());
          // Each kHung record comes after what was given before, which may have been a little ahead.
          CheckReading(records[i].reading, now_ns + 1);
          Require(records[i].reading.time_ns > newest_ns[records[i].channel]);
          newest_ns[records[i].channel] = records[i].reading.time_ns;
        }
        static_cast<void>(reader.overruns());
        break;
      }
      case 2:
        now_ns += data.ConsumeIntegralInRange<int64_t>(0, 2 * kNsPerSecond);
        break;
      default:
        region.Poke(8 * data.ConsumeIntegralInRange<size_t>(0, 128), SomeNumber(data, now_ns));
    }
  }
}

}  // namespace
}  // namespace skos

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace skos;
  FuzzedDataProvider data(bytes, size);
  const std::vector<uint8_t> content =
      data.ConsumeBool() ? WithHeader(data) : data.ConsumeBytes<uint8_t>(data.ConsumeIntegralInRange<size_t>(0, 4096));
  if (content.empty()) return 0;
  Region region(content);
  std::string why;
  const std::unique_ptr<RegionReader> reader = RegionReader::Open(region.TakeFd(), &why);
  Require((reader == nullptr) == !why.empty());
  if (reader != nullptr) ReadIt(data, region, *reader);
  return 0;
}
