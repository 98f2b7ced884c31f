#include "sampler/region.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <vector>

#include "probes/files.h"
#include "sampler/clock.h"
#include "sampler/latest.h"
#include "sampler/memory.h"
#include "sampler/region_layout.h"
#include "sampler/ring.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // Linux 6.3; newer than the C library.
#endif

namespace skos {
namespace {

// Without these the file could shrink under a reader's map, and each touch beyond its end would be a SIGBUS.
constexpr int kNeededSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
// A reader's time may be a little older than a reading that came in meanwhile. Whatever is further ahead is no time of ours.
constexpr int64_t kMaxAheadNs = kNsPerSecond;
// Two of the longest periods and the longest deadline; what a region says beyond that is no number of ours.
constexpr int64_t kMaxStaleAfterNs = 2 * 60 * kNsPerSecond + kMaxHungAfterNs;
// A write takes nanoseconds. One that does not end is of a writer that was stopped in it.
constexpr int kLoadTries = 100;

class Mapping {
 public:
  Mapping() = default;
  ~Mapping() {
    if (address_ != MAP_FAILED) munmap(address_, bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  // 0 or an errno. Populated at once, so that no later touch waits for a page.
  int Map(int fd, size_t bytes, int protection) {
    bytes_ = bytes;
    address_ = mmap(nullptr, bytes, protection, MAP_SHARED | MAP_POPULATE, fd, 0);
    return address_ == MAP_FAILED ? errno : 0;
  }

  template <typename T>
  T* At(size_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(address_) + offset);
  }

 private:
  void* address_ = MAP_FAILED;
  size_t bytes_ = 0;
};

bool IsPossible(uint64_t channels, uint64_t ring_records, uint64_t description_bytes, int64_t hung_after_ns) {
  return channels <= kMaxRegionChannels && ring_records >= 1 && ring_records <= kMaxRegionRecords &&
         description_bytes <= kMaxDescriptionBytes && hung_after_ns > 0 && hung_after_ns <= kMaxHungAfterNs;
}

// 0 or an errno.
int MakeFile(size_t bytes, UniqueFd* out) {
  constexpr unsigned int kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  out->Reset(memfd_create("skos-region", kFlags | MFD_NOEXEC_SEAL));
  // Older kernels do not know the flag; hardened ones (vm.memfd_noexec) insist on it.
  if (!out->valid() && errno == EINVAL) out->Reset(memfd_create("skos-region", kFlags));
  if (!out->valid()) return errno;
  if (ftruncate(out->get(), static_cast<off_t>(bytes)) != 0) return errno;
  // All of its memory now: a shortage is an errno here, and would be a SIGBUS later.
  int error;
  do {
    error = posix_fallocate(out->get(), 0, static_cast<off_t>(bytes));
  } while (error == EINTR);
  return error;
}

// 0 or an errno. Nobody but who has mapped it already may write it, where the kernel can say so (Linux 5.1).
int Seal(int fd) {
  if (fcntl(fd, F_ADD_SEALS, kNeededSeals | F_SEAL_FUTURE_WRITE) == 0) return 0;
  if (errno != EINVAL) return errno;
  return fcntl(fd, F_ADD_SEALS, kNeededSeals) == 0 ? 0 : errno;
}

// One copy of a part that is then the reader's own: the writer cannot change what was checked.
bool ReadAt(int fd, size_t offset, void* out, size_t bytes) {
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t n = pread(fd, to, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    to += n;
    offset += static_cast<size_t>(n);
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

std::string Why(const char* what, int error) { return std::string(what) + ": " + strerror(error); }

// "" or what is wrong with it.
std::string ReadShape(int fd, RegionShape* shape) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) return Why("it cannot be sealed", errno);
  if ((seals & kNeededSeals) != kNeededSeals) return "it is not sealed against shrinking and growing";
  struct stat status;
  if (fstat(fd, &status) != 0) return Why("fstat", errno);
  if (!S_ISREG(status.st_mode)) return "it is no file";
  if (status.st_size < static_cast<off_t>(sizeof(RegionHeader))) return "it is shorter than its header";
  if (!ReadAt(fd, 0, shape, sizeof *shape)) return "its header cannot be read";
  if (shape->magic != kRegionMagic) return "it is no region";
  if (shape->version != kRegionVersion) {
    return "its version is " + std::to_string(shape->version) + ", not " + std::to_string(kRegionVersion);
  }
  const bool possible =
      IsPossible(shape->channels, shape->ring_records, shape->description_bytes, shape->hung_after_ns);
  if (!possible) return "its sizes are out of bounds";
  const uint64_t total = RegionOffsets(*shape).total;
  if (shape->total_bytes != total || static_cast<uint64_t>(status.st_size) != total) {
    return "its sizes do not fit the file's";
  }
  return "";
}

}  // namespace

// ---- Writer ---------------------------------------------------------------------------------------------------------

struct RegionWriter::State : SampleMemory {
  Mapping mapping;
  UniqueFd fd;
  RegionHeader* header = nullptr;  // In the mapping.
};

RegionWriter::RegionWriter(std::shared_ptr<State> state) : state_(std::move(state)) {}

RegionWriter::~RegionWriter() = default;

std::unique_ptr<RegionWriter> RegionWriter::Create(const RegionSpec& spec, int* error) {
  RegionShape shape;
  shape.channels = spec.channels;
  shape.ring_records = spec.ring_records;
  shape.description_bytes = spec.description.size();
  shape.hung_after_ns = spec.hung_after_ns;
  if (!IsPossible(shape.channels, shape.ring_records, shape.description_bytes, shape.hung_after_ns)) {
    *error = EINVAL;
    return nullptr;
  }
  const RegionOffsets at(shape);
  shape.total_bytes = at.total;
  auto state = std::make_shared<State>();
  *error = MakeFile(at.total, &state->fd);
  if (*error == 0) *error = state->mapping.Map(state->fd.get(), at.total, PROT_READ | PROT_WRITE);
  if (*error != 0) return nullptr;

  state->header = new (state->mapping.At<void>(0)) RegionHeader;
  state->header->shape = shape;
  state->latest = state->mapping.At<LatestSlot>(at.latest);
  state->channels = spec.channels;
  for (size_t i = 0; i < spec.channels; ++i) new (state->latest + i) LatestSlot;
  state->ring = {state->mapping.At<RingSlot>(at.ring), spec.ring_records, &state->header->ring_head};
  for (size_t i = 0; i < spec.ring_records; ++i) new (state->ring.slots + i) RingSlot;
  memcpy(state->mapping.At<char>(at.description), spec.description.data(), spec.description.size());
  state->header->heartbeat_ns.store(MonotonicNs(), std::memory_order_release);

  *error = Seal(state->fd.get());
  if (*error != 0) return nullptr;
  return std::unique_ptr<RegionWriter>(new RegionWriter(std::move(state)));
}

int RegionWriter::fd() const { return state_->fd.get(); }

void RegionWriter::Beat(int64_t now_ns) { state_->header->heartbeat_ns.store(now_ns, std::memory_order_release); }

std::shared_ptr<SampleMemory> RegionWriter::memory() const { return state_; }

// ---- Reader ---------------------------------------------------------------------------------------------------------

namespace {

// A reading that other code may rely on, whatever stood in the region.
Reading Checked(const Reading& raw, int64_t now_ns) {
  if (raw.time_ns < 0 || raw.time_ns - kMaxAheadNs > now_ns) return {0, now_ns, Quality::kFault};
  if (raw.quality > Quality::kHung) return {0, raw.time_ns, Quality::kFault};
  return {raw.quality == Quality::kOk ? raw.value : 0, raw.time_ns, raw.quality};
}

Reading Judged(const LatestSlot& slot, const Reading& raw, int64_t now_ns) {
  const int64_t stale_after_ns = std::clamp(slot.stale_after_ns(), int64_t{0}, kMaxStaleAfterNs);
  return OrStale(Checked(raw, now_ns), now_ns, stale_after_ns);
}

bool HasStopped(const RegionHeader& header, int64_t now_ns, int64_t hung_after_ns) {
  const int64_t beat_ns = header.heartbeat_ns.load(std::memory_order_acquire);
  return beat_ns < 0 || beat_ns - kMaxAheadNs > now_ns || now_ns - beat_ns > hung_after_ns;
}

// False: a write did not end; *out is as it was.
bool Load(const LatestSlot& slot, Reading* out) {
  Reading raw;
  for (int tries = 0; tries < kLoadTries; ++tries) {
    if (!slot.TryLoad(&raw)) continue;
    *out = raw;
    return true;
  }
  return false;
}

}  // namespace

struct RegionReader::State {
  State(const RegionShape& shape, std::unique_ptr<Mapping> mapped);

