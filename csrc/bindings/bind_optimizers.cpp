#include <vector>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/update_settings.h"
#include "runtime/floating_point.h"

namespace pynn {
namespace {

// Updates cost little arithmetic but several streams of memory: worth a second thread sooner than
// their additions say.
constexpr std::int64_t kWorkPerUpdate = 4;

// The gradient, (size,): all the other arrays have its dtype and shape.
py::array flat_gradient(py::handle object) {
  py::array g = dense("g", object);
  if (g.ndim() != 1)
    throw ShapeError(message("g must have one dimension, got shape ", shape_of(g)));
  return g;
}

py::array state(const char* name, py::handle object, const py::array& g) {
  py::array array = in_place(name, object, g);
  require_shape(name, array, shape_of(g));
  return array;
}

std::optional<py::array> optional_state(const char* name, py::handle object, const py::array& g) {
  if (object.is_none()) return std::nullopt;
  return state(name, object, g);
}

template <typename T>
T* optional_data(std::optional<py::array>& array) {
  return array ? mutable_data<T>(*array) : nullptr;
}

void sgd_update(py::handle p_object, py::handle g_object, py::handle velocity_object, double lr,
                double momentum, bool nesterov, bool averaged, double weight_decay) {
  const py::array g = flat_gradient(g_object);
  py::array p = state("p", p_object, g);
  auto velocity = optional_state("velocity", velocity_object, g);
  by_dtype(g, [&](auto zero) {
    using T = decltype(zero);
    const SgdSettings<T> settings = sgd_settings<T>(lr, momentum, nesterov, averaged, weight_decay);
    const T* g_data = data<T>(g);
    T *p_data = mutable_data<T>(p), *velocity_data = optional_data<T>(velocity);
    const std::int64_t size = g.size();
    ReleaseGil nogil(size * kWorkPerUpdate);
    const FlushSubnormals flush;
    parallel_pointwise(size, kWorkPerUpdate, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().sgd.update(settings, end - begin, p_data + begin, g_data + begin,
                                velocity_data ? velocity_data + begin : nullptr);
    });
  });
}

void adam_update(py::handle p_object, py::handle g_object, py::handle m_object, py::handle v_object,
                 std::int64_t step, double lr, double beta1, double beta2, double eps,
                 double weight_decay, bool decoupled) {
  const py::array g = flat_gradient(g_object);
  py::array p = state("p", p_object, g), m = state("m", m_object, g), v = state("v", v_object, g);
  by_dtype(g, [&](auto zero) {
    using T = decltype(zero);
    const AdamSettings<T> settings =
        adam_settings<T>(step, lr, beta1, beta2, eps, weight_decay, decoupled);
    const T* g_data = data<T>(g);
    T *p_data = mutable_data<T>(p), *m_data = mutable_data<T>(m), *v_data = mutable_data<T>(v);
    const std::int64_t size = g.size();
    ReleaseGil nogil(size * kWorkPerUpdate);
    const FlushSubnormals flush;
    parallel_pointwise(size, kWorkPerUpdate, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().adam.update(settings, end - begin, p_data + begin, g_data + begin,
                                 m_data + begin, v_data + begin);
    });
  });
}

void rmsprop_update(py::handle p_object, py::handle g_object, py::handle square_object,
                    py::handle velocity_object, double lr, double alpha, double eps,
                    double momentum, double weight_decay) {
  const py::array g = flat_gradient(g_object);
  py::array p = state("p", p_object, g), square = state("square", square_object, g);
  auto velocity = optional_state("velocity", velocity_object, g);
  by_dtype(g, [&](auto zero) {
    using T = decltype(zero);
    const RmspropSettings<T> settings = rmsprop_settings<T>(lr, alpha, eps, momentum, weight_decay);
    const T* g_data = data<T>(g);
    T *p_data = mutable_data<T>(p), *square_data = mutable_data<T>(square),
      *velocity_data = optional_data<T>(velocity);
    const std::int64_t size = g.size();
    ReleaseGil nogil(size * kWorkPerUpdate);
    const FlushSubnormals flush;
    parallel_pointwise(size, kWorkPerUpdate, [=](std::int64_t begin, std::int64_t end) {
      isa_table<T>().rmsprop.update(settings, end - begin, p_data + begin, g_data + begin,
                                    square_data + begin,
                                    velocity_data ? velocity_data + begin : nullptr);
    });
  });
}

double sum_of_squares(py::handle g_object) {
  constexpr std::int64_t kBlock =
      4096;  // values summed together; the sums of the blocks are added in order
  const py::array g = flat_gradient(g_object);
  const std::int64_t size = g.size(), blocks = (size + kBlock - 1) / kBlock;
  double total = 0;
  by_dtype(g, [&](auto zero) {
    using T = decltype(zero);
    const T* g_data = data<T>(g);
    std::vector<double> sums(static_cast<std::size_t>(blocks));
    ReleaseGil nogil(size * 2);
    parallel_for(blocks, kBlock * 2, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t block = begin; block < end; ++block) {
        const std::int64_t first = block * kBlock;
        sums[static_cast<std::size_t>(block)] = isa_table<T>().sum_of_squares.sum(
            size - first < kBlock ? size - first : kBlock, g_data + first);
      }
    });
    for (double sum : sums) total += sum;
  });
  return total;
}

}  // namespace

void bind_optimizers(py::module_& m) {
  using namespace py::literals;
  m.def("sgd_update", &sgd_update, "p"_a, "g"_a, "velocity"_a, "lr"_a, "momentum"_a, "nesterov"_a,
        "averaged"_a, "weight_decay"_a);
  m.def("adam_update", &adam_update, "p"_a, "g"_a, "m"_a, "v"_a, "step"_a, "lr"_a, "beta1"_a,
        "beta2"_a, "eps"_a, "weight_decay"_a, "decoupled"_a);
  m.def("rmsprop_update", &rmsprop_update, "p"_a, "g"_a, "square"_a, "velocity"_a, "lr"_a,
        "alpha"_a, "eps"_a, "momentum"_a, "weight_decay"_a);
  m.def("sum_of_squares", &sum_of_squares, "g"_a);
}

}  // namespace pynn
