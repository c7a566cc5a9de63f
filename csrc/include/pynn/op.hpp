// Operators for pynn in C++: abi.h written for you. One class is one operator, float and double
// from one template:
//
//   #include <cmath>
//   #include <pynn/op.hpp>
//
//   struct Swish {
//     double beta = 1;  // attributes are members; their first values are the defaults
//
//     static void describe(pynn::op::Description<Swish>& d) {
//       d.name("swish").doc("x / (1 + exp(-beta x)), element by element.").pointwise();
//       d.backward_reads_inputs();
//       d.input("x", "any shape");
//       d.attribute("beta", &Swish::beta, "slope of the sigmoid");
//       d.sample("odd_sizes", "(3, 5, 7)", "beta=2.0");
//     }
//
//     template <typename T>
//     void forward(const pynn::op::Forward<T>& call) const noexcept {
//       const auto x = call.input(0);
//       const auto y = call.y();
//       for (std::int64_t i = 0; i < x.size(); ++i) y[i] = x[i] / (1 + std::exp(-T(beta) * x[i]));
//     }
//
//     template <typename T>
//     void backward(const pynn::op::Backward<T>& call) const noexcept { ... }
//   };
//
//   PYNN_OPERATORS(Swish)
//
// A class may also have
//
//   pynn::op::Shape shape(const pynn::op::Inputs&) const;  // of y; else that of input 0
//   template <typename T> std::int64_t workspace(const pynn::op::Call&, pynn::op::Pass) const;
//   template <typename T> std::int64_t saved(const pynn::op::Call&) const;
//   std::int64_t flops(const pynn::op::Call&) const;
//
// `workspace` and `saved` count elements of T. Any of these may throw: pynn::op::ShapeError becomes
// pynn.ShapeError, std::invalid_argument ValueError, everything else pynn.OperatorError.
// A backward that is noexcept lets pynn update parameters on the way.
#pragma once

#if __cplusplus < 201703L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 201703L)
#error "pynn/op.hpp needs C++17: a compiler that has it, and -std=c++17 or later"
#endif

#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "abi.h"

// Of each library its own: GCC would share the static variables of templates among all of a
// process.
#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

namespace pynn::op {

using Shape = std::vector<std::int64_t>;

struct ShapeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

enum class Pass { forward = PYNN_FORWARD, backward = PYNN_BACKWARD };

// An array (dense, row-major), or one that is absent or not wanted: `if (bias) ...`.
template <typename T>
class Tensor {
 public:
  explicit Tensor(const pynn_tensor& tensor) : tensor_(&tensor) {}

  explicit operator bool() const { return tensor_->data != nullptr; }
  T* data() const { return static_cast<T*>(tensor_->data); }
  T& operator[](std::int64_t i) const { return data()[i]; }
  T* begin() const { return data(); }
  T* end() const { return data() + size(); }
  std::int64_t size() const {
    std::int64_t size = 1;
    for (int axis = 0; axis < axes(); ++axis) size *= tensor_->shape[axis];
    return size;
  }
  int axes() const { return tensor_->axes; }
  std::int64_t shape(int axis) const { return tensor_->shape[axis]; }
  Shape shape() const { return Shape(tensor_->shape, tensor_->shape + tensor_->axes); }

 private:
  const pynn_tensor* tensor_;
};

// The shapes of the inputs.
class Inputs {
 public:
  explicit Inputs(const pynn_call& call) : call_(&call) {}
  int size() const { return call_->input_count; }
  bool present(int input) const { return call_->inputs[input].axes >= 0; }
  Shape operator[](int input) const {
    const pynn_tensor& tensor = call_->inputs[input];
    return tensor.axes < 0 ? Shape{} : Shape(tensor.shape, tensor.shape + tensor.axes);
  }

 private:
  const pynn_call* call_;
};

// What every call offers. Functions of pynn throw std::runtime_error where they fail.
class Call {
 public:
  explicit Call(const pynn_call& call) : call_(&call) {}

