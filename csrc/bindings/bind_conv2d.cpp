#include <algorithm>
#include <memory>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/window_arguments.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

std::int64_t work_of(const Conv2dShape& s) {
  const Window& w = s.window;
  return 2 * s.N * s.O * w.OH * w.OW * (s.C / s.groups) * w.KH * w.KW;
}

py::tuple conv2d_geometry(const Shape& x, const Shape& w, const std::optional<Shape>& b,
                          py::handle stride, py::handle padding, py::handle dilation,
                          std::int64_t groups) {
  const Conv2dShape s = conv2d_shape(x, w, b, to_pair("stride", stride), to_padding(padding),
                                     to_pair("dilation", dilation), groups);
  return py::make_tuple(to_tuple(output_shape(s)), to_tuple({s.window.stride_h, s.window.stride_w}),
                        padding_tuple(s.window),
                        to_tuple({s.window.dilation_h, s.window.dilation_w}));
}

py::array conv2d(py::handle x_object, py::handle w_object, py::handle b_object, py::handle stride,
                 py::handle padding, py::handle dilation, std::int64_t groups) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const std::optional<py::array> b = optional_dense_as("b", b_object, x);
  const Conv2dShape s =
      conv2d_shape(shape_of(x), shape_of(w), optional_shape(b), to_pair("stride", stride),
                   to_padding(padding), to_pair("dilation", dilation), groups);
  py::array y = empty(output_shape(s), x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T *x_data = data<T>(x), *w_data = data<T>(w), *b_data = data<T>(b);
    T* y_data = mutable_data<T>(y);
    const auto& kernels = isa_table<T>().conv2d;
    const Conv2dUnits units = kernels.units(s);
    ReleaseGil nogil(work_of(s));
    parallel_for(units.forward, work_of(s) / std::max<std::int64_t>(units.forward, 1),
                 [&](std::int64_t begin, std::int64_t end) {
                   kernels.forward(s, begin, end, x_data, w_data, b_data, y_data,
                                   scratch<T>(units.scratch));
                 });
  });
  return y;
}

template <typename T>
void weight_gradient(const Conv2dShape& s, const T* dy, const T* x, T* dw) {
  const auto& kernels = isa_table<T>().conv2d;
  const Conv2dUnits units = kernels.units(s);
  const std::int64_t size = s.O * (s.C / s.groups) * s.window.KH * s.window.KW;
  if (units.shards == 0) {
    std::fill(dw, dw + size, T(0));
    return;
  }
  std::unique_ptr<T[]> memory;
  if (units.shards > 1) memory.reset(new T[static_cast<std::size_t>(units.shards * size)]);
  T* const shards = memory ? memory.get() : dw;
  parallel_for(units.backward_weight, work_of(s) / std::max<std::int64_t>(units.backward_weight, 1),
               [&](std::int64_t begin, std::int64_t end) {
                 kernels.backward_weight(s, begin, end, dy, x, shards, scratch<T>(units.scratch));
               });
  if (units.shards > 1)
    parallel_pointwise(size, units.shards, [&](std::int64_t begin, std::int64_t end) {
      kernels.combine(units.shards, size, begin, end, shards, dw);
    });
}

py::tuple conv2d_backward(py::handle dy_object, py::handle x_object, py::handle w_object,
                          py::handle stride, py::handle padding, py::handle dilation,
                          std::int64_t groups, std::array<bool, 3> needs) {
  const py::array x = dense("x", x_object);
  const py::array w = dense_as("w", w_object, x);
  const py::array dy = dense_as("dy", dy_object, x);
  const Conv2dShape s =
      conv2d_shape(shape_of(x), shape_of(w), std::nullopt, to_pair("stride", stride),
                   to_padding(padding), to_pair("dilation", dilation), groups);
  require_shape("dy", dy, output_shape(s));
  py::object dx = py::none(), dw = py::none(), db = py::none();
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T *x_data = data<T>(x), *w_data = data<T>(w), *dy_data = data<T>(dy);
    const auto& kernels = isa_table<T>().conv2d;
    const Conv2dUnits units = kernels.units(s);
    if (needs[0]) {
      py::array result = empty(shape_of(x), x);
      T* dx_data = mutable_data<T>(result);
      {
        ReleaseGil nogil(work_of(s));
        parallel_for(units.backward_input,
                     work_of(s) / std::max<std::int64_t>(units.backward_input, 1),
                     [&](std::int64_t begin, std::int64_t end) {
                       kernels.backward_input(s, begin, end, dy_data, w_data, dx_data,
                                              scratch<T>(units.scratch));
                     });
      }
      dx = result;
    }
    if (needs[1]) {
      py::array result = empty(shape_of(w), x);
      T* dw_data = mutable_data<T>(result);
      {
        ReleaseGil nogil(work_of(s));
        weight_gradient(s, dy_data, x_data, dw_data);
      }
      dw = result;
    }
    if (needs[2]) {
      py::array result = empty({s.O}, x);
      T* db_data = mutable_data<T>(result);
      {
        ReleaseGil nogil(dy.size());
        parallel_for(s.O, s.N * s.window.OH * s.window.OW,
                     [&](std::int64_t begin, std::int64_t end) {
                       kernels.backward_bias(s, begin, end, dy_data, db_data);
                     });
      }
      db = result;
    }
  });
  return py::make_tuple(dx, dw, db);
}

}  // namespace

void bind_conv2d(py::module_& m) {
  using namespace py::literals;
  m.def("conv2d_geometry", &conv2d_geometry, "x"_a, "w"_a, "b"_a, "stride"_a, "padding"_a,
        "dilation"_a, "groups"_a);
  m.def("conv2d", &conv2d, "x"_a, "w"_a, "b"_a, "stride"_a, "padding"_a, "dilation"_a, "groups"_a);
  m.def("conv2d_backward", &conv2d_backward, "dy"_a, "x"_a, "w"_a, "stride"_a, "padding"_a,
        "dilation"_a, "groups"_a, "needs"_a = std::array<bool, 3>{true, true, true});
}

}  // namespace pynn
