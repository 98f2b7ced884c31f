#include "gpu/detached_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "gpu/devices.h"
#include "gpu/protocol.h"
#include "probes/files.h"

namespace skos::gpu {
namespace {

constexpr size_t kMaxDetached = 4 * kMaxGpus;  // GPUs that are not there at the moment count, too.
constexpr size_t kMaxFileBytes = kMaxDetached * (kMaxAddressBytes + 1);

}  // namespace

void DetachedFile::Read() {
  const UniqueFd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY));
  if (!fd.valid()) return;
  std::string buffer(kMaxFileBytes, '\0');
  const ssize_t length = read(fd.get(), buffer.data(), buffer.size());
  std::string_view text(buffer.data(), length > 0 ? static_cast<size_t>(length) : 0);
  while (!text.empty() && addresses_.size() < kMaxDetached) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (IsAddress(text.substr(0, end))) addresses_.emplace(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

bool DetachedFile::Add(const std::string& address, std::string* why) {
  if (addresses_.size() >= kMaxDetached && !Has(address)) {
    *why = "too many GPUs are detached";
    return false;
  }
  if (addresses_.insert(address).second) Write();
  return true;
}

void DetachedFile::Remove(const std::string& address) {
  if (addresses_.erase(address) != 0) Write();
}

void DetachedFile::Write() const {
  std::string text;
  for (const std::string& address : addresses_) text += address + '\n';
  const std::string next = path_ + ".new";
  const UniqueFd fd(open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  const bool written = fd.valid() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       fsync(fd.get()) == 0 && rename(next.c_str(), path_.c_str()) == 0;
  if (!written) std::fprintf(stderr, "skos-gpu: %s: %s\n", path_.c_str(), std::strerror(errno));
}

}  // namespace skos::gpu