  const pynn_call& abi() const { return *call_; }
  const pynn_host& host() const { return *call_->host; }
  Inputs inputs() const { return Inputs(*call_); }
  Shape y_shape() const { return Tensor<const char>(*call_->y).shape(); }
  const pynn_random& random() const { return call_->random; }

  // function(begin, end) for ranges that cover 0 ... units, on several threads where units *
  // work_per_unit (floating-point operations, roughly) is worth it. What it throws comes out of
  // this call.
  template <typename Function>
  void parallel_for(std::int64_t units, std::int64_t work_per_unit,
                    const Function& function) const {
    Task<Function> task{&function, {}, nullptr};
    check(host().parallel_for(
        units, work_per_unit,
        [](void* context, std::int64_t begin, std::int64_t end) {
          static_cast<Task<Function>*>(context)->run(begin, end);
        },
        &task));
    if (task.error) std::rethrow_exception(task.error);
  }

  // words (count,): the random words of the elements first ... first + count of sample n.
  void random_words(std::int64_t n, std::int64_t first, std::int64_t count,
                    std::uint32_t* words) const noexcept {
    host().random_words(&call_->random, n, first, count, words);
  }

  void check(pynn_status status) const {
    if (status != PYNN_OK) throw std::runtime_error(host().last_error());
  }

 protected:
  const pynn_call* call_;

 private:
  template <typename Function>
  struct Task {
    const Function* function;
    std::mutex mutex;
    std::exception_ptr error;

    void run(std::int64_t begin, std::int64_t end) noexcept {
      try {
        (*function)(begin, end);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  };
};

// Strides of a matrix: rows apart, columns apart.
template <typename T>
struct Matrix {
  T* data;
  std::int64_t row, column = 1;
};

template <typename T>
class TypedCall : public Call {
 public:
  using Call::Call;
  static constexpr std::int32_t kType = sizeof(T) == 8 ? PYNN_FLOAT64 : PYNN_FLOAT32;

  Tensor<const T> input(int i) const { return Tensor<const T>(call_->inputs[i]); }
  T* workspace() const { return static_cast<T*>(call_->workspace); }

  // c (M, N) = a (M, K) b (K, N), or += where `add`. Rows of c are dense.
  void gemm(std::int64_t M, std::int64_t N, std::int64_t K, Matrix<const T> a, Matrix<const T> b,
            Matrix<T> c, bool add = false) const {
    const pynn_gemm product{sizeof product, M,     N,        K,      a.data, a.row, a.column,
                            b.data,         b.row, b.column, c.data, c.row,  kType, add};
    check(host().gemm(&product));
  }
  // The dtype and size of `conv` are filled in. b may be null.
  void conv2d(pynn_conv2d conv, const T* x, const T* w, const T* b, T* y) const {
    check(host().conv2d(&typed(conv), x, w, b, y));
  }
  // dx, dw, db are overwritten; null where not wanted.
  void conv2d_backward(pynn_conv2d conv, const T* dy, const T* x, const T* w, T* dx, T* dw,
                       T* db) const {
    check(host().conv2d_backward(&typed(conv), dy, x, w, dx, dw, db));
  }
  // Of count elements; y may be x.
  void relu(std::int64_t count, const T* x, T* y) const noexcept {
    host().relu(kType, count, x, y);
  }
  void sigmoid(std::int64_t count, const T* x, T* y) const noexcept {
    host().sigmoid(kType, count, x, y);
  }
  void tanh(std::int64_t count, const T* x, T* y) const noexcept {
    host().tanh(kType, count, x, y);
  }
  void exp(std::int64_t count, const T* x, T* y) const noexcept { host().exp(kType, count, x, y); }
  void log(std::int64_t count, const T* x, T* y) const noexcept { host().log(kType, count, x, y); }

