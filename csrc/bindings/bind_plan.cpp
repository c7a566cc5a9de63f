#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/labels.h"
#include "bindings/library.h"
#include "bindings/update_settings.h"
#include "bindings/window_arguments.h"
#include "plan/conv2d_stage.h"
#include "plan/plan.h"
#include "plan/winograd.h"
#include "shapes/window.h"
#include "threaded/mse_loss.h"

namespace pynn {
namespace {

using Attributes = py::dict;

// A node as Python says it: the operator's name, its inputs (-1: absent), its output and
// attributes; where it is of a library, (operator, attributes, path of the node, ordinal).
struct NodeSpec {
  std::string name;
  std::vector<int> inputs;
  int output;
  Attributes attributes;
  py::object library;
};

class NodeReader {
 public:
  explicit NodeReader(const PlanGraph& graph) : graph_(graph) {}

  // A foreign node where plans do not have the operator, or not for these inputs.
  PlanNode read(const NodeSpec& node) {
    if (const std::optional<PlanNode> known = find(node)) return *known;
    return ForeignNode{node.inputs, node.output};
  }

 private:
  const Shape& shape(int value) const { return graph_.shapes[static_cast<std::size_t>(value)]; }
  bool stored(int value) const { return graph_.stored[static_cast<std::size_t>(value)]; }
  bool stored_or_absent(int value) const { return value < 0 || stored(value); }

  // Tiles find elements by offsets of 32 bits.
  static bool fits_offsets(const Shape& sizes) {
    double product = 1;
    for (const std::int64_t size : sizes) product *= static_cast<double>(size);
    return product < 0x1p30;
  }

  std::optional<PlanNode> find(const NodeSpec& node) {
    const std::vector<int>& in = node.inputs;
    if (in.empty() || in[0] < 0 || stored(in[0])) return std::nullopt;
    if (!node.library.is_none()) return of_library(node);
    const Attributes& a = node.attributes;
    const int x = in[0], y = node.output;
    if (node.name == "conv2d" && stored(in[1]) && stored_or_absent(in[2])) {
      const std::optional<Shape> b = in[2] < 0 ? std::nullopt : std::optional<Shape>(shape(in[2]));
      const Conv2dShape s = conv2d_shape(
          shape(x), shape(in[1]), b, to_pair("stride", a["stride"]), to_padding(a["padding"]),
          to_pair("dilation", a["dilation"]), a["groups"].cast<std::int64_t>());
      const Window& w = s.window;
      if (has_small_halo(s)) {
        Layout image = layout_of(shape(x), kBlockLanes);
        if (const auto asked = halos_.find(x); asked != halos_.end()) image = asked->second;
        add_halo(s, image);
        if (fits_offsets({s.C, image.top + w.H + image.bottom, image.left + w.W + image.right + 1,
                          kBlockLanes}) &&
            fits_offsets({s.O, w.OH, w.OW, kBlockLanes}) && fits_offsets(shape(in[1]))) {
          halos_[x] = image;
          return Conv2dNode{s, x, in[1], in[2], y};
        }
      }
    }
    if (node.name == "linear" && shape(x).size() == 2 && stored(in[1]) && stored_or_absent(in[2]) &&
        fits_offsets({shape(x)[0] + kBlockLanes, shape(x)[1] + kBlockLanes}) &&
        fits_offsets({shape(in[1])[0] + kBlockLanes, shape(in[1])[1] + kBlockLanes}) &&
        fits_offsets({shape(x)[0] + kBlockLanes, shape(in[1])[0]}))
      return LinearNode{x, in[1], in[2], y};
    if (node.name == "relu") return PointwiseNode{Pointwise::relu, 0, x, y};
    if (node.name == "sigmoid") return PointwiseNode{Pointwise::sigmoid, 0, x, y};
    if (node.name == "tanh") return PointwiseNode{Pointwise::tanh, 0, x, y};
    if (node.name == "leaky_relu")
      return PointwiseNode{Pointwise::leaky_relu, a["negative_slope"].cast<double>(), x, y};
    if (node.name == "max_pool2d") {
      const Window window = to_pool2d_window(shape(x), a["kernel_size"], a["stride"], a["padding"],
                                             a["ceil_mode"].cast<bool>());
      if (fits_codes(window)) return MaxPool2dNode{window, x, y};
    }
    if (node.name == "dropout")
      return DropoutNode{a["p"].cast<double>(), a["node"].cast<std::uint32_t>(), x, y};
    if (node.name == "bias" && stored(in[1]) &&
        element_count(shape(in[1])) == layout_of(shape(x), 1).features())
      return BiasNode{x, in[1], y};
    if (node.name == "add" && in[1] >= 0 && !stored(in[1]) && shape(x) == shape(in[1]))
      return AddNode{x, in[1], y};
    if (node.name == "flatten" || node.name == "reshape") return ReshapeNode{x, y};
    return std::nullopt;
  }

