// Operators that break one promise each; opcheck must say which.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <pynn/op.hpp>

namespace {

using pynn::op::Backward;
using pynn::op::Description;
using pynn::op::Forward;
using pynn::op::Inputs;
using pynn::op::Shape;

// y = x^2, right. Each operator below changes one thing.
template <typename Op>
struct Square {
  static void describe(Description<Op>& d) {
    d.name(Op::kName).per_sample().backward_reads_inputs();
    d.input("x");
    d.sample("rows", "(4, 3, 5)");
  }
  template <typename T>
  void forward(const Forward<T>& call) const {
    const auto x = call.input(0);
    const auto y = call.y();
    for (std::int64_t i = 0; i < x.size(); ++i) y[i] = x[i] * x[i];
  }
  template <typename T>
  void backward(const Backward<T>& call) const {
    const auto x = call.input(0), dy = call.dy();
    const auto dx = call.gradient(0);
    for (std::int64_t i = 0; i < x.size(); ++i) dx[i] = 2 * x[i] * dy[i];
  }
};

struct Right : Square<Right> {
  static constexpr const char* kName = "right_square";
};

struct WritesBehind : Square<WritesBehind> {
  static constexpr const char* kName = "writes_behind";
  template <typename T>
  void forward(const Forward<T>& call) const {
    Square::forward(call);
    call.y()[call.y().size()] = 1;
  }
};

struct WritesBefore : Square<WritesBefore> {
  static constexpr const char* kName = "writes_before";
  template <typename T>
  void backward(const Backward<T>& call) const {
    Square::backward(call);
    call.gradient(0)[-1] = 1;
  }
};

struct ReadsBehind : Square<ReadsBehind> {
  static constexpr const char* kName = "reads_behind";
  template <typename T>
  void forward(const Forward<T>& call) const {
    Square::forward(call);
    const auto x = call.input(0);
    if (x[x.size()] == T(12345)) call.y()[0] = 0;
  }
};

struct WritesInput : Square<WritesInput> {
  static constexpr const char* kName = "writes_input";
  template <typename T>
  void forward(const Forward<T>& call) const {
    Square::forward(call);
    const_cast<T&>(call.input(0)[0]) = 0;
  }
};

struct LeavesOne : Square<LeavesOne> {
  static constexpr const char* kName = "leaves_one";
  template <typename T>
  void forward(const Forward<T>& call) const {
    const auto x = call.input(0);
    const auto y = call.y();
    for (std::int64_t i = 0; i + 1 < x.size(); ++i) y[i] = x[i] * x[i];
  }
};

struct AddsToGradient : Square<AddsToGradient> {
  static constexpr const char* kName = "adds_to_gradient";
  template <typename T>
  void backward(const Backward<T>& call) const {
    const auto x = call.input(0), dy = call.dy();
    const auto dx = call.gradient(0);
    for (std::int64_t i = 0; i < x.size(); ++i) dx[i] += 2 * x[i] * dy[i];
  }
};

struct WrongGradient : Square<WrongGradient> {
  static constexpr const char* kName = "wrong_gradient";
  template <typename T>
  void backward(const Backward<T>& call) const {
    const auto x = call.input(0), dy = call.dy();
    const auto dx = call.gradient(0);
    for (std::int64_t i = 0; i < x.size(); ++i) dx[i] = (i == 7 ? 3 : 2) * x[i] * dy[i];
  }
};

struct Throws : Square<Throws> {
  static constexpr const char* kName = "throws";
  template <typename T>
  void forward(const Forward<T>&) const {
    throw std::runtime_error("out of luck");
  }
};

struct ThrowsInThread : Square<ThrowsInThread> {
  static constexpr const char* kName = "throws_in_thread";
  template <typename T>
  void backward(const Backward<T>& call) const {
    call.parallel_for(100, 1 << 20, [](std::int64_t, std::int64_t) { throw 7; });
  }
};

struct GivesNan : Square<GivesNan> {
  static constexpr const char* kName = "gives_nan";
  template <typename T>
  void forward(const Forward<T>& call) const {
    const auto x = call.input(0);
    const auto y = call.y();
    for (std::int64_t i = 0; i < x.size(); ++i) y[i] = std::sqrt(x[i] - 10);
  }
};

struct ShapeTooLarge : Square<ShapeTooLarge> {
  static constexpr const char* kName = "shape_too_large";
  Shape shape(const Inputs& inputs) const {
    Shape x = inputs[0];
    ++x.back();
    return x;
  }
};

struct ShapeTooSmall : Square<ShapeTooSmall> {
  static constexpr const char* kName = "shape_too_small";
  Shape shape(const Inputs& inputs) const {
    Shape x = inputs[0];
    --x.back();
    return x;
  }
};

struct ShapeNegative : Square<ShapeNegative> {
  static constexpr const char* kName = "shape_negative";
  Shape shape(const Inputs& inputs) const { return {inputs[0][0], -3}; }
};

struct ShapeOtherBatch : Square<ShapeOtherBatch> {
  static constexpr const char* kName = "shape_other_batch";
  Shape shape(const Inputs&) const { return {1, 2}; }
};

struct MixesSamples : Square<MixesSamples> {
  static constexpr const char* kName = "mixes_samples";
  template <typename T>
  void forward(const Forward<T>& call) const {
    Square::forward(call);
    const auto x = call.input(0);
    if (x.size() > 0) call.y()[0] += x[x.size() - 1];
  }
  template <typename T>
  void backward(const Backward<T>& call) const {
    Square::backward(call);
    const auto dx = call.gradient(0);
    if (dx.size() > 0) dx[dx.size() - 1] += call.dy()[0];
  }
};

struct Imprecise : Square<Imprecise> {
  static constexpr const char* kName = "imprecise";
  template <typename T>
  void forward(const Forward<T>& call) const {
    Square::forward(call);
    if (sizeof(T) == 4)
      for (T& y : call.y()) y = std::round(y * 1000) / 1000;
  }
};

struct CountsThreads : Square<CountsThreads> {
  static constexpr const char* kName = "counts_threads";
  template <typename T>
  void forward(const Forward<T>& call) const {
    Square::forward(call);
    if (call.host().num_threads() > 4 && call.y().size() > 0) call.y()[1] += T(1e-3);
  }
};

struct CountsCalls : Square<CountsCalls> {
  static constexpr const char* kName = "counts_calls";
  template <typename T>
  void forward(const Forward<T>& call) const {
    static T calls = 0;
    Square::forward(call);
    if (call.y().size() > 0) call.y()[2] += (calls += 1);
  }
};

struct Aborts : Square<Aborts> {
  static constexpr const char* kName = "aborts";
  template <typename T>
  void forward(const Forward<T>&) const {
    std::abort();
  }
};

struct RefusesNothing : Square<RefusesNothing> {
  static constexpr const char* kName = "fails_without_samples";
  template <typename T>
  void backward(const Backward<T>& call) const {
    if (call.dy().size() == 0) throw std::runtime_error("there is nothing");
    Square::backward(call);
  }
};

struct Neighbours {  // says that it is pointwise
  static void describe(Description<Neighbours>& d) {
    d.name("neighbours").pointwise();
    d.input("x");
    d.sample("rows", "(4, 3, 5)");
  }
  template <typename T>
  void forward(const Forward<T>& call) const {
    const auto x = call.input(0);
    for (std::int64_t i = 0; i < x.size(); ++i) call.y()[i] = x[i] + (i > 0 ? x[i - 1] : T(0));
  }
  template <typename T>
  void backward(const Backward<T>& call) const {
    const auto dy = call.dy();
    for (std::int64_t i = 0; i < dy.size(); ++i)
      call.gradient(0)[i] = dy[i] + (i + 1 < dy.size() ? dy[i + 1] : T(0));
  }
};

struct RefusesNot : Square<RefusesNot> {
  static constexpr const char* kName = "refuses_not";
  static void describe(Description<RefusesNot>& d) {
    Square::describe(d);
    d.refusal("one_axis", "(5,)", "", "at least two axes");
  }
};

struct RefusesInOtherWords : Square<RefusesInOtherWords> {
  static constexpr const char* kName = "refuses_in_other_words";
  static void describe(Description<RefusesInOtherWords>& d) {
    Square::describe(d);
    d.refusal("one_axis", "(5,)", "", "at least two axes");
  }
  Shape shape(const Inputs& inputs) const {
    if (inputs[0].size() < 2) throw pynn::op::ShapeError("no");
    return inputs[0];
  }
};

struct SmallWorkspace : Square<SmallWorkspace> {
  static constexpr const char* kName = "small_workspace";
  template <typename T>
  std::int64_t workspace(const pynn::op::Call&, pynn::op::Pass) const {
    return 8;
  }
  template <typename T>
  void forward(const Forward<T>& call) const {
    Square::forward(call);
    call.workspace()[8] = 1;
  }
};

struct KeepsInWorkspace : Square<KeepsInWorkspace> {  // what only `saved` keeps
  static constexpr const char* kName = "keeps_in_workspace";
  template <typename T>
  std::int64_t workspace(const pynn::op::Call&, pynn::op::Pass) const {
    return 16;
  }
  template <typename T>
  void forward(const Forward<T>& call) const {
    Square::forward(call);
    call.workspace()[0] = 2;
  }
  template <typename T>
  void backward(const Backward<T>& call) const {
    const auto x = call.input(0), dy = call.dy();
    for (std::int64_t i = 0; i < x.size(); ++i)
      call.gradient(0)[i] = call.workspace()[0] * x[i] * dy[i];
  }
};

}  // namespace

PYNN_OPERATORS(Right, WritesBehind, WritesBefore, ReadsBehind, WritesInput, LeavesOne,
               AddsToGradient, WrongGradient, Throws, ThrowsInThread, GivesNan, ShapeTooLarge,
               ShapeTooSmall, ShapeNegative, ShapeOtherBatch, MixesSamples, Imprecise,
               CountsThreads, CountsCalls, Aborts, RefusesNothing, Neighbours, RefusesNot,
               RefusesInOtherWords, SmallWorkspace, KeepsInWorkspace)