  bool IsHung(int64_t now_ns) const { return HasStopped(*header, now_ns, hung_after_ns); }
  void Look(size_t channel) { Load(latest[channel], &last[channel]); }
  bool Accept(Record* record, int64_t now_ns);
  size_t Greet(int64_t now_ns, Record* out, size_t max);
  size_t DrainRing(int64_t now_ns, Record* out, size_t max, bool* empty);
  size_t TellHung(int64_t now_ns, Record* out, size_t max);

  const std::unique_ptr<Mapping> mapping;
  const size_t channels;
  const size_t ring_records;
  const int64_t hung_after_ns;
  const RegionHeader* const header;  // Only its atomics are looked at.
  const LatestSlot* const latest;
  RingReader ring;
  std::string description;
  std::vector<Reading> last;      // Raw: what each slot held last; stands in for one whose write does not end.
  std::vector<Reading> greeting;  // Raw: what they held at Open().
  size_t greeted = 0;             // Channels whose greeting Drain() has considered.
  std::vector<int64_t> told_ns;   // The time of the newest record that Drain() gave of each channel.
  size_t told_hung = 0;           // Channels that gave their kHung record since the writer beat last.
  uint64_t refused = 0;           // Records that came out of the ring and not out of Drain().
};

RegionReader::State::State(const RegionShape& shape, std::unique_ptr<Mapping> mapped)
    : mapping(std::move(mapped)),
      channels(shape.channels),
      ring_records(shape.ring_records),
      hung_after_ns(shape.hung_after_ns),
      header(mapping->At<const RegionHeader>(0)),
      latest(mapping->At<const LatestSlot>(RegionOffsets(shape).latest)),
      ring({mapping->At<const RingSlot>(RegionOffsets(shape).ring), shape.ring_records, &header->ring_head},
           RingReader::From::kNow),
      last(shape.channels),
      told_ns(shape.channels, 0) {
  for (size_t i = 0; i < channels; ++i) Look(i);
  greeting = last;
}

// False for a record that must not come out.
bool RegionReader::State::Accept(Record* record, int64_t now_ns) {
  if (record->channel >= channels) {
    ++refused;
    return false;
  }
  record->reading = Checked(record->reading, now_ns);
  int64_t& newest_ns = told_ns[record->channel];
  if (record->reading.time_ns <= newest_ns) {
    // What the greeting said already is not lost.
    if (record->reading.time_ns > greeting[record->channel].time_ns) ++refused;
    return false;
  }
  newest_ns = record->reading.time_ns;
  return true;
}

size_t RegionReader::State::Greet(int64_t now_ns, Record* out, size_t max) {
  size_t count = 0;
  for (; greeted < channels && count < max; ++greeted) {
    out[count] = {static_cast<uint32_t>(greeted), Judged(latest[greeted], greeting[greeted], now_ns)};
    // Never read, or overdue: that is no record of any time.
    if (out[count].reading.time_ns == 0 || out[count].reading.quality == Quality::kStale) continue;
    if (Accept(out + count, now_ns)) ++count;
  }
  return count;
}

size_t RegionReader::State::DrainRing(int64_t now_ns, Record* out, size_t max, bool* empty) {
  size_t count = 0;
  size_t left = ring_records;  // A writer that is faster than this call must not keep it.
  *empty = false;
  while (count < max && left > 0) {
    const size_t wanted = std::min(max - count, left);
    const size_t got = ring.Drain(out + count, wanted);
    left -= got;
    size_t kept = count;
    for (size_t i = 0; i < got; ++i) {
      Record record = out[count + i];
      if (Accept(&record, now_ns)) out[kept++] = record;
    }
    count = kept;
    *empty = got < wanted;
    if (*empty) break;
  }
  return count;
}

size_t RegionReader::State::TellHung(int64_t now_ns, Record* out, size_t max) {
  size_t count = 0;
  for (; told_hung < channels && count < max; ++told_hung, ++count) {
    int64_t& newest_ns = told_ns[told_hung];
    newest_ns = std::max(newest_ns + 1, now_ns);
    out[count] = {static_cast<uint32_t>(told_hung), {0, newest_ns, Quality::kHung}};
  }
  return count;
}

RegionReader::RegionReader(std::unique_ptr<State> state) : state_(std::move(state)) {}

RegionReader::~RegionReader() = default;

std::unique_ptr<RegionReader> RegionReader::Open(int fd, std::string* why) {
  const UniqueFd owned(fd);
  RegionShape shape;
  *why = ReadShape(fd, &shape);
  if (!why->empty()) return nullptr;
  std::string description(shape.description_bytes, '\0');
  if (!ReadAt(fd, RegionOffsets(shape).description, description.data(), description.size())) {
    *why = "its description cannot be read";
    return nullptr;
  }
  auto mapping = std::make_unique<Mapping>();
  if (const int error = mapping->Map(fd, shape.total_bytes, PROT_READ)) {
    *why = Why("mmap", error);
    return nullptr;
  }
  auto state = std::make_unique<State>(shape, std::move(mapping));
  state->description = std::move(description);
  return std::unique_ptr<RegionReader>(new RegionReader(std::move(state)));
}

std::string_view RegionReader::description() const { return state_->description; }

size_t RegionReader::channel_count() const { return state_->channels; }

void RegionReader::Latest(int64_t now_ns, Reading* out) {
  const bool hung = state_->IsHung(now_ns);
  for (size_t i = 0; i < state_->channels; ++i) {
    state_->Look(i);
    out[i] = hung ? Reading{0, now_ns, Quality::kHung} : Judged(state_->latest[i], state_->last[i], now_ns);
  }
}

size_t RegionReader::Drain(int64_t now_ns, Record* out, size_t max) {
  const bool hung = state_->IsHung(now_ns);
  if (!hung) state_->told_hung = 0;
  size_t count = 0;
  // Once it was told that the writer hangs, what it may still write waits until it beats again.
  if (state_->told_hung == 0) {
    bool empty = false;
    count = state_->Greet(now_ns, out, max);
    count += state_->DrainRing(now_ns, out + count, max - count, &empty);
    if (!empty) return count;
  }
  return hung ? count + state_->TellHung(now_ns, out + count, max - count) : count;
}

uint64_t RegionReader::overruns() const { return state_->ring.overruns() + state_->refused; }

// ---- Latest readings alone --------------------------------------------------------------------------------------------

struct LatestReader::State {
  Mapping mapping;
  size_t channels = 0;
  int64_t hung_after_ns = 0;
  const RegionHeader* header = nullptr;  // Only its atomics are looked at.
  const LatestSlot* latest = nullptr;
  std::vector<Reading> last;  // Raw: stands in for a slot whose write does not end.
};

LatestReader::LatestReader(std::unique_ptr<State> state) : state_(std::move(state)) {}

LatestReader::~LatestReader() = default;

std::unique_ptr<LatestReader> LatestReader::Open(int fd, size_t max_description, std::string* description, std::string* why) {
  const UniqueFd owned(fd);
  RegionShape shape;
  *why = ReadShape(fd, &shape);
  if (!why->empty()) return nullptr;
  if (shape.description_bytes > max_description) {
    *why = "its description is too long";
    return nullptr;
  }
  const RegionOffsets at(shape);
  description->assign(shape.description_bytes, '\0');
  if (!ReadAt(fd, at.description, description->data(), description->size())) {
    *why = "its description cannot be read";
    return nullptr;
  }
  auto state = std::make_unique<State>();
  if (const int error = state->mapping.Map(fd, at.ring, PROT_READ)) {
    *why = Why("mmap", error);
    return nullptr;
  }
  state->channels = shape.channels;
  state->hung_after_ns = shape.hung_after_ns;
  state->header = state->mapping.At<const RegionHeader>(0);
  state->latest = state->mapping.At<const LatestSlot>(at.latest);
  state->last.resize(shape.channels);
  return std::unique_ptr<LatestReader>(new LatestReader(std::move(state)));
}

size_t LatestReader::channel_count() const { return state_->channels; }

Reading LatestReader::Read(int64_t now_ns, size_t channel) {
  if (HasStopped(*state_->header, now_ns, state_->hung_after_ns)) return {0, now_ns, Quality::kHung};
  const LatestSlot& slot = state_->latest[channel];
  Load(slot, &state_->last[channel]);
  return Judged(slot, state_->last[channel], now_ns);
}

}  // namespace skos
