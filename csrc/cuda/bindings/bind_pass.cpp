#include <algorithm>
#include <cstring>
#include <map>

#include "bindings/labels.h"
#include "bindings/release_gil.h"
#include "bindings/update_settings.h"
#include "cuda/bindings/any_pass.h"
#include "cuda/bindings/bindings.h"
#include "cuda/kernels/optimizer.h"
#include "cuda/plan/pass.h"
#include "cuda/plan/transfer.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {
namespace {

// Keeps pointers to twins, each once.
class Twins {
 public:
  void add(const std::shared_ptr<Twin>& twin) {
    if (std::find(twins_.begin(), twins_.end(), twin) == twins_.end()) twins_.push_back(twin);
  }
  void to_device() const {
    for (const auto& twin : twins_) twin->to_device();
  }
  void changed() const {
    for (const auto& twin : twins_) twin->changed();
  }

 private:
  std::vector<std::shared_ptr<Twin>> twins_;
};

template <typename T>
class TypedPass final : public AnyPass {
 public:
  TypedPass(const Plan<T>& plan, py::object owner)
      : plan_(plan), owner_(std::move(owner)), pass_(plan), step_(pass_) {}

  bool lost() const override { return pass_.lost(); }

  void set_stored(int value, const py::array& array) override {
    const T* const from = checked(value, array);
    if (!read_by_a_node(value)) return;
    DeviceMemory& memory = constants_[value];
    memory.reserve(std::max<std::int64_t>(array.nbytes(), 1));
    copy_to_device(memory.data(), from, array.nbytes());
    bind(value, reinterpret_cast<const T*>(memory.data()));
  }
  void set_twin(int value, std::shared_ptr<Twin> twin, std::int64_t offset) override {
    twin->to_device();
    bind(value, static_cast<const T*>(twin->device()) + offset);
    twins_.add(twin);
    if (committed(value)) changed_.add(twin);
    places_[value] = {std::move(twin), offset};
  }
  void set_stream(std::uint64_t seed, std::int64_t step, std::int64_t first_sample) override {
    StepState state{};
    state.seed = seed;
    state.step = static_cast<std::uint32_t>(step);
    state.first_sample = static_cast<std::uint32_t>(first_sample);
    copy_to_device(pass_.own_state(), &state, sizeof state);
    pass_.use_state(pass_.own_state());
  }
  void set_input(int value, const py::array& array) override { write(value, array); }

  int forward(int node) override {
    twins_.to_device();
    const ReleaseGil nogil;
    return pass_.forward(node, stream());
  }
  int backward(int node) override {
    const ReleaseGil nogil;
    return pass_.backward(node, stream());
  }
  py::array read(int value) override {
    const Value& v = plan_.value(value);
    py::array_t<T> array(v.shape);
    if (v.stored)
      Transfer<T>::raw_to_host(v.count(), pass_.data(value), array.mutable_data());
    else
      transfer_.to_host(samples_of(v.shape), pass_.data(value), array.mutable_data());
    return std::move(array);
  }
  void write(int value, const py::array& array) override {
    const T* const from = checked(value, array);
    transfer_.to_device(samples_of(plan_.value(value).shape), from, pass_.data(value));
  }
  py::array read_gradient(int value) override {
    const Value& v = plan_.value(value);
    py::array_t<T> array(v.shape);
    const T* from = pass_.gradient(value);
    if (v.shards > 1) {
      T* const sum = transfer_.scratch(v.count());
      combine(v.shards, v.count(), v.count(), from, false, sum, stream());
      from = sum;
    }
    if (v.stored)
      Transfer<T>::raw_to_host(v.count(), from, array.mutable_data());
    else
      transfer_.to_host(samples_of(v.shape), from, array.mutable_data());
    return std::move(array);
  }
  void write_gradient(int value, const py::array& array, bool add) override {
    const Value& v = plan_.value(value);
    const T* const from = checked(value, array);
    T* const to = pass_.gradient(value);
    if (v.stored) {
      if (add)
        transfer_.add_raw_to_device(v.count(), from, to);
      else
        Transfer<T>::raw_to_device(v.count(), from, to);
    } else if (add) {
      transfer_.add_to_device(samples_of(v.shape), from, to);
    } else {
      transfer_.to_device(samples_of(v.shape), from, to);
    }
  }
  py::list statistics(std::size_t node) override {
    const std::int64_t channels = plan_.value(plan_.nodes().at(node).inputs[0]).shape[1];
    const char* from = pass_.saved(node);
    py::list result;
    for (int i = 0; i < 2; ++i) {
      py::array_t<T> array(channels);
      Transfer<T>::raw_to_host(channels, reinterpret_cast<const T*>(from), array.mutable_data());
      from += bytes_of<T>(channels);
      result.append(array);
    }
    return result;
  }

