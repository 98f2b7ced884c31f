// Each line of kernel_lines.txt is classified as the file says, also when it is cut off anywhere, which must not make an
// event of something else.
#include "probes/kernel_event.h"

#include <algorithm>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "test/check.h"

namespace skos::test {
namespace {

struct Vector {
  std::string kind;
  std::vector<std::pair<std::string, std::string>> expected;
  std::string line;
};

std::vector<Vector> ReadVectors() {
  const std::string self = __FILE__;
  std::ifstream file(self.substr(0, self.rfind('/') + 1) + "kernel_lines.txt");
  CHECK(file.good());
  std::vector<Vector> vectors;
  std::string row;
  while (std::getline(file, row)) {
    if (row.empty() || row[0] == '#') continue;
    const size_t bar = row.find(" | ");
    CHECK(bar != std::string::npos);
    Vector vector;
    vector.line = row.substr(bar + 3);
    std::istringstream words(row.substr(0, bar));
    words >> vector.kind;
    for (std::string word; words >> word;) {
      const size_t equals = word.find('=');
      CHECK(equals != std::string::npos);
      vector.expected.emplace_back(word.substr(0, equals), word.substr(equals + 1));
    }
    vectors.push_back(vector);
  }
  return vectors;
}

std::string Underscored(std::string_view text) {
  std::string out(text);
  std::replace(out.begin(), out.end(), ' ', '_');
  return out;
}

void ClassifiesEveryKnownLine() {
  const std::vector<Vector> vectors = ReadVectors();
  CHECK(vectors.size() >= 100);
  for (const Vector& vector : vectors) {
    KernelEvent event;
    const bool is_event = ClassifyKernelLine(vector.line, &event);
    const std::string where = vector.line.substr(0, 60) + ": ";
    CHECK_EQ(where + (is_event ? KernelEventWord(event.kind) : "-"), where + vector.kind);
    for (const auto& [name, value] : vector.expected) {
      std::string actual;
      if (name == "address") actual = std::string(event.Address());
      else if (name == "code") actual = event.has_code ? std::to_string(event.code) : "none";
      else actual = Underscored(event.Detail(name));
      CHECK_EQ(where + name + "=" + actual, where + name + "=" + value);
    }
  }
}

void KnowsEveryKindByALine() {
  std::vector<bool> seen(kKernelEventKinds);
  for (const Vector& vector : ReadVectors()) {
    KernelEvent event;
    if (ClassifyKernelLine(vector.line, &event)) seen[static_cast<size_t>(event.kind)] = true;
  }
  for (size_t i = 0; i < kKernelEventKinds; ++i) {
    if (!seen[i]) Fail(__FILE__, __LINE__, std::string("no line for ") + KernelEventWord(static_cast<KernelEventKind>(i)));
  }
}

// A line that is cut off is the same kind, or none: never another.
void NeverTakesATruncatedLineForAnother() {
  for (const Vector& vector : ReadVectors()) {
    if (vector.kind == "-") continue;
    for (size_t length = 0; length < vector.line.size(); ++length) {
      KernelEvent event;
      const std::string cut = vector.line.substr(0, length);
      if (ClassifyKernelLine(cut, &event)) CHECK_EQ(cut + KernelEventWord(event.kind), cut + vector.kind);
    }
  }
}

// What a look-alike has before or behind it must not make an event of it.
void TakesALineOnlyFromItsBeginning() {
  for (const Vector& vector : ReadVectors()) {
    KernelEvent event;
    CHECK(!ClassifyKernelLine("x " + vector.line, &event));
    CHECK(!ClassifyKernelLine("kernel: " + vector.line, &event));
  }
}

void BoundsWhatItTakesFromALine() {
  KernelEvent event;
  const std::string name(5000, 'n');
  CHECK(ClassifyKernelLine("NVRM: Xid (PCI:0000:3b:00): 31, pid=1, name=" + name + ", Ch 1, " + name, &event));
  CHECK(event.detail_count <= kMaxEventDetails);
  for (size_t i = 0; i < event.detail_count; ++i) CHECK(event.details[i].value.size() <= kMaxEventDetailBytes);
  std::string fields = "NVRM: Xid (PCI:0000:3b:00): 31";
  for (int i = 0; i < 100; ++i) fields += ", pid=" + std::to_string(i);
  CHECK(ClassifyKernelLine(fields, &event));
  CHECK_EQ(event.detail_count, kMaxEventDetails);
}

// Of this thread: what other programs do meanwhile is not meant.
int64_t ProcessorNs() {
  timespec now;
  CHECK_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

// An ordinary line must cost next to nothing: a node logs thousands of them in a minute when a driver is chatty.
void CostsLittleForALineThatIsNoEvent() {
  const char* const lines[] = {
      "usb 1-4: new high-speed USB device number 5 using xhci_hcd",
      "audit: type=1400 audit(1700000000.123:45): apparmor=\"STATUS\" operation=\"profile_load\"",
      "IPv6: ADDRCONF(NETDEV_CHANGE): veth12ab34: link becomes ready",
      "mlx5_core 0000:5e:00.0: Port module event: module 0, Cable plugged",
  };
  constexpr int kRounds = 100'000;
  const int64_t begin_ns = ProcessorNs();
  int events = 0;
  for (int i = 0; i < kRounds; ++i) {
    KernelEvent event;
    if (ClassifyKernelLine(lines[i % 4], &event)) ++events;
  }
  const double each_ns = static_cast<double>(ProcessorNs() - begin_ns) / kRounds;
  std::printf("    %.0f ns a line\n", each_ns);
  CHECK_EQ(events, 0);
  CHECK(each_ns < 20'000);  // Under sanitizers; 100 ns as built.
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(ClassifiesEveryKnownLine);
  RUN(KnowsEveryKindByALine);
  RUN(NeverTakesATruncatedLineForAnother);
  RUN(TakesALineOnlyFromItsBeginning);
  RUN(BoundsWhatItTakesFromALine);
  RUN(CostsLittleForALineThatIsNoEvent);
}