  std::optional<PlanNode> of_library(const NodeSpec& node) const {
    const auto origin = node.library.cast<py::tuple>();
    LibraryNode result;
    result.op = library_operator(origin[0]);
    bool any_stored = false;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const int input = node.inputs[i];
      if (input < 0) continue;
      if (result.op->is_parameter(i) && !stored(input)) return std::nullopt;
      any_stored = any_stored || stored(input);
    }
    result.attributes = std::make_shared<const AttributeValues>(
        attribute_values(*result.op, origin[1].cast<py::dict>()));
    result.path = origin[2].cast<std::string>();
    result.ordinal = origin[3].cast<std::uint32_t>();
    result.inputs = node.inputs;
    result.y = node.output;
    result.on_blocks = result.op->has(PYNN_POINTWISE) && !any_stored;
    return result;
  }

  const PlanGraph& graph_;
  std::map<int, Layout> halos_;  // of images, that convolutions have asked for so far
};

// What Python sees of a pass, whatever its dtype.
class AnyPass {
 public:
  virtual ~AnyPass() = default;
  virtual void set_stored(int value, const py::array& array) = 0;
  virtual void set_stream(std::uint64_t seed, std::int64_t step, std::int64_t first_sample) = 0;
  virtual void set_input(int value, const py::array& array) = 0;
  virtual void set_gradient(int value, py::array array, bool accumulate) = 0;
  virtual void set_update(int value, std::size_t group, const py::list& arrays) = 0;
  virtual void set_settings(std::size_t group, const std::string& rule,
                            const py::args& settings) = 0;
  virtual int forward(int node) = 0;
  virtual int backward(int node) = 0;
  // The one input and the output of whole passes.
  virtual void set_ends(int input, int output) = 0;
  virtual void set_loss(double label_smoothing, std::optional<std::int64_t> ignore_index,
                        bool mean) = 0;
  // Forward: the output. None where the object is not an array that can be read as it is, or where
  // the number of threads is not the one that was planned for.
  virtual py::object forward_all(py::handle x) = 0;
  virtual void backward_all(const py::array& gradient, int node) = 0;
  // Forward, cross-entropy, backward and updates: the loss. Where it is not finite, nothing is
  // updated. None as above, and where the target is not labels (N,).
  virtual py::object step_on_labels(py::handle x, py::handle target) = 0;
  // The same with the mean, or sum, of squared differences from a target of the output's shape.
  virtual py::object step_on_values(py::handle x, py::handle target, bool mean) = 0;
  // The output of the last such step whose loss was finite.
  virtual py::array output() const = 0;
  virtual void release() = 0;
  virtual py::array read(int value) = 0;
  virtual void write(int value, const py::array& array) = 0;
  virtual py::array read_gradient(int value) = 0;
  virtual void write_gradient(int value, const py::array& array, bool add) = 0;
};

class AnyPlan {
 public:
  virtual ~AnyPlan() = default;
  virtual std::unique_ptr<AnyPass> start() = 0;
  virtual std::vector<int> foreign() const = 0;
  virtual bool takes_labels() const = 0;
  virtual bool may_fail() const = 0;
  virtual bool reached(int value) const = 0;
  virtual bool gradient_written(int node, int input) const = 0;
  virtual std::int64_t bytes() const = 0;
  virtual py::list report() const = 0;
};

void require_dense(const py::array& array, std::size_t itemsize) {
  if (static_cast<std::size_t>(array.itemsize()) != itemsize ||
      !(array.flags() & py::array::c_style))
    throw DTypeError("a plan takes C-contiguous arrays of its dtype");
}

template <typename T>
class TypedPass final : public AnyPass {
 public:
  TypedPass(const Plan<T>& plan, py::object owner)
      : plan_(plan),
        owner_(std::move(owner)),
        memory_(plan.allocate()),
        run_(plan.start(*memory_)),
        data_held_(run_.stored.size()),
        gradients_held_(run_.stored.size()) {}

