#include "bindings/window_arguments.h"

#include <algorithm>
#include <array>

namespace pynn {
namespace {

namespace py = pybind11;

constexpr std::int64_t kMostPadding = std::int64_t{1}
                                      << 31;  // on one side; sums of these cannot overflow

std::string text_of(py::handle object) { return py::repr(object).cast<std::string>(); }

bool is_int(py::handle object) {
  return PyLong_Check(object.ptr()) ||
         (PyIndex_Check(object.ptr()) && !PySequence_Check(object.ptr()));
}

// False where the object is no int, or none that fits.
bool read_int(py::handle object, std::int64_t& value) {
  if (!is_int(object)) return false;
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!index) throw py::error_already_set();
  int overflow = 0;
  value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  return overflow == 0;
}

// The number of ints read: 1 for an int, up to 4 for a sequence; 0 where the object is neither.
int read_ints(py::handle object, std::int64_t (&values)[4]) {
  if (is_int(object)) return read_int(object, values[0]) ? 1 : 0;
  if (!PySequence_Check(object.ptr()) || PyUnicode_Check(object.ptr())) return 0;
  const auto sequence = py::reinterpret_borrow<py::sequence>(object);
  const std::size_t size = sequence.size();
  if (size != 2 && size != 4) return 0;
  for (std::size_t i = 0; i < size; ++i)
    if (!read_int(py::object(sequence[i]), values[i])) return 0;
  return static_cast<int>(size);
}

// What needs no window to be understood: "valid", or how many rows and columns on each side. False
// where the object is something else.
bool read_sides(py::handle object, std::array<std::int64_t, 4>& sides) {
  if (PyUnicode_Check(object.ptr())) {
    sides = {};
    return object.cast<std::string>() == "valid";
  }
  std::int64_t values[4];
  const int count = read_ints(object, values);
  if (count == 1) sides = {values[0], values[0], values[0], values[0]};
  if (count == 2) sides = {values[0], values[0], values[1], values[1]};
  if (count == 4) sides = {values[0], values[1], values[2], values[3]};
  return count > 0 && *std::min_element(sides.begin(), sides.end()) >= 0;
}

}  // namespace

Pair to_pair(const char* name, py::handle object) {
  std::int64_t values[4];
  const int count = read_ints(object, values);
  if (count == 1) return {values[0], values[0]};
  if (count == 2) return {values[0], values[1]};
  throw ShapeError(message(name, " must be an int or (rows, columns), got ", text_of(object)));
}

Padding to_padding(py::handle object) {
  Padding padding;
  if (read_sides(object, padding.sides)) return padding;
  if (PyUnicode_Check(object.ptr())) {
    const std::string text = object.cast<std::string>();
    if (text == "same" || text == "full") {
      padding.kind = text == "same" ? Padding::Kind::same : Padding::Kind::full;
      return padding;
    }
  }
  throw ShapeError(
      message("padding must be an int, (rows, columns), (top, bottom, left, right), none of them "
              "negative, or 'valid', 'same' or 'full', got ",
              text_of(object)));
}

Sides to_sides(py::handle object) {
  std::array<std::int64_t, 4> sides{};
  if (read_sides(object, sides) && *std::max_element(sides.begin(), sides.end()) <= kMostPadding)
    return {sides[0], sides[1], sides[2], sides[3]};
  throw ShapeError(message(
      "padding must be an int, (rows, columns), (top, bottom, left, right) or 'valid', none "
      "negative, got ",
      text_of(object)));
}

Window to_pool2d_window(const Shape& x, py::handle kernel_size, py::handle stride,
                        py::handle padding, bool ceil_mode) {
  const Pair kernel = to_pair("kernel_size", kernel_size);
  return pool2d_window(x, kernel, stride.is_none() ? kernel : to_pair("stride", stride),
                       to_padding(padding), ceil_mode);
}

py::tuple padding_tuple(const Window& w) {
  return py::make_tuple(w.top, w.bottom, w.left, w.right);
}

}  // namespace pynn
