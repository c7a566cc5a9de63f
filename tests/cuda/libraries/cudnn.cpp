// Stands in for NVIDIA's cuDNN. README.md says what it does and what it checks.
#include "cuda/runtime/cudnn.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <mutex>
#include <vector>

namespace pynn::cuda::dnn {

struct Context {
  cudaStream_t stream = nullptr;
};
struct Value {
  Type type;
  std::int64_t count;
  std::vector<unsigned char> bytes;
};
struct Descriptor {
  Kind kind;
  bool finalised = false, destroyed = false;
  std::map<Attribute, Value> values;
  int engine = -1;           // of an engine, a configuration, a plan
  std::vector<int> results;  // of heuristics
};

}  // namespace pynn::cuda::dnn

namespace {

using namespace pynn::cuda::dnn;  // NOLINT: their implementation

constexpr int kNotInitialized = 1001, kBadParameter = 2000, kFailed = 5000;
constexpr std::int64_t kWorkspace = 4000;  // bytes; no multiple of 256

std::mutex mutex;
long contexts = 0, plans = 0, computed[16] = {};
std::deque<Descriptor> descriptors;  // for good: what was destroyed is known when it comes back

bool refuses(const char* where) {
  const char* const at = std::getenv("PYNN_STAND_IN_REFUSES");
  return at && std::strcmp(at, where) == 0;
}

// What an engine does, which its notes say.
enum class Way { plain, tf32, other_every_time, off };
struct Engine {
  std::vector<Note> notes;
  Way way = Way::off;
  std::int64_t workspace = 0;
  bool supported = true;
};
// Those that pynn may not take come first. The numbers are those of pynn_stand_in_convolutions.
const std::vector<Engine> engines = {
    {{Note::not_deterministic}, Way::other_every_time},
    {{Note::winograd, Note::winograd_4x4}},
    {{Note::fourier}},
    {{Note::tensor_cores, Note::inputs_rounded}},
    {{Note::tensor_cores, Note::sums_rounded}},
    {{static_cast<Note>(77)}},
    {{}, Way::off, std::int64_t{1} << 50},
    {{}, Way::off, 0, false},
    {{Note::tensor_cores}, Way::tf32, kWorkspace},
    {{Note::nan_propagates}, Way::plain, kWorkspace},
};
constexpr int kPlain = 9;

// Attributes that may be set: of what, in which type, and how often.
struct Rule {
  Kind kind;
  Attribute attribute;
  Type type;
  std::int64_t least, most;
};
constexpr Rule kRules[] = {
    {Kind::tensor, Attribute::tensor_type, Type::data_type, 1, 1},
    {Kind::tensor, Attribute::tensor_sizes, Type::int64, 4, 4},
    {Kind::tensor, Attribute::tensor_strides, Type::int64, 4, 4},
    {Kind::tensor, Attribute::tensor_alignment, Type::int64, 1, 1},
    {Kind::tensor, Attribute::tensor_number, Type::int64, 1, 1},
    {Kind::convolution, Attribute::convolution_sums, Type::data_type, 1, 1},
    {Kind::convolution, Attribute::convolution_mode, Type::mode, 1, 1},
    {Kind::convolution, Attribute::convolution_dimensions, Type::int64, 1, 1},
    {Kind::convolution, Attribute::convolution_dilations, Type::int64, 2, 2},
    {Kind::convolution, Attribute::convolution_strides, Type::int64, 2, 2},
    {Kind::convolution, Attribute::convolution_before, Type::int64, 2, 2},
    {Kind::convolution, Attribute::convolution_after, Type::int64, 2, 2},
    {Kind::forward, Attribute::forward_alpha, Type::float32, 1, 1},
    {Kind::forward, Attribute::forward_beta, Type::float32, 1, 1},
    {Kind::forward, Attribute::forward_convolution, Type::descriptor, 1, 1},
    {Kind::forward, Attribute::forward_w, Type::descriptor, 1, 1},
    {Kind::forward, Attribute::forward_x, Type::descriptor, 1, 1},
    {Kind::forward, Attribute::forward_y, Type::descriptor, 1, 1},
    {Kind::backward_input, Attribute::backward_input_alpha, Type::float32, 1, 1},
    {Kind::backward_input, Attribute::backward_input_beta, Type::float32, 1, 1},
    {Kind::backward_input, Attribute::backward_input_convolution, Type::descriptor, 1, 1},
    {Kind::backward_input, Attribute::backward_input_w, Type::descriptor, 1, 1},
    {Kind::backward_input, Attribute::backward_input_dx, Type::descriptor, 1, 1},
    {Kind::backward_input, Attribute::backward_input_dy, Type::descriptor, 1, 1},
    {Kind::backward_weight, Attribute::backward_weight_alpha, Type::float32, 1, 1},
    {Kind::backward_weight, Attribute::backward_weight_beta, Type::float32, 1, 1},
    {Kind::backward_weight, Attribute::backward_weight_convolution, Type::descriptor, 1, 1},
    {Kind::backward_weight, Attribute::backward_weight_dw, Type::descriptor, 1, 1},
    {Kind::backward_weight, Attribute::backward_weight_x, Type::descriptor, 1, 1},
    {Kind::backward_weight, Attribute::backward_weight_dy, Type::descriptor, 1, 1},
    {Kind::graph, Attribute::graph_context, Type::context, 1, 1},
    {Kind::graph, Attribute::graph_operations, Type::descriptor, 1, 1},
    {Kind::heuristics, Attribute::heuristics_graph, Type::descriptor, 1, 1},
    {Kind::heuristics, Attribute::heuristics_mode, Type::heuristics, 1, 1},
    {Kind::plan, Attribute::plan_context, Type::context, 1, 1},
    {Kind::plan, Attribute::plan_configuration, Type::descriptor, 1, 1},
    {Kind::pack, Attribute::pack_numbers, Type::int64, 3, 3},
    {Kind::pack, Attribute::pack_pointers, Type::pointer, 3, 3},
    {Kind::pack, Attribute::pack_workspace, Type::pointer, 1, 1},
};

std::size_t bytes_of(Type type) {
  switch (type) {
    case Type::data_type:
    case Type::float32:
    case Type::mode:
    case Type::heuristics:
    case Type::note:
      return 4;
    default:
      return 8;
  }
}

template <typename T, std::size_t count = 1>
std::array<T, count> get(const Descriptor* from, Attribute attribute) {
  std::array<T, count> values{};
  std::memcpy(values.data(), from->values.at(attribute).bytes.data(), sizeof values);
  return values;
}
Descriptor* part(const Descriptor* of, Attribute attribute) {
  return get<Descriptor*>(of, attribute)[0];
}

bool usable(const Descriptor* each, Kind kind) {
  return each && !each->destroyed && each->finalised && each->kind == kind;
}

struct Tensor {
  std::array<std::int64_t, 4> sizes, strides;
  DataType type;
  std::int64_t alignment, number;
  explicit Tensor(const Descriptor* from)
      : sizes(get<std::int64_t, 4>(from, Attribute::tensor_sizes)),
        strides(get<std::int64_t, 4>(from, Attribute::tensor_strides)),
        type(get<DataType>(from, Attribute::tensor_type)[0]),
        alignment(get<std::int64_t>(from, Attribute::tensor_alignment)[0]),
        number(get<std::int64_t>(from, Attribute::tensor_number)[0]) {}
  bool valid() const {
    std::int64_t stride = 1;
    for (std::size_t axis = 4; axis-- > 0; stride *= sizes[axis])
      if (sizes[axis] < 1 || strides[axis] != stride) return false;
    const std::int64_t each = type == DataType::float64 ? 8 : 4;
    return alignment > 0 && alignment % each == 0 && number > 0;
  }
  std::int64_t count() const { return sizes[0] * strides[0]; }
};

// One of the three, by what an operation says.
struct Convolution {
  Kind kind;
  Tensor x, w, y;
  DataType sums;
  std::array<std::int64_t, 2> dilation, stride, before, after;
  double alpha, beta;
  bool typed;  // alpha and beta are of the type of the sums

