// The follower of the kernel's log against doubles of /dev/kmsg: a packet socket (a record a read, as the device gives
// them), pipes and a growing file (records as lines), a read that answers what no file can be made to; and
// the device itself where this may be opened.
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "probes/kmsg.h"
#include "probes/kmsg_log.h"
#include "sampler/clock.h"
#include "test/check.h"
#include "test/temp_dir.h"

namespace skos::test {
namespace {

constexpr int64_t kPatienceNs = 20 * kNsPerSecond;

std::string Line(uint64_t sequence, const std::string& text, int priority = 4) {
  return std::to_string(priority) + "," + std::to_string(sequence) + ",1000000,-;" + text + "\n";
}

std::string Xid(uint64_t sequence, int code, const std::string& pid = "1234") {
  return Line(sequence, "NVRM: Xid (PCI:0000:3b:00): " + std::to_string(code) + ", pid=" + pid + ", name=python, Ch 00000012");
}

// A follower and what it has told so far.
class Following {
 public:
  explicit Following(KmsgLog::Options options) {
    options.on_ready = [wakes = wakes_] { ++*wakes; };
    int error = 0;
    log_ = KmsgLog::Start(std::move(options), &error);
    CHECK_EQ(error, 0);
  }
  ~Following() { log_->Stop(); }

  template <typename Condition>
  void Until(const char* what, Condition condition) {
    const int64_t end_ns = MonotonicNs() + kPatienceNs;
    while (!condition()) {
      if (MonotonicNs() > end_ns) Fail(__FILE__, __LINE__, std::string("not in time: ") + what);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      Gather();
    }
  }

  void Gather() {
    KmsgBatch batch = log_->Take();
    for (QueuedEvent& event : batch.events) {
      lines += event.count;
      events.push_back(std::move(event));
    }
    overwritten += batch.overwritten;
    dropped += batch.dropped;
    error = batch.error;
    sequence = batch.sequence;
  }

  int wakes() const { return *wakes_; }

  std::vector<QueuedEvent> events;
  uint64_t lines = 0;
  uint64_t overwritten = 0;
  uint64_t dropped = 0;
  uint64_t sequence = kNoSequence;
  int error = 0;

 private:
  std::shared_ptr<std::atomic<int>> wakes_ = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<KmsgLog> log_;
};

KmsgLog::Options From(int fd) {
  KmsgLog::Options options;
  options.fd = fd;
  return options;
}

// ---- Records ----------------------------------------------------------------------------------------------------------

void ReadsARecordOfTheKernel() {
  KmsgRecord record;
  CHECK(ParseKmsgRecord("6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n DEVICE=n5\n", &record));
  CHECK_EQ(record.facility, 0u);
  CHECK_EQ(record.level, 6u);
  CHECK_EQ(record.sequence, uint64_t{339});
  CHECK_EQ(record.time_us, int64_t{5140900});
  CHECK_EQ(std::string(record.text), std::string("NET: Registered protocol family 10"));
  CHECK(ParseKmsgRecord("12,1,2,-,caller=T1;x", &record));
  CHECK_EQ(record.facility, 1u);
  CHECK(ParseKmsgRecord("6,1,2,c;fragment", &record) && record.fragment);
}

void RefusesWhatTheKernelDoesNotWrite() {
  KmsgRecord record;
  for (const char* bytes : {"", ";", "6;text", "6,1;text", "6,1,2;text", "6,1,2,;text", "-6,1,2,-;text", "6, 1,2,-;text",
                            "6,99999999999999999999999,2,-;text", "6,1,2,-", "99999999999,1,2,-;x", "a,b,c,d;e"})
    if (ParseKmsgRecord(bytes, &record)) Fail(__FILE__, __LINE__, bytes);
}

void UndoesEscapesAndReplacesWhatCannotBePrinted() {
  char out[64];
  const auto undone = [&out](std::string_view text, size_t capacity = sizeof out) {
    return std::string(out, UnescapeKmsg(text, out, capacity));
  };
  CHECK_EQ(undone("a\\x0ab\\x5cc"), std::string("a b\\c"));
  CHECK_EQ(undone("\\x1b[31m\\xc3\\xa4"), std::string("?[31m??"));
  CHECK_EQ(undone("\\x", 64), std::string("\\x"));
  CHECK_EQ(undone("\\xzz\\x4"), std::string("\\xzz\\x4"));
  CHECK_EQ(undone(std::string(100, 'a'), 3), std::string("aaa"));
}

// ---- Doubles of the device ----------------------------------------------------------------------------------------------

struct PacketPair {
  PacketPair() { CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, both), 0); }
  ~PacketPair() { close(both[1]); }
  void Write(const std::string& record) const {
    CHECK_EQ(send(both[1], record.data(), record.size(), MSG_NOSIGNAL), static_cast<ssize_t>(record.size()));
  }
  int both[2];
};

