#include "probes/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sampler/clock.h"

namespace skos {
namespace {

constexpr int64_t kReopenNs = kNsPerSecond;        // A missing file costs one failed stat a second.
constexpr int64_t kUnlinkedLookNs = kNsPerSecond / 2;  // fstat costs a third of a read, ten times a second or more.
constexpr size_t kFirstTextBytes = 4096;           // Most of /proc fits.
constexpr size_t kMaxTextBytes = 256 * 1024;       // /proc/stat of a machine with 1024 CPUs and many interrupts.

bool OnKernelFileSystem(int fd) {
  struct statfs status;
  if (fstatfs(fd, &status) != 0) return false;
  return status.f_type == SYSFS_MAGIC || status.f_type == PROC_SUPER_MAGIC || status.f_type == CGROUP2_SUPER_MAGIC ||
         status.f_type == CGROUP_SUPER_MAGIC;
}

// The file behind the descriptor is gone: only opening again can bring a value back.
bool IsGone(int error) { return error == ENODEV || error == ENOENT || error == ESTALE; }

}  // namespace

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

int UniqueFd::Release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

Quality QualityOfErrno(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENXIO:
    case ENODEV:
    case ENODATA:
    case ESTALE:
    case EAGAIN:
    case EOPNOTSUPP:
      return Quality::kNoData;
    default:
      return Quality::kFault;
  }
}

Quality KeptFile::ReadAt(int64_t now_ns, off_t offset, char* buffer, size_t capacity, size_t* length) {
  if (may_be_unlinked_ && now_ns >= look_at_ns_) CloseIfUnlinked(now_ns);
  if (!fd_.valid()) {
    const Quality quality = EnsureOpen(now_ns);
    if (quality != Quality::kOk) return quality;
  }
  ssize_t n;
  do {
    // Not libc's pread(): as a cancellation point it costs 4 % more in a program with threads.
    n = syscall(SYS_pread64, fd_.get(), buffer, capacity, offset);
  } while (n < 0 && errno == EINTR);
  if (n >= 0) {
    *length = static_cast<size_t>(n);
    return Quality::kOk;
  }
  const int error = errno;
  if (IsGone(error)) {
    fd_.Reset();
    closed_quality_ = Quality::kNoData;
    retry_at_ns_ = now_ns + kReopenNs;
  }
  return QualityOfErrno(error);
}

Quality KeptFile::EnsureOpen(int64_t now_ns) {
  if (now_ns < retry_at_ns_) return closed_quality_;
  closed_quality_ = Open(now_ns);
  if (closed_quality_ != Quality::kOk) {
    fd_.Reset();
    retry_at_ns_ = now_ns + kReopenNs;
  }
  return closed_quality_;
}

Quality KeptFile::Open(int64_t now_ns) {
  struct stat status;
  // Before open(), because opening a device node has effects of its own; after it again, because a path may change.
  if (stat(path_.c_str(), &status) != 0) return QualityOfErrno(errno);
  if (!S_ISREG(status.st_mode)) return Quality::kFault;
  // O_NONBLOCK: a FIFO that took the file's place meanwhile must not block the sampler.
  fd_.Reset(open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (!fd_.valid()) return QualityOfErrno(errno);
  if (fstat(fd_.get(), &status) != 0) return QualityOfErrno(errno);
  if (!S_ISREG(status.st_mode)) return Quality::kFault;
  may_be_unlinked_ = !OnKernelFileSystem(fd_.get());
  look_at_ns_ = now_ns + kUnlinkedLookNs;
  return Quality::kOk;
}

void KeptFile::CloseIfUnlinked(int64_t now_ns) {
  look_at_ns_ = now_ns + kUnlinkedLookNs;
  struct stat status;
  if (!fd_.valid() || (fstat(fd_.get(), &status) == 0 && status.st_nlink > 0)) return;
  // Opened again at once: a file that was replaced by rename() is there already.
  fd_.Reset();
  retry_at_ns_ = 0;
}

Quality TextFile::Read(int64_t now_ns, uint64_t tick, std::string_view* text) {
  if (tick != tick_) {
    tick_ = tick;
    quality_ = Refresh(now_ns);
  }
  *text = std::string_view(buffer_.data(), quality_ == Quality::kOk ? length_ : 0);
  return quality_;
}

Quality TextFile::Refresh(int64_t now_ns) {
  length_ = 0;
  for (;;) {
    // Grows in the first reads only, so that sampling does not allocate.
    if (length_ == buffer_.size()) {
      if (length_ >= kMaxTextBytes) return Quality::kFault;
      buffer_.resize(buffer_.empty() ? kFirstTextBytes : buffer_.size() * 2);
    }
    size_t got = 0;
    const Quality quality = file_.ReadAt(now_ns, static_cast<off_t>(length_), buffer_.data() + length_,
                                         buffer_.size() - length_, &got);
    if (quality != Quality::kOk) return quality;
    // seq_files of several records (/proc/net/dev) come in pieces: only an empty read is the end.
    if (got == 0) return Quality::kOk;
    length_ += got;
  }
}

}  // namespace skos