  Convolution(const Descriptor* o, Attribute geometry, Attribute x_, Attribute w_, Attribute y_,
              Attribute alpha_, Attribute beta_)
      : kind(o->kind),
        x(part(o, x_)),
        w(part(o, w_)),
        y(part(o, y_)),
        sums(get<DataType>(part(o, geometry), Attribute::convolution_sums)[0]),
        dilation(pair(o, geometry, Attribute::convolution_dilations)),
        stride(pair(o, geometry, Attribute::convolution_strides)),
        before(pair(o, geometry, Attribute::convolution_before)),
        after(pair(o, geometry, Attribute::convolution_after)),
        alpha(number(o, alpha_)),
        beta(number(o, beta_)),
        typed(o->values.at(alpha_).type == o->values.at(beta_).type &&
              (o->values.at(alpha_).type == Type::float64) == (sums == DataType::float64)) {}

  static std::array<std::int64_t, 2> pair(const Descriptor* o, Attribute geometry,
                                          Attribute attribute) {
    return get<std::int64_t, 2>(part(o, geometry), attribute);
  }
  static double number(const Descriptor* o, Attribute attribute) {
    return o->values.at(attribute).type == Type::float64 ? get<double>(o, attribute)[0]
                                                         : get<float>(o, attribute)[0];
  }
  const Tensor& result() const {
    return kind == Kind::forward ? y : kind == Kind::backward_input ? x : w;
  }
  bool valid() const {
    if (!typed || x.type != sums || w.type != sums || y.type != sums) return false;
    if (x.number == w.number || w.number == y.number || x.number == y.number) return false;
    if (x.sizes[1] % w.sizes[1] != 0) return false;
    const std::int64_t groups = x.sizes[1] / w.sizes[1];
    if (w.sizes[0] % groups != 0 || y.sizes[1] != w.sizes[0] || y.sizes[0] != x.sizes[0])
      return false;
    for (std::size_t i = 0; i < 2; ++i) {
      if (dilation[i] < 1 || stride[i] < 1 || before[i] < 0 || after[i] < 0) return false;
      const std::int64_t room =
          x.sizes[2 + i] + before[i] + after[i] - dilation[i] * (w.sizes[2 + i] - 1) - 1;
      if (room < 0 || y.sizes[2 + i] != room / stride[i] + 1) return false;
    }
    return true;
  }
};

Convolution read_convolution(const Descriptor* o) {
  using A = Attribute;
  if (o->kind == Kind::forward)
    return Convolution(o, A::forward_convolution, A::forward_x, A::forward_w, A::forward_y,
                       A::forward_alpha, A::forward_beta);
  if (o->kind == Kind::backward_input)
    return Convolution(o, A::backward_input_convolution, A::backward_input_dx, A::backward_input_w,
                       A::backward_input_dy, A::backward_input_alpha, A::backward_input_beta);
  return Convolution(o, A::backward_weight_convolution, A::backward_weight_x, A::backward_weight_dw,
                     A::backward_weight_dy, A::backward_weight_alpha, A::backward_weight_beta);
}

Descriptor* operation_of(const Descriptor* plan) {
  const Descriptor* const configuration = part(plan, Attribute::plan_configuration);
  const Descriptor* const graph = part(configuration, Attribute::heuristics_graph);
  return part(graph, Attribute::graph_operations);
}

// To nearest, ties away from zero.
float rounded(float x) {
  std::uint32_t bits;
  if (!std::isfinite(x)) return x;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x1000u) & 0xffffe000u;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}
