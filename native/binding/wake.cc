#include "binding/wake.h"

#include <atomic>
#include <mutex>

namespace skos::binding {
namespace {

// Kept alive by the thread-safe function until it is finalized.
struct Context {
  std::function<void(Napi::Env)> on_wake;  // JS thread. Emptied by Close().
  std::atomic<bool> outstanding{false};
};

void Dispatch(Napi::Env env, Napi::Function, Context* context, void*) {
  context->outstanding.store(false);
  // No environment: it is being torn down and only wants the queue emptied.
  if (static_cast<napi_env>(env) == nullptr || !context->on_wake) return;
  // A copy, because the callback may call Close(), which empties the original.
  const std::function<void(Napi::Env)> on_wake = context->on_wake;
  on_wake(env);
  // Node.js would only warn (DEP0168) of an error in a thread-safe function; a programmer's error must crash.
  if (env.IsExceptionPending()) napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

using Function = Napi::TypedThreadSafeFunction<Context, void, Dispatch>;

}  // namespace

struct Wake::State {
  napi_env env = nullptr;
  Context* context = nullptr;  // Owned by `function`.
  std::mutex mutex;
  bool closed = false;  // GUARDED_BY(mutex)
  Function function;    // GUARDED_BY(mutex)

  static void CloseAtCleanup(void* self) { static_cast<Wake*>(self)->Close(); }
};

Wake::Wake() : state_(std::make_unique<State>()) {}

Wake::~Wake() { Close(); }

std::shared_ptr<Wake> Wake::Create(Napi::Env env, const char* name, std::function<void(Napi::Env)> on_wake) {
  std::shared_ptr<Wake> wake(new Wake());
  auto context = std::make_unique<Context>();
  context->on_wake = std::move(on_wake);
  State& state = *wake->state_;
  state.env = env;
  state.context = context.get();
  state.function = Function::New(env, name, 1, 1, context.release(),
                                 [](Napi::Env, void*, Context* owned) { delete owned; }, static_cast<void*>(nullptr));
  state.function.Unref(env);
  // Hooks run last in, first out: ours runs before the thread-safe function's own.
  napi_add_env_cleanup_hook(env, State::CloseAtCleanup, wake.get());
  return wake;
}

void Wake::Call() {
  std::lock_guard<std::mutex> lock(state_->mutex);
  if (state_->closed || state_->context->outstanding.exchange(true)) return;
  state_->function.NonBlockingCall(static_cast<void*>(nullptr));
}

void Wake::Close() {
  std::lock_guard<std::mutex> lock(state_->mutex);
  if (state_->closed) return;
  state_->closed = true;
  state_->context->on_wake = nullptr;
  napi_remove_env_cleanup_hook(state_->env, State::CloseAtCleanup, this);
  state_->function.Release();
}

void Wake::Ref(Napi::Env env) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  if (!state_->closed) state_->function.Ref(env);
}

void Wake::Unref(Napi::Env env) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  if (!state_->closed) state_->function.Unref(env);
}

}  // namespace skos::binding