  void set_update(int value, int group, const py::list& state) override {
    const Place& place = places_.at(value);
    T* pointers[2] = {nullptr, nullptr};
    for (std::size_t i = 0; i < state.size() && i < 2; ++i) {
      if (state[i].is_none()) continue;
      const auto twin = state[i].cast<std::shared_ptr<Twin>>();
      twin->to_device();
      twins_.add(twin);
      changed_.add(twin);
      pointers[i] = static_cast<T*>(twin->device()) + place.offset;
    }
    changed_.add(place.twin);
    step_.add_update(value, group, static_cast<T*>(place.twin->device()) + place.offset,
                     pointers[0], pointers[1]);
  }
  void set_limits(double clip_value, double clip_norm) override {
    step_.set_limits(clip_value, clip_norm);
  }
  void set_loss(const Loss& loss) override {
    if (const auto* each = std::get_if<CrossEntropyLoss>(&loss)) {
      check_smoothing(each->smoothing);
      ignored_label_ = each->ignored_label;
    }
    has_labels_ = std::holds_alternative<CrossEntropyLoss>(loss);
    step_.set_loss(loss);
  }

  py::tuple step(const py::array& array, const py::array& target, std::uint64_t seed,
                 std::int64_t step, const py::list& settings) override {
    const T* const rows = checked(plan_.inputs()[0], array);
    const Shape& shape = plan_.value(plan_.output()).shape;
    const std::vector<Settings<T>> read = read_settings(settings);
    py::array labels;
    if (has_labels_) {
      require_shape("target", target, {shape[0]});
      labels = checked_labels(target, {shape[0]}, shape[1], ignored_label_);
    } else {
      labels = py::array_t<T, py::array::c_style | py::array::forcecast>(target);
      require_shape("target", labels, shape);
    }
    twins_.to_device();
    typename Step<T>::Result result;
    {
      const ReleaseGil nogil;
      std::memcpy(step_.host_rows(), rows, static_cast<std::size_t>(array.nbytes()));
      void* const to = has_labels_ ? static_cast<void*>(step_.host_labels()) : step_.host_target();
      std::memcpy(to, labels.data(), static_cast<std::size_t>(labels.nbytes()));
      result = step_.run(seed, static_cast<std::uint32_t>(step), read);
    }
    return told(result);
  }
  void forward_all(const py::array& array, std::uint64_t seed, std::int64_t step) override {
    const T* const rows = checked(plan_.inputs()[0], array);
    twins_.to_device();
    const ReleaseGil nogil;
    std::memcpy(step_.host_rows(), rows, static_cast<std::size_t>(array.nbytes()));
    step_.forward(seed, static_cast<std::uint32_t>(step));
  }
  py::tuple backward_all(const py::array& gradient, const py::list& settings) override {
    const std::vector<Settings<T>> read = read_settings(settings);
    write_gradient(plan_.output(), gradient, false);
    typename Step<T>::Result result;
    {
      const ReleaseGil nogil;
      result = step_.backward(read);
    }
    if (!result.failed) changed_.changed();
    return py::make_tuple(py::array_t<double>(0), result.failed, result.norm);
  }
  py::tuple epoch(const DeviceArray& x, const DeviceArray& y,
                  const py::array_t<std::int64_t>& order, double scale, std::uint64_t seed,
                  std::int64_t step, const py::list& settings) override {
    const std::int64_t N = plan_.value(plan_.inputs()[0]).shape[0];
    require_features("x", x, plan_.value(plan_.inputs()[0]).shape);
    DataSet data;
    data.x = x.data();
    data.y = y.data();
    data.scale = scale;
    const char kind = x.dtype().kind();
    if (kind == 'u' && x.dtype().itemsize() == 1)
      data.kind = DataSet::Kind::uint8;
    else if (kind == 'f' && x.dtype().itemsize() >= 4)
      data.kind = x.dtype().itemsize() == 4 ? DataSet::Kind::float32 : DataSet::Kind::float64;
    else
      throw DTypeError("x must be uint8, float32 or float64");
    const bool fits = has_labels_ ? y.dtype().kind() == 'i' && y.dtype().itemsize() == 8
                                  : y.dtype().is(py::dtype::of<T>());
    if (!fits) throw DTypeError("targets must be int64, or of the model's dtype");
    if (!has_labels_) require_features("y", y, plan_.value(plan_.output()).shape);
    std::vector<Settings<T>> read;
    for (const py::handle each : settings)
      for (const Settings<T>& group : read_settings(each)) read.push_back(group);
    const std::int64_t steps = order.size() / N;
    twins_.to_device();
    typename Step<T>::Result result;
    {
      const ReleaseGil nogil;
      result =
          step_.run_epoch(data, order.data(), steps, seed, static_cast<std::uint32_t>(step), read);
    }
    return told(result);
  }