  void set_stored(int value, const py::array& array) override {
    run_.stored[index(value)] = checked(array, plan_.value(value).shape);
    data_held_[index(value)] = array;
  }
  void set_stream(std::uint64_t seed, std::int64_t step, std::int64_t first_sample) override {
    run_.seed = seed;
    run_.step = static_cast<std::uint32_t>(step);
    run_.first_sample = static_cast<std::uint32_t>(first_sample);
  }
  void set_input(int value, const py::array& array) override {
    const T* const rows = checked(array, plan_.value(value).shape);
    inputs_held_.push_back(array);
    const ReleaseGil nogil(array.size());
    plan_.set_input(run_, value, rows);
  }
  void set_gradient(int value, py::array array, bool accumulate) override {
    checked(array, plan_.value(value).shape);
    run_.gradients[index(value)] = mutable_data<T>(array);
    run_.accumulate[index(value)] = accumulate;
    gradients_held_[index(value)] = std::move(array);
  }
  void set_update(int value, std::size_t group, const py::list& arrays) override {
    Update<T>& update = run_.updates[index(value)];
    T* pointers[3] = {};
    for (std::size_t i = 0; i < arrays.size() && i < 3; ++i) {
      if (arrays[i].is_none()) continue;
      auto array = arrays[i].cast<py::array>();
      checked(array, plan_.value(value).shape);
      pointers[i] = mutable_data<T>(array);
    }
    if (group >= settings_.size()) settings_.resize(group + 1);
    if (!settings_[group]) settings_[group] = std::make_unique<UpdateSettings<T>>();
    update = {settings_[group].get(), pointers[0], {pointers[1], pointers[2]}};
    gradients_held_[index(value)] = arrays;
  }
  void set_settings(std::size_t group, const std::string& rule, const py::args& s) override {
    UpdateSettings<T>& settings = *settings_.at(group);
    const auto number = [&s](std::size_t i) { return s[i].cast<double>(); };
    const auto flag = [&s](std::size_t i) { return s[i].cast<bool>(); };
    if (rule == "sgd")
      settings = sgd_settings<T>(number(0), number(1), flag(2), flag(3), number(4));
    else if (rule == "adam")
      settings = adam_settings<T>(s[0].cast<std::int64_t>(), number(1), number(2), number(3),
                                  number(4), number(5), flag(6));
    else
      settings = rmsprop_settings<T>(number(0), number(1), number(2), number(3), number(4));
  }
  int forward(int node) override {
    const ReleaseGil nogil(plan_.work());
    return plan_.forward(run_, node);
  }
  int backward(int node) override {
    const ReleaseGil nogil(plan_.work());
    return plan_.backward(run_, node);
  }
  void set_ends(int input, int output) override {
    input_ = input;
    output_ = output;
    labels_shape_ = {plan_.value(output).shape[0]};
  }
  void set_loss(double label_smoothing, std::optional<std::int64_t> ignore_index,
                bool mean) override {
    check_smoothing(label_smoothing);
    smoothing_ = label_smoothing;
    ignore_index_ = ignore_index;
    mean_ = mean;
  }
  py::object forward_all(py::handle x) override {
    if (!takes(x)) return py::none();
    const auto array = py::reinterpret_borrow<py::array>(x);
    inputs_held_.clear();
    if (plan_.trains()) inputs_held_.push_back(array);
    {
      const ReleaseGil nogil(plan_.work());
      plan_.set_input(run_, input_, data<T>(array));
      plan_.forward(run_, 0);
    }
    return read(output_);
  }
  void backward_all(const py::array& gradient, int node) override {
    write_gradient(output_, gradient, false);
    backward(node);
    release();
  }
  py::object step_on_labels(py::handle x, py::handle target) override {
    if (!takes(x) || !is_labels(target)) return py::none();
    const Shape& shape = plan_.value(output_).shape;
    const py::array labels = checked_labels(py::reinterpret_borrow<py::array>(target),
                                            labels_shape_, shape[1], ignore_index_);
    const T* const x_data = data<T>(py::reinterpret_borrow<py::array>(x));
    losses_.resize(static_cast<std::size_t>(shape[0]));
    prediction_.resize(static_cast<std::size_t>(element_count(shape)));
    CrossEntropyTask<T> task{};
    task.positions = shape[0];
    task.C = shape[1];
    task.inner = 1;
    task.labels = data<std::int64_t>(labels);
    task.ignored_label = ignore_index_.value_or(-1);
    task.smoothing = static_cast<T>(smoothing_);
    task.loss = losses_.data();
    double loss = 0;
    {
      const ReleaseGil nogil(plan_.work());
      const double kept = total_weight<T>(task.labels, task.positions, task.ignored_label, nullptr);
      const double factor = !mean_ ? 1 : kept == 0 ? 0 : 1 / kept;
      task.gradient_scale = static_cast<T>(factor);
      plan_.set_input(run_, input_, x_data);
      plan_.forward_with_loss(run_, task, prediction_.data());
      if (factor != 0)
        for (const T part : losses_) loss += static_cast<double>(part);
      loss *= factor;
      if (std::isfinite(loss)) {
        plan_.backward_from_loss(run_);
        prediction_.swap(output_rows_);
      }
    }
    return py::float_(loss);
  }
  py::object step_on_values(py::handle x, py::handle target, bool mean) override {
    const Shape& shape = plan_.value(output_).shape;
    if (!takes(x) || !is_plain<T>(target, shape)) return py::none();
    const T* const x_data = data<T>(py::reinterpret_borrow<py::array>(x));
    const T* const target_data = data<T>(py::reinterpret_borrow<py::array>(target));
    const std::int64_t size = element_count(shape);
    const double factor = mean ? 1 / static_cast<double>(size) : 1;
    prediction_.resize(static_cast<std::size_t>(size));
    gradient_.resize(static_cast<std::size_t>(size));
    double loss = 0;
    {
      const ReleaseGil nogil(plan_.work());
      plan_.set_input(run_, input_, x_data);
      plan_.forward(run_, 0);
      plan_.read(run_, output_, prediction_.data());
      loss = factor * threaded::squared_error(size, prediction_.data(), target_data,
                                              static_cast<T>(2 * factor), gradient_.data());
      if (std::isfinite(loss)) {
        plan_.write_gradient(run_, output_, gradient_.data(), false);
        plan_.backward(run_, static_cast<int>(plan_.nodes().size()) - 1);
        prediction_.swap(output_rows_);
      }
    }
    return py::float_(loss);
  }
  py::array output() const override {
    py::array array = empty<T>(plan_.value(output_).shape);
    std::copy(output_rows_.begin(), output_rows_.end(), mutable_data<T>(array));
    return array;
  }
  void release() override { inputs_held_.clear(); }
  py::array read(int value) override {
    py::array array = empty<T>(plan_.value(value).shape);
    plan_.read(run_, value, mutable_data<T>(array));
    return array;
  }
  void write(int value, const py::array& array) override {
    plan_.write(run_, value, checked(array, plan_.value(value).shape));
  }
  py::array read_gradient(int value) override {
    py::array array = empty<T>(plan_.value(value).shape);
    plan_.read_gradient(run_, value, mutable_data<T>(array));
    return array;
  }
  void write_gradient(int value, const py::array& array, bool add) override {
    plan_.write_gradient(run_, value, checked(array, plan_.value(value).shape), add);
  }

