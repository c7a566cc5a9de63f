// Stands in for NVIDIA's cuBLASLt. README.md says what it does and what it checks.
#include "cuda/runtime/cublaslt.h"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

namespace pynn::cuda::lt {

struct Context {};
struct Operation {
  Compute compute;
  std::int32_t transpose_a = 0, transpose_b = 0;
};
struct Layout {
  Type type;
  std::int64_t rows, columns, leading;
  std::int32_t batch = 1;
  std::int64_t stride = 0;
};
struct Preference {
  std::uint64_t workspace = 0;
  std::uint32_t schemes = 7, alignments[4] = {256, 256, 256, 256};
};

}  // namespace pynn::cuda::lt

namespace {

using namespace pynn::cuda::lt;  // NOLINT: their implementation

constexpr int kNotInitialized = 1, kInvalidValue = 7;
constexpr std::uint64_t kWorkspace = 4000;  // bytes; no multiple of 256

std::mutex mutex;
long products = 0, contexts = 0;

bool refuses(const char* where) {
  const char* const at = std::getenv("PYNN_STAND_IN_REFUSES");
  return at && std::strcmp(at, where) == 0;
}

template <typename Object>
int destroy(Object* object) {
  delete object;
  return kSuccess;
}

template <typename Value>
int read(Value& value, const void* from, std::size_t bytes) {
  if (bytes != sizeof value) return kInvalidValue;
  std::memcpy(&value, from, bytes);
  return kSuccess;
}

struct Product {
  Operation operation;
  Layout a, b, c, d;
  std::int64_t m() const { return d.rows; }
  std::int64_t n() const { return d.columns; }
  std::int64_t k() const { return operation.transpose_a ? a.rows : a.columns; }

  bool valid() const {
    for (const Layout* each : {&a, &b, &c, &d})
      if (each->leading < each->rows || each->batch != d.batch || each->type != d.type ||
          each->rows < 1 || each->columns < 1)
        return false;
    const bool typed = (operation.compute == Compute::float64) == (d.type == Type::float64);
    const bool apart = d.batch == 1 || d.stride >= d.leading * (d.columns - 1) + d.rows;
    const std::int64_t b_terms = operation.transpose_b ? b.columns : b.rows;
    return typed && apart && (operation.transpose_a ? a.columns : a.rows) == m() &&
           (operation.transpose_b ? b.rows : b.columns) == n() && b_terms == k() &&
           c.rows == d.rows && c.columns == d.columns;
  }
  // Tells problems apart, so that an algorithm is known again.
  std::uint64_t mark() const {
    std::uint64_t hash = 14695981039346656037u;
    const auto add = [&hash](std::int64_t value) {
      hash = (hash ^ static_cast<std::uint64_t>(value)) * 1099511628211u;
    };
    add(static_cast<int>(operation.compute));
    add(operation.transpose_a), add(operation.transpose_b);
    for (const Layout* each : {&a, &b, &c, &d}) {
      add(each->rows), add(each->columns), add(each->leading);
      add(each->batch), add(each->stride);
    }
    return hash;
  }
};

// To nearest: tf32 with ties away from zero, bfloat16 with ties to even.
float rounded(float x, Compute compute) {
  if (compute == Compute::float32 || !std::isfinite(x)) return x;
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if (compute == Compute::tf32)
    bits = (bits + 0x1000u) & 0xffffe000u;
  else
    bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}
double rounded(double x, Compute) { return x; }

template <typename T>
struct Work {
  Product product;
  T alpha, beta;
  const T *a, *b, *c;
  T* d;
  void* workspace;
  std::size_t workspace_bytes;

