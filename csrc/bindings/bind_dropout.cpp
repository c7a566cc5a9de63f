#include <algorithm>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/random.h"
#include "shapes/normalisation.h"

namespace pynn {
namespace {

constexpr std::int64_t kDropoutBlock = 1024;  // values of one sample; a multiple of 4
constexpr std::int64_t kWorkPerWord = 8;      // a quarter of a Philox block

py::array dropout(py::handle x_object, double p, std::uint64_t seed, std::int64_t step,
                  std::int64_t node, std::int64_t first_sample) {
  const py::array x = dense("x", x_object);
  check_probability(p);
  py::array y = empty(shape_of(x), x);
  const std::int64_t samples = x.ndim() == 0 ? 1 : x.shape(0);
  const std::int64_t size = samples == 0 ? 0 : x.size() / samples;
  const std::int64_t blocks = (size + kDropoutBlock - 1) / kDropoutBlock;
  const PhiloxStream stream = philox_stream(seed, step, node);
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    const T* x_data = data<T>(x);
    T* y_data = mutable_data<T>(y);
    ReleaseGil nogil(x.size() * kWorkPerWord);
    if (p == 0) return void(std::copy(x_data, x_data + samples * size, y_data));
    if (p == 1) return void(std::fill(y_data, y_data + samples * size, T(0)));
    const auto threshold = static_cast<std::uint32_t>(drop_threshold(p));
    const T scale = static_cast<T>(1 / (1 - p));
    parallel_for(
        samples * blocks, std::min(size, kDropoutBlock) * kWorkPerWord,
        [=](std::int64_t begin, std::int64_t end) {
          for (std::int64_t unit = begin; unit < end; ++unit) {
            const std::int64_t sample = unit / blocks, first = unit % blocks * kDropoutBlock;
            const std::int64_t offset = sample * size + first;
            isa_table<T>().dropout.forward(stream, low_word(first_sample + sample), first,
                                           std::min(kDropoutBlock, size - first), threshold, scale,
                                           x_data + offset, y_data + offset);
          }
        });
  });
  return y;
}

}  // namespace

void bind_dropout(py::module_& m) {
  using namespace py::literals;
  m.def("dropout", &dropout, "x"_a, "p"_a, "seed"_a, "step"_a, "node"_a, "first_sample"_a);
}

}  // namespace pynn
