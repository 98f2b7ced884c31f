#include "probes/parse.h"

#include <charconv>
#include <cmath>
#include <system_error>

namespace skos {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

std::string_view TakeLine(std::string_view* text) {
  const size_t newline = text->find('\n');
  const std::string_view line = text->substr(0, newline);
  *text = newline == std::string_view::npos ? std::string_view() : text->substr(newline + 1);
  return line;
}

template <typename T>
bool WholeWord(std::string_view word, T* out) {
  const char* end = word.data() + word.size();
  const auto result = std::from_chars(word.data(), end, *out);
  return result.ec == std::errc() && result.ptr == end;
}

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool EqualsWithoutCase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (Lower(a[i]) != Lower(b[i])) return false;
  }
  return true;
}

}  // namespace

bool ParseInteger64(std::string_view text, int64_t* out) { return WholeWord(Trim(text), out); }

bool ParseHexadecimal64(std::string_view text, int64_t* out) {
  text = Trim(text);
  if (text.substr(0, 2) != "0x") return false;
  text.remove_prefix(2);
  // from_chars would take a sign behind the prefix.
  if (text.empty() || text.front() == '-') return false;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, *out, 16);
  return result.ec == std::errc() && result.ptr == end;
}

int IndexOfWord(std::string_view text, const std::vector<std::string>& words) {
  text = Trim(text);
  size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  if (digits > 0 && digits < text.size() && text[digits] == ':') text = Trim(text.substr(digits + 1));
  if (text.empty()) return -1;
  for (size_t i = 0; i < words.size(); ++i) {
    if (EqualsWithoutCase(text, words[i])) return static_cast<int>(i);
  }
  return -1;
}

bool ParseNumber(std::string_view word, Number* out) {
  const size_t equals = word.find('=');
  if (equals != std::string_view::npos) word = word.substr(equals + 1);
  out->integral = WholeWord(word, &out->integer);
  if (out->integral) return true;
  // An integer too large for 64 bits would otherwise pass as a decimal.
  if (word.find('.') == std::string_view::npos) return false;
  return WholeWord(word, &out->decimal) && std::isfinite(out->decimal);
}

std::string_view FindLine(std::string_view text, std::string_view key) {
  if (key.empty()) return text.empty() ? std::string_view() : TakeLine(&text);
  while (!text.empty()) {
    const std::string_view line = TakeLine(&text);
    if (WordAt(line, 0) == key) return line;
  }
  return std::string_view();
}

std::string_view WordAt(std::string_view line, int column) {
  for (;; --column) {
    while (!line.empty() && IsBlank(line.front())) line.remove_prefix(1);
    if (line.empty()) return std::string_view();
    size_t length = 0;
    while (length < line.size() && !IsBlank(line[length])) ++length;
    if (column <= 0) return line.substr(0, length);
    line.remove_prefix(length);
  }
}

bool Scale(const Number& raw, double multiplier, double offset, int64_t* out) {
  if (raw.integral && multiplier == 1 && offset == 0) {
    *out = raw.integer;  // Exact, also beyond the 2^53 of a double.
    return true;
  }
  const double scaled = raw.AsDouble() * multiplier + offset;
  constexpr double kLimit = 9.2e18;  // Just inside int64; llround beyond it is undefined.
  if (!(std::fabs(scaled) < kLimit)) return false;
  *out = std::llround(scaled);
  return true;
}

}  // namespace skos