  static void run(void* self) { static_cast<const Work*>(self)->compute(); }
  void compute() const {
    overwrite_workspace();
    const Product& p = product;
    const std::int64_t m = p.m(), n = p.n(), k = p.k();
    std::vector<T> left(static_cast<std::size_t>(m * k)), sums(static_cast<std::size_t>(m));
    for (std::int64_t z = 0; z < p.d.batch; ++z) {
      const T *const a_z = a + z * p.a.stride, *const b_z = b + z * p.b.stride;
      for (std::int64_t l = 0; l < k; ++l)
        for (std::int64_t i = 0; i < m; ++i)
          left[static_cast<std::size_t>(l * m + i)] =
              rounded(p.operation.transpose_a ? a_z[l + i * p.a.leading] : a_z[i + l * p.a.leading],
                      p.operation.compute);
      for (std::int64_t j = 0; j < n; ++j) {
        std::fill(sums.begin(), sums.end(), T(0));
        for (std::int64_t l = 0; l < k; ++l) {
          const T factor =
              rounded(p.operation.transpose_b ? b_z[j + l * p.b.leading] : b_z[l + j * p.b.leading],
                      p.operation.compute);
          const T* const column = left.data() + l * m;
          for (std::int64_t i = 0; i < m; ++i)
            sums[static_cast<std::size_t>(i)] += column[i] * factor;
        }
        for (std::int64_t i = 0; i < m; ++i) {
          const T before = beta == 0 ? T(0) : beta * c[z * p.c.stride + i + j * p.c.leading];
          d[z * p.d.stride + i + j * p.d.leading] =
              alpha * sums[static_cast<std::size_t>(i)] + before;
        }
      }
    }
    overwrite_workspace();
    const std::lock_guard<std::mutex> lock(mutex);
    ++products;
  }
  void overwrite_workspace() const {
    if (workspace_bytes) std::memset(workspace, 0xff, workspace_bytes);
  }
};

// Kept for as long as a graph may have them.
template <typename T>
Work<T>* keep(const Work<T>& work) {
  static std::deque<Work<T>> all;
  const std::lock_guard<std::mutex> lock(mutex);
  all.push_back(work);
  return &all.back();
}

// The run time is in the library that calls.
using Submit = int (*)(cudaStream_t, void (*)(void*), void*);
Submit find_submit(const void* caller) {
  Dl_info info{};
  if (!dladdr(caller, &info)) return nullptr;
  void* const library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  return library ? reinterpret_cast<Submit>(dlsym(library, "pynn_emulator_submit")) : nullptr;
}

bool aligned(const void* pointer, std::uint64_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT std::size_t cublasLtGetVersion() { return 130000; }
EXPORT long pynn_stand_in_products() { return products; }
EXPORT long pynn_stand_in_contexts() { return contexts; }

EXPORT int cublasLtCreate(Context** context) {
  if (refuses("create")) return kNotInitialized;
  *context = new Context;
  ++contexts;
  return kSuccess;
}

EXPORT int cublasLtMatmulDescCreate(Operation** operation, Compute compute, Type scale) {
  if ((compute == Compute::float64) != (scale == Type::float64)) return kInvalidValue;
  *operation = new Operation{compute};
  return kSuccess;
}
EXPORT int cublasLtMatmulDescDestroy(Operation* operation) { return destroy(operation); }
EXPORT int cublasLtMatmulDescSetAttribute(Operation* operation, OperationAttribute attribute,
                                          const void* value, std::size_t bytes) {
  switch (attribute) {
    case OperationAttribute::transpose_a:
      return read(operation->transpose_a, value, bytes);
    case OperationAttribute::transpose_b:
      return read(operation->transpose_b, value, bytes);
  }
  return kInvalidValue;
}

EXPORT int cublasLtMatrixLayoutCreate(Layout** layout, Type type, std::uint64_t rows,
                                      std::uint64_t columns, std::int64_t leading) {
  *layout = new Layout{type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns),
                       leading};
  return kSuccess;
}
EXPORT int cublasLtMatrixLayoutDestroy(Layout* layout) { return destroy(layout); }
EXPORT int cublasLtMatrixLayoutSetAttribute(Layout* layout, LayoutAttribute attribute,
                                            const void* value, std::size_t bytes) {
  switch (attribute) {
    case LayoutAttribute::batch_count:
      return read(layout->batch, value, bytes);
    case LayoutAttribute::batch_stride:
      return read(layout->stride, value, bytes);
  }
  return kInvalidValue;
}

EXPORT int cublasLtMatmulPreferenceCreate(Preference** preference) {
  *preference = new Preference;
  return kSuccess;
}
EXPORT int cublasLtMatmulPreferenceDestroy(Preference* preference) { return destroy(preference); }
EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference* preference,
                                                PreferenceAttribute attribute, const void* value,
                                                std::size_t bytes) {
  switch (attribute) {
    case PreferenceAttribute::most_workspace:
      return read(preference->workspace, value, bytes);
    case PreferenceAttribute::reduction_schemes:
      return read(preference->schemes, value, bytes);
    case PreferenceAttribute::alignment_a:
    case PreferenceAttribute::alignment_b:
    case PreferenceAttribute::alignment_c:
    case PreferenceAttribute::alignment_d:
      return read(preference->alignments[static_cast<int>(attribute) -
                                         static_cast<int>(PreferenceAttribute::alignment_a)],
                  value, bytes);
  }
  return kInvalidValue;
}

// An algorithm: the problem's mark, the workspace, and the alignments, a byte each.
EXPORT int cublasLtMatmulAlgoGetHeuristic(Context* context, Operation* operation, Layout* a,
                                          Layout* b, Layout* c, Layout* d, Preference* preference,
                                          int wanted, Heuristic* results, int* found) {
  *found = 0;
  if (!context || wanted < 1) return kInvalidValue;
  const Product product{*operation, *a, *b, *c, *d};
  if (!product.valid()) return kInvalidValue;
  if (refuses("choose")) return kNotSupported;
  Heuristic& best = *results;
  best = {};
  best.workspace = preference->workspace < kWorkspace ? 0 : kWorkspace;
  best.algorithm.data[0] = product.mark();
  best.algorithm.data[1] = best.workspace;
  for (int i = 0; i < 4; ++i) best.algorithm.data[2 + i] = preference->alignments[i];
  *found = 1;
  return kSuccess;
}

EXPORT int cublasLtMatmul(Context* context, Operation* operation, const void* alpha, const void* a,
                          Layout* a_layout, const void* b, Layout* b_layout, const void* beta,
                          const void* c, Layout* c_layout, void* d, Layout* d_layout,
                          const Algorithm* algorithm, void* workspace, std::size_t workspace_bytes,
                          cudaStream_t stream) {
  if (refuses("run")) return kNotSupported;
  if (!context || !algorithm) return kInvalidValue;
  const Product product{*operation, *a_layout, *b_layout, *c_layout, *d_layout};
  const std::uint64_t* const chosen = algorithm->data;
  if (!product.valid() || chosen[0] != product.mark() || workspace_bytes < chosen[1] ||
      (chosen[1] && (!workspace || !aligned(workspace, 256))) || !aligned(a, chosen[2]) ||
      !aligned(b, chosen[3]) || !aligned(c, chosen[4]) || !aligned(d, chosen[5]))
    return kInvalidValue;
  const Submit submit = find_submit(__builtin_return_address(0));
  if (!submit) return kNotInitialized;
  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    return submit(
        stream, &Work<T>::run,
        keep(Work<T>{product, *static_cast<const T*>(alpha), *static_cast<const T*>(beta),
                     static_cast<const T*>(a), static_cast<const T*>(b), static_cast<const T*>(c),
                     static_cast<T*>(d), workspace, workspace_bytes}));
  };
  return d_layout->type == Type::float64 ? launch(0.0) : launch(0.0f);
}
