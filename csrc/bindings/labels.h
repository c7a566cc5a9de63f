// Targets of cross-entropy at the border.
#pragma once

#include "bindings/arrays.h"

namespace pynn {

// Whether a target holds class labels; false: floating-point numbers. Anything else is a
// DTypeError.
bool holds_integers(py::handle target);

// The labels as dense int64; LabelError at the first that is neither ignored nor a class.
py::array checked_labels(const py::array& target, const Shape& shape, std::int64_t classes,
                         std::optional<std::int64_t> ignore_index);

void check_smoothing(double label_smoothing);

// The weights of the true classes, added in the order of the positions; their number where weight
// is null.
template <typename T>
double total_weight(const std::int64_t* labels, std::int64_t positions, std::int64_t ignored_label,
                    const T* weight) {
  double total = 0;
  for (std::int64_t p = 0; p < positions; ++p)
    if (labels[p] != ignored_label) total += weight ? static_cast<double>(weight[labels[p]]) : 1.0;
  return total;
}

}  // namespace pynn
