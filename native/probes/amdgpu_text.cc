#include "probes/amdgpu_text.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "probes/parse.h"

namespace skos {
namespace {

constexpr int64_t kHertzPerMegahertz = 1'000'000;
constexpr int64_t kMaxMegahertz = 1'000'000;  // A thousand GHz: beyond it the number is no clock.
constexpr int64_t kMaxLanes = 32;             // PCI Express Base Specification: x32 is the widest.
constexpr int kMaxLevels = 64;                // The driver's own arrays have 16.
constexpr int64_t kDeepSleep = -1;            // Index of an "S:" level.

std::string_view TakeLine(std::string_view* text) {
  const size_t newline = text->find('\n');
  const std::string_view line = text->substr(0, newline);
  *text = newline == std::string_view::npos ? std::string_view() : text->substr(newline + 1);
  return line;
}

bool IsBlank(std::string_view text) { return WordAt(text, 0).data() == nullptr; }

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The digits (and one point) that `text` begins with.
std::string_view LeadingNumber(std::string_view text) {
  size_t length = 0;
  while (length < text.size() && (IsDigit(text[length]) || text[length] == '.')) ++length;
  return text.substr(0, length);
}

bool IsUnit(std::string_view text, std::string_view lower) {
  if (text.size() < lower.size()) return false;
  for (size_t i = 0; i < lower.size(); ++i) {
    const char c = text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] - 'A' + 'a') : text[i];
    if (c != lower[i]) return false;
  }
  return true;
}

// One line of a pp_dpm_* file: what stands behind "N:", and whether it is marked.
struct Level {
  int64_t index = 0;
  std::string_view value;
  bool marked = false;
};

bool ParseLevel(std::string_view line, Level* level) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view name = WordAt(line.substr(0, colon), 0);
  if (name == "S") {
    level->index = kDeepSleep;
  } else if (!ParseInteger64(name, &level->index) || level->index < 0) {
    return false;
  }
  level->value = line.substr(colon + 1);
  level->marked = level->value.find('*') != std::string_view::npos;
  return true;
}

// What a value of a level is: a clock, a generation, a width.
using LevelValue = bool (*)(const Level& level, int64_t* out);

// Calls `each` for every level. kNoData when there is none, kFault when a line is not understood.
template <typename Each>
Quality ForEachLevel(std::string_view text, LevelValue value_of, Each each) {
  int levels = 0;
  while (!text.empty()) {
    const std::string_view line = TakeLine(&text);
    if (IsBlank(line)) continue;
    Level level;
    int64_t value = 0;
    if (++levels > kMaxLevels || !ParseLevel(line, &level) || !value_of(level, &value)) return Quality::kFault;
    each(level, value);
  }
  return levels == 0 ? Quality::kNoData : Quality::kOk;
}

Quality Active(std::string_view text, LevelValue value_of, int64_t* out) {
  std::optional<int64_t> active;
  bool ambiguous = false;
  const Quality quality = ForEachLevel(text, value_of, [&](const Level& level, int64_t value) {
    if (!level.marked) return;
    ambiguous = ambiguous || (active && *active != value);
    active = value;
  });
  if (quality != Quality::kOk) return quality;
  if (!active || ambiguous) return Quality::kNoData;
  *out = *active;
  return Quality::kOk;
}

Quality HighestOf(std::string_view text, LevelValue value_of, int64_t* out) {
  std::optional<int64_t> highest;
  const Quality quality = ForEachLevel(
      text, value_of, [&](const Level&, int64_t value) { highest = highest ? std::max(*highest, value) : value; });
  if (quality == Quality::kOk) *out = *highest;
  return quality;
}

bool ClockOf(const Level& level, int64_t* out) {
  const std::string_view word = WordAt(level.value, 0);
  const std::string_view digits = LeadingNumber(word);
  int64_t megahertz = 0;
  if (!IsUnit(word.substr(digits.size()), "mhz") || !ParseInteger64(digits, &megahertz)) return false;
  if (megahertz < 0 || megahertz > kMaxMegahertz) return false;
  *out = megahertz * kHertzPerMegahertz;
  return true;
}

bool IndexOf(const Level& level, int64_t* out) {
  *out = level.index;
  return true;
}