double rounded(double x) { return x; }

template <typename T>
struct Work {
  Convolution c;
  int engine;
  T *x, *w, *y;  // one of them is written
  void* workspace;

  static void run(void* self) { static_cast<const Work*>(self)->compute(); }
  void compute() const {
    overwrite_workspace();
    const Engine& made = engines[static_cast<std::size_t>(engine)];
    T* const result = c.kind == Kind::forward ? y : c.kind == Kind::backward_input ? x : w;
    std::vector<T> sums(static_cast<std::size_t>(c.result().count()), T(0));
    const auto read = [&](T value) { return made.way == Way::tf32 ? rounded(value) : value; };
    const std::int64_t groups = c.x.sizes[1] / c.w.sizes[1], outputs = c.y.sizes[1] / groups;
    for (std::int64_t n = 0; n < c.y.sizes[0]; ++n)
      for (std::int64_t o = 0; o < c.y.sizes[1]; ++o)
        for (std::int64_t i = 0; i < c.w.sizes[1]; ++i)
          for (std::int64_t kh = 0; kh < c.w.sizes[2]; ++kh)
            for (std::int64_t kw = 0; kw < c.w.sizes[3]; ++kw)
              for (std::int64_t oh = 0; oh < c.y.sizes[2]; ++oh)
                for (std::int64_t ow = 0; ow < c.y.sizes[3]; ++ow) {
                  const std::int64_t h = oh * c.stride[0] - c.before[0] + kh * c.dilation[0];
                  const std::int64_t v = ow * c.stride[1] - c.before[1] + kw * c.dilation[1];
                  if (h < 0 || h >= c.x.sizes[2] || v < 0 || v >= c.x.sizes[3]) continue;
                  const std::int64_t channel = o / outputs * c.w.sizes[1] + i;
                  const std::int64_t at_x =
                      n * c.x.strides[0] + channel * c.x.strides[1] + h * c.x.strides[2] + v;
                  const std::int64_t at_w =
                      o * c.w.strides[0] + i * c.w.strides[1] + kh * c.w.strides[2] + kw;
                  const std::int64_t at_y =
                      n * c.y.strides[0] + o * c.y.strides[1] + oh * c.y.strides[2] + ow;
                  if (c.kind == Kind::forward)
                    sums[static_cast<std::size_t>(at_y)] += read(x[at_x]) * read(w[at_w]);
                  else if (c.kind == Kind::backward_input)
                    sums[static_cast<std::size_t>(at_x)] += read(y[at_y]) * read(w[at_w]);
                  else
                    sums[static_cast<std::size_t>(at_w)] += read(y[at_y]) * read(x[at_x]);
                }
    const std::lock_guard<std::mutex> lock(mutex);
    const long run = computed[engine]++;
    T wrong = 1;
    if (made.way == Way::off) wrong = T(1.5);
    if (made.way == Way::other_every_time) wrong += std::numeric_limits<T>::epsilon() * T(run % 8);
    for (std::size_t j = 0; j < sums.size(); ++j)
      result[j] = static_cast<T>(c.alpha) * sums[j] * wrong +
                  (c.beta == 0 ? T(0) : static_cast<T>(c.beta) * result[j]);
    overwrite_workspace();
  }
  void overwrite_workspace() const {
    const std::int64_t bytes = engines[static_cast<std::size_t>(engine)].workspace;
    if (bytes) std::memset(workspace, 0xff, static_cast<std::size_t>(bytes));
  }
};

