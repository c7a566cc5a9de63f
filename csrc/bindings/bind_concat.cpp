#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "shapes/arrangement.h"

namespace pynn {
namespace {

// to_r = from_r for `outer` rows of `width` values.
template <typename T>
void copy_part(std::int64_t outer, std::int64_t width, const T* from, std::int64_t from_stride,
               T* to, std::int64_t to_stride) {
  parallel_for(outer, width, [=](std::int64_t begin, std::int64_t end) {
    isa_table<T>().concat.copy_rows(end - begin, width, from + begin * from_stride, from_stride,
                                    to + begin * to_stride, to_stride);
  });
}

py::array concat(const std::vector<py::object>& objects, std::int64_t axis) {
  std::vector<py::array> arrays;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const std::string name = "arrays[" + std::to_string(i) + "]";
    arrays.push_back(i == 0 ? dense(name.c_str(), objects[i])
                            : dense_as(name.c_str(), objects[i], arrays[0]));
    shapes.push_back(shape_of(arrays[i]));
  }
  const Shape shape = concat_shape(shapes, axis);
  axis = checked_axis(axis, shape);
  py::array y = empty(shape, arrays[0]);
  by_dtype(y, [&](auto zero) {
    using T = decltype(zero);
    std::vector<const T*> parts;
    for (const py::array& array : arrays) parts.push_back(data<T>(array));
    T* to = mutable_data<T>(y);
    const AxisSplit whole = split_at(shape, axis);
    ReleaseGil nogil(y.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::int64_t width = split_at(shapes[i], axis).axis * whole.inner;
      copy_part(whole.outer, width, parts[i], width, to, whole.axis * whole.inner);
      to += width;
    }
  });
  return y;
}

py::list concat_backward(py::handle dy_object, const Shape& sizes, std::int64_t axis) {
  const py::array dy = dense("dy", dy_object);
  Shape shape = shape_of(dy);
  axis = checked_axis(axis, shape);
  std::int64_t total = 0;
  bool wrong = false;
  for (std::int64_t size : sizes)
    wrong = wrong || size < 0 || __builtin_add_overflow(total, size, &total);
  if (wrong || total != shape[static_cast<std::size_t>(axis)])
    throw ShapeError(
        message("sizes ", sizes, " do not divide axis ", axis, " of dy, of shape ", shape));
  const AxisSplit whole = split_at(shape, axis);
  py::list parts;
  std::int64_t offset = 0;
  for (std::int64_t size : sizes) {
    shape[static_cast<std::size_t>(axis)] = size;
    py::array part = empty(shape, dy);
    by_dtype(dy, [&](auto zero) {
      using T = decltype(zero);
      const T* from = data<T>(dy) + offset;
      T* to = mutable_data<T>(part);
      const std::int64_t width = size * whole.inner;
      ReleaseGil nogil(part.size());
      copy_part(whole.outer, width, from, whole.axis * whole.inner, to, width);
    });
    parts.append(part);
    offset += size * whole.inner;
  }
  return parts;
}

}  // namespace

void bind_concat(py::module_& m) {
  using namespace py::literals;
  m.def("concat", &concat, "arrays"_a, "axis"_a);
  m.def("concat_backward", &concat_backward, "dy"_a, "sizes"_a, "axis"_a);
  m.def(
      "concat_shape",
      [](const std::vector<Shape>& shapes, std::int64_t axis) {
        return to_tuple(concat_shape(shapes, axis));
      },
      "shapes"_a, "axis"_a);
}

}  // namespace pynn
