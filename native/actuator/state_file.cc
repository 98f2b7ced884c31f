#include "actuator/state_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace skos::actuator {
namespace {

// Changes with every change of the layout below. A file of this boot with another magic or size is refused, not overwritten:
// it may hold the only record of a former value.
constexpr uint64_t kMagic = 0x33'30'53'4f'4b'53ULL;
// Set in the magic, in every version, by an actuator that left with everything restored: then there is no value to lose.
// scripts/install --uninstall looks at this bit before it removes the file.
constexpr uint64_t kRestored = 1ULL << 63;

void CopyText(char* out, size_t size, const char* text) { std::snprintf(out, size, "%s", text); }

bool ReadBootId(char* out, size_t size) {
  const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t n = read(fd, out, size - 1);
  close(fd);
  if (n < 36) return false;
  out[36] = '\0';
  return true;
}

}  // namespace

struct StateFile::Layout {
  uint64_t magic;
  char boot_id[40];
  std::atomic<uint64_t> last_event;
  TargetRecord targets[kMaxTargets];
  LeaseRecord leases[kMaxLeases];
  JobRecord jobs[kMaxJobs];
  ReadRecord sensors[kMaxOrders];
  EventSlot events[kEventEntries];
};

int64_t NowNs() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::string StateFile::Open(const char* directory) {
  char boot_id[40] = "";
  if (!ReadBootId(boot_id, sizeof boot_id)) return "the kernel's boot id cannot be read";
  const std::string path = std::string(directory) + "/actuator.state";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return path + ": " + std::strerror(errno);
  struct stat status = {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid()) {
    close(fd);
    return path + ": is no regular file of ours";
  }
  const bool whole = status.st_size == static_cast<off_t>(sizeof(Layout));
  char boot_there[sizeof boot_id] = "";
  (void)!pread(fd, boot_there, sizeof boot_there, offsetof(Layout, boot_id));  // Too short to hold one: of no boot.
  const bool this_boot = std::strncmp(boot_there, boot_id, sizeof boot_id) == 0;
  uint64_t magic = 0;
  (void)!pread(fd, &magic, sizeof magic, 0);
  const bool known = this_boot && whole && (magic & ~kRestored) == kMagic;
  if (this_boot && !known && (magic & kRestored) == 0) {
    close(fd);
    return path + ": was written by another version in this boot, and says that caps stand; stop that one, or start it once more if it runs "
                  "no longer: it gives them back when it is stopped (a reboot ends them, too)";
  }
  // ftruncate alone leaves holes, and a full tmpfs would then kill us with SIGBUS at a store: take the pages now.
  int error = whole ? 0 : ftruncate(fd, 0);
  if (error == 0) error = posix_fallocate(fd, 0, sizeof(Layout));
  void* map = error == 0 ? mmap(nullptr, sizeof(Layout), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  close(fd);
  if (map == MAP_FAILED) return path + ": no room for it";
  map_ = static_cast<Layout*>(map);
  if (!known) std::memset(map, 0, sizeof(Layout));
  map_->magic = kMagic;
  if (!known) {
    CopyText(map_->boot_id, sizeof map_->boot_id, boot_id);  // Last: should we be killed in between, it is begun anew.
  }
  return "";
}

void StateFile::Leave() { map_->magic |= kRestored; }

TargetRecord* StateFile::targets() { return map_->targets; }

TargetRecord* StateFile::Claim(const TargetSpec& spec) {
  TargetRecord* free_record = nullptr;
  for (TargetRecord& record : map_->targets) {
    if (spec.id == record.id && spec.kind == record.kind && spec.path == record.path) return &record;
    if (free_record == nullptr && record.id[0] == '\0') free_record = &record;
  }
  if (free_record == nullptr) return nullptr;
  std::memset(static_cast<void*>(free_record), 0, sizeof *free_record);
  CopyText(free_record->path, sizeof free_record->path, spec.path.c_str());
  free_record->kind = spec.kind;
  CopyText(free_record->id, sizeof free_record->id, spec.id.c_str());
  return free_record;
}

LeaseRecord* StateFile::leases() { return map_->leases; }

JobRecord* StateFile::jobs() { return map_->jobs; }

ReadRecord* StateFile::ClaimSensor(const std::string& sensor, const std::vector<std::string>& wanted) {
  ReadRecord* spare = nullptr;
  for (ReadRecord& record : map_->sensors) {
    if (sensor == record.sensor) return &record;
    const bool is_free = record.sensor[0] == '\0';
    const bool is_left = std::find(wanted.begin(), wanted.end(), record.sensor) == wanted.end();
    if (is_free || (spare == nullptr && is_left)) spare = &record;
  }
  if (spare == nullptr) return nullptr;
  spare->was_read.store(0);
  CopyText(spare->sensor, sizeof spare->sensor, sensor.c_str());
  return spare;
}

void StateFile::Event(const char* kind, const char* subject, const char* detail_format, ...) {
  EventRecord record = {};
  record.time_ns = NowNs();
  CopyText(record.kind, sizeof record.kind, kind);
  CopyText(record.subject, sizeof record.subject, subject);
  va_list arguments;
  va_start(arguments, detail_format);
  std::vsnprintf(record.detail, sizeof record.detail, detail_format, arguments);
  va_end(arguments);
  const uint64_t seq = map_->last_event.fetch_add(1) + 1;
  EventSlot& slot = map_->events[seq % kEventEntries];
  slot.seq.store(0);
  // Released each: whoever reads one of these words sees that the slot is being written.
  for (size_t i = 0; i < sizeof slot.words / sizeof slot.words[0]; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, reinterpret_cast<const char*>(&record) + i * sizeof word, sizeof word);
    slot.words[i].store(word, std::memory_order_release);
  }
  slot.seq.store(seq);
}

uint64_t StateFile::last_event() const { return map_->last_event.load(); }

bool StateFile::ReadEvent(uint64_t seq, EventRecord* out) const {
  const EventSlot& slot = map_->events[seq % kEventEntries];
  if (slot.seq.load() != seq) return false;
  for (size_t i = 0; i < sizeof slot.words / sizeof slot.words[0]; ++i) {
    const uint64_t word = slot.words[i].load(std::memory_order_acquire);
    std::memcpy(reinterpret_cast<char*>(out) + i * sizeof word, &word, sizeof word);
  }
  // Overwritten while it was copied: then it is gone.
  return slot.seq.load() == seq;
}

const char* StateFile::boot_id() const { return map_->boot_id; }

}  // namespace skos::actuator