 private:
  template <typename Geometry>
  static Geometry& typed(Geometry& geometry) {
    geometry.size = sizeof geometry;
    geometry.dtype = kType;
    return geometry;
  }
};

// y is to be written, all of it.
template <typename T>
class Forward : public TypedCall<T> {
 public:
  using TypedCall<T>::TypedCall;
  Tensor<T> y() const { return Tensor<T>(*this->call_->y); }
  T* saved() const { return static_cast<T*>(this->call_->saved); }
};

// gradient(i), of input i, is to be written, all of it, where it is wanted.
template <typename T>
class Backward : public TypedCall<T> {
 public:
  using TypedCall<T>::TypedCall;
  Tensor<const T> dy() const { return Tensor<const T>(*this->call_->dy); }
  Tensor<const T> y() const { return Tensor<const T>(*this->call_->y); }
  Tensor<T> gradient(int i) const { return Tensor<T>(this->call_->gradients[i]); }
  const T* saved() const { return static_cast<const T*>(this->call_->saved); }
};

// What an operator says of itself; see the top of this file.
template <typename Op>
class Description {
 public:
  // What may be said of an input: d.input("b", "(C,)").parameter().optional();
  class Input {
   public:
    explicit Input(pynn_input& input) : input_(&input) {}
    Input& optional() { return set(PYNN_OPTIONAL); }
    Input& parameter() { return set(PYNN_PARAMETER); }  // without a batch axis: a weight
    Input& no_gradient() { return set(PYNN_NO_GRADIENT); }

   private:
    Input& set(std::uint32_t flag) {
      input_->flags |= flag;
      return *this;
    }
    pynn_input* input_;
  };

  Description& name(const char* name) {
    table_.name = keep(name);
    return *this;
  }
  Description& doc(const char* doc) {
    table_.doc = keep(doc);
    return *this;
  }
  // Element i of y depends on element i of each input alone. Calls get any number of elements, as
  // (count,).
  Description& pointwise() { return set(PYNN_POINTWISE); }
  // Sample n of y depends on sample n of each input alone, and on parameters.
  Description& per_sample() { return set(PYNN_PER_SAMPLE); }
  Description& random() { return set(PYNN_RANDOM); }
  Description& backward_reads_inputs() { return set(PYNN_BACKWARD_READS_INPUTS); }
  Description& backward_reads_output() { return set(PYNN_BACKWARD_READS_OUTPUT); }

  Input input(const char* name, const char* doc = "") {
    inputs_.push_back({sizeof(pynn_input), keep(name), keep(doc), 0});
    return Input(inputs_.back());
  }

  template <typename Value>
  Description& attribute(const char* name, Value Op::* member, const char* doc = "") {
    return add_attribute(name, member, doc, false);
  }
  // An attribute without a default.
  template <typename Value>
  Description& required_attribute(const char* name, Value Op::* member, const char* doc = "") {
    return add_attribute(name, member, doc, true);
  }

  // shapes and attributes as in Python: d.sample("no_bias", "(3, 5, 7), None", "padding=1").
  Description& sample(const char* name, const char* shapes, const char* attributes = "") {
    return add_sample(PYNN_CASE, name, shapes, attributes, "");
  }
  // A call that fails, with these words in its message.
  Description& refusal(const char* name, const char* shapes, const char* attributes,
                       const char* message) {
    return add_sample(PYNN_REFUSAL, name, shapes, attributes, message);
  }
  Description& benchmark(const char* name, const char* shapes, const char* attributes = "") {
    return add_sample(PYNN_BENCHMARK, name, shapes, attributes, "");
  }

  // From here on for the adapter below.
  Op make(const pynn_call& call) const {
    Op op{};
    for (std::size_t i = 0; i < setters_.size(); ++i) setters_[i](op, call.attributes[i]);
    return op;
  }
  pynn_operator& finish() {
    table_.size = sizeof table_;
    point(inputs_, input_pointers_);
    point(attributes_, attribute_pointers_);
    point(samples_, sample_pointers_);
    table_.inputs = input_pointers_.data();
    table_.attributes = attribute_pointers_.data();
    table_.samples = sample_pointers_.data();
    table_.input_count = static_cast<std::int32_t>(inputs_.size());
    table_.attribute_count = static_cast<std::int32_t>(attributes_.size());
    table_.sample_count = static_cast<std::int32_t>(samples_.size());
    return table_;
  }

