// What must survive the actuator itself: former values, leases and the event log, in one file of fixed size on tmpfs, mapped
// shared. A store to the map is a nanosecond and survives any death of the process, so the intent stands there before each
// write to a device, also on the real-time path. Records of another boot are abandoned: the kernel forgot its caps too.
#ifndef SKOS_ACTUATOR_STATE_FILE_H_
#define SKOS_ACTUATOR_STATE_FILE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "actuator/allow_list.h"
#include "actuator/device.h"
#include "units/unit_name.h"

namespace skos::actuator {

constexpr size_t kMaxLeases = 1536;  // Three caps on each target.
constexpr size_t kMaxLeaseBytes = 120;
constexpr size_t kEventEntries = 1024;  // A power of two: a slot is seq % entries.

// Of TargetRecord::held.
constexpr uint32_t kProven = 1;    // Read back, or refused.
constexpr uint32_t kUnproven = 2;  // Written or about to be, and nobody has read back yet what the device made of it.

struct TargetRecord {
  char id[kMaxIdBytes + 8];     // "" is a free record.
  char path[kMaxPathBytes + 8];  // With `kind`: a held target can be undone when the allow-list no longer names it.
  Kind kind;
  uint32_t known;            // `former` was read in this boot.
  uint32_t held;             // Not 0: a value of ours may stand in the device. Set before the write.
  Raw former;
  Raw written;
  Raw read_back;
};

struct LeaseRecord {
  char id[kMaxLeaseBytes + 8];  // "" is a free record.
  char target[kMaxIdBytes + 8];
  int64_t cap_ppm;
  int64_t ttl_ns;
  int64_t deadline_ns;  // CLOCK_MONOTONIC, which a restart of the process does not touch.
};

constexpr size_t kMaxKeyBytes = 120;

enum class JobState : uint8_t { kIdle, kRunning, kDone, kFailed, kTimeout, kUnavailable, kUnknown };

// The last run of a job. With its verb and unit: what became of it can be asked when the allow-list no longer names it.
struct JobRecord {
  char id[kMaxIdBytes + 8];  // "" is a free record.
  char key[kMaxKeyBytes + 8];
  char unit[units::kMaxUnitBytes + 8];
  JobVerb verb;
  JobState state;  // Written last: a key whose record is not whole was not asked for yet.
  int64_t timeout_ms;
  int64_t started_ns;  // CLOCK_MONOTONIC.
  int64_t exit;        // kNoExit: none.
};
constexpr int64_t kNoExit = INT64_MIN;

// Whether the sensor of an order on a GPU was read in this boot, and not detached since: who was read and cannot be read counts as hot,
// over a restart of the actuator, too.
struct ReadRecord {
  char sensor[kMaxIdBytes + 40];  // The GPU's address, a blank, the channel; "" is a free record.
  std::atomic<uint32_t> was_read;
};

struct EventRecord {
  int64_t time_ns;  // CLOCK_MONOTONIC.
  char kind[16];
  char subject[kMaxIdBytes + 8];
  char detail[104];
};

// Any thread writes one while the main thread may read it, so that it is written and read by words.
struct EventSlot {
  std::atomic<uint64_t> seq;  // Written last; 0: the slot is being written.
  std::atomic<uint64_t> words[sizeof(EventRecord) / sizeof(uint64_t)];
};
static_assert(sizeof(EventSlot) == sizeof(uint64_t) + sizeof(EventRecord), "a slot holds a whole event");
static_assert(std::atomic<uint64_t>::is_always_lock_free, "an event is written on the real-time path");

class StateFile {
 public:
  // Opens or makes DIR/actuator.state. "" or what is wrong. Main thread.
  std::string Open(const char* directory);

  // Everything is restored and the process leaves: another version may begin anew. Main thread.
  void Leave();

  // All target records. Main thread; the fields behind `held` belong to the target's worker while it has one.
  TargetRecord* targets();
  // The record of this target, or a free one filled for it; nullptr when there is none. Main thread.
  TargetRecord* Claim(const TargetSpec& spec);
  // All lease records. Main thread.
  LeaseRecord* leases();

  // All job records. Main thread.
  JobRecord* jobs();

  // The record of this sensor, or a free one made its own; where none is free, that of a sensor that is not `wanted` any more. nullptr when
  // there is none. Main thread; `was_read` is its watch's.
  ReadRecord* ClaimSensor(const std::string& sensor, const std::vector<std::string>& wanted);

  // Appends an event. Any thread; lock-free. Strings are cut to their fields.
  void Event(const char* kind, const char* subject, const char* detail_format, ...)
      __attribute__((format(printf, 4, 5)));
  uint64_t last_event() const;
  // Copies event `seq`; false when it was overwritten or is not there yet. Main thread.
  bool ReadEvent(uint64_t seq, EventRecord* out) const;
  const char* boot_id() const;

 private:
  struct Layout;
  Layout* map_ = nullptr;  // Lives as long as the process: threads may write events until the end.
};

// CLOCK_MONOTONIC.
int64_t NowNs();

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_STATE_FILE_H_
