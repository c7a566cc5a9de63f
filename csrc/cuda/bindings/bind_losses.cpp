#include <cstring>

#include "bindings/cross_entropy_arguments.h"
#include "bindings/reduction.h"
#include "cuda/bindings/bindings.h"
#include "cuda/bindings/single_call.h"
#include "cuda/kernels/cross_entropy.h"
#include "cuda/kernels/mse_loss.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {
namespace {

// (N, rest) <-> (rest, N), on the host.
std::vector<std::int64_t> turned(const std::int64_t* from, std::int64_t N, std::int64_t rest) {
  std::vector<std::int64_t> to(static_cast<std::size_t>(N * rest));
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t r = 0; r < rest; ++r)
      to[static_cast<std::size_t>(r * N + n)] = from[n * rest + r];
  return to;
}

template <typename T>
LossResult loss_result(Bench<T>& bench, std::int64_t positions) {
  LossResult result;
  result.losses = reinterpret_cast<double*>(bench.bytes(sizeof(double)));
  const std::int64_t bytes = loss_workspace(positions);
  result.workspace = bench.bytes(bytes);
  clear(result.workspace, bytes);
  return result;
}

double value_of(const LossResult& result) {
  double value = 0;
  copy_to_host(&value, result.losses, sizeof value);
  return value;
}

py::tuple cross_entropy_of(py::handle logits_object, py::handle target_object,
                           py::handle weight_object, double label_smoothing,
                           std::optional<std::int64_t> ignore_index,
                           const std::string& reduction_name, bool return_grad) {
  const CrossEntropyArguments a = cross_entropy_arguments(
      logits_object, target_object, weight_object, label_smoothing, ignore_index, reduction_name);
  return by_dtype(a.logits, [&](auto zero) {
    using T = decltype(zero);
    py::object loss = py::float_(0.0), gradient = py::none();
    if (a.logits.size() == 0) {
      if (return_grad) gradient = empty(a.shape, a.logits);
      if (a.reduction == Reduction::kNone) {
        py::array none = empty(a.positions_shape, a.logits);
        std::memset(none.mutable_data(), 0, static_cast<std::size_t>(none.nbytes()));
        loss = none;
      }
      return py::make_tuple(loss, gradient);
    }
    Bench<T> bench;
    CrossEntropy<T, std::int64_t> task;
    task.positions = a.positions;
    task.C = a.classes;
    task.logits = bench.put(a.logits, false);
    if (a.integers) {
      const auto lying = turned(data<std::int64_t>(a.target), a.shape[0], a.positions / a.shape[0]);
      const auto bytes = static_cast<std::int64_t>(lying.size() * sizeof lying[0]);
      char* const to = bench.bytes(bytes);
      copy_to_device(to, lying.data(), bytes);
      task.labels = reinterpret_cast<const std::int64_t*>(to);
    } else {
      task.probabilities = bench.put(a.target, false);
    }
    task.weight = a.weight ? bench.put(*a.weight, true) : nullptr;
    task.ignores = ignore_index.has_value();
    task.ignored_label = ignore_index.value_or(0);
    task.smoothing = label_smoothing;
    task.mean = a.reduction == Reduction::kMean;
    task.gradient = return_grad ? bench.room(a.logits.size()) : nullptr;
    task.position_losses = bench.room(a.positions);
    const LossResult result = loss_result(bench, a.positions);
    cross_entropy(task, result, stream());
    loss = a.reduction == Reduction::kNone
               ? py::object(bench.get(task.position_losses, a.positions_shape, false))
               : py::object(py::float_(value_of(result)));
    if (return_grad) gradient = bench.get(task.gradient, a.shape, false);
    return py::make_tuple(loss, gradient);
  });
}

py::tuple mse_loss_of(py::handle prediction_object, py::handle target_object,
                      const std::string& reduction_name, bool return_grad) {
  const Reduction reduction = to_reduction(reduction_name);
  const py::array prediction = dense("prediction", prediction_object);
  const py::array target = dense_as("target", target_object, prediction);
  const Shape shape = shape_of(prediction);
  if (shape != shape_of(target))
    throw ShapeError(
        message("target must have the shape of prediction, ", shape, ", got ", shape_of(target)));
  return by_dtype(prediction, [&](auto zero) {
    using T = decltype(zero);
    py::object loss = py::float_(0.0), gradient = py::none();
    if (prediction.size() == 0) {
      if (reduction == Reduction::kNone) loss = empty(shape, prediction);
      if (return_grad) gradient = empty(shape, prediction);
      return py::make_tuple(loss, gradient);
    }
    Bench<T> bench;
    const std::int64_t size = prediction.size();
    T* const dx = return_grad ? bench.room(size) : nullptr;
    T* const each = reduction == Reduction::kNone ? bench.room(size) : nullptr;
    const LossResult result = loss_result(bench, size);
    // In the layout of plans, so that sums have their order, and their bits.
    mse_loss<T>(size, reduction == Reduction::kMean, bench.put(prediction, false),
                bench.put(target, false), dx, each, result, stream());
    loss =
        each ? py::object(bench.get(each, shape, false)) : py::object(py::float_(value_of(result)));
    if (dx) gradient = bench.get(dx, shape, false);
    return py::make_tuple(loss, gradient);
  });
}

}  // namespace

void bind_losses(py::module_& m) {
  using namespace py::literals;
  m.def("cross_entropy", &cross_entropy_of, "logits"_a, "target"_a, "weight"_a, "label_smoothing"_a,
        "ignore_index"_a, "reduction"_a, "return_grad"_a);
  m.def("mse_loss", &mse_loss_of, "prediction"_a, "target"_a, "reduction"_a, "return_grad"_a);
}

}  // namespace pynn::cuda