 private:
  Description& set(std::uint32_t flag) {
    table_.flags |= flag;
    return *this;
  }
  const char* keep(const char* text) { return texts_.emplace_back(text).c_str(); }
  const char* keep(const std::string& text) { return texts_.emplace_back(text).c_str(); }

  Description& add_sample(std::int32_t kind, const char* name, const char* shapes,
                          const char* attributes, const char* message) {
    samples_.push_back(
        {sizeof(pynn_sample), keep(name), keep(shapes), keep(attributes), keep(message), kind});
    return *this;
  }

  template <typename Value>
  Description& add_attribute(const char* name, Value Op::* member, const char* doc, bool required) {
    pynn_attribute attribute{};
    attribute.size = sizeof attribute;
    attribute.name = keep(name);
    attribute.doc = keep(doc);
    attribute.required = required;
    const Op defaults{};
    const Value& value = defaults.*member;
    if constexpr (std::is_same_v<Value, bool>) {
      attribute.type = PYNN_BOOL;
      attribute.default_value.integer = value;
      setters_.push_back([member](Op& op, const pynn_value& v) { op.*member = v.integer != 0; });
    } else if constexpr (std::is_integral_v<Value>) {
      static_assert(sizeof(Value) == 8, "integer attributes are std::int64_t");
      attribute.type = PYNN_INTEGER;
      attribute.default_value.integer = value;
      setters_.push_back([member](Op& op, const pynn_value& v) { op.*member = v.integer; });
    } else if constexpr (std::is_same_v<Value, double>) {
      attribute.type = PYNN_REAL;
      attribute.default_value.real = value;
      setters_.push_back([member](Op& op, const pynn_value& v) { op.*member = v.real; });
    } else if constexpr (std::is_same_v<Value, std::string>) {
      attribute.type = PYNN_TEXT;
      attribute.default_value.text = keep(value);
      setters_.push_back([member](Op& op, const pynn_value& v) { op.*member = v.text; });
    } else {
      static_assert(std::is_same_v<Value, std::vector<std::int64_t>>,
                    "an attribute is a bool, std::int64_t, double, std::string or "
                    "std::vector<std::int64_t>");
      attribute.type = PYNN_INTEGERS;
      const std::vector<std::int64_t>& kept = lists_.emplace_back(value);
      attribute.default_value.integers = kept.data();
      attribute.default_value.count = static_cast<std::int64_t>(kept.size());
      setters_.push_back([member](Op& op, const pynn_value& v) {
        (op.*member).assign(v.integers, v.integers + v.count);
      });
    }
    attributes_.push_back(attribute);
    return *this;
  }

  template <typename Item>
  static void point(const std::deque<Item>& items, std::vector<const Item*>& pointers) {
    pointers.clear();
    for (const Item& item : items) pointers.push_back(&item);
  }

