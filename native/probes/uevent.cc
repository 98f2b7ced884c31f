#include "probes/uevent.h"

namespace skos {
namespace {

constexpr size_t kMaxNameBytes = 32;

bool IsName(std::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  for (const char c : text) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!word) return false;
  }
  return true;
}

bool StartsWith(std::string_view text, std::string_view head) { return text.substr(0, head.size()) == head; }

bool IsVirtual(std::string_view path) {
  constexpr std::string_view kBlock = "/devices/virtual/block/";
  if (StartsWith(path, kBlock)) return !StartsWith(path.substr(kBlock.size()), "md");
  return StartsWith(path, "/devices/virtual/net/");
}

std::string_view TakeField(std::string_view* text) {
  const size_t end = text->find('\0');
  const std::string_view field = text->substr(0, end);
  *text = end == std::string_view::npos ? std::string_view() : text->substr(end + 1);
  return field;
}

}  // namespace

bool ParseUevent(std::string_view datagram, Uevent* out) {
  *out = Uevent();
  const std::string_view head = TakeField(&datagram);
  const size_t at = head.find('@');
  if (at == std::string_view::npos || head.substr(at + 1, 1) != "/") return false;
  out->action = head.substr(0, at);
  out->is_virtual = IsVirtual(head.substr(at + 1));
  constexpr std::string_view kSubsystem = "SUBSYSTEM=";
  while (!datagram.empty() && out->subsystem.empty()) {
    const std::string_view field = TakeField(&datagram);
    if (StartsWith(field, kSubsystem)) out->subsystem = field.substr(kSubsystem.size());
  }
  return IsName(out->action) && IsName(out->subsystem);
}

}  // namespace skos
