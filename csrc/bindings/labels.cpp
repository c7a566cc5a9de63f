#include "bindings/labels.h"

namespace pynn {
namespace {

// "row 37", or "index (3, 0, 2)" where the target has several dimensions.
std::string place_of(std::int64_t position, const Shape& target) {
  if (target.size() == 1) return message("row ", position);
  Shape index(target.size());
  for (std::size_t axis = target.size(); axis-- > 0;) {
    index[axis] = position % target[axis];
    position /= target[axis];
  }
  return message("index ", index);
}

// Integer is int64 or uint64. LabelError at the first label that is neither ignored nor a class.
template <typename Integer>
void check_labels(const Integer* labels, const Shape& target, std::int64_t classes,
                  std::optional<std::int64_t> ignore_index) {
  const std::int64_t positions = element_count(target);
  for (std::int64_t p = 0; p < positions; ++p) {
    const Integer label = labels[p];
    if (static_cast<std::uint64_t>(label) < static_cast<std::uint64_t>(classes)) continue;
    const bool fits = std::is_signed_v<Integer> || static_cast<std::int64_t>(label) >= 0;
    if (fits && ignore_index && static_cast<std::int64_t>(label) == *ignore_index) continue;
    throw LabelError(
        message("label ", label, " at ", place_of(p, target), " is outside 0..", classes - 1));
  }
}

}  // namespace

py::array checked_labels(const py::array& target, const Shape& shape, std::int64_t classes,
                         std::optional<std::int64_t> ignore_index) {
  if (is_plain<std::int64_t>(target, shape)) {
    check_labels(data<std::int64_t>(target), shape, classes, ignore_index);
    return target;
  }
  constexpr int kFlags = py::array::c_style | py::array::forcecast;
  if (target.dtype().kind() == 'u' && target.itemsize() == 8) {
    const py::array_t<std::uint64_t, kFlags> labels(target);
    check_labels(labels.data(), shape, classes, ignore_index);
    return py::array_t<std::int64_t, kFlags>(labels);
  }
  py::array_t<std::int64_t, kFlags> labels(target);
  check_labels(labels.data(), shape, classes, ignore_index);
  return std::move(labels);
}

bool holds_integers(py::handle target) {
  if (!py::isinstance<py::array>(target))
    throw DTypeError(
        "target must be a NumPy array of integers, or of probabilities of the dtype of logits, "
        "got " +
        py::str(py::type::handle_of(target).attr("__name__")).cast<std::string>());
  const py::dtype dtype = py::reinterpret_borrow<py::array>(target).dtype();
  if (dtype.kind() == 'f') return false;
  if (dtype.kind() != 'i' && dtype.kind() != 'u')
    throw DTypeError(
        "target must be an array of integers, or of probabilities of the dtype of logits, got "
        "dtype " +
        py::str(dtype).cast<std::string>());
  if (!is_exact_array(target) && py::hasattr(target, "mask"))
    throw DTypeError("target must not be a masked array; fill it first, with target.filled(value)");
  return true;
}

void check_smoothing(double label_smoothing) {
  if (!(label_smoothing >= 0 && label_smoothing <= 1))
    throw std::invalid_argument(
        message("label_smoothing must be between 0 and 1, got ", label_smoothing));
}

}  // namespace pynn
