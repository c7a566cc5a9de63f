#include "cuda/plan/pass.h"

namespace pynn::cuda {
namespace {

constexpr std::int64_t kStateBytes = 256;

}  // namespace

template <typename T>
Pass<T>::Pass(const Plan<T>& plan)
    : plan_(plan),
      memory_(kStateBytes + plan.arena().bytes()),
      arena_(memory_.data() + kStateBytes),
      stored_(static_cast<std::size_t>(plan.values()), nullptr),
      state_(own_state()) {}

template <typename T>
bool Pass<T>::set_stored(int value, const T* data) {
  const T*& known = stored_[static_cast<std::size_t>(value)];
  const bool moved = known != data;
  known = data;
  return moved;
}

template <typename T>
T* Pass<T>::data(int value) const {
  const Value& v = plan_.value(value);
  if (v.stored) return const_cast<T*>(stored_[static_cast<std::size_t>(value)]);
  return reinterpret_cast<T*>(buffer(v.data));
}

template <typename T>
T* Pass<T>::gradient(int value) const {
  return reinterpret_cast<T*>(buffer(plan_.value(value).gradient));
}

template <typename T>
const char* Pass<T>::saved(std::size_t node) const {
  return buffer(plan_.buffers(node).saved);
}

template <typename T>
Call<T> Pass<T>::call(std::size_t index, cudaStream_t stream) const {
  const Node<T>& node = plan_.nodes()[index];
  Call<T> call;
  call.stream = stream;
  call.state = state_;
  call.y = data(node.y);
  call.saved = buffer(plan_.buffers(index).saved);
  for (const int input : node.inputs) call.inputs.push_back(input < 0 ? nullptr : data(input));
  return call;
}

template <typename T>
int Pass<T>::forward(int node, cudaStream_t stream) const {
  const std::size_t nodes = plan_.nodes().size();
  for (auto i = static_cast<std::size_t>(node); i < nodes; ++i) {
    if (plan_.foreign(i)) return static_cast<int>(i);
    if (plan_.nodes()[i].fused) continue;
    Call<T> c = call(i, stream);
    c.scratch = buffer(plan_.buffers(i).forward);
    const Operation<T>& operation = *plan_.nodes()[i].operation;
    if (!operation.is_view() || c.y != c.inputs[0]) operation.forward(c);
  }
  return static_cast<int>(nodes);
}

template <typename T>
int Pass<T>::backward(int node, cudaStream_t stream) const {
  for (int n = node; n >= 0; --n) {
    const auto i = static_cast<std::size_t>(n);
    if (!plan_.has_backward(i)) continue;
    if (plan_.foreign(i)) return n;
    Call<T> c = call(i, stream);
    const Node<T>& own = plan_.nodes()[i];
    c.scratch = buffer(plan_.buffers(i).backward);
    c.dy = gradient(own.y);
    c.input_activation = own.input_activation;
    bool any = false;
    for (std::size_t place = 0; place < own.inputs.size(); ++place) {
      const int input = own.inputs[place];
      const bool wanted = input >= 0 && plan_.value(input).needed;
      c.gradients.push_back(wanted ? gradient(input) : nullptr);
      c.add.push_back(wanted && plan_.written_before(i, place));
      c.in_shards.push_back(wanted && plan_.value(input).shards > 1);
      any = any || wanted;
    }
    if (any) own.operation->backward(c);
  }
  return -1;
}

template <typename T>
void Pass<T>::commit(cudaStream_t stream) const {
  for (std::size_t i = 0; i < plan_.nodes().size(); ++i)
    if (plan_.nodes()[i].operation && plan_.nodes()[i].operation->commits())
      plan_.nodes()[i].operation->commit(call(i, stream));
}

template class Pass<float>;
template class Pass<double>;

}  // namespace pynn::cuda
