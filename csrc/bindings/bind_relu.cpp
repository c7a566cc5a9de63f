#include "bindings/arrays.h"
#include "bindings/bindings.h"

namespace pynn {
namespace {

py::array relu(py::handle x_object) {
  const py::array x = dense("x", x_object);
  py::array y = empty(shape_of(x), x);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    const std::int64_t size = x.size();
    ReleaseGil nogil(size);
    parallel_pointwise(size, 1, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().relu.forward(end - begin, x_data + begin, y_data + begin);
    });
  });
  return y;
}

py::array relu_backward(py::handle dy_object, py::handle y_object) {
  const py::array y = dense("y", y_object);
  const py::array dy = dense_as("dy", dy_object, y);
  require_shape("dy", dy, shape_of(y));
  py::array dx = empty(shape_of(y), y);
  by_dtype(y, [&](auto zero) {
    using T = decltype(zero);
    const T *dy_data = data<T>(dy), *y_data = data<T>(y);
    T* dx_data = mutable_data<T>(dx);
    const std::int64_t size = y.size();
    ReleaseGil nogil(size);
    parallel_pointwise(size, 1, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().relu.backward(end - begin, dy_data + begin, y_data + begin, dx_data + begin);
    });
  });
  return dx;
}

}  // namespace

void bind_relu(py::module_& m) {
  using namespace py::literals;
  m.def("relu", &relu, "x"_a);
  m.def("relu_backward", &relu_backward, "dy"_a, "y"_a);
}

}  // namespace pynn
