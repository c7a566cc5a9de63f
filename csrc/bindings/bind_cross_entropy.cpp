#include "bindings/bindings.h"
#include "bindings/cross_entropy_arguments.h"
#include "bindings/labels.h"
#include "kernels/cross_entropy.h"
#include "runtime/scratch.h"

namespace pynn {
namespace {

py::tuple cross_entropy(py::handle logits_object, py::handle target_object,
                        py::handle weight_object, double label_smoothing,
                        std::optional<std::int64_t> ignore_index, const std::string& reduction_name,
                        bool return_grad) {
  const CrossEntropyArguments a = cross_entropy_arguments(
      logits_object, target_object, weight_object, label_smoothing, ignore_index, reduction_name);
  py::array loss = empty(a.positions_shape, a.logits);
  std::optional<py::array> gradient;
  if (return_grad) gradient = empty(a.shape, a.logits);
  double reduced = 0;
  by_dtype(a.logits, [&](auto zero) {
    using T = decltype(zero);
    CrossEntropyTask<T> task{};
    task.positions = a.positions;
    task.C = a.classes;
    task.inner = a.positions == 0 ? 0 : a.positions / a.shape[0];
    task.logits = data<T>(a.logits);
    task.labels = a.integers ? data<std::int64_t>(a.target) : nullptr;
    task.probabilities = a.integers ? nullptr : data<T>(a.target);
    task.weight = data<T>(a.weight);
    task.ignored_label = ignore_index.value_or(-1);
    task.smoothing = static_cast<T>(label_smoothing);
    task.loss = mutable_data<T>(loss);
    task.gradient = gradient ? mutable_data<T>(*gradient) : nullptr;
    const std::int64_t work_per_position = 40 * a.classes;
    ReleaseGil nogil(a.positions * work_per_position);
    double factor = 1;
    if (a.reduction == Reduction::kMean) {
      const double denominator =
          a.integers ? total_weight(task.labels, a.positions, task.ignored_label, task.weight)
                     : static_cast<double>(a.positions);
      factor = denominator == 0 ? 0 : 1 / denominator;
    }
    task.gradient_scale = static_cast<T>(factor);
    if (a.classes == 0) {
      for (std::int64_t p = 0; p < a.positions; ++p) task.loss[p] = T(0);
    } else {
      constexpr std::int64_t kLanes = CrossEntropyTask<T>::kLanes;
      parallel_for((a.positions + kLanes - 1) / kLanes, kLanes * work_per_position,
                   [&task](std::int64_t begin, std::int64_t end) {
                     const std::int64_t last = end * kLanes;
                     isa_table<T>().cross_entropy.run(task, begin * kLanes,
                                                      last < task.positions ? last : task.positions,
                                                      scratch<T>(task.workspace()));
                   });
    }
    if (factor != 0)
      for (std::int64_t p = 0; p < a.positions; ++p) reduced += static_cast<double>(task.loss[p]);
    reduced *= factor;
  });
  py::object result =
      a.reduction == Reduction::kNone ? py::object(loss) : py::object(py::float_(reduced));
  return py::make_tuple(result, gradient ? py::object(*gradient) : py::object(py::none()));
}

}  // namespace

void bind_cross_entropy(py::module_& m) {
  using namespace py::literals;
  m.def("cross_entropy", &cross_entropy, "logits"_a, "target"_a, "weight"_a, "label_smoothing"_a,
        "ignore_index"_a, "reduction"_a, "return_grad"_a);
}

}  // namespace pynn
