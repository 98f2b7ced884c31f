// A client of skos-gpu for tests in TypeScript: lines of standard input are sent as packets, what comes is written as lines.
//
//   gpu-client SOCKET [silent]
//
//   C                                    connected
//   P JSON                               a packet
//   R ADDRESS JSON                       the description of a region that came with the packet before
//   X ADDRESS WHY                        the region was refused
//   D ADDRESS CHANNEL QUALITY VALUE NS   a reading, drained each 10 ms
//   E                                    the end: the other side has closed
//
// silent: reads nothing until its standard input closes, so that its socket fills up.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "gpu/packets.h"
#include "gpu/protocol.h"
#include "sampler/clock.h"
#include "sampler/region.h"

namespace skos {
namespace {

constexpr int kDrainMs = 10;
constexpr int kConnectTries = 100;
constexpr size_t kRecords = 4096;

std::map<std::string, std::unique_ptr<RegionReader>> readers;

int Connect(const char* path) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  // Between bind() and listen() the socket is there and refuses.
  for (int i = 0; i < kConnectTries; ++i) {
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
    poll(nullptr, 0, kDrainMs);
  }
  return -1;
}

std::string AddressIn(std::string_view packet) {
  constexpr std::string_view kKey = "\"address\":\"";
  const size_t start = packet.find(kKey);
  if (start == std::string_view::npos) return "";
  packet.remove_prefix(start + kKey.size());
  return std::string(packet.substr(0, packet.find('"')));
}

void TakeRegion(const std::string& address, int fd) {
  std::string why;
  auto reader = RegionReader::Open(fd, &why);
  if (!reader) {
    std::printf("X %s %s\n", address.c_str(), why.c_str());
    return;
  }
  const std::string description(reader->description());
  std::printf("R %s %s\n", address.c_str(), description.c_str());
  readers[address] = std::move(reader);
}

bool ReceiveAll(int fd) {
  for (;;) {
    char buffer[gpu::kMaxPacketBytes];
    size_t length = 0;
    UniqueFd passed;
    switch (gpu::ReceivePacket(fd, buffer, sizeof buffer, &length, &passed)) {
      case gpu::Received::kNothing:
        return true;
      case gpu::Received::kPacket:
        break;
      default:
        std::printf("E\n");
        return false;
    }
    const std::string_view packet(buffer, length);
    std::printf("P %.*s\n", static_cast<int>(length), buffer);
    if (passed.valid()) TakeRegion(AddressIn(packet), passed.Release());
  }
}

void DrainAll() {
  static const char* const kQualities[] = {"ok", "no_data", "stale", "fault", "hung"};
  static Record records[kRecords];
  for (const auto& [address, reader] : readers) {
    const size_t count = reader->Drain(MonotonicNs(), records, kRecords);
    for (size_t i = 0; i < count; ++i) {
      const Reading& reading = records[i].reading;
      std::printf("D %s %u %s %lld %lld\n", address.c_str(), records[i].channel,
                  kQualities[static_cast<int>(reading.quality)], static_cast<long long>(reading.value),
                  static_cast<long long>(reading.time_ns));
    }
  }
}

// A line may be longer than a packet: then it is sent, and refused.
bool SendLines(int fd) {
  static std::string pending;
  char buffer[65536];
  const ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
  if (n <= 0) return false;
  pending.append(buffer, static_cast<size_t>(n));
  for (size_t end; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1)) {
    if (gpu::SendPacket(fd, std::string_view(pending).substr(0, end), -1, 0) == EPIPE) return false;  // It was dropped.
  }
  return true;
}

int Run(const char* path, bool silent) {
  const int fd = Connect(path);
  if (fd < 0) return 1;
  std::printf("C\n");
  std::fflush(stdout);
  for (;;) {
    pollfd polled[] = {{STDIN_FILENO, POLLIN, 0}, {silent ? -1 : fd, POLLIN, 0}};
    poll(polled, 2, kDrainMs);
    if (polled[0].revents != 0 && !SendLines(fd)) return 0;
    if (polled[1].revents != 0 && !ReceiveAll(fd)) return 0;
    DrainAll();
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace skos

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  return skos::Run(argv[1], argc > 2 && std::strcmp(argv[2], "silent") == 0);
}
