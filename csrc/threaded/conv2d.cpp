#include "threaded/conv2d.h"

#include <algorithm>
#include <memory>

#include "runtime/scratch.h"
#include "runtime/thread_pool.h"
#include "simd/isa_table.h"

namespace pynn::threaded {
namespace {

std::int64_t work_of_unit(const Conv2dShape& s, std::int64_t units) {
  return work_of(s) / std::max<std::int64_t>(units, 1);
}

template <typename T>
void weight_gradient(const Conv2dShape& s, const Conv2dUnits& units, const T* dy, const T* x,
                     T* dw) {
  const auto& kernels = isa_table<T>().conv2d;
  const std::int64_t size = s.O * (s.C / s.groups) * s.window.KH * s.window.KW;
  if (units.shards == 0) {
    std::fill(dw, dw + size, T(0));
    return;
  }
  std::unique_ptr<T[]> memory;
  if (units.shards > 1) memory.reset(new T[static_cast<std::size_t>(units.shards * size)]);
  T* const shards = memory ? memory.get() : dw;
  parallel_for(units.backward_weight, work_of_unit(s, units.backward_weight),
               [&](std::int64_t begin, std::int64_t end) {
                 kernels.backward_weight(s, begin, end, dy, x, shards, scratch<T>(units.scratch));
               });
  if (units.shards == 1) return;
  constexpr std::int64_t kPiece = 4096;
  parallel_for((size + kPiece - 1) / kPiece, kPiece * units.shards * kWorkPerMove,
               [&](std::int64_t begin, std::int64_t end) {
                 kernels.combine(units.shards, size, begin * kPiece, std::min(end * kPiece, size),
                                 shards, dw);
               });
}

}  // namespace

std::int64_t work_of(const Conv2dShape& s) {
  const Window& w = s.window;
  return 2 * s.N * s.O * w.OH * w.OW * (s.C / s.groups) * w.KH * w.KW;
}

template <typename T>
void conv2d(const Conv2dShape& s, const T* x, const T* w, const T* b, T* y) {
  const auto& kernels = isa_table<T>().conv2d;
  const Conv2dUnits units = kernels.units(s);
  parallel_for(units.forward, work_of_unit(s, units.forward),
               [&](std::int64_t begin, std::int64_t end) {
                 kernels.forward(s, begin, end, x, w, b, y, scratch<T>(units.scratch));
               });
}

template <typename T>
void conv2d_backward(const Conv2dShape& s, const T* dy, const T* x, const T* w, T* dx, T* dw,
                     T* db) {
  const auto& kernels = isa_table<T>().conv2d;
  const Conv2dUnits units = kernels.units(s);
  if (dx)
    parallel_for(units.backward_input, work_of_unit(s, units.backward_input),
                 [&](std::int64_t begin, std::int64_t end) {
                   kernels.backward_input(s, begin, end, dy, w, dx, scratch<T>(units.scratch));
                 });
  if (dw) weight_gradient(s, units, dy, x, dw);
  if (db)
    parallel_for(s.O, s.N * s.window.OH * s.window.OW * kWorkPerMove,
                 [&](std::int64_t begin, std::int64_t end) {
                   kernels.backward_bias(s, begin, end, dy, db);
                 });
}

#define PYNN_INSTANTIATE(T)                                                   \
  template void conv2d(const Conv2dShape&, const T*, const T*, const T*, T*); \
  template void conv2d_backward(const Conv2dShape&, const T*, const T*, const T*, T*, T*, T*);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)
#undef PYNN_INSTANTIATE

}  // namespace pynn::threaded
