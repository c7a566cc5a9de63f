#include <algorithm>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/random.h"
#include "kernels/drop_block2d.h"
#include "shapes/normalisation.h"

namespace pynn {
namespace {

py::array drop_block2d(py::handle x_object, double p, std::int64_t block_size, std::uint64_t seed,
                       std::int64_t step, std::int64_t node, std::int64_t first_sample) {
  const py::array x = dense("x", x_object);
  const Shape shape = drop_block2d_shape(shape_of(x), p, block_size);
  py::array y = empty(shape, x);
  if (x.size() == 0) return y;
  DropBlock2dShape s{shape[1], shape[2], shape[3], std::min({block_size, shape[2], shape[3]}), 0};
  const auto area = static_cast<double>(s.block * s.block);
  const auto corners = static_cast<double>((s.H - s.block + 1) * (s.W - s.block + 1));
  const double gamma = p / area * static_cast<double>(s.H * s.W) / corners;
  s.threshold = drop_threshold(std::min(gamma, 1.0));
  const PhiloxStream stream = philox_stream(seed, step, node);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    const std::int64_t size = s.C * s.H * s.W;
    ReleaseGil nogil(x.size() * 12);
    parallel_for(shape[0], size * 12, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n)
        isa_table<T>().drop_block2d.forward(s, stream, low_word(first_sample + n),
                                            x_data + n * size, y_data + n * size);
    });
  });
  return y;
}

}  // namespace

void bind_drop_block2d(py::module_& m) {
  using namespace py::literals;
  m.def("drop_block2d", &drop_block2d, "x"_a, "p"_a, "block_size"_a, "seed"_a, "step"_a, "node"_a,
        "first_sample"_a);
  m.def(
      "drop_block2d_shape",
      [](const Shape& x, double p, std::int64_t block_size) {
        return to_tuple(drop_block2d_shape(x, p, block_size));
      },
      "x"_a, "p"_a, "block_size"_a);
}

}  // namespace pynn
