// Wakes the JS thread from any thread, at most one wake outstanding: who wakes says "look", the data wait in a queue.
//
// A thread-safe function dies with its environment, while our threads may come back later (from a stuck read, say). So
// every call goes through a lock beside a `closed` flag, and an environment clean-up hook closes it in time.
#ifndef SKOS_BINDING_WAKE_H_
#define SKOS_BINDING_WAKE_H_

#include <napi.h>

#include <functional>
#include <memory>

namespace skos::binding {

class Wake {
 public:
  // JS thread. `on_wake` runs in the JS thread; whatever it throws in JS becomes an uncaughtException.
  static std::shared_ptr<Wake> Create(Napi::Env env, const char* name, std::function<void(Napi::Env)> on_wake);
  ~Wake();
  Wake(const Wake&) = delete;
  Wake& operator=(const Wake&) = delete;

  // Any thread, also after Close() and after the environment is gone.
  void Call();
  // JS thread. Idempotent; on_wake is not called again.
  void Close();
  // JS thread. Whether it keeps the process alive; it does not from the beginning.
  void Ref(Napi::Env env);
  void Unref(Napi::Env env);

 private:
  struct State;
  Wake();
  std::unique_ptr<State> state_;
};

}  // namespace skos::binding

#endif  // SKOS_BINDING_WAKE_H_