 private:
  static std::size_t index(int value) { return static_cast<std::size_t>(value); }
  static const T* checked(const py::array& array, const Shape& shape) {
    require_dense(array, sizeof(T));
    require_shape("array", array, shape);
    return data<T>(array);
  }
  bool takes(py::handle x) const {
    return is_plain<T>(x, plan_.value(input_).shape) && num_threads() == threads_ &&
           winograd_enabled() == plan_.winograd();
  }
  bool is_labels(py::handle target) const {
    if (is_plain<std::int64_t>(target, labels_shape_)) return true;
    if (!is_exact_array(target)) return false;
    const auto array = py::reinterpret_borrow<py::array>(target);
    const char kind = array.dtype().kind();
    return (kind == 'i' || kind == 'u') && shape_of(array) == labels_shape_;
  }

  const Plan<T>& plan_;
  const py::object owner_;  // keeps the plan alive
  const std::unique_ptr<Memory> memory_;
  Run<T> run_;
  const int threads_ = num_threads();
  int input_ = -1, output_ = -1;
  Shape labels_shape_;
  double smoothing_ = 0;
  std::optional<std::int64_t> ignore_index_;
  bool mean_ = true;
  std::vector<T> losses_;       // of each sample
  std::vector<T> prediction_;   // the output of a step, whose loss may not be finite
  std::vector<T> output_rows_;  // that of the last one whose loss was
  std::vector<T> gradient_;     // of a step on values
  std::vector<std::unique_ptr<UpdateSettings<T>>> settings_;          // of each group of parameters
  std::vector<py::object> data_held_, gradients_held_, inputs_held_;  // what the pass points into
};

template <typename T>
class TypedPlan final : public AnyPlan {
 public:
  explicit TypedPlan(PlanGraph graph) : plan_(std::move(graph)) {}

