// The words and packets of skos-gpu's sockets: README.md beside this file is the contract. Pure functions; any thread.
#ifndef SKOS_GPU_PROTOCOL_H_
#define SKOS_GPU_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace skos::gpu {

constexpr size_t kMaxPacketBytes = 8192;  // As SeqPacket of the addon takes them.
constexpr size_t kMaxWires = 64;
constexpr size_t kMaxAddressBytes = 64;
constexpr size_t kMaxDetailsBytes = 6144;  // Leaves room for the envelope. gpu_device.h promises no more.
constexpr size_t kMaxWhyBytes = 400;       // One line for people.

constexpr int64_t kMinRateMilliHertz = 100;
constexpr int64_t kMaxRateMilliHertz = 1'000'000;
constexpr int64_t kMinDeadlineMs = 20;
constexpr int64_t kMaxDeadlineMs = 60'000;

struct Wire {
  uint32_t channel = 0;
  int64_t raise = 0;
  int64_t clear = 0;
  uint32_t samples = 1;

  bool operator==(const Wire& other) const {
    return channel == other.channel && raise == other.raise && clear == other.clear && samples == other.samples;
  }
};

enum class Verb : uint8_t { kHello, kConfigure, kWires, kDetach, kAttach };

struct Request {
  bool has_seq = false;  // Also of a request that is refused for what stands behind it.
  uint64_t seq = 0;
  Verb verb = Verb::kHello;
  std::string address;
  int64_t rate_mhz = 0;
  int64_t deadline_ms = 0;
  std::vector<Wire> wires;
};

// True, or false and the reason in *why. Strict: what is not exactly a request is refused.
bool ParseRequest(std::string_view packet, Request* request, std::string* why);

// "INDEX:RAISE:CLEAR:SAMPLES …", one blank between; "" is none.
bool ParseWires(std::string_view words, std::vector<Wire>* wires, std::string* why);
std::string FormatWires(const std::vector<Wire>& wires);

// Decimal digits only, an optional minus, no overflow.
bool ParseDecimal(std::string_view word, int64_t min, int64_t max, int64_t* out);

// What may stand as an address in a packet, a command line and a file: [0-9A-Za-z:._-], 1 … 64 of them.
bool IsAddress(std::string_view text);

// A JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD, so that a driver's garbage cannot break a packet.
std::string JsonText(std::string_view text);

// What another process says is an object as far as a packet is concerned: braces, no line breaks or other control characters.
bool LooksLikeJsonObject(std::string_view text);

// {"key":value,…}, in the order of the calls.
class JsonObject {
 public:
  JsonObject& Text(std::string_view key, std::string_view value) { return Raw(key, JsonText(value)); }
  JsonObject& Number(std::string_view key, int64_t value) { return Raw(key, std::to_string(value)); }
  JsonObject& Bool(std::string_view key, bool value) { return Raw(key, value ? "true" : "false"); }
  JsonObject& Raw(std::string_view key, std::string_view json);
  std::string Take();

 private:
  std::string text_ = "{";
};

}  // namespace skos::gpu

#endif  // SKOS_GPU_PROTOCOL_H_
