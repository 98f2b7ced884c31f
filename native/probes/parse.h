// Text of /sys and /proc to numbers. Strict: what is no number is refused, never read as 0. No allocation, no locale.
#ifndef SKOS_PROBES_PARSE_H_
#define SKOS_PROBES_PARSE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace skos {

// A raw value: an integer where the text is one (exact to 64 bits), else a decimal.
struct Number {
  bool integral = true;
  int64_t integer = 0;
  double decimal = 0;

  double AsDouble() const { return integral ? static_cast<double>(integer) : decimal; }
};

// The whole text is one decimal integer, blanks around it allowed: "-44000\n". False for anything else, overflow included.
bool ParseInteger64(std::string_view text, int64_t* out);

// The same with 16 as its base, "0x1f\n": SCSI's counters are written so. The prefix is required.
bool ParseHexadecimal64(std::string_view text, int64_t* out);

// The place of the text in `words`, letters compared without regard to case. Blanks around it are dropped, and a number in front
// of it ("4: ACTIVE" of InfiniBand); blanks within belong to it ("Not charging"). -1: it is none of them, or there is no text.
int IndexOfWord(std::string_view text, const std::vector<std::string>& words);

// An integer, or a finite decimal like "0.25"; a word like "avg10=0.25" yields what stands behind '='.
bool ParseNumber(std::string_view word, Number* out);

// The line whose first word is `key`; "" is the first line. Empty view with null data when there is none.
std::string_view FindLine(std::string_view text, std::string_view key);

// White-space separated word, 0 is the first. Null data when the line has fewer.
std::string_view WordAt(std::string_view line, int column);

// round(raw * multiplier + offset). False when the result is no int64 (overflow, not a number).
bool Scale(const Number& raw, double multiplier, double offset, int64_t* out);

}  // namespace skos

#endif  // SKOS_PROBES_PARSE_H_