 private:
  struct Place {
    std::shared_ptr<Twin> twin;
    std::int64_t offset = 0;
  };

  const T* checked(int value, const py::array& array) const {
    if (array.dtype().kind() != 'f' || static_cast<std::size_t>(array.itemsize()) != sizeof(T) ||
        !(array.flags() & py::array::c_style))
      throw DTypeError("a plan takes C-contiguous arrays of its dtype");
    require_shape("array", array, plan_.value(value).shape);
    return data<T>(array);
  }
  static void require_features(const char* name, const DeviceArray& array, Shape expected) {
    if (array.shape().empty()) throw ShapeError(message(name, " must have samples"));
    expected[0] = array.shape()[0];
    if (array.shape() != expected)
      throw ShapeError(message(name, " must have shape ", expected, ", got ", array.shape()));
  }
  void bind(int value, const T* data) {
    if (pass_.set_stored(value, data)) step_.forget();
  }
  bool read_by_a_node(int value) const {
    return std::any_of(plan_.nodes().begin(), plan_.nodes().end(), [value](const Node<T>& node) {
      return std::find(node.inputs.begin(), node.inputs.end(), value) != node.inputs.end();
    });
  }
  // Whether this is the running statistic of a batch_norm that trains.
  bool committed(int value) const {
    for (const Node<T>& node : plan_.nodes())
      if (node.operation && node.operation->commits() &&
          (node.inputs[1] == value || node.inputs[2] == value))
        return true;
    return false;
  }
  py::tuple told(const typename Step<T>::Result& result) {
    const bool any = result.losses.size() > (result.failed ? 1u : 0u);
    if (any) changed_.changed();
    py::array_t<double> losses(static_cast<py::ssize_t>(result.losses.size()));
    std::copy(result.losses.begin(), result.losses.end(), losses.mutable_data());
    warn_where_not_recorded();
    return py::make_tuple(losses, result.failed, result.norm);
  }
  void warn_where_not_recorded() {
    if (warned_ || step_.not_recorded().empty()) return;
    warned_ = true;
    const std::string text =
        message("this step could not be recorded as a CUDA graph (", step_.not_recorded(),
                "): its kernels are launched one by one, which gives the same but takes longer");
    if (PyErr_WarnEx(PyExc_RuntimeWarning, text.c_str(), 1) < 0) throw py::error_already_set();
  }
  // One for each group: (rule, the arguments of its update).
  static std::vector<Settings<T>> read_settings(py::handle groups) {
    std::vector<Settings<T>> result;
    for (const py::handle group : groups) {
      const auto s = py::reinterpret_borrow<py::tuple>(group);
      const auto number = [&s](std::size_t i) { return s[i + 1].cast<double>(); };
      const auto flag = [&s](std::size_t i) { return s[i + 1].cast<bool>(); };
      const auto rule = s[0].cast<std::string>();
      if (rule == "sgd")
        result.push_back(sgd_settings<T>(number(0), number(1), flag(2), flag(3), number(4)));
      else if (rule == "adam")
        result.push_back(adam_settings<T>(s[1].cast<std::int64_t>(), number(1), number(2),
                                          number(3), number(4), number(5), flag(6)));
      else
        result.push_back(
            rmsprop_settings<T>(number(0), number(1), number(2), number(3), number(4)));
    }
    return result;
  }

