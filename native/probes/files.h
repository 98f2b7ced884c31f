// Files that are read again and again: opened once, then pread() from offset 0, which makes the kernel produce a fresh
// value. Costs about 0.5 µs on a warm attribute; a driver may take milliseconds, or never return: see Sampler.
#ifndef SKOS_PROBES_FILES_H_
#define SKOS_PROBES_FILES_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sampler/reading.h"

namespace skos {

// Owned file descriptor.
class UniqueFd {
 public:
  explicit UniqueFd(int fd = -1) : fd_(fd) {}
  ~UniqueFd() { Reset(); }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void Reset(int fd = -1);
  int Release();

 private:
  int fd_;
};

// What an errno of open, pread or statvfs says about the sensor, by the custom of the kernel's drivers: ENODATA and ENXIO
// are a sensor that is switched off, EAGAIN one without a value yet, ENODEV a device that is gone, EOPNOTSUPP a feature
// that is off (pressure stall information). EIO and whatever else is an error of the device or of ours.
Quality QualityOfErrno(int error);

// All methods in the thread of the hazard domain.
class KeptFile {
 public:
  explicit KeptFile(std::string path) : path_(std::move(path)) {}

  // One pread from `offset` into `buffer`. kOk: *length bytes were read. Otherwise the reason why not.
  Quality ReadAt(int64_t now_ns, off_t offset, char* buffer, size_t capacity, size_t* length);

 private:
  Quality EnsureOpen(int64_t now_ns);
  Quality Open(int64_t now_ns);
  void CloseIfUnlinked(int64_t now_ns);

  UniqueFd fd_;
  // What the last attempt to open said; stands until retry_at_ns_.
  Quality closed_quality_ = Quality::kNoData;
  int64_t retry_at_ns_ = 0;
  // A file in /sys or /proc reports its own removal (ENODEV). Anywhere else an unlinked file reads its last value for
  // ever, which would be an invented reading: looked at now and then.
  bool may_be_unlinked_ = false;
  int64_t look_at_ns_ = 0;
  const std::string path_;
};

// A small file as text, read at most once per tick however many probes ask.
class TextFile {
 public:
  explicit TextFile(std::string path) : file_(std::move(path)) {}

  // `tick` changes when a fresh read is wanted. The text stays valid until the next call with another tick.
  Quality Read(int64_t now_ns, uint64_t tick, std::string_view* text);

 private:
  Quality Refresh(int64_t now_ns);

  KeptFile file_;
  std::vector<char> buffer_;
  size_t length_ = 0;
  Quality quality_ = Quality::kNoData;
  uint64_t tick_ = 0;
};

}  // namespace skos

#endif  // SKOS_PROBES_FILES_H_