  std::unique_ptr<AnyPass> start() override {
    return std::make_unique<TypedPass<T>>(plan_, py::cast(static_cast<AnyPlan*>(this)));
  }
  std::vector<int> foreign() const override {
    std::vector<int> nodes;
    for (std::size_t i = 0; i < plan_.nodes().size(); ++i)
      if (std::holds_alternative<ForeignNode>(plan_.nodes()[i]))
        nodes.push_back(static_cast<int>(i));
    return nodes;
  }
  bool takes_labels() const override { return plan_.takes_labels(); }
  bool may_fail() const override { return plan_.may_fail(); }
  bool reached(int value) const override { return plan_.value(value).reached; }
  bool gradient_written(int node, int input) const override {
    return plan_.gradient_written(node, input);
  }
  std::int64_t bytes() const override { return plan_.bytes(); }
  py::list report() const override {
    py::list rows;
    for (const auto& row : plan_.report())
      rows.append(py::make_tuple(row.stage.what, row.layout, row.stage.flops,
                                 row.stage.backward_flops, row.bytes));
    return rows;
  }

 private:
  Plan<T> plan_;
};

std::unique_ptr<AnyPlan> make_plan(bool is_double, const std::vector<Shape>& shapes,
                                   const std::vector<bool>& stored, const std::vector<bool>& needed,
                                   const std::vector<int>& inputs, const py::list& nodes,
                                   int output, bool winograd) {
  PlanGraph graph;
  graph.shapes = shapes;
  graph.stored.assign(stored.begin(), stored.end());
  graph.needed.assign(needed.begin(), needed.end());
  graph.inputs = inputs;
  graph.output = output;
  graph.winograd = winograd;
  NodeReader reader(graph);
  for (const py::handle item : nodes) {
    const auto node = py::reinterpret_borrow<py::tuple>(item);
    graph.nodes.push_back(
        reader.read({node[0].cast<std::string>(), node[1].cast<std::vector<int>>(),
                     node[2].cast<int>(), node[3].cast<Attributes>(), node[4]}));
  }
  if (is_double) return std::make_unique<TypedPlan<double>>(std::move(graph));
  return std::make_unique<TypedPlan<float>>(std::move(graph));
}

}  // namespace

void bind_plan(py::module_& m) {
  using namespace py::literals;
  py::class_<AnyPass>(m, "Pass")
      .def("set_stored", &AnyPass::set_stored, "value"_a, "array"_a)
      .def("set_stream", &AnyPass::set_stream, "seed"_a, "step"_a, "first_sample"_a)
      .def("set_input", &AnyPass::set_input, "value"_a, "array"_a)
      .def("set_gradient", &AnyPass::set_gradient, "value"_a, "array"_a, "accumulate"_a)
      .def("set_update", &AnyPass::set_update, "value"_a, "group"_a, "arrays"_a)
      .def("set_settings",
           [](AnyPass& pass, std::size_t group, const std::string& rule, const py::args& settings) {
             pass.set_settings(group, rule, settings);
           })
      .def("forward", &AnyPass::forward, "node"_a)
      .def("backward", &AnyPass::backward, "node"_a)
      .def("set_ends", &AnyPass::set_ends, "input"_a, "output"_a)
      .def("set_loss", &AnyPass::set_loss, "label_smoothing"_a, "ignore_index"_a, "mean"_a)
      .def("forward_all", &AnyPass::forward_all, "x"_a)
      .def("backward_all", &AnyPass::backward_all, "gradient"_a, "node"_a)
      .def("step_on_labels", &AnyPass::step_on_labels, "x"_a, "target"_a)
      .def("step_on_values", &AnyPass::step_on_values, "x"_a, "target"_a, "mean"_a)
      .def("output", &AnyPass::output)
      .def("release", &AnyPass::release)
      .def("read", &AnyPass::read, "value"_a)
      .def("write", &AnyPass::write, "value"_a, "array"_a)
      .def("read_gradient", &AnyPass::read_gradient, "value"_a)
      .def("write_gradient", &AnyPass::write_gradient, "value"_a, "array"_a, "add"_a);
  py::class_<AnyPlan>(m, "Plan")
      .def(py::init(&make_plan), "is_double"_a, "shapes"_a, "stored"_a, "needed"_a, "inputs"_a,
           "nodes"_a, "output"_a, "winograd"_a)
      .def("start", &AnyPlan::start)
      .def_property_readonly("foreign", &AnyPlan::foreign)
      .def_property_readonly("takes_labels", &AnyPlan::takes_labels)
      .def_property_readonly("may_fail", &AnyPlan::may_fail)
      .def("reached", &AnyPlan::reached, "value"_a)
      .def("gradient_written", &AnyPlan::gradient_written, "node"_a, "input"_a)
      .def_property_readonly("bytes", &AnyPlan::bytes)
      .def("report", &AnyPlan::report);
}

}  // namespace pynn