  pynn_operator table_{};
  std::deque<std::string> texts_;
  std::deque<std::vector<std::int64_t>> lists_;
  std::deque<pynn_input> inputs_;
  std::deque<pynn_attribute> attributes_;
  std::deque<pynn_sample> samples_;
  std::vector<const pynn_input*> input_pointers_;
  std::vector<const pynn_attribute*> attribute_pointers_;
  std::vector<const pynn_sample*> sample_pointers_;
  std::vector<std::function<void(Op&, const pynn_value&)>> setters_;
};

namespace detail {

struct Nothing {};

// Of a function that a class may have: Has<Function>, whether pynn can call it; Misses<Function>,
// whether there is one of that name that it cannot call and would pass over in silence. A name that
// the class has is ambiguous in Both<Function>; an attribute may have it.
#define PYNN_FUNCTION(Function, name, ...)                                                         \
  template <typename Op, typename = void>                                                          \
  struct Has##Function : std::false_type {};                                                       \
  template <typename Op>                                                                           \
  struct Has##Function<Op, std::void_t<decltype(__VA_ARGS__)>> : std::true_type {};                \
  template <typename Op, typename = void>                                                          \
  struct IsAttribute##Function : std::false_type {};                                               \
  template <typename Op>                                                                           \
  struct IsAttribute##Function<Op, std::void_t<decltype(&Op::name)>>                               \
      : std::is_member_object_pointer<decltype(&Op::name)> {};                                     \
  struct Only##Function {                                                                          \
    int name;                                                                                      \
  };                                                                                               \
  template <typename Op>                                                                           \
  struct Both##Function : std::conditional_t<std::is_final_v<Op>, Nothing, Op>, Only##Function {}; \
  template <typename Op, typename = void>                                                          \
  struct Misses##Function                                                                          \
      : std::bool_constant<!Has##Function<Op>::value && !IsAttribute##Function<Op>::value> {};     \
  template <typename Op>                                                                           \
  struct Misses##Function<Op, std::void_t<decltype(&Both##Function<Op>::name)>>                    \
      : std::false_type {};

PYNN_FUNCTION(Shape, shape, std::declval<Op>().shape(std::declval<const Inputs&>()))
PYNN_FUNCTION(Backward, backward,
              std::declval<const Op&>().backward(std::declval<const Backward<float>&>()))
PYNN_FUNCTION(Workspace, workspace,
              std::declval<const Op&>().template workspace<float>(std::declval<const Call&>(),
                                                                  Pass::forward))
PYNN_FUNCTION(Saved, saved,
              std::declval<const Op&>().template saved<float>(std::declval<const Call&>()))
PYNN_FUNCTION(Flops, flops, std::declval<Op>().flops(std::declval<const Call&>()))
#undef PYNN_FUNCTION

// Runs a function; what it throws becomes a status and a message.
template <typename Function>
pynn_status guarded(const pynn_call* call, const Function& function) noexcept {
  const auto failed = [call](pynn_status status, const char* what) {
    std::strncpy(call->message, what, PYNN_MESSAGE_BYTES - 1);
    call->message[PYNN_MESSAGE_BYTES - 1] = 0;
    return status;
  };
  try {
    function();
    return PYNN_OK;
  } catch (const ShapeError& error) {
    return failed(PYNN_SHAPE_ERROR, error.what());
  } catch (const std::invalid_argument& error) {
    return failed(PYNN_VALUE_ERROR, error.what());
  } catch (const std::exception& error) {
    return failed(PYNN_FAILURE, error.what());
  } catch (...) {
    return failed(PYNN_FAILURE, "it threw something that is not a std::exception");
  }
}

// Between the class and the table of functions.
template <typename Op>
class Adapter {
 public:
  static const pynn_operator* table() {
    static_assert(!MissesShape<Op>::value,
                  "shape must be: pynn::op::Shape shape(const pynn::op::Inputs&) const");
    static_assert(!MissesBackward<Op>::value,
                  "backward must be: template <typename T> void backward(const "
                  "pynn::op::Backward<T>&) const");
    static_assert(!MissesWorkspace<Op>::value,
                  "workspace must be: template <typename T> std::int64_t workspace(const "
                  "pynn::op::Call&, pynn::op::Pass) const");
    static_assert(!MissesSaved<Op>::value,
                  "saved must be: template <typename T> std::int64_t saved(const "
                  "pynn::op::Call&) const");
    static_assert(!MissesFlops<Op>::value,
                  "flops must be: std::int64_t flops(const pynn::op::Call&) const");
    static Description<Op>& d = description();
    pynn_operator& t = d.finish();
    t.forward = forward;
    if constexpr (HasBackward<Op>::value) {
      t.backward = backward;
      if (noexcept(std::declval<const Op&>().backward(std::declval<const Backward<float>&>())) &&
          noexcept(std::declval<const Op&>().backward(std::declval<const Backward<double>&>())))
        t.flags |= PYNN_BACKWARD_NEVER_FAILS;
    }
    if constexpr (HasShape<Op>::value) t.shape = shape;
    if constexpr (HasWorkspace<Op>::value) t.workspace = workspace;
    if constexpr (HasSaved<Op>::value) t.saved = saved;
    if constexpr (HasFlops<Op>::value) t.flops = flops;
    return &t;
  }