void TellsAnEventOfAPacketSocket() {
  PacketPair kernel;
  Following now(From(kernel.both[0]));
  kernel.Write(Line(1, "usb 1-4: new device"));
  kernel.Write(Xid(2, 79) + " SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0\n");
  now.Until("an event", [&] { return now.events.size() == 1; });
  CHECK_EQ(now.events[0].code, 79u);
  CHECK_EQ(now.events[0].address, std::string("0000:3b:00.0"));
  CHECK_EQ(now.sequence, uint64_t{2});
  CHECK(MonotonicNs() - now.events[0].at_ns < kPatienceNs);
}

void TellsAnEventOfAPacketPipe() {
  int both[2];
  CHECK_EQ(pipe2(both, O_DIRECT | O_CLOEXEC), 0);
  Following now(From(both[0]));
  for (const std::string& record : {Xid(5, 31), Xid(6, 95)})
    CHECK_EQ(write(both[1], record.data(), record.size()), static_cast<ssize_t>(record.size()));
  now.Until("both", [&] { return now.events.size() == 2; });
  close(both[1]);
}

void TellsEventsOfAFifoWhoseRecordsComeInPieces() {
  TempDir directory;
  const std::string path = directory.File("kmsg");
  CHECK_EQ(mkfifo(path.c_str(), 0600), 0);
  // Nobody writes yet: neither opening nor reading may wait for somebody.
  Following now(From(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)));
  for (int round = 0; round < 2; ++round) {
    const int writer = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    CHECK(writer >= 0);
    const std::string all = Xid(1 + 2 * round, 31 + round) + " DEVICE=x\n" + Xid(2 + 2 * round, 94 + round);
    for (const char c : all) CHECK_EQ(write(writer, &c, 1), ssize_t{1});
    close(writer);  // A writer that leaves is no end: the next one may come.
    now.Until("two more", [&] { return now.events.size() == static_cast<size_t>(2 * round + 2); });
  }
}

void FollowsAFileThatGrowsFromItsEnd() {
  TempDir directory;
  const std::string path = directory.Write("kmsg", Xid(1, 31));
  Following now(From(open(path.c_str(), O_RDONLY | O_CLOEXEC)));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  std::ofstream(path, std::ios::app) << Xid(2, 79);
  now.Until("the new one", [&] { return !now.events.empty(); });
  CHECK_EQ(now.events[0].code, 79u);
}

void BelievesOnlyTheKernel() {
  PacketPair kernel;
  Following now(From(kernel.both[0]));
  // Facility 1 is what user space gets; 3 is a daemon's.
  kernel.Write(Line(1, "NVRM: Xid (PCI:0000:3b:00): 79", 12));
  kernel.Write(Line(2, "NVRM: Xid (PCI:0000:3b:00): 79", 27));
  kernel.Write(Xid(3, 64));
  now.Until("the kernel's", [&] { return now.sequence == 3; });
  CHECK_EQ(now.events.size(), size_t{1});
  CHECK_EQ(now.events[0].code, 64u);
}

void GoesOnBehindTheLastRecordOfAnEarlierLife() {
  PacketPair kernel;
  KmsgLog::Options options = From(kernel.both[0]);
  options.after = 10;
  Following now(std::move(options));
  for (uint64_t sequence = 8; sequence <= 12; ++sequence) kernel.Write(Xid(sequence, static_cast<int>(sequence) + 20));
  now.Until("the last", [&] { return now.sequence == 12; });
  CHECK_EQ(now.events.size(), size_t{2});
  CHECK_EQ(now.events[0].code, 31u);
  CHECK_EQ(now.overwritten, uint64_t{0});
}

