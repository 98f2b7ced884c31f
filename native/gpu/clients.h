// The clients of the supervisor: at most 8, packets in, packets out, never waited for. Main thread, all of it.
#ifndef SKOS_GPU_CLIENTS_H_
#define SKOS_GPU_CLIENTS_H_

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "probes/files.h"

namespace skos::gpu {

class Clients {
 public:
  using ClientId = uint64_t;  // Never used twice, so that an answer to somebody who left goes to nobody else.
  using OnPacket = std::function<void(ClientId, std::string_view)>;

  explicit Clients(std::vector<uid_t> controllers) : controllers_(std::move(controllers)) {}

  // 0 or an errno. Everybody may knock; SO_PEERCRED decides.
  int Listen(const std::string& path);

  // Adds what to wait for.
  void Poll(std::vector<pollfd>* polled) const;
  // 0, or until when nobody is let in, because somebody was refused and may knock without end.
  int64_t looks_away_until_ns() const { return look_away_until_ns_; }

  // After poll(): lets in who knocks, hands over what came, forgets who left.
  void Serve(int64_t now_ns, const std::vector<pollfd>& polled, const OnPacket& on_packet);

  void Greet(ClientId id);
  bool IsGreeted(ClientId id) const;
  // To one, with a descriptor when fd >= 0. Whoever does not read is dropped.
  void Send(ClientId id, std::string_view packet, int fd = -1);
  // To all who said hello.
  void Broadcast(std::string_view packet, int fd = -1);
  void CloseAll();

 private:
  struct Client {
    ClientId id = 0;
    UniqueFd fd;
    bool greeted = false;
  };

  void Accept(int64_t now_ns);
  bool MayComeIn(int fd) const;
  void Receive(Client* client, const OnPacket& on_packet);
  static void SendTo(Client* client, std::string_view packet, int fd);
  Client* Find(ClientId id) const;

  const std::vector<uid_t> controllers_;
  UniqueFd listening_;
  std::vector<std::unique_ptr<Client>> clients_;
  ClientId last_id_ = 0;
  int64_t look_away_until_ns_ = 0;
};

}  // namespace skos::gpu

#endif  // SKOS_GPU_CLIENTS_H_
