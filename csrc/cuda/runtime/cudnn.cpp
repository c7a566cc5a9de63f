#include "cuda/runtime/cudnn.h"

#include <mutex>
#include <optional>

#include "cuda/runtime/libraries.h"
#include "cuda/runtime/session_handle.h"

namespace pynn::cuda::dnn {
namespace {

std::optional<Functions> load_all() {
  void* const library = cudnn();
  if (!library) return std::nullopt;
  Functions f;
#define PYNN_LOAD(name) load(library, "cudnn" #name, f.name)
  const bool all = PYNN_LOAD(Create) && PYNN_LOAD(SetStream) &&
                   PYNN_LOAD(BackendCreateDescriptor) && PYNN_LOAD(BackendDestroyDescriptor) &&
                   PYNN_LOAD(BackendSetAttribute) && PYNN_LOAD(BackendGetAttribute) &&
                   PYNN_LOAD(BackendFinalize) && PYNN_LOAD(BackendExecute);
#undef PYNN_LOAD
  return all ? std::optional(f) : std::nullopt;
}

}  // namespace

const Functions* functions() {
  static const std::optional<Functions> found = load_all();
  return found ? &*found : nullptr;
}

Context* context() {
  static SessionHandle<Context> handle;
  return functions() ? handle.get(functions()->Create) : nullptr;
}

int execute(Descriptor* plan, Descriptor* pack, cudaStream_t stream) {
  static std::mutex mutex;
  Context* const on = context();
  const std::lock_guard<std::mutex> lock(mutex);
  const int status = functions()->SetStream(on, stream);
  return status == kSuccess ? functions()->BackendExecute(on, plan, pack) : status;
}

void Destroy::operator()(Descriptor* descriptor) const {
  if (session == cuda::session()) functions()->BackendDestroyDescriptor(descriptor);
}

Owned create(Kind kind) {
  Descriptor* made = nullptr;
  if (functions()->BackendCreateDescriptor(kind, &made) != kSuccess) made = nullptr;
  return Owned(made, Destroy{session()});
}

}  // namespace pynn::cuda::dnn