void CountsWhatWasOverwrittenWhileNobodyRead() {
  PacketPair kernel;
  KmsgLog::Options options = From(kernel.both[0]);
  options.after = 10;
  Following now(std::move(options));
  kernel.Write(Xid(500, 79));
  now.Until("the event", [&] { return now.events.size() == 1; });
  CHECK_EQ(now.overwritten, uint64_t{489});
}

// Answers EPIPE once after the third record, as the kernel does when its buffer went round.
ssize_t OverwritingRead(int fd, void* buffer, size_t size) {
  static std::atomic<int> calls{0};
  if (++calls == 4) {
    errno = EPIPE;
    return -1;
  }
  return read(fd, buffer, size);
}

void CountsWhatTheKernelOverwrote() {
  PacketPair kernel;
  for (const uint64_t sequence : {1, 2, 3, 103}) kernel.Write(Xid(sequence, 31));
  KmsgLog::Options options = From(kernel.both[0]);
  options.read = OverwritingRead;
  options.from_start = true;
  Following now(std::move(options));
  now.Until("the last", [&] { return now.sequence == 103; });
  CHECK_EQ(now.overwritten, uint64_t{99});
  CHECK_EQ(now.lines, uint64_t{4});
  CHECK_EQ(now.error, 0);
}

void SurvivesGarbage() {
  PacketPair kernel;
  Following now(From(kernel.both[0]));
  kernel.Write(std::string("\0\xff\x80;;;;\n", 8));
  kernel.Write(std::string(8000, 'x'));
  kernel.Write("4,1,2,-;" + std::string(8000, '\\'));
  kernel.Write("4,2,2,-;NVRM: Xid (PCI:");
  kernel.Write(Xid(3, 79));
  now.Until("the event", [&] { return now.events.size() == 1; });
  CHECK_EQ(now.error, 0);
}

