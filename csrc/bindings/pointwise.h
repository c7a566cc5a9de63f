// What the bindings of pointwise operators of one array share.
#pragma once

#include "bindings/arrays.h"

namespace pynn {

// y = kernel(x), element by element. `select` takes a table of kernels (IsaTable<T>) and gives the
// kernel, which is called as kernel(size, x, y, parameters...); `work` is what an element costs, in
// floating-point operations.
template <typename Select, typename... Parameters>
py::array pointwise(py::handle x_object, std::int64_t work, Select select,
                    Parameters... parameters) {
  const py::array x = dense("x", x_object);
  py::array y = empty(shape_of(x), x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    const std::int64_t size = x.size();
    ReleaseGil nogil(size * work);
    parallel_pointwise(size, work, [=](std::int64_t begin, std::int64_t end) {
      select(isa_table<T>())(end - begin, x_data + begin, y_data + begin,
                             static_cast<T>(parameters)...);
    });
  });
  return y;
}

// dx = kernel(dy, kept), where `kept` is x or y (`name` says which): kernel(size, dy, kept, dx,
// parameters...).
template <typename Select, typename... Parameters>
py::array pointwise_backward(py::handle dy_object, const char* name, py::handle kept_object,
                             Select select, Parameters... parameters) {
  const py::array kept = dense(name, kept_object);
  const py::array dy = dense_as("dy", dy_object, kept);
  require_shape("dy", dy, shape_of(kept));
  py::array dx = empty(shape_of(kept), kept);
  by_dtype(kept, [&](auto zero) {
    using T = decltype(zero);
    const T *dy_data = data<T>(dy), *kept_data = data<T>(kept);
    T* dx_data = mutable_data<T>(dx);
    const std::int64_t size = kept.size();
    ReleaseGil nogil(size);
    parallel_pointwise(size, 1, [=](std::int64_t begin, std::int64_t end) {
      select(isa_table<T>())(end - begin, dy_data + begin, kept_data + begin, dx_data + begin,
                             static_cast<T>(parameters)...);
    });
  });
  return dx;
}

}  // namespace pynn
