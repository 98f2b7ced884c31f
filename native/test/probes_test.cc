// Probes against files as they are found on real machines, and as an adversary would make them.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmath>

#include "probes/files.h"
#include "probes/probe.h"
#include "sampler/clock.h"
#include "test/check.h"
#include "test/temp_dir.h"

namespace skos::test {
namespace {

constexpr int64_t kLater = 2 * kNsPerSecond;  // Beyond the pause before a missing file is tried again.

ProbeSpec Integer(const std::string& path) {
  ProbeSpec spec;
  spec.path = path;
  return spec;
}

ProbeSpec Field(const std::string& path, const std::string& key, int column) {
  ProbeSpec spec = Integer(path);
  spec.kind = ProbeKind::kField;
  spec.key = key;
  spec.column = column;
  return spec;
}

Reading ReadOnce(const ProbeSpec& spec) { return MakeProbe(spec)->Read(MonotonicNs()); }

Reading ReadText(std::string_view content) {
  TempDir dir;
  return ReadOnce(Integer(dir.Write("value", content)));
}

void CheckOk(const Reading& reading, int64_t value) {
  CHECK_EQ(reading.quality, Quality::kOk);
  CHECK_EQ(reading.value, value);
  CHECK(reading.time_ns > 0);
}

void ReadsIntegersOfEitherSign() {
  CheckOk(ReadText("42000\n"), 42000);
  CheckOk(ReadText("-44000\n"), -44000);
  CheckOk(ReadText("0"), 0);
  CheckOk(ReadText("  7 \n"), 7);
  CheckOk(ReadText("9223372036854775807\n"), INT64_MAX);
  CheckOk(ReadText("-9223372036854775808\n"), INT64_MIN);
}

Reading ReadWord(std::string_view content) {
  TempDir dir;
  ProbeSpec spec = Integer(dir.Write("state", content));
  spec.kind = ProbeKind::kWord;
  spec.words = {"", "Down", "ACTIVE", "Not charging"};
  return ReadOnce(spec);
}

void ReadsWordsByTheirPlaceInTheList() {
  CheckOk(ReadWord("DOWN\n"), 1);
  CheckOk(ReadWord("active"), 2);
  CheckOk(ReadWord("4: ACTIVE\n"), 2);
  CheckOk(ReadWord("12:  down \n"), 1);
  CheckOk(ReadWord("Not charging\n"), 3);
}

void CallsFaultWhatIsNoneOfTheWords() {
  const std::string_view texts[] = {"", "\n", " ", "4:", "4: ", "4:\n", "ACTIVE2", "ACTIV", "not", "4 ACTIVE", "x: ACTIVE",
                                    "Not  charging", "4", "0x2", "4: 4: ACTIVE", std::string_view("ACTIVE\0", 7)};
  for (const std::string_view text : texts) CHECK_EQ(ReadWord(text).quality, Quality::kFault);
  CHECK_EQ(ReadWord(std::string(1 << 20, '4')).quality, Quality::kFault);
  ProbeSpec absent = Integer("/nonexistent/state");
  absent.kind = ProbeKind::kWord;
  absent.words = {"a"};
  CHECK_EQ(ReadOnce(absent).quality, Quality::kNoData);
}

Reading ReadHexadecimal(std::string_view content) {
  TempDir dir;
  ProbeSpec spec = Integer(dir.Write("value", content));
  spec.kind = ProbeKind::kHexadecimal;
  return ReadOnce(spec);
}

void ReadsHexadecimalIntegers() {
  CheckOk(ReadHexadecimal("0x0\n"), 0);
  CheckOk(ReadHexadecimal("0x1f\n"), 31);
  CheckOk(ReadHexadecimal("0xABcd"), 0xabcd);
  CheckOk(ReadHexadecimal("0x7fffffffffffffff\n"), INT64_MAX);
  const std::string_view texts[] = {"", "0x", "0x-1", "-0x1", "10", "0X10", "0xg", "0x1 2", "0x8000000000000000", "0x1.5"};
  for (const std::string_view text : texts) CHECK_EQ(ReadHexadecimal(text).quality, Quality::kFault);
}

void CallsFaultWhatIsNoInteger() {
  const std::string_view texts[] = {"", "\n", "garbage\n", "42x", "4 2", "0x20", "1.5", "+5", "--5", "-", "nan",
                                    "9223372036854775808", "99999999999999999999999999", std::string_view("4\0002", 3)};
  for (const std::string_view text : texts) CHECK_EQ(ReadText(text).quality, Quality::kFault);
  CHECK_EQ(ReadText(std::string(1 << 20, '1')).quality, Quality::kFault);
  // The number's head fills the buffer; its tail must not be cut off silently.
  CHECK_EQ(ReadText(std::string(63, ' ') + "42").quality, Quality::kFault);
}

void RefusesWhatIsNoRegularFileWithoutBlocking() {
  TempDir dir;
  CHECK_EQ(mkfifo(dir.File("fifo").c_str(), 0600), 0);
  mkdir(dir.File("directory").c_str(), 0700);
  CHECK_EQ(symlink("nowhere", dir.File("dangling").c_str()), 0);
  CHECK_EQ(symlink("loop", dir.File("loop").c_str()), 0);
  const int64_t begin_ns = MonotonicNs();
  CHECK_EQ(ReadOnce(Integer(dir.File("fifo"))).quality, Quality::kFault);
  CHECK_EQ(ReadOnce(Integer(dir.File("directory"))).quality, Quality::kFault);
  CHECK_EQ(ReadOnce(Integer("/dev/zero")).quality, Quality::kFault);
  CHECK_EQ(ReadOnce(Field(dir.File("fifo"), "", 0)).quality, Quality::kFault);
  CHECK_EQ(ReadOnce(Integer(dir.File("loop"))).quality, Quality::kFault);
  CHECK(MonotonicNs() - begin_ns < kNsPerSecond);
  CHECK_EQ(ReadOnce(Integer(dir.File("dangling"))).quality, Quality::kNoData);
  CHECK_EQ(ReadOnce(Integer(dir.File("absent"))).quality, Quality::kNoData);
  CHECK_EQ(ReadOnce(Integer(dir.File("absent/below"))).quality, Quality::kNoData);
}

void NoticesThatAFileVanishesAndComesBack() {
  TempDir dir;
  auto probe = MakeProbe(Integer(dir.Write("value", "1\n")));
  int64_t now_ns = MonotonicNs();
  CheckOk(probe->Read(now_ns), 1);
  dir.Remove("value");
  now_ns += kLater;
  CHECK_EQ(probe->Read(now_ns).quality, Quality::kNoData);
  dir.Write("value", "2\n");
  CHECK_EQ(probe->Read(now_ns + kNsPerSecond / 2).quality, Quality::kNoData);  // Tried once a second.
  now_ns += kLater;
  CheckOk(probe->Read(now_ns), 2);
  dir.Write("value", "3\n");  // Replaced by rename(): the open file is another one now.
  now_ns += kLater;
  CheckOk(probe->Read(now_ns), 3);
}

void SeesAFreshValueInTheSameFile() {
  TempDir dir;
  const std::string path = dir.Write("value", "100\n");
  auto probe = MakeProbe(Integer(path));
  CheckOk(probe->Read(MonotonicNs()), 100);
  const int fd = open(path.c_str(), O_WRONLY);
  CHECK_EQ(pwrite(fd, "200\n", 4, 0), ssize_t{4});
  CheckOk(probe->Read(MonotonicNs()), 200);
  close(fd);
}

void HeedsTheFaultFile() {
  TempDir dir;
  ProbeSpec spec = Integer(dir.Write("temp1_input", "50000\n"));
  spec.fault_path = dir.Write("temp1_fault", "0\n");
  CheckOk(ReadOnce(spec), 50000);
  dir.Write("temp1_fault", "1\n");
  CHECK_EQ(ReadOnce(spec).quality, Quality::kFault);
  dir.Write("temp1_fault", "garbage\n");
  CheckOk(ReadOnce(spec), 50000);
  dir.Remove("temp1_fault");
  CheckOk(ReadOnce(spec), 50000);
  dir.Write("temp1_fault", "1\n");
  dir.Remove("temp1_input");
  CHECK_EQ(ReadOnce(spec).quality, Quality::kNoData);
}

void TakesErrnosAsDriversMeanThem() {
  for (const int error : {ENOENT, ENXIO, ENODEV, ENODATA, EAGAIN, EOPNOTSUPP}) {
    CHECK_EQ(QualityOfErrno(error), Quality::kNoData);
  }
  for (const int error : {EIO, EACCES, EINVAL, ETIMEDOUT, EREMOTEIO}) CHECK_EQ(QualityOfErrno(error), Quality::kFault);
}

void ScalesAndRefusesOverflow() {
  TempDir dir;
  ProbeSpec spec = Integer(dir.Write("value", "1500\n"));
  spec.multiplier = 0.001;
  spec.offset = 0.5;
  CheckOk(ReadOnce(spec), 2);
  spec.multiplier = -1;
  spec.offset = -0.5;
  CheckOk(ReadOnce(spec), -1501);  // Half away from zero.
  dir.Write("value", "9223372036854775807\n");
  spec.multiplier = 2;
  CHECK_EQ(ReadOnce(spec).quality, Quality::kFault);
  spec.multiplier = NAN;
  CHECK_EQ(ReadOnce(spec).quality, Quality::kFault);
}

void FindsFieldsByKeyAndColumn() {
  TempDir dir;
  const std::string meminfo = dir.Write("meminfo", "MemTotal:  16 kB\nMemFree:    5 kB\nHugetlb: x kB\n");
  CheckOk(ReadOnce(Field(meminfo, "MemTotal:", 1)), 16);
  CheckOk(ReadOnce(Field(meminfo, "MemFree:", 1)), 5);
  CHECK_EQ(ReadOnce(Field(meminfo, "Mem", 1)).quality, Quality::kNoData);
  CHECK_EQ(ReadOnce(Field(meminfo, "MemTotal:", 9)).quality, Quality::kNoData);
  CHECK_EQ(ReadOnce(Field(meminfo, "Hugetlb:", 1)).quality, Quality::kFault);
  const std::string stat = dir.Write("stat", "   11  22 33\n44\n");
  CheckOk(ReadOnce(Field(stat, "", 0)), 11);
  CheckOk(ReadOnce(Field(stat, "", 2)), 33);
  CHECK_EQ(ReadOnce(Field(stat, "", 3)).quality, Quality::kNoData);
  CHECK_EQ(ReadOnce(Field(dir.Write("empty", ""), "", 0)).quality, Quality::kFault);
  ProbeSpec pressure = Field(dir.Write("cpu", "some avg10=0.25 avg60=1.50 total=99\nfull avg10=inf avg60=1e9\n"), "some", 1);
  pressure.multiplier = 10000;
  CheckOk(ReadOnce(pressure), 2500);
  pressure.column = 3;
  CheckOk(ReadOnce(pressure), 990000);
  pressure.key = "full";
  pressure.column = 1;
  CHECK_EQ(ReadOnce(pressure).quality, Quality::kFault);
}

void ReadsTextsOfManyPagesAndRefusesEndlessOnes() {
  TempDir dir;
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "line" + std::to_string(i) + " " + std::to_string(i) + "\n";
  CheckOk(ReadOnce(Field(dir.Write("long", text), "line4999", 1)), 4999);
  CHECK_EQ(ReadOnce(Field(dir.Write("endless", std::string(1 << 20, 'x')), "", 0)).quality, Quality::kFault);
}

void SharesOneReadPerTick() {
  TempDir dir;
  const std::string path = dir.Write("stat", "1 2\n");
  ProbeFactory factory;
  auto first = factory.Make(Field(path, "", 0));
  auto second = factory.Make(Field(path, "", 1));
  factory.BeginTick();
  CheckOk(first->Read(MonotonicNs()), 1);
  const int fd = open(path.c_str(), O_WRONLY);
  CHECK_EQ(pwrite(fd, "8 9\n", 4, 0), ssize_t{4});
  close(fd);
  CheckOk(second->Read(MonotonicNs()), 2);  // Of the same read as the first.
  factory.BeginTick();
  CheckOk(second->Read(MonotonicNs()), 9);
  CheckOk(first->Read(MonotonicNs()), 8);
}

void TurnsCountersIntoRates() {
  TempDir dir;
  ProbeSpec spec = Integer(dir.Write("bytes", "1000\n"));
  spec.per_second = true;
  auto probe = MakeProbe(spec);
  int64_t now_ns = MonotonicNs();
  CHECK_EQ(probe->Read(now_ns).quality, Quality::kNoData);
  usleep(100'000);
  dir.Write("bytes", "2000\n");
  const Reading rate = probe->Read(now_ns += kLater);
  CHECK_EQ(rate.quality, Quality::kOk);
  CHECK(rate.value > 1000 && rate.value <= 10'000);  // 1000 in a little more than 0.1 s.
  dir.Write("bytes", "5\n");
  CHECK_EQ(probe->Read(now_ns += kLater).quality, Quality::kNoData);
  usleep(1000);
  CheckOk(probe->Read(now_ns += kLater), 0);
}

void ComputesTheBusyShare() {
  TempDir dir;
  ProbeSpec spec;
  spec.kind = ProbeKind::kCpuBusy;
  spec.key = "cpu1";
  spec.path = dir.Write("stat", "cpu 9 9 9 9 9 9 9 9 9 9\ncpu1 100 0 0 100 0 0 0 0 0 0\n");
  auto probe = MakeProbe(spec);
  int64_t now_ns = MonotonicNs();
  CHECK_EQ(probe->Read(now_ns).quality, Quality::kNoData);
  // 100 more in all, of them 10 idle and 15 waiting for I/O; guest time is part of user time.
  dir.Write("stat", "cpu1 175 0 0 110 15 0 0 0 70 0\n");
  CheckOk(probe->Read(now_ns += kLater), 750'000);
  CHECK_EQ(probe->Read(now_ns += kLater).quality, Quality::kNoData);  // Within the same jiffy.
  dir.Write("stat", "cpu1 275 0 0 110 5 0 0 0 70 0\n");               // iowait may fall.
  CheckOk(probe->Read(now_ns += kLater), 1'000'000);
  dir.Write("stat", "cpu 1 1 1 1 1 1 1 1\n");
  CHECK_EQ(probe->Read(now_ns += kLater).quality, Quality::kNoData);  // Went offline.
  dir.Write("stat", "cpu1 1 0 0 1 0 0 0 0\n");
  CHECK_EQ(probe->Read(now_ns += kLater).quality, Quality::kNoData);
  dir.Write("stat", "cpu1 1 0 0\n");
  CHECK_EQ(probe->Read(now_ns += kLater).quality, Quality::kFault);
}

void CountsSpaceAsDfDoes() {
  ProbeSpec spec;
  spec.kind = ProbeKind::kStatvfs;
  spec.path = "/";
  struct statvfs fs = {};
  CHECK_EQ(statvfs("/", &fs), 0);
  CheckOk(ReadOnce(spec), static_cast<int64_t>(fs.f_blocks * fs.f_frsize));
  spec.field = StatvfsField::kUsedPpm;
  const double used = static_cast<double>(fs.f_blocks - fs.f_bfree);
  const double share = used / (used + static_cast<double>(fs.f_bavail)) * 1e6;
  CHECK(std::fabs(static_cast<double>(ReadOnce(spec).value) - share) < 10'000);
  spec.field = StatvfsField::kInodesUsedPpm;
  spec.path = "/proc";  // No inodes to run out of.
  CHECK_EQ(ReadOnce(spec).quality, Quality::kNoData);
  spec.path = "/no/such/mount";
  CHECK_EQ(ReadOnce(spec).quality, Quality::kNoData);
}

void ReadsTheRealProc() {
  const Reading total = ReadOnce(Field("/proc/meminfo", "MemTotal:", 1));
  CHECK_EQ(total.quality, Quality::kOk);
  CHECK(total.value > 0);
  CHECK_EQ(ReadOnce(Field("/proc/self/net/dev", "lo:", 1)).quality, Quality::kOk);
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(ReadsIntegersOfEitherSign);
  RUN(ReadsWordsByTheirPlaceInTheList);
  RUN(CallsFaultWhatIsNoneOfTheWords);
  RUN(ReadsHexadecimalIntegers);
  RUN(CallsFaultWhatIsNoInteger);
  RUN(RefusesWhatIsNoRegularFileWithoutBlocking);
  RUN(NoticesThatAFileVanishesAndComesBack);
  RUN(SeesAFreshValueInTheSameFile);
  RUN(HeedsTheFaultFile);
  RUN(TakesErrnosAsDriversMeanThem);
  RUN(ScalesAndRefusesOverflow);
  RUN(FindsFieldsByKeyAndColumn);
  RUN(ReadsTextsOfManyPagesAndRefusesEndlessOnes);
  RUN(SharesOneReadPerTick);
  RUN(TurnsCountersIntoRates);
  RUN(ComputesTheBusyShare);
  RUN(CountsSpaceAsDfDoes);
  RUN(ReadsTheRealProc);
  return 0;
}
