#include "binding/uevent_socket.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>
#include <set>
#include <string>
#include <tuple>

#include "probes/files.h"
#include "probes/uevent.h"

namespace skos::binding {
namespace {

constexpr uint32_t kKernelGroup = 1;          // udev's own messages are in group 2.
constexpr int kGatherMs = 300;                // A call at most so often.
constexpr size_t kMaxMessageBytes = 8192;     // The kernel's are at most some 4 KiB.
constexpr int kMaxMessagesAtOnce = 4096;      // Far more than the socket's buffer holds.
constexpr size_t kMaxKinds = 256;             // Combinations of action and subsystem until JS takes them.
constexpr int kReceiveBytes = 256 * 1024;     // A driver with hundreds of devices, during one kGatherMs.
constexpr size_t kStackBytes = 128 * 1024;

}  // namespace

// One open socket. Shared by the JS object and the receiving thread; the socket closes with the last of them.
class UeventSocket::Link {
 public:
  using Kind = std::tuple<std::string, std::string, bool>;  // action, subsystem, is_virtual

  Link(int fd, int stop_fd, std::shared_ptr<Wake> wake) : fd_(fd), stop_(stop_fd), wake_(std::move(wake)) {}

  // JS thread. Returns 0 or errno.
  static int StartThread(const std::shared_ptr<Link>& link) {
    auto main = [](void* raw) -> void* {
      std::unique_ptr<std::shared_ptr<Link>> owned(static_cast<std::shared_ptr<Link>*>(raw));
      pthread_setname_np(pthread_self(), "skos-uevent");
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

  // JS thread. The thread leaves within microseconds; nobody waits for it.
  void Close() {
    const uint64_t one = 1;
    const ssize_t n = write(stop_.get(), &one, sizeof one);
    static_cast<void>(n);  // A fresh counter takes it.
  }

  // JS thread.
  std::set<Kind> Take(bool* lost) {
    std::lock_guard<std::mutex> lock(mutex_);
    *lost = lost_;
    lost_ = false;
    std::set<Kind> taken;
    taken.swap(kinds_);
    return taken;
  }

 private:
  // Receiving thread, all below.
  void Receive() {
    while (WaitForMessage()) {
      pollfd stop = {stop_.get(), POLLIN, 0};
      if (poll(&stop, 1, kGatherMs) > 0) return;
      const bool goes_on = ReceiveAll();
      bool any = false;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        any = lost_ || !kinds_.empty();
      }
      if (any) wake_->Call();
      if (!goes_on) return;
    }
  }

  // False when the object is closed.
  bool WaitForMessage() {
    for (;;) {
      pollfd both[2] = {{stop_.get(), POLLIN, 0}, {fd_.get(), POLLIN, 0}};
      if (poll(both, 2, -1) < 0) {
        if (errno == EINTR) continue;
        return false;
      }
      if (both[0].revents != 0) return false;
      if (both[1].revents != 0) return true;
    }
  }

  // False when the socket is broken: JS looks once a minute anyway.
  bool ReceiveAll() {
    for (int i = 0; i < kMaxMessagesAtOnce; ++i) {
      iovec part = {buffer_, sizeof buffer_};
      sockaddr_nl sender = {};
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))] = {};
      msghdr message = {};
      message.msg_name = &sender;
      message.msg_namelen = sizeof sender;
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      const ssize_t n = recvmsg(fd_.get(), &message, MSG_DONTWAIT);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
      if (n < 0 && errno != ENOBUFS) return false;
      if (n >= 0 && !IsOfKernel(sender, message)) continue;
      if (n < 0 || (message.msg_flags & MSG_TRUNC) != 0) {
        std::lock_guard<std::mutex> lock(mutex_);
        lost_ = true;
        continue;
      }
      Keep(std::string_view(buffer_, static_cast<size_t>(n)));
    }
    return true;
  }

  // A process with CAP_NET_ADMIN may send to the group too; only the kernel has port 0 and process 0.
  static bool IsOfKernel(const sockaddr_nl& sender, const msghdr& message) {
    if (message.msg_namelen != sizeof sender || sender.nl_pid != 0) return false;
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS) return false;
    ucred credentials;
    memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
    return credentials.pid == 0;
  }

  void Keep(std::string_view datagram) {
    Uevent event;
    if (!ParseUevent(datagram, &event)) return;
    std::lock_guard<std::mutex> lock(mutex_);
    if (kinds_.size() >= kMaxKinds) lost_ = true;
    else kinds_.emplace(event.action, event.subsystem, event.is_virtual);
  }

  const UniqueFd fd_;
  const UniqueFd stop_;  // eventfd: written once, to leave.
  const std::shared_ptr<Wake> wake_;
  char buffer_[kMaxMessageBytes];  // Receiving thread.

  std::mutex mutex_;
  std::set<Kind> kinds_;  // GUARDED_BY(mutex_)
  bool lost_ = false;     // GUARDED_BY(mutex_)
};

Napi::Function UeventSocket::Define(Napi::Env env) {
  return DefineClass(env, "UeventSocket",
                     {
                         InstanceMethod<&UeventSocket::Open>("open"),
                         InstanceMethod<&UeventSocket::Close>("close"),
                     });
}

UeventSocket::UeventSocket(const Napi::CallbackInfo& info) : Napi::ObjectWrap<UeventSocket>(info) {
  if (!info[0].IsFunction()) {
    Napi::TypeError::New(info.Env(), "onEvents is no function").ThrowAsJavaScriptException();
    return;
  }
  on_events_ = Napi::Persistent(info[0].As<Napi::Function>());
}

UeventSocket::~UeventSocket() { Disconnect(); }

Napi::Value UeventSocket::Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return Napi::Number::New(env, link_ != nullptr ? EISCONN : Listen(env));
}

int UeventSocket::Listen(Napi::Env env) {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  if (!fd.valid()) return errno;
  // Before bind(): no message may come without its sender's credentials.
  const int on = 1;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) return errno;
  // The kernel gives what it allows; a smaller buffer only loses news earlier, and says so.
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBytes, sizeof kReceiveBytes);
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kKernelGroup;
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return errno;
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return errno;
  wake_ = Wake::Create(env, "skos uevent", [this](Napi::Env in) { Deliver(in); });
  auto link = std::make_shared<Link>(fd.Release(), stop.Release(), wake_);
  if (const int error = Link::StartThread(link)) {
    wake_->Close();
    wake_ = nullptr;
    return error;
  }
  link_ = std::move(link);
  Ref();  // Against the collector, until it is closed.
  return 0;
}

void UeventSocket::Deliver(Napi::Env env) {
  if (link_ == nullptr) return;
  Napi::HandleScope scope(env);
  bool lost = false;
  Napi::Array events = Napi::Array::New(env);
  for (const auto& [action, subsystem, is_virtual] : link_->Take(&lost)) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("action", Napi::String::New(env, action));
    event.Set("subsystem", Napi::String::New(env, subsystem));
    event.Set("isVirtual", Napi::Boolean::New(env, is_virtual));
    events.Set(events.Length(), event);
  }
  if (events.Length() == 0 && !lost) return;
  on_events_.Call({events, Napi::Boolean::New(env, lost)});
}

void UeventSocket::Close(const Napi::CallbackInfo&) {
  const bool held = link_ != nullptr;
  Disconnect();
  if (held) Unref();
}

void UeventSocket::Disconnect() {
  if (link_ != nullptr) link_->Close();
  link_ = nullptr;
  if (wake_ != nullptr) wake_->Close();
  wake_ = nullptr;
}

}  // namespace skos::binding