 private:
  static Description<Op>& description() {
    static Description<Op>& made = *[] {  // never destroyed: threads may call until the end
      auto* d = new Description<Op>;
      Op::describe(*d);
      return d;
    }();
    return made;
  }
  static Op make(const pynn_call* call) { return description().make(*call); }

  template <typename T>
  static std::int64_t bytes_of(std::int64_t elements) {
    constexpr std::int64_t most = INT64_MAX / static_cast<std::int64_t>(sizeof(T));
    if (elements < 0 || elements > most)
      throw std::length_error("it asked for " + std::to_string(elements) + " elements");
    return elements * static_cast<std::int64_t>(sizeof(T));
  }

  static pynn_status shape(const pynn_call* call, std::int32_t* axes, std::int64_t* sizes) {
    return guarded(call, [&] {
      const Shape shape = make(call).shape(Inputs(*call));
      if (shape.size() > PYNN_MAX_AXES) throw ShapeError("the shape rule gave too many axes");
      *axes = static_cast<std::int32_t>(shape.size());
      for (std::size_t i = 0; i < shape.size(); ++i) sizes[i] = shape[i];
    });
  }
  static pynn_status forward(const pynn_call* call) {
    return guarded(call, [&] {
      const Op op = make(call);
      if (call->dtype == PYNN_FLOAT64)
        op.forward(Forward<double>(*call));
      else
        op.forward(Forward<float>(*call));
    });
  }
  static pynn_status backward(const pynn_call* call) {
    return guarded(call, [&] {
      const Op op = make(call);
      if (call->dtype == PYNN_FLOAT64)
        op.backward(Backward<double>(*call));
      else
        op.backward(Backward<float>(*call));
    });
  }
  static pynn_status workspace(const pynn_call* call, std::int32_t pass, std::int64_t* bytes) {
    return guarded(call, [&] {
      const Op op = make(call);
      if (call->dtype == PYNN_FLOAT64)
        *bytes = bytes_of<double>(op.template workspace<double>(Call(*call), Pass(pass)));
      else
        *bytes = bytes_of<float>(op.template workspace<float>(Call(*call), Pass(pass)));
    });
  }
  static pynn_status saved(const pynn_call* call, std::int64_t* bytes) {
    return guarded(call, [&] {
      const Op op = make(call);
      *bytes = call->dtype == PYNN_FLOAT64
                   ? bytes_of<double>(op.template saved<double>(Call(*call)))
                   : bytes_of<float>(op.template saved<float>(Call(*call)));
    });
  }
  static pynn_status flops(const pynn_call* call, std::int64_t* count) {
    return guarded(call, [&] { *count = make(call).flops(Call(*call)); });
  }
};

template <typename... Ops>
const pynn_library* library() noexcept {
  static std::string error;
  static const pynn_operator* tables[sizeof...(Ops)] = {};
  static const pynn_library made = [] {
    pynn_library l{PYNN_ABI_VERSION, 0, sizeof(pynn_library), tables, nullptr};
    try {
      std::size_t i = 0;
      ((tables[i++] = Adapter<Ops>::table()), ...);
      l.operator_count = static_cast<std::int32_t>(sizeof...(Ops));
    } catch (const std::exception& e) {
      error = e.what();
      l.error = error.c_str();
    } catch (...) {
      l.error = "describe threw something that is not a std::exception";
    }
    return l;
  }();
  return &made;
}

}  // namespace detail
}  // namespace pynn::op

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

// Once in a library, with all its operators.
#define PYNN_OPERATORS(...)                                           \
  extern "C" PYNN_EXPORT const pynn_library* pynn_get_library(void) { \
    return pynn::op::detail::library<__VA_ARGS__>();                  \
  }
