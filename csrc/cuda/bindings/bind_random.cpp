// dropout and drop_block2d.
#include "bindings/random.h"
#include "cuda/bindings/bindings.h"
#include "cuda/bindings/single_call.h"
#include "shapes/normalisation.h"

namespace pynn::cuda {
namespace {

template <typename T>
StepState* put_state(Bench<T>& bench, std::uint64_t seed, std::int64_t step,
                     std::int64_t first_sample) {
  StepState state{};
  state.seed = seed;
  state.step = low_word(step);
  state.first_sample = low_word(first_sample);
  char* const to = bench.bytes(sizeof state);
  copy_to_device(to, &state, sizeof state);
  return reinterpret_cast<StepState*>(to);
}

template <typename Make>
py::array random_forward(const py::array& x, std::uint64_t seed, std::int64_t step,
                         std::int64_t first_sample, const Make& make) {
  return by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    if (x.size() == 0) return empty(shape_of(x), x);
    const OperationPointer<T> operation = make(zero);
    Bench<T> bench;
    Call<T> c;
    c.state = put_state(bench, seed, step, first_sample);
    return bench.get(run_forward(bench, *operation, {x}, x.size(), c), shape_of(x), false);
  });
}

py::array dropout_of(py::handle x_object, double p, std::uint64_t seed, std::int64_t step,
                     std::int64_t node, std::int64_t first_sample) {
  const py::array x = dense("x", x_object);
  check_probability(p);
  return random_forward(x, seed, step, first_sample, [&](auto zero) {
    return make_dropout<decltype(zero)>(shape_of(x), p, low_word(node));
  });
}

py::array drop_block2d_of(py::handle x_object, double p, std::int64_t block_size,
                          std::uint64_t seed, std::int64_t step, std::int64_t node,
                          std::int64_t first_sample) {
  const py::array x = dense("x", x_object);
  drop_block2d_shape(shape_of(x), p, block_size);
  return random_forward(x, seed, step, first_sample, [&](auto zero) {
    return make_drop_block2d<decltype(zero)>(shape_of(x), p, block_size, low_word(node));
  });
}

}  // namespace

void bind_random(py::module_& m) {
  using namespace py::literals;
  m.def("dropout", &dropout_of, "x"_a, "p"_a, "seed"_a, "step"_a, "node"_a, "first_sample"_a);
  m.def("drop_block2d", &drop_block2d_of, "x"_a, "p"_a, "block_size"_a, "seed"_a, "step"_a,
        "node"_a, "first_sample"_a);
}

}  // namespace pynn::cuda
