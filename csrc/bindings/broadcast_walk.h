// What the bindings of add and mul share.
#pragma once

#include "bindings/arrays.h"
#include "shapes/broadcast.h"

namespace pynn {

// y = kernel(a, b), broadcast; `select` takes a table of kernels and gives the kernel.
template <typename Select>
py::array broadcast_arrays(const py::array& a, const py::array& b, Select select) {
  py::array y = empty(broadcast_shape(shape_of(a), shape_of(b)), a);
  if (y.size() == 0) return y;
  const BroadcastShape walk = broadcast_walk(shape_of(a), shape_of(b));
  by_dtype(a, [&](auto zero) {
    using T = decltype(zero);
    const T *a_data = data<T>(a), *b_data = data<T>(b);
    T* y_data = mutable_data<T>(y);
    const std::int64_t size = y.size();
    ReleaseGil nogil(size);
    if (walk.axes.count > 1) {
      parallel_for(walk.rows(), size / walk.rows(), [&](std::int64_t begin, std::int64_t end) {
        select(isa_table<T>())(walk, begin, end, a_data, b_data, y_data);
      });
      return;
    }
    parallel_pointwise(size, 1, [&](std::int64_t begin, std::int64_t end) {
      BroadcastShape part = walk;
      part.axes.size[0] = end - begin;
      select(isa_table<T>())(part, 0, 1, a_data + begin * walk.axes.a[0],
                             b_data + begin * walk.axes.b[0], y_data + begin);
    });
  });
  return y;
}

// da (a_shape) = the sum of kernel(begin, end, walk, da) over the axes along which a was repeated;
// b_shape is that of what is walked over beside dy.
template <typename Kernel>
py::array reduce_to(const Shape& a_shape, const Shape& b_shape, const py::array& dy,
                    const Kernel& kernel) {
  py::array da = empty(a_shape, dy);
  const ReductionShape walk = reduction_walk(shape_of(dy), a_shape, b_shape);
  by_dtype(dy, [&](auto zero) {
    using T = decltype(zero);
    T* da_data = mutable_data<T>(da);
    const std::int64_t outputs = walk.outputs(), size = dy.size();
    ReleaseGil nogil(size);
    parallel_for(outputs, outputs ? size / outputs : 1,
                 [&](std::int64_t begin, std::int64_t end) { kernel(walk, begin, end, da_data); });
  });
  return da;
}

}  // namespace pynn
