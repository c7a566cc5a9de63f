#include "bindings/cross_entropy_arguments.h"

#include "bindings/labels.h"

namespace pynn {

CrossEntropyArguments cross_entropy_arguments(py::handle logits, py::handle target,
                                              py::handle weight, double label_smoothing,
                                              std::optional<std::int64_t> ignore_index,
                                              const std::string& reduction) {
  CrossEntropyArguments a;
  a.reduction = to_reduction(reduction);
  check_smoothing(label_smoothing);
  a.logits = dense("logits", logits);
  a.shape = shape_of(a.logits);
  if (a.shape.size() < 2)
    throw ShapeError(message("logits must have shape (N, C) or (N, C, ...), got ", a.shape));
  a.classes = a.shape[1];
  a.positions_shape = a.shape;
  a.positions_shape.erase(a.positions_shape.begin() + 1);
  a.positions = element_count(a.positions_shape);
  a.weight = optional_dense_as("weight", weight, a.logits);
  if (a.weight) require_shape("weight", *a.weight, {a.classes});

  a.integers = holds_integers(target);
  a.target =
      a.integers ? py::reinterpret_borrow<py::array>(target) : dense_as("target", target, a.logits);
  const Shape& target_shape = a.integers ? a.positions_shape : a.shape;
  if (shape_of(a.target) != target_shape)
    throw ShapeError(message(
        "target must have shape ", target_shape, " for logits of shape ", a.shape, ", got ",
        shape_of(a.target),
        a.integers ? "" : "; floating targets are probabilities, class labels must be integers"));
  if (!a.integers && ignore_index)
    throw std::invalid_argument("ignore_index is for integer labels; target holds probabilities");
  if (a.integers) a.target = checked_labels(a.target, target_shape, a.classes, ignore_index);
  return a;
}

}  // namespace pynn
