#include "cuda/bindings/any_pass.h"
#include "cuda/bindings/bindings.h"
#include "cuda/bindings/read_operation.h"
#include "cuda/plan/plan.h"

namespace pynn::cuda {
namespace {

class AnyPlan {
 public:
  virtual ~AnyPlan() = default;
  virtual std::unique_ptr<AnyPass> start() = 0;
  virtual std::vector<int> foreign() const = 0;
  virtual bool reached(int value) const = 0;
  virtual bool gradient_written(std::size_t node, std::size_t input) const = 0;
  virtual bool has_statistics(std::size_t node) const = 0;
  virtual std::int64_t bytes() const = 0;
  virtual py::list report() const = 0;
};

template <typename T>
class TypedPlan final : public AnyPlan {
 public:
  explicit TypedPlan(PlanGraph<T> graph) : plan_(std::move(graph)) {}

  std::unique_ptr<AnyPass> start() override {
    return start_pass(plan_, py::cast(static_cast<AnyPlan*>(this)));
  }
  std::vector<int> foreign() const override {
    std::vector<int> nodes;
    for (std::size_t i = 0; i < plan_.nodes().size(); ++i)
      if (plan_.foreign(i)) nodes.push_back(static_cast<int>(i));
    return nodes;
  }
  bool reached(int value) const override { return plan_.value(value).reached; }
  bool gradient_written(std::size_t node, std::size_t input) const override {
    return plan_.written_before(node, input);
  }
  bool has_statistics(std::size_t node) const override {
    const auto& operation = plan_.nodes().at(node).operation;
    return operation && operation->commits();
  }
  std::int64_t bytes() const override { return plan_.arena().bytes(); }
  py::list report() const override {
    py::list rows;
    for (std::size_t i = 0; i < plan_.nodes().size(); ++i) {
      const Node<T>& node = plan_.nodes()[i];
      if (node.fused) {
        rows.append(py::make_tuple("", "", 0, 0, 0));
        continue;
      }
      const Value& y = plan_.value(node.y);
      const Samples s = samples_of(y.shape);
      std::string layout;
      for (std::size_t axis = 1; axis < y.shape.size(); ++axis)
        layout += message("[", y.shape[axis], "]");
      layout += message("[", s.N, "]");
      const bool known = node.operation != nullptr;
      rows.append(py::make_tuple(known ? node.operation->what() : "", layout,
                                 known ? node.operation->flops() : 0,
                                 known ? node.operation->backward_flops() : 0,
                                 y.count() * static_cast<std::int64_t>(sizeof(T))));
    }
    return rows;
  }

 private:
  const Plan<T> plan_;
};

template <typename T>
std::unique_ptr<AnyPlan> typed_plan(const std::vector<Shape>& shapes,
                                    const std::vector<bool>& stored,
                                    const std::vector<bool>& needed, const std::vector<int>& inputs,
                                    const py::list& nodes, int output, Precision precision) {
  PlanGraph<T> graph;
  graph.shapes = shapes;
  graph.stored.assign(stored.begin(), stored.end());
  graph.needed.assign(needed.begin(), needed.end());
  graph.inputs = inputs;
  graph.output = output;
  for (const py::handle item : nodes) {
    const auto spec = py::reinterpret_borrow<py::tuple>(item);
    Node<T> node;
    node.inputs = spec[1].cast<std::vector<int>>();
    node.y = spec[2].cast<int>();
    if (spec[4].is_none())
      node.operation = read_operation<T>(spec[0].cast<std::string>(), shapes, stored, node.inputs,
                                         shapes[static_cast<std::size_t>(node.y)],
                                         spec[3].cast<py::dict>(), precision);
    // Running statistics are read, not the count of batches beside them.
    if (node.operation && spec[0].cast<std::string>() == "batch_norm") node.inputs.resize(5);
    graph.nodes.push_back(std::move(node));
  }
  return std::make_unique<TypedPlan<T>>(std::move(graph));
}

std::unique_ptr<AnyPlan> make_plan(bool is_double, const std::vector<Shape>& shapes,
                                   const std::vector<bool>& stored, const std::vector<bool>& needed,
                                   const std::vector<int>& inputs, const py::list& nodes,
                                   int output, const std::string& precision) {
  const Precision chosen = to_precision(precision);
  if (is_double) return typed_plan<double>(shapes, stored, needed, inputs, nodes, output, chosen);
  return typed_plan<float>(shapes, stored, needed, inputs, nodes, output, chosen);
}

}  // namespace

void bind_plan(py::module_& m) {
  using namespace py::literals;
  py::class_<AnyPlan>(m, "Plan")
      .def(py::init(&make_plan), "is_double"_a, "shapes"_a, "stored"_a, "needed"_a, "inputs"_a,
           "nodes"_a, "output"_a, "precision"_a)
      .def("start", &AnyPlan::start)
      .def_property_readonly("foreign", &AnyPlan::foreign)
      .def("reached", &AnyPlan::reached, "value"_a)
      .def("gradient_written", &AnyPlan::gradient_written, "node"_a, "input"_a)
      .def("has_statistics", &AnyPlan::has_statistics, "node"_a)
      .def_property_readonly("bytes", &AnyPlan::bytes)
      .def("report", &AnyPlan::report);
}

}  // namespace pynn::cuda
