#include "actuator/gpu_words.h"

namespace skos::actuator {
namespace {

constexpr size_t kMaxDepth = 16;  // A description is four deep.

void SkipBlanks(std::string_view* text) {
  const size_t start = text->find_first_not_of(" \t\r\n");
  *text = start == std::string_view::npos ? std::string_view() : text->substr(start);
}

// The length of the string that begins with the quote at the front, quotes included; 0 where it does not end.
size_t StringLength(std::string_view text) {
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\') ++i;
    else if (text[i] == '"') return i + 1;
  }
  return 0;
}

// The length of the value at the front, 0 where there is none. Brackets are counted, not matched by kind: what is found inside is
// looked at in its turn.
size_t ValueLength(std::string_view text) {
  size_t depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      const size_t length = StringLength(text.substr(i));
      if (length == 0) return 0;
      i += length - 1;
      if (depth == 0) return i + 1;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return 0;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return i;  // Behind a number or a word.
      if (--depth == 0) return i + 1;
    } else if (depth == 0 && (c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n')) {
      return i;
    }
  }
  return 0;
}

// The elements of an array or the members of an object, one after the other.
class Items {
 public:
  Items(std::string_view text, char open, char close) : rest_(text), close_(close) {
    SkipBlanks(&rest_);
    good_ = !rest_.empty() && rest_.front() == open;
    if (good_) rest_.remove_prefix(1);
  }

  // False at the end, and where it is malformed: whole() tells the two apart.
  bool Next(std::string_view* value) {
    if (!Begin()) return false;
    return Take(value);
  }

  bool NextMember(std::string_view* key, std::string_view* value) {
    if (!Begin()) return false;
    if (!Take(key) || key->size() < 2 || key->front() != '"') return good_ = false;
    *key = key->substr(1, key->size() - 2);
    SkipBlanks(&rest_);
    if (rest_.empty() || rest_.front() != ':') return good_ = false;
    rest_.remove_prefix(1);
    SkipBlanks(&rest_);
    return Take(value);
  }

  bool whole() const { return good_ && ended_; }

 private:
  bool Begin() {
    SkipBlanks(&rest_);
    if (!good_ || ended_) return false;
    if (rest_.empty()) return good_ = false;
    if (rest_.front() == close_) {
      ended_ = true;
      return false;
    }
    if (!first_) {
      if (rest_.front() != ',') return good_ = false;
      rest_.remove_prefix(1);
      SkipBlanks(&rest_);
    }
    first_ = false;
    return true;
  }

  bool Take(std::string_view* out) {
    // Of a key the value ends at its quote, so that the colon is not part of it.
    const size_t length = ValueLength(rest_);
    if (length == 0) return good_ = false;
    *out = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }

  std::string_view rest_;
  const char close_;
  bool good_ = false;
  bool ended_ = false;
  bool first_ = true;
};

// A string without escapes; "" for anything else.
std::string_view Plain(std::string_view value) {
  if (value.size() < 2 || value.front() != '"' || value.find('\\') != std::string_view::npos) return {};
  return value.substr(1, value.size() - 2);
}

}  // namespace

bool ParseGpuWord(std::string_view packet, GpuWord* out) {
  Items members(packet, '{', '}');
  std::string_view key;
  std::string_view value;
  std::string_view type;
  *out = GpuWord();
  while (members.NextMember(&key, &value)) {
    if (key == "type") type = Plain(value);
    else if (key == "address") out->address = Plain(value);
    else if (key == "state") out->state = Plain(value);
  }
  return members.whole() && type == "device" && !out->address.empty() && !out->state.empty();
}

std::vector<std::string> ChannelNames(std::string_view description, size_t max) {
  Items members(description, '{', '}');
  std::string_view key;
  std::string_view value;
  std::string_view channels;
  while (members.NextMember(&key, &value)) {
    if (key == "channels") channels = value;
  }
  if (!members.whole()) return {};
  std::vector<std::string> names;
  Items each(channels, '[', ']');
  std::string_view channel;
  while (each.Next(&channel)) {
    if (names.size() >= max) return {};
    std::string_view name;
    Items fields(channel, '{', '}');
    while (fields.NextMember(&key, &value)) {
      if (key == "name") name = Plain(value);
    }
    if (!fields.whole()) return {};
    names.emplace_back(name);
  }
  return each.whole() ? names : std::vector<std::string>();
}

}  // namespace skos::actuator
