// Text of /sys and /proc, as probes/parse.h reads it. Memory errors are the sanitizers' to find; what must hold of the results
// is checked here, by other means than the parser's own.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "probes/parse.h"

namespace skos {
namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

bool IsInside(std::string_view part, std::string_view whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

// An accepted integer is what strtoll makes of the same text, which ends at nothing but blanks.
void CheckInteger(std::string_view text) {
  int64_t value = 0;
  if (!ParseInteger64(text, &value)) return;
  const std::string copy(text);
  char* end = nullptr;
  Require(std::strtoll(copy.c_str(), &end, 10) == value);
  Require(copy.find_first_not_of(" \t\n\r", static_cast<size_t>(end - copy.c_str())) == std::string::npos);
}

void CheckHexadecimal(std::string_view text) {
  int64_t value = 0;
  if (!ParseHexadecimal64(text, &value)) return;
  const std::string copy(text);
  Require(static_cast<int64_t>(std::strtoull(copy.c_str(), nullptr, 16)) == value);
}

void CheckIndexOfWord(std::string_view text, std::string_view key) {
  const std::vector<std::string> words = {"on", "Not charging", std::string(key), "ACTIVE"};
  const int index = IndexOfWord(text, words);
  Require(index >= -1 && index < static_cast<int>(words.size()));
  // A word that is found stands in the text, but for the case of its letters.
  if (index >= 0) Require(text.size() >= words[static_cast<size_t>(index)].size());
}

void CheckWord(std::string_view word, double multiplier, double offset) {
  Number number;
  if (!ParseNumber(word, &number)) return;
  Require(std::isfinite(number.AsDouble()));
  int64_t scaled = 0;
  if (!Scale(number, multiplier, offset, &scaled)) return;
  const double exact = number.AsDouble() * multiplier + offset;
  Require(std::isfinite(exact));
  // Half for the rounding, and what a double of this size cannot tell apart.
  Require(std::fabs(static_cast<double>(scaled) - exact) <= 0.5 + std::fabs(exact) * 1e-15);
}

template <typename T>
T Take(const uint8_t** data, size_t* size) {
  T out{};
  const size_t bytes = *size < sizeof out ? *size : sizeof out;
  std::memcpy(&out, *data, bytes);
  *data += bytes;
  *size -= bytes;
  return out;
}

}  // namespace
}  // namespace skos

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace skos;
  const auto multiplier = Take<double>(&data, &size);
  const auto offset = Take<double>(&data, &size);
  const auto column = static_cast<int>(Take<int8_t>(&data, &size));
  const auto key_bytes = Take<uint8_t>(&data, &size) % 16u;
  // A copy without an end: a look beyond it is a finding.
  const std::string all(reinterpret_cast<const char*>(data), size);
  const std::string_view key = std::string_view(all).substr(0, key_bytes);
  const std::string_view text = std::string_view(all).substr(key.size());
  CheckInteger(text);
  CheckHexadecimal(text);
  CheckIndexOfWord(text, key);
  const std::string_view line = FindLine(text, key);
  if (line.data() == nullptr) return 0;
  Require(IsInside(line, text) && line.find('\n') == std::string_view::npos);
  Require(key.empty() || WordAt(line, 0) == key);
  const std::string_view word = WordAt(line, column);
  if (word.data() == nullptr) return 0;
  Require(!word.empty() && IsInside(word, line) && word.find_first_of(" \t\n\r") == std::string_view::npos);
  CheckWord(word, multiplier, offset);
  return 0;
}
