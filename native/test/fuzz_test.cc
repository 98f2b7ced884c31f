// Random and mutated bytes for everything that parses text. Under ASan and UBSan any overrun or overflow ends the program;
// here it is checked that what is called a number is one. The seed is printed, and can be given to repeat a run.
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>

#include "probes/parse.h"
#include "test/check.h"

namespace skos::test {
namespace {

constexpr int kRounds = 200'000;

const char* const kSeeds[] = {
    "42000\n",
    "-9223372036854775808",
    "cpu  123 4 56 789 0 1 2 3 4 5\ncpu0 1 2 3 4 5 6 7 8\n",
    "MemTotal:       16384 kB\nMemFree: 99 kB\n",
    "some avg10=0.25 avg60=1.50 avg300=0.00 total=12345\nfull avg10=1e308\n",
    " eth0: 1 2 3\n",
};

std::string Mutated(std::mt19937_64& random) {
  std::string text = kSeeds[random() % (sizeof kSeeds / sizeof *kSeeds)];
  for (uint64_t edits = random() % 6; edits > 0; --edits) {
    const size_t at = text.empty() ? 0 : random() % text.size();
    switch (random() % 3) {
      case 0:
        text.insert(at, 1, static_cast<char>(random()));
        break;
      case 1:
        if (!text.empty()) text.erase(at, 1 + random() % 4);
        break;
      default:
        if (!text.empty()) text[at] = " \n=-.0123456789eE"[random() % 17];
    }
  }
  return text;
}

void CheckOne(const std::string& text, std::mt19937_64& random) {
  int64_t integer = 0;
  if (ParseInteger64(text, &integer)) {
    CHECK(text.find(std::to_string(integer < 0 ? integer % 10 * -1 : integer % 10)) != std::string::npos);
  }
  const char* const keys[] = {"", "cpu", "cpu0", "MemTotal:", "some", "\n"};
  const std::string_view line = FindLine(text, keys[random() % 6]);
  CHECK(line.find('\n') == std::string_view::npos);
  CHECK(line.size() <= text.size());
  const std::string_view word = WordAt(line, static_cast<int>(random() % 12));
  Number number;
  if (word.data() == nullptr || !ParseNumber(word, &number)) return;
  CHECK(std::isfinite(number.AsDouble()));
  int64_t scaled = 0;
  const double multipliers[] = {1, 1000, -1e300, 0.001, NAN, INFINITY};
  static_cast<void>(Scale(number, multipliers[random() % 6], 0.5, &scaled));
}

}  // namespace
}  // namespace skos::test

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device()();
  std::printf("  seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < skos::test::kRounds; ++i) skos::test::CheckOne(skos::test::Mutated(random), random);
  return 0;
}
