#include "probes/gpu_device.h"

#include <cstdio>
#include <string_view>

namespace skos {
namespace {

constexpr size_t kMinDomainDigits = 4;  // The kernel's form; VMD domains have five.
constexpr size_t kMaxDomainDigits = 8;  // NVML's form.
constexpr size_t kTailLength = 8;       // ":3b:00.0"
constexpr unsigned kMaxDevice = 0x1f;
constexpr unsigned kMaxFunction = 7;

// The whole of `digits` is one hexadecimal number of at most 32 bits.
bool ParseHex(std::string_view digits, unsigned* value) {
  *value = 0;
  if (digits.empty() || digits.size() > kMaxDomainDigits) return false;
  for (const char c : digits) {
    unsigned digit = 0;
    if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
    else if (c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a') + 10;
    else if (c >= 'A' && c <= 'F') digit = static_cast<unsigned>(c - 'A') + 10;
    else return false;
    *value = *value * 16 + digit;
  }
  return true;
}

}  // namespace

std::string NormalPciAddress(const std::string& text) {
  const std::string_view all = text;
  if (all.size() < kMinDomainDigits + kTailLength) return "";
  const std::string_view tail = all.substr(all.size() - kTailLength);
  if (tail[0] != ':' || tail[3] != ':' || tail[6] != '.') return "";
  unsigned domain = 0;
  unsigned bus = 0;
  unsigned device = 0;
  unsigned function = 0;
  if (!ParseHex(all.substr(0, all.size() - kTailLength), &domain) || !ParseHex(tail.substr(1, 2), &bus) ||
      !ParseHex(tail.substr(4, 2), &device) || !ParseHex(tail.substr(7, 1), &function)) {
    return "";
  }
  if (device > kMaxDevice || function > kMaxFunction) return "";
  char normal[24];
  std::snprintf(normal, sizeof normal, "%04x:%02x:%02x.%x", domain, bus, device, function);
  return normal;
}

}  // namespace skos