// Kept for as long as a graph may have them.
template <typename T>
Work<T>* keep(const Work<T>& work) {
  static std::deque<Work<T>> all;
  const std::lock_guard<std::mutex> lock(mutex);
  all.push_back(work);
  return &all.back();
}

// The run time is in the library that calls.
using Submit = int (*)(cudaStream_t, void (*)(void*), void*);
Submit find_submit(const void* caller) {
  Dl_info info{};
  if (!dladdr(caller, &info)) return nullptr;
  void* const library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  return library ? reinterpret_cast<Submit>(dlsym(library, "pynn_emulator_submit")) : nullptr;
}

bool aligned(const void* pointer, std::int64_t bytes) {
  return pointer &&
         reinterpret_cast<std::uintptr_t>(pointer) % static_cast<std::uintptr_t>(bytes) == 0;
}

bool complete(const Descriptor* each) {
  return std::all_of(std::begin(kRules), std::end(kRules), [each](const Rule& rule) {
    return rule.kind != each->kind || each->values.count(rule.attribute);
  });
}

int finalise(Descriptor* each) {
  if (!complete(each)) return kBadParameter;
  switch (each->kind) {
    case Kind::tensor:
      return Tensor(each).valid() ? kSuccess : kBadParameter;
    case Kind::convolution: {
      const auto mode = get<Mode>(each, Attribute::convolution_mode)[0];
      const auto dimensions = get<std::int64_t>(each, Attribute::convolution_dimensions)[0];
      return mode == Mode::cross_correlation && dimensions == 2 ? kSuccess : kBadParameter;
    }
    case Kind::forward:
    case Kind::backward_input:
    case Kind::backward_weight:
      return read_convolution(each).valid() ? kSuccess : kBadParameter;
    case Kind::graph:
      return refuses("describe") ? kNotSupported : kSuccess;
    case Kind::heuristics: {
      if (refuses("choose")) return kSuccess;  // with no result
      // The plain engine is among the first of a forward convolution alone.
      const bool forward =
          part(part(each, Attribute::heuristics_graph), Attribute::graph_operations)->kind ==
          Kind::forward;
      const bool ranked =
          get<Heuristics>(each, Attribute::heuristics_mode)[0] == Heuristics::ranked;
      for (int engine = 0; engine <= kPlain; ++engine)
        if (engine != kPlain || forward || !ranked) each->results.push_back(engine);
      return kSuccess;
    }
    case Kind::plan: {
      const Descriptor* const configuration = part(each, Attribute::plan_configuration);
      each->engine = configuration->engine;
      if (refuses("build") || !engines[static_cast<std::size_t>(each->engine)].supported)
        return kNotSupported + 1;
      ++plans;
      return kSuccess;
    }
    case Kind::pack:
      return kSuccess;
    default:
      return kNotSupported;
  }
}

