#include "actuator/setter_link.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "actuator/allow_list.h"

namespace skos::actuator {
namespace {

constexpr size_t kMaxAnswerBytes = 128;
constexpr int kHighestErrno = 4095;  // MAX_ERRNO of the kernel.

// What stands behind `word` and a blank in *text, up to the next blank; *text loses both.
bool TakeNumber(std::string_view* text, std::string_view word, int64_t* out) {
  if (text->substr(0, word.size()) != word || text->size() <= word.size() || (*text)[word.size()] != ' ') return false;
  text->remove_prefix(word.size() + 1);
  const size_t blank = text->find(' ');
  const std::string_view number = text->substr(0, blank);
  *text = blank == std::string_view::npos ? std::string_view() : text->substr(blank + 1);
  return ParseInteger(number, out);
}

// "err N" as that errno; 0 for anything else.
int ErrorIn(std::string_view answer) {
  int64_t error = 0;
  if (answer.substr(0, 4) != "err ") return 0;
  const bool known = TakeNumber(&answer, "err", &error) && error > 0 && error <= kHighestErrno;
  return known ? static_cast<int>(error) : EPROTO;
}

}  // namespace

int SetterLink::Read(int64_t* value_uw, int64_t* min_uw) {
  char answer[kMaxAnswerBytes];
  if (const int error = Ask("get", answer, sizeof answer)) return error;
  std::string_view rest = answer;
  int64_t max_uw = 0;
  const bool whole = TakeNumber(&rest, "value", value_uw) && TakeNumber(&rest, "min", min_uw) &&
                     TakeNumber(&rest, "max", &max_uw) && rest.empty();
  return whole && *value_uw > 0 && *min_uw >= 0 ? 0 : EPROTO;
}

int SetterLink::Write(int64_t value_uw) {
  char request[32];
  char answer[kMaxAnswerBytes];
  std::snprintf(request, sizeof request, "set %" PRId64, value_uw);
  if (const int error = Ask(request, answer, sizeof answer)) return error;
  return std::strcmp(answer, "ok") == 0 ? 0 : EPROTO;
}

void SetterLink::Close() {
  const int fd = fd_.exchange(-1);
  if (fd >= 0) close(fd);
}

// Closed and opened again meanwhile by its own thread, it is looked at a second later.
bool SetterLink::IsLost() const {
  pollfd look = {fd_.load(), POLLRDHUP, 0};
  return look.fd >= 0 && poll(&look, 1, 0) == 1 && (look.revents & (POLLRDHUP | POLLHUP)) != 0;
}

// A connection that broke since the last request says nothing about this one: its process may have been ended. Nor does one whose
// driver was loaded anew since, which it is told at its next call. Once more, then.
int SetterLink::Ask(const char* request, char* answer, size_t size) {
  const bool was_open = fd_ >= 0;
  int error = Connect();
  if (error == 0) error = Exchange(request, answer, size);
  if (error == 0 && was_open && ErrorIn(answer) == ENODEV) error = EPIPE;
  if (error == EPIPE && was_open) {
    Close();
    error = Connect();
    if (error == 0) error = Exchange(request, answer, size);
  }
  if (error == EPIPE) error = ENODEV;
  if (error == 0) error = ErrorIn(answer);
  // The setter leaves when its driver did, and one that does not speak as agreed is of no use.
  if (error == ENODEV || error == EPROTO) Close();
  return error;
}

int SetterLink::Connect() {
  if (fd_ >= 0) return 0;
  if (!may_open_) return ENODEV;
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path_.c_str());
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    return ENODEV;  // Nobody listens: not installed, or being restarted.
  }
  fd_ = fd;
  char answer[kMaxAnswerBytes];
  int error = Exchange(("open " + open_).c_str(), answer, sizeof answer);
  if (error == 0) error = std::strcmp(answer, "ok") == 0 ? 0 : ErrorIn(answer) != 0 ? ErrorIn(answer) : EPROTO;
  if (error != 0) Close();
  return error;
}

// EPIPE: the other end is gone; the connection is closed.
int SetterLink::Exchange(const char* request, char* answer, size_t size) {
  ssize_t n = -1;
  if (send(fd_, request, std::strlen(request), MSG_NOSIGNAL) >= 0) {
    do {
      n = recv(fd_, answer, size - 1, 0);
    } while (n < 0 && errno == EINTR);
  }
  if (n <= 0) {
    Close();
    return EPIPE;
  }
  answer[n] = '\0';
  return 0;
}

}  // namespace skos::actuator