void SurvivesAStreamWithoutAnEnd() {
  int both[2];
  CHECK_EQ(pipe2(both, O_CLOEXEC), 0);
  Following now(From(both[0]));
  const std::string junk(40'000, 'j');
  CHECK_EQ(write(both[1], junk.data(), junk.size()), static_cast<ssize_t>(junk.size()));
  const std::string record = "\n" + Xid(1, 79);
  CHECK_EQ(write(both[1], record.data(), record.size()), static_cast<ssize_t>(record.size()));
  now.Until("the event", [&] { return now.events.size() == 1; });
  close(both[1]);
}

void SaysWhyItEnded() {
  PacketPair kernel;
  Following now(From(kernel.both[0]));
  shutdown(kernel.both[1], SHUT_RDWR);
  now.Until("the end", [&] { return now.error != 0; });
  CHECK_EQ(now.error, ENODATA);
  TempDir directory;
  Following other(From(open(directory.File("").c_str(), O_RDONLY | O_DIRECTORY)));
  other.Until("the end", [&] { return other.error != 0; });
  CHECK_EQ(other.error, EISDIR);
}

void KeepsABoundOnWhatNobodyTakes() {
  PacketPair kernel;
  Following now(From(kernel.both[0]));
  // Equal ones are one entry; what tells them apart here is the code.
  for (int i = 1; i <= 600; ++i) kernel.Write(Xid(static_cast<uint64_t>(i), i));
  const int64_t end_ns = MonotonicNs() + kPatienceNs;
  while (now.wakes() == 0 && MonotonicNs() < end_ns) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  now.Gather();
  CHECK_EQ(now.events.size(), kMaxQueuedEvents);
  now.Until("the rest as dropped", [&] { return now.dropped + now.events.size() == 600; });
}

void TellsApartWhatIsNotTheSame() {
  PacketPair kernel;
  Following now(From(kernel.both[0]));
  kernel.Write(Line(1, "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"));
  kernel.Write(Line(2, "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"));
  kernel.Write(Line(3, "I/O error, dev sda, sector 1"));
  kernel.Write(Line(4, "I/O error, dev sdb, sector 1"));
  kernel.Write(Xid(5, 31, "1"));
  kernel.Write(Xid(6, 31, "2"));
  now.Until("all", [&] { return now.sequence == 6; });
  CHECK_EQ(now.lines, uint64_t{6});
  uint32_t most = 0;
  for (const QueuedEvent& event : now.events) most = std::max(most, event.count);
  // The process does not tell two Xids apart; they are one when nobody took in between.
  CHECK(now.events.size() >= 5 && most <= 2);
}

// ---- Cost -------------------------------------------------------------------------------------------------------------

void CostsLittleInABurst() {
  constexpr int kLines = 5000;
  TempDir directory;
  std::string all;
  for (int i = 1; i <= kLines; ++i) all += Xid(static_cast<uint64_t>(i), 31, std::to_string(i));
  const std::string path = directory.Write("kmsg", all);
  rusage before;
  getrusage(RUSAGE_SELF, &before);
  KmsgLog::Options options = From(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  options.from_start = true;
  Following now(std::move(options));
  while (now.lines < kLines) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    now.Gather();
  }
  rusage after;
  getrusage(RUSAGE_SELF, &after);
  const auto cpu_ms = [](const rusage& usage) {
    return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
           static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
  };
  std::printf("    %d lines: %.1f ms of CPU, %zu entries, %d wakes\n", kLines, cpu_ms(after) - cpu_ms(before),
              now.events.size(), now.wakes());
  CHECK(now.wakes() <= 1 + static_cast<int>((cpu_ms(after) - cpu_ms(before)) / 50) + 4);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(cpu_ms(after) - cpu_ms(before) < 50);
#endif
}

void StopsAtOnceWhileItReads() {
  for (int i = 0; i < 50; ++i) {
    PacketPair kernel;
    Following now(From(kernel.both[0]));
    for (int line = 0; line < i; ++line) kernel.Write(Xid(static_cast<uint64_t>(line), 31));
  }
}

// ---- The device -------------------------------------------------------------------------------------------------------

// What this writes is user space's: facility 1, which must not be believed.
void ReadsTheRealDeviceAndBelievesNoForgery() {
  const int writer = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
  const int reader = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);
  if (writer < 0 || reader < 0) {
    std::printf("    skipped: /dev/kmsg cannot be opened\n");
    if (writer >= 0) close(writer);
    if (reader >= 0) close(reader);
    return;
  }
  Following now(From(reader));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  // Without the line end the kernel would wait for the rest of the line.
  const std::string forged = "<0>NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=forged, GPU has fallen off the bus.\n";
  if (write(writer, forged.data(), forged.size()) > 0) {
    now.Until("a record", [&] { return now.sequence != kNoSequence; });
    for (const QueuedEvent& event : now.events) CHECK(event.text.find("forged") == std::string::npos);
    CHECK_EQ(now.error, 0);
  }
  close(writer);
}

void ReadsTheWholeLogOfTheRealDevice() {
  const int reader = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);
  if (reader < 0) return;
  KmsgLog::Options options = From(reader);
  options.from_start = true;
  Following now(std::move(options));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  now.Gather();
  CHECK_EQ(now.error, 0);
  std::printf("    %zu kinds of events in this machine's log\n", now.events.size());
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(ReadsARecordOfTheKernel);
  RUN(RefusesWhatTheKernelDoesNotWrite);
  RUN(UndoesEscapesAndReplacesWhatCannotBePrinted);
  RUN(TellsAnEventOfAPacketSocket);
  RUN(TellsAnEventOfAPacketPipe);
  RUN(TellsEventsOfAFifoWhoseRecordsComeInPieces);
  RUN(FollowsAFileThatGrowsFromItsEnd);
  RUN(BelievesOnlyTheKernel);
  RUN(GoesOnBehindTheLastRecordOfAnEarlierLife);
  RUN(CountsWhatWasOverwrittenWhileNobodyRead);
  RUN(CountsWhatTheKernelOverwrote);
  RUN(SurvivesGarbage);
  RUN(SurvivesAStreamWithoutAnEnd);
  RUN(SaysWhyItEnded);
  RUN(KeepsABoundOnWhatNobodyTakes);
  RUN(TellsApartWhatIsNotTheSame);
  RUN(CostsLittleInABurst);
  RUN(StopsAtOnceWhileItReads);
  RUN(ReadsTheRealDeviceAndBelievesNoForgery);
  RUN(ReadsTheWholeLogOfTheRealDevice);
}
