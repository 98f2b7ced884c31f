#include "probes/kmsg.h"

namespace skos {
namespace {

// Digits up to `stop`, which is taken too. No sign, no blank: the kernel writes none.
bool TakeNumber(std::string_view* rest, char stop, uint64_t* out) {
  const size_t length = rest->find(stop);
  if (length == std::string_view::npos || length == 0) return false;
  uint64_t number = 0;
  for (const char c : rest->substr(0, length)) {
    if (c < '0' || c > '9') return false;
    if (__builtin_mul_overflow(number, uint64_t{10}, &number)) return false;
    if (__builtin_add_overflow(number, static_cast<uint64_t>(c - '0'), &number)) return false;
  }
  rest->remove_prefix(length + 1);
  *out = number;
  return true;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

char Printable(int byte) {
  if (byte == '\n' || byte == '\t' || byte == '\r') return ' ';
  return byte >= 0x20 && byte < 0x7f ? static_cast<char>(byte) : '?';
}

}  // namespace

bool ParseKmsgRecord(std::string_view bytes, KmsgRecord* record) {
  const size_t semicolon = bytes.find(';');
  if (semicolon == std::string_view::npos) return false;
  std::string_view head = bytes.substr(0, semicolon);
  uint64_t priority = 0;
  uint64_t sequence = 0;
  uint64_t time_us = 0;
  if (!TakeNumber(&head, ',', &priority) || !TakeNumber(&head, ',', &sequence)) return false;
  // The flags are a field since Linux 3.5, further fields may follow them.
  if (!TakeNumber(&head, ',', &time_us) || head.empty()) return false;
  if (priority > UINT32_MAX || time_us > static_cast<uint64_t>(INT64_MAX)) return false;
  record->facility = static_cast<uint32_t>(priority >> 3);
  record->level = static_cast<uint32_t>(priority & 7);
  record->sequence = sequence;
  record->time_us = static_cast<int64_t>(time_us);
  record->fragment = head[0] == 'c' || head[0] == '+';
  std::string_view text = bytes.substr(semicolon + 1);
  record->text = text.substr(0, text.find('\n'));
  return true;
}

size_t UnescapeKmsg(std::string_view text, char* out, size_t capacity) {
  size_t length = 0;
  for (size_t i = 0; i < text.size() && length < capacity; ++i) {
    int byte = static_cast<unsigned char>(text[i]);
    if (byte == '\\' && i + 3 < text.size() && text[i + 1] == 'x') {
      const int high = HexDigit(text[i + 2]);
      const int low = HexDigit(text[i + 3]);
      if (high >= 0 && low >= 0) {
        byte = high * 16 + low;
        i += 3;
      }
    }
    out[length++] = Printable(byte);
  }
  return length;
}

}  // namespace skos
