#include "plan/conv2d_call.h"

#include <algorithm>
#include <array>
#include <list>
#include <memory>
#include <utility>

#include "plan/conv2d_stage.h"
#include "plan/kernel_columns.h"
#include "plan/plan.h"
#include "plan/winograd.h"
#include "threaded/conv2d.h"

namespace pynn::planned {
namespace {

// The values of the graph.
constexpr int kX = 0, kW = 1, kB = 2, kY = 3;

// What a call computes: y, or some gradients.
struct Wanted {
  bool bias = false;  // of y
  bool dx = false, dw = false, db = false;
  bool backward() const { return dx || dw || db; }
};

// Whether turning samples into lanes, and back, costs less than it gains; as measured beside the
// kernels on arrays.
bool in_blocks(const Conv2dShape& s, bool backward) {
  constexpr std::int64_t kLeastWork = 1 << 20, kMostElements = 1 << 23;
  constexpr std::int64_t kReuse = 200;  // floating-point operations for each element
  const Window& w = s.window;
  const std::int64_t lanes = (s.N + kBlockLanes - 1) / kBlockLanes * kBlockLanes;
  const std::int64_t elements = s.N * (s.C * w.H * w.W + s.O * w.OH * w.OW);
  const std::int64_t work = threaded::work_of(s);
  if (!has_small_halo(s)) return false;
  Layout x = layout_of({s.N, s.C, w.H, w.W}, kBlockLanes);
  add_halo(s, x);
  return s.N >= kBlockLanes && x.size() <= 4 * kMostElements && 5 * s.N >= 4 * lanes &&
         s.groups == 1 && work >= kLeastWork && elements <= kMostElements &&
         ((backward && w.KH * w.KW > 1) || work >= kReuse * elements || KernelColumns::suits(s));
}

PlanGraph graph_of(const Conv2dShape& s, const Wanted& wanted, bool winograd) {
  const Window& window = s.window;
  PlanGraph graph;
  graph.shapes = {{s.N, s.C, window.H, window.W},
                  {s.O, s.C / s.groups, window.KH, window.KW},
                  {s.O},
                  {s.N, s.O, window.OH, window.OW}};
  graph.stored = {0, 1, 1, 0};
  if (wanted.backward()) graph.needed = {wanted.dx, wanted.dw, wanted.db, true};
  graph.inputs = {kX};
  Conv2dNode node;
  node.shape = s;
  node.x = kX, node.w = kW, node.y = kY;
  node.b = wanted.bias || wanted.db ? kB : -1;
  graph.nodes = {node};
  graph.output = kY;
  graph.winograd = winograd;
  return graph;
}

using Key = std::array<std::int64_t, 24>;

Key key_of(const Conv2dShape& s, const Wanted& wanted, bool winograd) {
  const Window& w = s.window;
  return {s.N,           s.C,         s.O,       s.groups,  w.H,          w.W,
          w.KH,          w.KW,        w.OH,      w.OW,      w.stride_h,   w.stride_w,
          w.top,         w.bottom,    w.left,    w.right,   w.dilation_h, w.dilation_w,
          num_threads(), wanted.bias, wanted.dx, wanted.dw, wanted.db,    winograd};
}

// Plans of the latest calls of a thread, the latest first, each with its memory as long as there is
// not too much of that.
template <typename T>
class Plans {
 public:
  struct Entry {
    Entry(const Key& key, PlanGraph graph) : key(key), plan(std::move(graph)) {}
    const Key key;
    const Plan<T> plan;
    std::unique_ptr<Memory> memory;
  };

  Entry& find(const Conv2dShape& s, const Wanted& wanted) {
    const bool winograd = winograd_enabled();
    const Key key = key_of(s, wanted, winograd);
    const auto known = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const Entry& entry) { return entry.key == key; });
    if (known == entries_.end())
      entries_.emplace_front(key, graph_of(s, wanted, winograd));
    else
      entries_.splice(entries_.begin(), entries_, known);
    if (entries_.size() > kMostEntries) entries_.pop_back();
    return entries_.front();
  }

  void limit_memory() {
    std::int64_t kept = 0;
    for (Entry& entry : entries_)
      if (entry.memory && (kept += entry.plan.bytes()) > kMostBytes) {
        kept -= entry.plan.bytes();
        entry.memory.reset();
      }
  }

 private:
  static constexpr std::size_t kMostEntries = 32;
  static constexpr std::int64_t kMostBytes = 64 << 20;
  std::list<Entry> entries_;
};

template <typename T>
Plans<T>& plans() {
  thread_local Plans<T> of_thread;
  return of_thread;
}

// Calls pass(plan, run) with a plan and its memory.
template <typename T, typename Pass>
void with_plan(const Conv2dShape& s, const Wanted& wanted, const Pass& pass) {
  auto& entry = plans<T>().find(s, wanted);
  if (!entry.memory) entry.memory = entry.plan.allocate();
  Run<T> run = entry.plan.start(*entry.memory);
  pass(entry.plan, run);
  plans<T>().limit_memory();
}

}  // namespace

template <typename T>
void conv2d(const Conv2dShape& s, const T* x, const T* w, const T* b, T* y) {
  if (!in_blocks(s, false)) return threaded::conv2d(s, x, w, b, y);
  Wanted wanted;
  wanted.bias = b != nullptr;
  with_plan<T>(s, wanted, [&](const Plan<T>& plan, Run<T>& run) {
    run.stored[kW] = w, run.stored[kB] = b;
    plan.set_input(run, kX, x);
    plan.forward(run, 0);
    plan.read(run, kY, y);
  });
}

template <typename T>
void conv2d_backward(const Conv2dShape& s, const T* dy, const T* x, const T* w, T* dx, T* dw,
                     T* db) {
  const Wanted wanted{false, dx != nullptr, dw != nullptr, db != nullptr};
  if (!wanted.backward()) return;
  if (!in_blocks(s, true)) return threaded::conv2d_backward(s, dy, x, w, dx, dw, db);
  with_plan<T>(s, wanted, [&](const Plan<T>& plan, Run<T>& run) {
    run.stored[kW] = w;
    run.gradients[kW] = dw, run.gradients[kB] = db;
    if (dw) plan.set_input(run, kX, x);
    plan.write_gradient(run, kY, dy, false);
    plan.backward(run, 0);
    if (dx) plan.read_gradient(run, kX, dx);
  });
}

#define PYNN_INSTANTIATE(T)                                                   \
  template void conv2d(const Conv2dShape&, const T*, const T*, const T*, T*); \
  template void conv2d_backward(const Conv2dShape&, const T*, const T*, const T*, T*, T*, T*);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)
#undef PYNN_INSTANTIATE

}  // namespace pynn::planned