  const Plan<T>& plan_;
  const py::object owner_;  // keeps the plan alive
  Pass<T> pass_;
  Step<T> step_;
  Transfer<T> transfer_;
  std::map<int, DeviceMemory> constants_;
  std::map<int, Place> places_;
  Twins twins_, changed_;
  bool has_labels_ = true, warned_ = false;
  std::optional<std::int64_t> ignored_label_;
};

}  // namespace

template <typename T>
std::unique_ptr<AnyPass> start_pass(const Plan<T>& plan, py::object owner) {
  return std::make_unique<TypedPass<T>>(plan, std::move(owner));
}
template std::unique_ptr<AnyPass> start_pass(const Plan<float>&, py::object);
template std::unique_ptr<AnyPass> start_pass(const Plan<double>&, py::object);

void bind_pass(py::module_& m) {
  using namespace py::literals;
  py::class_<AnyPass>(m, "Pass")
      .def_property_readonly("lost", &AnyPass::lost)
      .def("set_stored", &AnyPass::set_stored, "value"_a, "array"_a)
      .def("set_twin", &AnyPass::set_twin, "value"_a, "twin"_a, "offset"_a)
      .def("set_stream", &AnyPass::set_stream, "seed"_a, "step"_a, "first_sample"_a)
      .def("set_input", &AnyPass::set_input, "value"_a, "array"_a)
      .def("forward", &AnyPass::forward, "node"_a)
      .def("backward", &AnyPass::backward, "node"_a)
      .def("read", &AnyPass::read, "value"_a)
      .def("write", &AnyPass::write, "value"_a, "array"_a)
      .def("read_gradient", &AnyPass::read_gradient, "value"_a)
      .def("write_gradient", &AnyPass::write_gradient, "value"_a, "array"_a, "add"_a)
      .def("statistics", &AnyPass::statistics, "node"_a)
      .def("set_update", &AnyPass::set_update, "value"_a, "group"_a, "state"_a)
      .def("set_limits", &AnyPass::set_limits, "clip_value"_a, "clip_norm"_a)
      .def(
          "set_cross_entropy",
          [](AnyPass& pass, double label_smoothing, std::optional<std::int64_t> ignore_index,
             bool mean) { pass.set_loss(CrossEntropyLoss{label_smoothing, ignore_index, mean}); },
          "label_smoothing"_a, "ignore_index"_a, "mean"_a)
      .def(
          "set_squared_error",
          [](AnyPass& pass, bool mean) { pass.set_loss(SquaredErrorLoss{mean}); }, "mean"_a)
      .def("step", &AnyPass::step, "array"_a, "target"_a, "seed"_a, "step"_a, "settings"_a)
      .def("forward_all", &AnyPass::forward_all, "array"_a, "seed"_a, "step"_a)
      .def("backward_all", &AnyPass::backward_all, "gradient"_a, "settings"_a)
      .def("epoch", &AnyPass::epoch, "x"_a, "y"_a, "order"_a, "scale"_a, "seed"_a, "step"_a,
           "settings"_a);
}

}  // namespace pynn::cuda
