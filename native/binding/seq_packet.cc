#include "binding/seq_packet.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <mutex>
#include <string>

#include "binding/errors.h"
#include "binding/sockets.h"
#include "probes/files.h"

namespace skos::binding {
namespace {

constexpr size_t kMaxPacketBytes = 8192;        // native/actuator/README.md.
constexpr size_t kMaxInboundPackets = 1024;     // 8 MiB at most; a listing of 256 leases is 257 packets.
constexpr size_t kMaxInboundDescriptors = 64;  // Waiting for JS: far from the process's own limit, usually 1024.
constexpr int kMaxPacketsPerWake = 128;  // Then other work of the JS thread has its turn: the agent's tick is part of it.
constexpr int kPauseMs = 1;              // For so long; a wake that is there already would come before any timer.
constexpr size_t kStackBytes = 128 * 1024;

struct Packet {
  std::string text;
  UniqueFd fd;  // What travelled with it, if anything. Closed unless JS is given it.
};

// The first descriptor of a message; any further one is closed.
void TakeDescriptors(msghdr& message, UniqueFd* out) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t bytes = header->cmsg_len - CMSG_LEN(0);
    for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(header) + at, sizeof fd);
      if (out->valid()) close(fd);
      else out->Reset(fd);
    }
  }
}

}  // namespace

// One connection. Shared by the JS object and the receiving thread; the socket closes with the last of them.
class SeqPacket::Link {
 public:
  Link(int fd, int stop_fd, std::shared_ptr<Wake> wake) : fd_(fd), stop_(stop_fd), wake_(std::move(wake)) {}

  // JS thread. Returns 0 or errno.
  static int StartThread(const std::shared_ptr<Link>& link) {
    auto main = [](void* raw) -> void* {
      std::unique_ptr<std::shared_ptr<Link>> owned(static_cast<std::shared_ptr<Link>*>(raw));
      pthread_setname_np(pthread_self(), "skos-seqpacket");
      (*owned)->Receive();
      return nullptr;
    };
    auto argument = std::make_unique<std::shared_ptr<Link>>(link);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int error = pthread_create(&thread, &attributes, main, argument.get());
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    if (error == 0) argument.release();  // The thread's now.
    return error;
  }

  // JS thread.
  int Send(const std::string& packet) {
    ssize_t n;
    do {
      n = send(fd_.get(), packet.data(), packet.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? errno : 0;
  }

  // JS thread. The thread leaves within microseconds; nobody waits for it.
  void Close() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
    }
    shutdown(fd_.get(), SHUT_RDWR);
    Poke();  // Last: a thread that waits for room looks at nothing else.
  }

  enum class Next { kNothing, kPacket, kEnd };
  // JS thread.
  Next Take(Packet* packet) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (inbound_.empty()) {
      const bool end = ended_ && !end_taken_;
      end_taken_ = end_taken_ || end;
      return end ? Next::kEnd : Next::kNothing;
    }
    packet->text = std::move(inbound_.front().text);
    packet->fd.Reset(inbound_.front().fd.Release());
    inbound_.pop_front();
    if (packet->fd.valid()) --descriptors_;
    const bool relieved = packet->fd.valid() && descriptors_ == kMaxInboundDescriptors / 2;
    if (relieved || inbound_.size() == kMaxInboundPackets / 2) Poke();
    return Next::kPacket;
  }

  // JS thread. Nothing is to be delivered until kPauseMs from now. False: the thread has ended, and what is left is bounded.
  bool Pause() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (ended_) return false;
      paused_ = true;
    }
    Poke();
    return true;
  }
  // JS thread.
  bool IsPaused() {
    std::lock_guard<std::mutex> lock(mutex_);
    return paused_;
  }

 private:
  void Poke() {
    const uint64_t one = 1;
    const ssize_t n = write(stop_.get(), &one, sizeof one);
    static_cast<void>(n);  // EAGAIN: it is poked already.
  }

  // Receiving thread.
  void Receive() {
    while (WaitForPacket() && ReceiveOne()) wake_->Call();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
      paused_ = false;
    }
    wake_->Call();
  }

  // Takes nothing meanwhile, so that a flood is the sender's, not the queue's.
  void Rest() {
    pollfd stop = {stop_.get(), POLLIN, 0};
    uint64_t pokes = 0;
    // The first poke is that of Pause(); a second one, of Close(), is seen by its flag.
    const ssize_t n = read(stop_.get(), &pokes, sizeof pokes);
    static_cast<void>(n);
    poll(&stop, 1, kPauseMs);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      paused_ = false;
    }
    wake_->Call();
  }

  // False when the object is closed.
  bool WaitForPacket() {
    for (;;) {
      bool full = false;
      bool paused = false;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (closing_) return false;
        paused = paused_;
        full = inbound_.size() >= kMaxInboundPackets || descriptors_ >= kMaxInboundDescriptors;
      }
      if (paused) {
        Rest();
        continue;
      }
      pollfd both[2] = {{stop_.get(), POLLIN, 0}, {fd_.get(), POLLIN, 0}};
      if (poll(both, full ? 1 : 2, -1) < 0) {
        if (errno == EINTR) continue;
        return false;
      }
      if (both[0].revents != 0) {
        uint64_t pokes = 0;
        const ssize_t n = read(stop_.get(), &pokes, sizeof pokes);
        static_cast<void>(n);  // Only empties it.
        continue;
      }
      if (!full) return true;
    }
  }

  // False at the end: the peer is gone, or sent what no peer of ours sends.
  bool ReceiveOne() {
    iovec part = {buffer_, sizeof buffer_};
    // The kernel closes what does not fit.
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t n;
    do {
      n = recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return true;
    if (n < 0) return false;
    UniqueFd descriptor;
    TakeDescriptors(message, &descriptor);
    if (n == 0 || static_cast<size_t>(n) > kMaxPacketBytes) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    if (descriptor.valid()) ++descriptors_;
    Packet& packet = inbound_.emplace_back();
    packet.text.assign(buffer_, static_cast<size_t>(n));
    packet.fd.Reset(descriptor.Release());
    return true;
  }

  const UniqueFd fd_;
  const UniqueFd stop_;  // eventfd: look again whether to stop, or whether there is room.
  const std::shared_ptr<Wake> wake_;
  char buffer_[kMaxPacketBytes + 1];  // Receiving thread. One more byte shows a packet that is too large.

  std::mutex mutex_;
  std::deque<Packet> inbound_;  // GUARDED_BY(mutex_)
  size_t descriptors_ = 0;      // GUARDED_BY(mutex_): of those in inbound_.
  bool closing_ = false;        // GUARDED_BY(mutex_)
  bool paused_ = false;         // GUARDED_BY(mutex_)
  bool ended_ = false;          // GUARDED_BY(mutex_)
  bool end_taken_ = false;      // GUARDED_BY(mutex_)
};

