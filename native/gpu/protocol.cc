#include "gpu/protocol.h"

#include <cstdio>

namespace skos::gpu {
namespace {

constexpr int64_t kMaxSeq = (int64_t{1} << 53) - 1;  // What a JSON number carries exactly.
constexpr uint32_t kMaxWireSamples = 1'000'000;

// Takes the next word off *rest. False at the end, and where two blanks stand together or one stands at an end.
bool NextWord(std::string_view* rest, std::string_view* word) {
  if (rest->empty()) return false;
  const size_t blank = rest->find(' ');
  *word = rest->substr(0, blank);
  if (blank == std::string_view::npos) {
    *rest = {};
    return !word->empty();
  }
  rest->remove_prefix(blank + 1);
  return !word->empty() && !rest->empty();
}

bool ParseWire(std::string_view word, Wire* wire) {
  std::string_view parts[4];
  for (int i = 0; i < 4; ++i) {
    const size_t colon = word.find(':');
    const bool last = i == 3;
    if ((colon == std::string_view::npos) != last) return false;
    parts[i] = word.substr(0, colon);
    if (!last) word.remove_prefix(colon + 1);
  }
  int64_t channel = 0;
  int64_t samples = 0;
  if (!ParseDecimal(parts[0], 0, UINT32_MAX, &channel) || !ParseDecimal(parts[1], INT64_MIN, INT64_MAX, &wire->raise) ||
      !ParseDecimal(parts[2], INT64_MIN, INT64_MAX, &wire->clear) ||
      !ParseDecimal(parts[3], 1, kMaxWireSamples, &samples) || wire->clear > wire->raise) {
    return false;
  }
  wire->channel = static_cast<uint32_t>(channel);
  wire->samples = static_cast<uint32_t>(samples);
  return true;
}

bool Refuse(std::string* why, const char* text) {
  *why = text;
  return false;
}

bool ParseAddress(std::string_view* rest, Request* request, std::string* why) {
  std::string_view word;
  if (!NextWord(rest, &word) || !IsAddress(word)) return Refuse(why, "expected the address of a GPU");
  request->address = word;
  return true;
}

bool ParseArguments(std::string_view rest, Request* request, std::string* why) {
  std::string_view word;
  switch (request->verb) {
    case Verb::kHello:
      if (rest != "1") return Refuse(why, "expected: hello 1");
      return true;
    case Verb::kConfigure:
      if (!NextWord(&rest, &word) || !ParseDecimal(word, kMinRateMilliHertz, kMaxRateMilliHertz, &request->rate_mhz)) {
        return Refuse(why, "expected a rate of 100 to 1000000 mHz");
      }
      if (!NextWord(&rest, &word) || !ParseDecimal(word, kMinDeadlineMs, kMaxDeadlineMs, &request->deadline_ms) ||
          !rest.empty()) {
        return Refuse(why, "expected a deadline of 20 to 60000 ms, and nothing behind it");
      }
      return true;
    case Verb::kWires:
      return ParseAddress(&rest, request, why) && ParseWires(rest, &request->wires, why);
    case Verb::kDetach:
    case Verb::kAttach:
      if (!ParseAddress(&rest, request, why)) return false;
      return rest.empty() || Refuse(why, "expected nothing behind the address");
  }
  return false;
}

// Length of the UTF-8 sequence at the start of `text`, 0 when there is none (RFC 3629: no overlong forms, no surrogates).
size_t Utf8Length(std::string_view text) {
  const auto at = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](size_t i) { return (at(i) & 0xC0u) == 0x80u; };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (first == 0xE0 && at(1) < 0xA0) return 0;
    if (first == 0xED && at(1) > 0x9F) return 0;
    return follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (first == 0xF0 && at(1) < 0x90) return 0;
    if (first == 0xF4 && at(1) > 0x8F) return 0;
    return follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool ParseDecimal(std::string_view word, int64_t min, int64_t max, int64_t* out) {
  const bool negative = !word.empty() && word[0] == '-';
  if (negative) word.remove_prefix(1);
  if (word.empty()) return false;
  int64_t value = 0;
  for (const char c : word) {
    if (c < '0' || c > '9') return false;
    const int digit = negative ? '0' - c : c - '0';
    if (__builtin_mul_overflow(value, int64_t{10}, &value) || __builtin_add_overflow(value, int64_t{digit}, &value)) {
      return false;
    }
  }
  if (value < min || value > max) return false;
  *out = value;
  return true;
}

bool IsAddress(std::string_view text) {
  if (text.empty() || text.size() > kMaxAddressBytes) return false;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && c != ':' && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

bool ParseWires(std::string_view words, std::vector<Wire>* wires, std::string* why) {
  wires->clear();
  std::string_view word;
  while (!words.empty()) {
    Wire wire;
    if (!NextWord(&words, &word) || !ParseWire(word, &wire)) return Refuse(why, "expected INDEX:RAISE:CLEAR:SAMPLES");
    if (wires->size() == kMaxWires) return Refuse(why, "at most 64 wires");
    wires->push_back(wire);
  }
  return true;
}

std::string FormatWires(const std::vector<Wire>& wires) {
  std::string text;
  for (const Wire& wire : wires) {
    if (!text.empty()) text += ' ';
    text += std::to_string(wire.channel) + ':' + std::to_string(wire.raise) + ':' + std::to_string(wire.clear) + ':' +
            std::to_string(wire.samples);
  }
  return text;
}

bool ParseRequest(std::string_view packet, Request* request, std::string* why) {
  *request = {};
  if (packet.size() > kMaxPacketBytes) return Refuse(why, "a packet has at most 8192 bytes");
  std::string_view word;
  int64_t seq = 0;
  if (!NextWord(&packet, &word) || !ParseDecimal(word, 0, kMaxSeq, &seq)) return Refuse(why, "expected: SEQ VERB …");
  request->has_seq = true;
  request->seq = static_cast<uint64_t>(seq);
  if (!NextWord(&packet, &word)) return Refuse(why, "expected a verb");
  if (word == "hello") {
    request->verb = Verb::kHello;
  } else if (word == "configure") {
    request->verb = Verb::kConfigure;
  } else if (word == "wires") {
    request->verb = Verb::kWires;
  } else if (word == "detach") {
    request->verb = Verb::kDetach;
  } else if (word == "attach") {
    request->verb = Verb::kAttach;
  } else {
    return Refuse(why, "no such verb; there are hello, configure, wires, detach and attach");
  }
  return ParseArguments(packet, request, why);
}

std::string JsonText(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    const auto c = static_cast<unsigned char>(text[0]);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += text[0];
    } else if (c < 0x20 || c == 0x7F) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
      out += escaped;
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out += '"';
}

bool LooksLikeJsonObject(std::string_view text) {
  if (text.size() < 2 || text.front() != '{' || text.back() != '}') return false;
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (length == 0 || static_cast<unsigned char>(text[0]) < 0x20) return false;
    text.remove_prefix(length);
  }
  return true;
}

JsonObject& JsonObject::Raw(std::string_view key, std::string_view json) {
  if (text_.size() > 1) text_ += ',';
  text_ += JsonText(key);
  text_ += ':';
  text_ += json;
  return *this;
}

std::string JsonObject::Take() {
  text_ += '}';
  return std::move(text_);
}

}  // namespace skos::gpu
