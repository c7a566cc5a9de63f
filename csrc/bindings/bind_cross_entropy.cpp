#include "bindings/bindings.h"
#include "bindings/labels.h"
#include "bindings/reduction.h"
#include "kernels/cross_entropy.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

py::tuple cross_entropy(py::handle logits_object, py::handle target_object,
                        py::handle weight_object, double label_smoothing,
                        std::optional<std::int64_t> ignore_index, const std::string& reduction_name,
                        bool return_grad) {
  const Reduction reduction = to_reduction(reduction_name);
  check_smoothing(label_smoothing);
  const py::array logits = dense("logits", logits_object);
  const Shape shape = shape_of(logits);
  if (shape.size() < 2)
    throw ShapeError(message("logits must have shape (N, C) or (N, C, ...), got ", shape));
  const std::int64_t C = shape[1];
  Shape positions_shape = shape;  // (N, ...)
  positions_shape.erase(positions_shape.begin() + 1);
  const std::int64_t positions = element_count(positions_shape);
  const std::optional<py::array> weight = optional_dense_as("weight", weight_object, logits);
  if (weight) require_shape("weight", *weight, {C});

  const bool integers = holds_integers(target_object);
  const py::array target = integers ? py::reinterpret_borrow<py::array>(target_object)
                                    : dense_as("target", target_object, logits);
  const Shape& target_shape = integers ? positions_shape : shape;
  if (shape_of(target) != target_shape)
    throw ShapeError(message(
        "target must have shape ", target_shape, " for logits of shape ", shape, ", got ",
        shape_of(target),
        integers ? "" : "; floating targets are probabilities, class labels must be integers"));
  if (!integers && ignore_index)
    throw std::invalid_argument("ignore_index is for integer labels; target holds probabilities");
  const py::array labels =
      integers ? checked_labels(target, target_shape, C, ignore_index) : py::array();

  py::array loss = empty(positions_shape, logits);
  std::optional<py::array> gradient;
  if (return_grad) gradient = empty(shape, logits);
  double reduced = 0;
  by_dtype(logits, [&](auto zero) {
    using T = decltype(zero);
    CrossEntropyTask<T> task{};
    task.positions = positions;
    task.C = C;
    task.inner = positions == 0 ? 0 : positions / shape[0];
    task.logits = data<T>(logits);
    task.labels = integers ? data<std::int64_t>(labels) : nullptr;
    task.probabilities = integers ? nullptr : data<T>(target);
    task.weight = data<T>(weight);
    task.ignored_label = ignore_index.value_or(-1);
    task.smoothing = static_cast<T>(label_smoothing);
    task.loss = mutable_data<T>(loss);
    task.gradient = gradient ? mutable_data<T>(*gradient) : nullptr;
    const std::int64_t work_per_position = 40 * C;
    ReleaseGil nogil(positions * work_per_position);
    double factor = 1;
    if (reduction == Reduction::kMean) {
      const double denominator =
          integers ? total_weight(task.labels, positions, task.ignored_label, task.weight)
                   : static_cast<double>(positions);
      factor = denominator == 0 ? 0 : 1 / denominator;
    }
    task.gradient_scale = static_cast<T>(factor);
    if (C == 0) {
      for (std::int64_t p = 0; p < positions; ++p) task.loss[p] = T(0);
    } else {
      constexpr std::int64_t kLanes = CrossEntropyTask<T>::kLanes;
      parallel_for((positions + kLanes - 1) / kLanes, kLanes * work_per_position,
                   [&task](std::int64_t begin, std::int64_t end) {
                     const std::int64_t last = end * kLanes;
                     isa_table<T>().cross_entropy.run(task, begin * kLanes,
                                                      last < task.positions ? last : task.positions,
                                                      scratch<T>(task.workspace()));
                   });
    }
    if (factor != 0)
      for (std::int64_t p = 0; p < positions; ++p) reduced += static_cast<double>(task.loss[p]);
    reduced *= factor;
  });
  py::object result =
      reduction == Reduction::kNone ? py::object(loss) : py::object(py::float_(reduced));
  return py::make_tuple(result, gradient ? py::object(*gradient) : py::object(py::none()));
}

}  // namespace

void bind_cross_entropy(py::module_& m) {
  using namespace py::literals;
  m.def("cross_entropy", &cross_entropy, "logits"_a, "target"_a, "weight"_a, "label_smoothing"_a,
        "ignore_index"_a, "reduction"_a, "return_grad"_a);
}

}  // namespace pynn
