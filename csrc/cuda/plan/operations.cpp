#include "cuda/plan/operations.h"

namespace pynn::cuda {

const char* name_of(const Activation& activation) {
  switch (activation.kind) {
    case Activation::Kind::relu:
      return "relu";
    case Activation::Kind::leaky_relu:
      return "leaky_relu";
    case Activation::Kind::sigmoid:
      return "sigmoid";
    case Activation::Kind::tanh:
      return "tanh";
    default:
      return "";
  }
}

std::string computed_by(const char* library,
                        std::initializer_list<std::pair<const char*, bool>> results) {
  std::string names;
  for (const auto& [name, computed] : results)
    if (computed) names += message(names.empty() ? "" : ", ", name);
  return names.empty() ? "" : message(" (", library, ": ", names, ")");
}

bool derives_from_result(const Activation& activation) {
  return activation.kind != Activation::Kind::leaky_relu || activation.slope >= 0;
}

Samples samples_of(const Shape& shape) {
  Samples s;
  if (shape.empty()) return s;
  s.N = shape[0];
  for (std::size_t axis = 1; axis < shape.size(); ++axis) s.features *= shape[axis];
  return s;
}

Shape device_shape(const Shape& shape, std::size_t axes, bool all_raw) {
  Shape result(axes - shape.size(), 1);
  result.insert(result.end(), shape.begin(), shape.end());
  if (all_raw || result.empty()) return result;
  result.push_back(result.front());
  result.erase(result.begin());
  return result;
}

}  // namespace pynn::cuda