// Which kind of descriptor an attribute wants.
bool wanted_kind(Attribute attribute, Kind kind) {
  switch (attribute) {
    case Attribute::forward_convolution:
    case Attribute::backward_input_convolution:
    case Attribute::backward_weight_convolution:
      return kind == Kind::convolution;
    case Attribute::graph_operations:
      return kind == Kind::forward || kind == Kind::backward_input || kind == Kind::backward_weight;
    case Attribute::heuristics_graph:
      return kind == Kind::graph;
    case Attribute::plan_configuration:
      return kind == Kind::configuration;
    default:
      return kind == Kind::tensor;
  }
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT std::size_t cudnnGetVersion() { return 90100; }
// How many convolutions an engine has computed.
EXPORT long pynn_stand_in_convolutions(int engine) { return computed[engine]; }
EXPORT long pynn_stand_in_plans() { return plans; }
EXPORT long pynn_stand_in_contexts() { return contexts; }

EXPORT int cudnnCreate(Context** context) {
  if (refuses("create")) return kNotInitialized;
  *context = new Context;
  ++contexts;
  return kSuccess;
}

EXPORT int cudnnSetStream(Context* context, cudaStream_t stream) {
  if (!context || !stream) return kBadParameter;
  context->stream = stream;
  return kSuccess;
}

EXPORT int cudnnBackendCreateDescriptor(Kind kind, Descriptor** descriptor) {
  const std::lock_guard<std::mutex> lock(mutex);
  descriptors.push_back({});
  descriptors.back().kind = kind;
  *descriptor = &descriptors.back();
  return kSuccess;
}

EXPORT int cudnnBackendDestroyDescriptor(Descriptor* descriptor) {
  if (!descriptor || descriptor->destroyed) std::abort();
  descriptor->destroyed = true;
  return kSuccess;
}

EXPORT int cudnnBackendSetAttribute(Descriptor* descriptor, Attribute attribute, Type type,
                                    std::int64_t count, const void* values) {
  if (!descriptor || descriptor->destroyed || descriptor->finalised || !values)
    return kBadParameter;
  const bool factor =
      attribute == Attribute::forward_alpha || attribute == Attribute::forward_beta ||
      attribute == Attribute::backward_input_alpha || attribute == Attribute::backward_input_beta ||
      attribute == Attribute::backward_weight_alpha || attribute == Attribute::backward_weight_beta;
  const auto* const rule =
      std::find_if(std::begin(kRules), std::end(kRules), [&](const Rule& each) {
        return each.kind == descriptor->kind && each.attribute == attribute &&
               (each.type == type || (factor && type == Type::float64));
      });
  if (rule == std::end(kRules) || count < rule->least || count > rule->most) return kBadParameter;
  if (type == Type::descriptor) {
    const auto* const parts = static_cast<Descriptor* const*>(values);
    for (std::int64_t i = 0; i < count; ++i)
      if (!parts[i] || !usable(parts[i], parts[i]->kind) || !wanted_kind(attribute, parts[i]->kind))
        return kBadParameter;
  }
  const auto* const bytes = static_cast<const unsigned char*>(values);
  const std::size_t size = static_cast<std::size_t>(count) * bytes_of(type);
  descriptor->values[attribute] = {type, count, {bytes, bytes + size}};
  return kSuccess;
}

EXPORT int cudnnBackendFinalize(Descriptor* descriptor) {
  if (!descriptor || descriptor->destroyed || descriptor->finalised) return kBadParameter;
  const int status = finalise(descriptor);
  descriptor->finalised = status == kSuccess;
  return status;
}

EXPORT int cudnnBackendGetAttribute(Descriptor* descriptor, Attribute attribute, Type type,
                                    std::int64_t wanted, std::int64_t* count, void* to) {
  if (!descriptor || descriptor->destroyed || !descriptor->finalised || !count || wanted < 0)
    return kBadParameter;
  const auto room = static_cast<std::size_t>(wanted);
  if (descriptor->kind == Kind::heuristics && attribute == Attribute::heuristics_results &&
      type == Type::descriptor) {
    const std::vector<int>& results = descriptor->results;
    *count = static_cast<std::int64_t>(results.size());
    for (std::size_t i = 0; i < std::min(room, results.size()); ++i) {
      Descriptor* const each = static_cast<Descriptor**>(to)[i];
      if (!each || each->destroyed || each->finalised || each->kind != Kind::configuration)
        return kBadParameter;
      each->engine = results[i];
      each->values[Attribute::heuristics_graph] =
          descriptor->values.at(Attribute::heuristics_graph);
      each->finalised = true;
    }
    return kSuccess;
  }
  if (descriptor->kind == Kind::configuration && attribute == Attribute::configuration_engine &&
      type == Type::descriptor && wanted == 1) {
    Descriptor* const engine = *static_cast<Descriptor**>(to);
    if (!engine || engine->destroyed || engine->finalised || engine->kind != Kind::engine)
      return kBadParameter;
    engine->engine = descriptor->engine;
    engine->finalised = true;
    *count = 1;
    return kSuccess;
  }
  if (descriptor->kind == Kind::engine && attribute == Attribute::engine_notes &&
      type == Type::note) {
    const std::vector<Note>& notes = engines[static_cast<std::size_t>(descriptor->engine)].notes;
    *count = static_cast<std::int64_t>(notes.size());
    std::copy_n(notes.begin(), std::min(room, notes.size()), static_cast<Note*>(to));
    return kSuccess;
  }
  if (descriptor->kind == Kind::plan && attribute == Attribute::plan_workspace &&
      type == Type::int64 && wanted == 1) {
    *count = 1;
    *static_cast<std::int64_t*>(to) =
        engines[static_cast<std::size_t>(descriptor->engine)].workspace;
    return kSuccess;
  }
  return kBadParameter;
}

EXPORT int cudnnBackendExecute(Context* context, Descriptor* plan, Descriptor* pack) {
  if (refuses("run")) return kNotSupported;
  if (refuses("fail")) return kFailed;
  if (!context || !context->stream || !usable(plan, Kind::plan) || !usable(pack, Kind::pack) ||
      get<Context*>(plan, Attribute::plan_context)[0] != context)
    return kBadParameter;
  // Whether a plan may outlive what it was made of is not said: here it may not.
  const Descriptor* const configuration = part(plan, Attribute::plan_configuration);
  const Descriptor* const graph = part(configuration, Attribute::heuristics_graph);
  const Descriptor* const operation = operation_of(plan);
  if (!usable(configuration, Kind::configuration) || !usable(graph, Kind::graph) ||
      operation->destroyed)
    return kBadParameter;
  for (const auto& [attribute, value] : operation->values)
    if (value.type == Type::descriptor && part(operation, attribute)->destroyed)
      return kBadParameter;
  const Convolution c = read_convolution(operation);
  const auto numbers = get<std::int64_t, 3>(pack, Attribute::pack_numbers);
  const auto pointers = get<void*, 3>(pack, Attribute::pack_pointers);
  void* const workspace = get<void*>(pack, Attribute::pack_workspace)[0];
  const auto find = [&](const Tensor& tensor) -> void* {
    const auto* const at = std::find(numbers.begin(), numbers.end(), tensor.number);
    if (at == numbers.end()) return nullptr;
    void* const pointer = pointers[static_cast<std::size_t>(at - numbers.begin())];
    return aligned(pointer, tensor.alignment) ? pointer : nullptr;
  };
  void *const x = find(c.x), *const w = find(c.w), *const y = find(c.y);
  if (!x || !w || !y || x == w || w == y || x == y) return kBadParameter;
  if (engines[static_cast<std::size_t>(plan->engine)].workspace && !aligned(workspace, 256))
    return kBadParameter;
  const Submit submit = find_submit(__builtin_return_address(0));
  if (!submit) return kNotInitialized;
  const auto launch = [&](auto zero) {
    using T = decltype(zero);
    return submit(context->stream, &Work<T>::run,
                  keep(Work<T>{c, plan->engine, static_cast<T*>(x), static_cast<T*>(w),
                               static_cast<T*>(y), workspace}));
  };
  return c.sums == DataType::float64 ? launch(0.0) : launch(0.0f);
}
