#include "cuda/runtime/cublaslt.h"

#include <optional>

#include "cuda/runtime/libraries.h"
#include "cuda/runtime/session_handle.h"

namespace pynn::cuda::lt {
namespace {

std::optional<Functions> load_all() {
  void* const library = cublaslt();
  if (!library) return std::nullopt;
  Functions f;
#define PYNN_LOAD(name) load(library, "cublasLt" #name, f.name)
  const bool all = PYNN_LOAD(Create) && PYNN_LOAD(MatmulDescCreate) &&
                   PYNN_LOAD(MatmulDescDestroy) && PYNN_LOAD(MatmulDescSetAttribute) &&
                   PYNN_LOAD(MatrixLayoutCreate) && PYNN_LOAD(MatrixLayoutDestroy) &&
                   PYNN_LOAD(MatrixLayoutSetAttribute) && PYNN_LOAD(MatmulPreferenceCreate) &&
                   PYNN_LOAD(MatmulPreferenceDestroy) && PYNN_LOAD(MatmulPreferenceSetAttribute) &&
                   PYNN_LOAD(MatmulAlgoGetHeuristic) && PYNN_LOAD(Matmul);
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

}  // namespace pynn::cuda::lt
