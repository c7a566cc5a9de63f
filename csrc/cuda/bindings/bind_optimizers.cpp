// sgd, adam and rmsprop on arrays (size,), updated in place.
#include <type_traits>

#include "bindings/update_settings.h"
#include "cuda/bindings/bindings.h"
#include "cuda/bindings/single_call.h"
#include "cuda/kernels/optimizer.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {
namespace {

template <typename T, typename Make>
void update_one(const py::array& g, py::array& p, std::optional<py::array>& first,
                std::optional<py::array>& second, const Make& settings_of) {
  const std::int64_t size = g.size();
  if (size == 0) return;
  const auto settings = settings_of(T{});
  Bench<T> bench;
  ParameterUpdate<T> parameter;
  parameter.p = bench.put(p, true);
  parameter.g = bench.put(g, true);
  parameter.state[0] = first ? bench.put(*first, true) : nullptr;
  parameter.state[1] = second ? bench.put(*second, true) : nullptr;
  parameter.size = parameter.shard_stride = size;
  UpdateTable<T> table;
  table.piece_count = update_pieces(&parameter, 1, nullptr);
  std::vector<UpdatePiece> pieces(static_cast<std::size_t>(table.piece_count));
  update_pieces(&parameter, 1, pieces.data());
  const auto upload = [&](const void* from, std::size_t bytes) {
    char* const to = bench.bytes(static_cast<std::int64_t>(bytes));
    copy_to_device(to, from, static_cast<std::int64_t>(bytes));
    return to;
  };
  table.parameters =
      reinterpret_cast<const ParameterUpdate<T>*>(upload(&parameter, sizeof parameter));
  table.pieces =
      reinterpret_cast<const UpdatePiece*>(upload(pieces.data(), pieces.size() * sizeof pieces[0]));
  using S = std::decay_t<decltype(settings)>;
  update(table, reinterpret_cast<const S*>(upload(&settings, sizeof settings)), nullptr, stream());
  const auto download = [&](py::array& array, const T* from) {
    Transfer<T>::raw_to_host(size, from, mutable_data<T>(array));
  };
  download(p, parameter.p);
  if (first) download(*first, parameter.state[0]);
  if (second) download(*second, parameter.state[1]);
}

template <typename Make>
void update_arrays(py::handle g_object, py::handle p_object, const char* first_name,
                   py::handle first_object, const char* second_name, py::handle second_object,
                   const Make& settings_of) {
  const py::array g = dense("g", g_object);
  if (g.ndim() != 1)
    throw ShapeError(message("g must have one dimension, got shape ", shape_of(g)));
  const auto state = [&](const char* name, py::handle object) -> std::optional<py::array> {
    if (object.is_none()) return std::nullopt;
    py::array array = in_place(name, object, g);
    require_shape(name, array, shape_of(g));
    return array;
  };
  py::array p = *state("p", p_object);
  auto first = state(first_name, first_object), second = state(second_name, second_object);
  by_dtype(g, [&](auto zero) { update_one<decltype(zero)>(g, p, first, second, settings_of); });
}

}  // namespace

void bind_optimizers(py::module_& m) {
  using namespace py::literals;
  m.def(
      "sgd_update",
      [](py::handle p, py::handle g, py::handle velocity, double lr, double momentum, bool nesterov,
         bool averaged, double weight_decay) {
        update_arrays(g, p, "velocity", velocity, "", py::none(), [&](auto zero) {
          return sgd_settings<decltype(zero)>(lr, momentum, nesterov, averaged, weight_decay);
        });
      },
      "p"_a, "g"_a, "velocity"_a, "lr"_a, "momentum"_a, "nesterov"_a, "averaged"_a,
      "weight_decay"_a);
  m.def(
      "adam_update",
      [](py::handle p, py::handle g, py::handle mean, py::handle square, std::int64_t step,
         double lr, double beta1, double beta2, double eps, double weight_decay, bool decoupled) {
        update_arrays(g, p, "m", mean, "v", square, [&](auto zero) {
          return adam_settings<decltype(zero)>(step, lr, beta1, beta2, eps, weight_decay,
                                               decoupled);
        });
      },
      "p"_a, "g"_a, "m"_a, "v"_a, "step"_a, "lr"_a, "beta1"_a, "beta2"_a, "eps"_a, "weight_decay"_a,
      "decoupled"_a);
  m.def(
      "rmsprop_update",
      [](py::handle p, py::handle g, py::handle square, py::handle velocity, double lr,
         double alpha, double eps, double momentum, double weight_decay) {
        update_arrays(g, p, "square", square, "velocity", velocity, [&](auto zero) {
          return rmsprop_settings<decltype(zero)>(lr, alpha, eps, momentum, weight_decay);
        });
      },
      "p"_a, "g"_a, "square"_a, "velocity"_a, "lr"_a, "alpha"_a, "eps"_a, "momentum"_a,
      "weight_decay"_a);
}

}  // namespace pynn::cuda
