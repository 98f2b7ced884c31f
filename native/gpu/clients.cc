#include "gpu/clients.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "gpu/packets.h"
#include "gpu/protocol.h"

namespace skos::gpu {
namespace {

constexpr size_t kMaxClients = 8;       // The agent, the actuator, and somebody who looks.
constexpr int kBacklog = 128;           // Strangers that knock must not keep a controller from knocking.
constexpr int kKnocksAtOnce = 16;       // Let in or refused in one round of the loop.
constexpr int kPacketsAtOnce = 64;      // A chatty client must not keep the loop from its other duties.
constexpr int64_t kLookAwayNs = 10'000'000;  // After a refusal: who knocks without end costs a few per cent of a core, not all.

std::string Refusal(const char* why) { return JsonObject().Text("type", "reply").Bool("ok", false).Text("why", why).Take(); }

bool IsReady(const std::vector<pollfd>& polled, int fd) {
  return std::any_of(polled.begin(), polled.end(), [fd](const pollfd& each) { return each.fd == fd && each.revents != 0; });
}

}  // namespace

int Clients::Listen(const std::string& path) {
  listening_.Reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listening_.valid()) return errno;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path.c_str());
  unlink(path.c_str());  // Ours alone: the lock beside it is held.
  const mode_t mask = umask(0111);
  const bool bound = bind(listening_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  const int error = errno;
  umask(mask);
  if (!bound) return error;
  return listen(listening_.get(), kBacklog) == 0 ? 0 : errno;
}

void Clients::Poll(std::vector<pollfd>* polled) const {
  if (look_away_until_ns_ == 0) polled->push_back({listening_.get(), POLLIN, 0});
  for (const auto& client : clients_) polled->push_back({client->fd.get(), POLLIN, 0});
}

void Clients::Serve(int64_t now_ns, const std::vector<pollfd>& polled, const OnPacket& on_packet) {
  for (size_t i = 0; i < clients_.size(); ++i) {
    if (clients_[i]->fd.valid() && IsReady(polled, clients_[i]->fd.get())) Receive(clients_[i].get(), on_packet);
  }
  const auto left = [](const std::unique_ptr<Client>& client) { return !client->fd.valid(); };
  clients_.erase(std::remove_if(clients_.begin(), clients_.end(), left), clients_.end());
  if (look_away_until_ns_ != 0 && now_ns >= look_away_until_ns_) look_away_until_ns_ = 0;
  if (IsReady(polled, listening_.get())) Accept(now_ns);
}

bool Clients::MayComeIn(int fd) const {
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == geteuid() ||
         std::find(controllers_.begin(), controllers_.end(), peer.uid) != controllers_.end();
}

void Clients::Accept(int64_t now_ns) {
  for (int i = 0; i < kKnocksAtOnce; ++i) {
    UniqueFd fd(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      // No descriptor left, or the like: the knock stays there, and looking at it again and again helps nobody.
      if (errno != EAGAIN && errno != ECONNABORTED) look_away_until_ns_ = now_ns + kLookAwayNs;
      return;
    }
    const bool known = MayComeIn(fd.get());
    if (known && clients_.size() < kMaxClients) {
      auto client = std::make_unique<Client>();
      client->id = ++last_id_;
      client->fd.Reset(fd.Release());
      clients_.push_back(std::move(client));
      continue;
    }
    (void)SendPacket(fd.get(), Refusal(known ? "busy: 8 clients are connected" : "denied"), -1, MSG_DONTWAIT);
    look_away_until_ns_ = now_ns + kLookAwayNs;
  }
}

void Clients::Receive(Client* client, const OnPacket& on_packet) {
  char buffer[kMaxPacketBytes];
  for (int i = 0; i < kPacketsAtOnce && client->fd.valid(); ++i) {
    size_t length = 0;
    switch (ReceivePacket(client->fd.get(), buffer, sizeof buffer, &length, nullptr)) {
      case Received::kNothing:
        return;
      case Received::kEnd:
        client->fd.Reset();
        return;
      case Received::kTooLong:
        SendTo(client, Refusal("a packet has at most 8192 bytes"), -1);
        break;
      case Received::kPacket:
        on_packet(client->id, {buffer, length});
        break;
    }
  }
}

void Clients::SendTo(Client* client, std::string_view packet, int fd) {
  if (!client->fd.valid() || packet.size() > kMaxPacketBytes) return;
  if (SendPacket(client->fd.get(), packet, fd, MSG_DONTWAIT) != 0) client->fd.Reset();
}

Clients::Client* Clients::Find(ClientId id) const {
  for (const auto& client : clients_) {
    if (client->id == id) return client.get();
  }
  return nullptr;
}

void Clients::Greet(ClientId id) {
  if (Client* client = Find(id)) client->greeted = true;
}

bool Clients::IsGreeted(ClientId id) const {
  const Client* client = Find(id);
  return client != nullptr && client->greeted;
}

void Clients::Send(ClientId id, std::string_view packet, int fd) {
  if (Client* client = Find(id)) SendTo(client, packet, fd);
}

void Clients::Broadcast(std::string_view packet, int fd) {
  for (const auto& client : clients_) {
    if (client->greeted) SendTo(client.get(), packet, fd);
  }
}

void Clients::CloseAll() {
  clients_.clear();
  listening_.Reset();
}

}  // namespace skos::gpu
