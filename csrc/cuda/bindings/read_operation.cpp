#include "cuda/bindings/read_operation.h"

#include <pybind11/stl.h>

#include <optional>

#include "bindings/window_arguments.h"
#include "shapes/window.h"

namespace pynn::cuda {
namespace {

namespace py = pybind11;

template <typename T>
class Reader {
 public:
  Reader(const std::vector<Shape>& shapes, const std::vector<bool>& stored,
         const std::vector<int>& inputs, const Shape& y, const py::dict& attributes,
         Precision precision)
      : shapes_(shapes),
        stored_(stored),
        in_(inputs),
        y_(y),
        a_(attributes),
        precision_(precision) {}

  OperationPointer<T> read(const std::string& name) const {
    if (in_.empty() || in_[0] < 0) return nullptr;
    if (name == "add" || name == "mul") return broadcast(name == "mul");
    if (name == "matmul")
      return make_matmul<T>(shape(0), stored(0), shape(1), stored(1), precision_);
    if (name == "concat") return concat();
    const Shape& x = shape(0);
    if (stored(0)) return nullptr;
    if (name == "conv2d") return conv2d();
    if (name == "linear")
      return stored(1) && stored_or_absent(2) ? make_linear<T>(x, shape(1), precision_) : nullptr;
    if (name == "bias") return stored(1) ? make_bias<T>(x) : nullptr;
    if (name == "relu") return activation(Activation::Kind::relu);
    if (name == "sigmoid") return activation(Activation::Kind::sigmoid);
    if (name == "tanh") return activation(Activation::Kind::tanh);
    if (name == "leaky_relu")
      return make_activation<T>({Activation::Kind::leaky_relu, a_["negative_slope"].cast<double>()},
                                x);
    if (name == "softmax" || name == "log_softmax")
      return make_softmax<T>(x, a_["axis"].cast<std::int64_t>(), name == "log_softmax");
    if (name == "max_pool2d") return make_max_pool2d<T>(window(), x);
    if (name == "avg_pool2d")
      return make_avg_pool2d<T>(window(), a_["count_include_pad"].cast<bool>(), x);
    if (name == "global_avg_pool2d") return make_global_avg_pool2d<T>(x);
    if (name == "pad2d")
      return make_pad2d<T>(x, to_sides(a_["padding"]), a_["value"].cast<double>());
    if (name == "dropout") return make_dropout<T>(x, a_["p"].cast<double>(), node());
    if (name == "drop_block2d")
      return make_drop_block2d<T>(x, a_["p"].cast<double>(), a_["block_size"].cast<std::int64_t>(),
                                  node());
    if (name == "batch_norm") return batch_norm();
    if (name == "flatten" || name == "reshape") return make_view<T>(x);
    return nullptr;
  }

 private:
  const Shape& shape(std::size_t place) const {
    return shapes_[static_cast<std::size_t>(in_[place])];
  }
  bool stored(std::size_t place) const {
    return in_[place] >= 0 && stored_[static_cast<std::size_t>(in_[place])];
  }
  bool stored_or_absent(std::size_t place) const { return in_[place] < 0 || stored(place); }
  std::uint32_t node() const { return a_["node"].cast<std::uint32_t>(); }
  OperationPointer<T> activation(Activation::Kind kind) const {
    return make_activation<T>({kind, 0}, shape(0));
  }
  Window window() const {
    return to_pool2d_window(shape(0), a_["kernel_size"], a_["stride"], a_["padding"],
                            a_["ceil_mode"].cast<bool>());
  }
  OperationPointer<T> conv2d() const {
    if (!stored(1) || !stored_or_absent(2)) return nullptr;
    const std::optional<Shape> b = in_[2] < 0 ? std::nullopt : std::optional<Shape>(shape(2));
    return make_conv2d<T>(
        conv2d_shape(shape(0), shape(1), b, to_pair("stride", a_["stride"]),
                     to_padding(a_["padding"]), to_pair("dilation", a_["dilation"]),
                     a_["groups"].cast<std::int64_t>()),
        precision_);
  }
  OperationPointer<T> batch_norm() const {
    for (std::size_t place = 1; place < 5; ++place)
      if (!stored_or_absent(place)) return nullptr;
    return make_batch_norm<T>(shape(0), a_["training"].cast<bool>(), a_["momentum"].cast<double>(),
                              a_["eps"].cast<double>());
  }
  // An array with a batch has its axis of samples where y has it; another is the same for all of
  // them.
  OperationPointer<T> broadcast(bool product) const {
    if (in_[1] < 0) return nullptr;
    for (std::size_t place = 0; place < 2; ++place) {
      const Shape& s = shape(place);
      const bool fits = stored(place) ? s.size() < y_.size() || s[0] == 1 : s.size() == y_.size();
      if (!fits) return nullptr;
    }
    return product ? make_mul<T>(shape(0), stored(0), shape(1), stored(1))
                   : make_add<T>(shape(0), stored(0), shape(1), stored(1));
  }
  OperationPointer<T> concat() const {
    std::vector<Shape> parts;
    for (std::size_t place = 0; place < in_.size(); ++place) {
      if (stored(place)) return nullptr;
      parts.push_back(shape(place));
    }
    return make_concat<T>(parts, a_["axis"].cast<std::int64_t>());
  }

  const std::vector<Shape>& shapes_;
  const std::vector<bool>& stored_;
  const std::vector<int>& in_;
  const Shape& y_;
  const py::dict& a_;
  const Precision precision_;
};

}  // namespace

Precision to_precision(const std::string& name) {
  if (name == "float32") return Precision::fp32;
  if (name == "tf32") return Precision::tf32;
  if (name == "bf16") return Precision::bf16;
  throw std::invalid_argument("no precision is called '" + name + "'");
}

template <typename T>
OperationPointer<T> read_operation(const std::string& name, const std::vector<Shape>& shapes,
                                   const std::vector<bool>& stored, const std::vector<int>& inputs,
                                   const Shape& y, const py::dict& attributes,
                                   Precision precision) {
  return Reader<T>(shapes, stored, inputs, y, attributes, precision).read(name);
}
template OperationPointer<float> read_operation(const std::string&, const std::vector<Shape>&,
                                                const std::vector<bool>&, const std::vector<int>&,
                                                const Shape&, const py::dict&, Precision);
template OperationPointer<double> read_operation(const std::string&, const std::vector<Shape>&,
                                                 const std::vector<bool>&, const std::vector<int>&,
                                                 const Shape&, const py::dict&, Precision);

}  // namespace pynn::cuda