// Rates of the PCI Express Base Specification, by the kernel's words (pci_speed_string).
bool GenerationOf(std::string_view gigatransfers, int64_t* out) {
  static constexpr std::string_view kRates[] = {"2.5", "5.0", "8.0", "16.0", "32.0", "64.0", "128.0"};
  for (size_t i = 0; i < std::size(kRates); ++i) {
    const std::string_view whole = kRates[i].substr(0, kRates[i].find(".0"));
    if (gigatransfers != kRates[i] && gigatransfers != whole) continue;
    *out = static_cast<int64_t>(i) + 1;
    return true;
  }
  return false;
}

bool PcieGenerationOf(const Level& level, int64_t* out) {
  const std::string_view word = WordAt(level.value, 0);
  const std::string_view rate = LeadingNumber(word);
  return IsUnit(word.substr(rate.size()), "gt/s") && GenerationOf(rate, out);
}

bool PcieWidthOf(const Level& level, int64_t* out) {
  const std::string_view word = WordAt(level.value, 1);
  if (word.empty() || word[0] != 'x') return false;
  return ParseInteger64(LeadingNumber(word.substr(1)), out) && *out > 0 && *out <= kMaxLanes;
}

Quality RasCount(std::string_view text, std::string_view key, int64_t* out) {
  if (WordAt(text, 0) == "Query") return Quality::kNoData;
  const std::string_view line = FindLine(text, key);
  if (line.data() == nullptr) return IsBlank(text) ? Quality::kNoData : Quality::kFault;
  return ParseInteger64(WordAt(line, 1), out) && *out >= 0 ? Quality::kOk : Quality::kFault;
}

}  // namespace

Quality ActiveClockHertz(std::string_view text, int64_t* out) { return Active(text, ClockOf, out); }
Quality HighestClockHertz(std::string_view text, int64_t* out) { return HighestOf(text, ClockOf, out); }

Quality ActiveLevel(std::string_view text, int64_t* out) {
  const Quality quality = Active(text, IndexOf, out);
  return quality == Quality::kOk && *out == kDeepSleep ? Quality::kNoData : quality;
}

Quality LinkGeneration(std::string_view text, int64_t* out) {
  const std::string_view rate = WordAt(text, 0);
  if (rate.data() == nullptr || rate == "Unknown") return Quality::kNoData;
  return WordAt(text, 1) == "GT/s" && GenerationOf(rate, out) ? Quality::kOk : Quality::kFault;
}

Quality LinkWidth(std::string_view text, int64_t* out) {
  constexpr int64_t kUnknownLanes = 255;  // PCIE_LNK_WIDTH_UNKNOWN of the kernel.
  if (IsBlank(text)) return Quality::kNoData;
  if (!ParseInteger64(text, out)) return Quality::kFault;
  if (*out == 0 || *out == kUnknownLanes) return Quality::kNoData;
  return *out > 0 && *out <= kMaxLanes ? Quality::kOk : Quality::kFault;
}

Quality ActivePcieGeneration(std::string_view text, int64_t* out) { return Active(text, PcieGenerationOf, out); }
Quality ActivePcieWidth(std::string_view text, int64_t* out) { return Active(text, PcieWidthOf, out); }
Quality HighestPcieGeneration(std::string_view text, int64_t* out) { return HighestOf(text, PcieGenerationOf, out); }
Quality HighestPcieWidth(std::string_view text, int64_t* out) { return HighestOf(text, PcieWidthOf, out); }

Quality RasUncorrected(std::string_view text, int64_t* out) { return RasCount(text, "ue:", out); }
Quality RasCorrected(std::string_view text, int64_t* out) { return RasCount(text, "ce:", out); }
Quality RasDeferred(std::string_view text, int64_t* out) { return RasCount(text, "de:", out); }

Quality CountLines(std::string_view text, int64_t* out) {
  *out = 0;
  while (!text.empty()) *out += IsBlank(TakeLine(&text)) ? 0 : 1;
  return Quality::kOk;
}

Quality RuntimeState(std::string_view text, int64_t* out) {
  const std::string_view word = WordAt(text, 0);
  if (word.data() == nullptr) return Quality::kNoData;
  *out = word == "active" || word == "unsupported" ? 0 : word == "suspended" ? 1 : 2;
  return Quality::kOk;
}

}  // namespace skos