Napi::Function SeqPacket::Define(Napi::Env env) {
  return DefineClass(env, "SeqPacket",
                     {
                         InstanceMethod<&SeqPacket::Connect>("connect"),
                         InstanceMethod<&SeqPacket::Send>("send"),
                         InstanceMethod<&SeqPacket::Close>("close"),
                         InstanceMethod<&SeqPacket::RefLoop>("ref"),
                         InstanceMethod<&SeqPacket::UnrefLoop>("unref"),
                     });
}

SeqPacket::SeqPacket(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SeqPacket>(info) {
  if (!info[0].IsFunction()) {
    Napi::TypeError::New(info.Env(), "onMessage is no function").ThrowAsJavaScriptException();
    return;
  }
  on_message_ = Napi::Persistent(info[0].As<Napi::Function>());
}

SeqPacket::~SeqPacket() { Disconnect(); }

Napi::Value SeqPacket::Connect(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) return Napi::Number::New(env, EINVAL);
  if (link_ != nullptr) return Napi::Number::New(env, EISCONN);
  return Napi::Number::New(env, Open(info[0].As<Napi::String>().Utf8Value(), env));
}

int SeqPacket::Open(const std::string& path, Napi::Env env) {
  sockaddr_un address;
  socklen_t length = 0;
  if (!ToUnixAddress(path, &address, &length)) return ENAMETOOLONG;
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return errno;
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) return errno;
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return errno;
  wake_ = Wake::Create(env, "skos seqpacket", [this](Napi::Env in) { Deliver(in); });
  auto link = std::make_shared<Link>(fd.Release(), stop.Release(), wake_);
  if (const int error = Link::StartThread(link)) {
    wake_->Close();
    return error;
  }
  if (keeps_alive_) wake_->Ref(env);
  link_ = std::move(link);
  Ref();  // Against the collector, until it is closed.
  return 0;
}

Napi::Value SeqPacket::Send(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (link_ == nullptr) return Napi::Number::New(env, ENOTCONN);
  if (!info[0].IsString()) return Napi::Number::New(env, EINVAL);
  const std::string packet = info[0].As<Napi::String>().Utf8Value();
  // An empty packet would look like the end to the peer.
  if (packet.empty()) return Napi::Number::New(env, EINVAL);
  if (packet.size() > kMaxPacketBytes) return Napi::Number::New(env, EMSGSIZE);
  return Napi::Number::New(env, link_->Send(packet));
}

void SeqPacket::Deliver(Napi::Env env) {
  // onMessage may close, or close and connect again: only this link's packets are delivered here.
  const std::shared_ptr<Link> link = link_;
  for (int i = 0; link != nullptr && link == link_; ++i) {
    if (i == 0 && link->IsPaused()) return;
    if (i >= kMaxPacketsPerWake && link->Pause()) return;
    Napi::HandleScope scope(env);
    Packet packet;
    const Link::Next next = link->Take(&packet);
    if (next == Link::Next::kNothing) return;
    if (next == Link::Next::kEnd) CloseNow();  // Queued finalizers do not run within this callback.
    Napi::Value text = next == Link::Next::kEnd ? env.Null() : Napi::String::New(env, packet.text).As<Napi::Value>();
    on_message_.Call({text, Napi::Number::New(env, packet.fd.Release())});
    if (env.IsExceptionPending()) {
      if (wake_ != nullptr) wake_->Call();  // The rest comes with the next wake.
      return;
    }
  }
}

void SeqPacket::Close(const Napi::CallbackInfo&) { CloseNow(); }

void SeqPacket::CloseNow() {
  const bool held = link_ != nullptr;
  Disconnect();
  if (held) Unref();
}

void SeqPacket::Disconnect() {
  if (link_ != nullptr) link_->Close();
  link_ = nullptr;
  if (wake_ != nullptr) wake_->Close();
  wake_ = nullptr;
}

void SeqPacket::RefLoop(const Napi::CallbackInfo& info) {
  keeps_alive_ = true;
  if (wake_ != nullptr) wake_->Ref(info.Env());
}

void SeqPacket::UnrefLoop(const Napi::CallbackInfo& info) {
  keeps_alive_ = false;
  if (wake_ != nullptr) wake_->Unref(info.Env());
}

}  // namespace skos::binding
