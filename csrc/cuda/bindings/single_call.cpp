#include "cuda/bindings/single_call.h"

#include <algorithm>

#include "cuda/runtime/session.h"

namespace pynn::cuda {

template <typename T>
char* Bench<T>::bytes(std::int64_t size) {
  memory_.emplace_back(std::max<std::int64_t>(size, 256));
  return memory_.back().data();
}

template <typename T>
T* Bench<T>::put(const py::array& array, bool raw) {
  T* const to = room(array.size());
  if (raw)
    Transfer<T>::raw_to_device(array.size(), data<T>(array), to);
  else
    transfer_.to_device(samples_of(shape_of(array)), data<T>(array), to);
  return to;
}

template <typename T>
T* Bench<T>::put(const Operand& operand) {
  if (!operand.present) return nullptr;
  return operand.array ? put(*operand.array, operand.raw) : room(1);
}

template <typename T>
py::array Bench<T>::get(const T* from, const Shape& shape, bool raw) {
  py::array_t<T> array(shape);
  if (raw)
    Transfer<T>::raw_to_host(array.size(), from, array.mutable_data());
  else
    transfer_.to_host(samples_of(shape), from, array.mutable_data());
  return std::move(array);
}

template <typename T>
T* run_forward(Bench<T>& bench, const Operation<T>& operation, const std::vector<Operand>& operands,
               std::int64_t count, Call<T>& c) {
  c.stream = stream();
  for (const Operand& operand : operands) c.inputs.push_back(bench.put(operand));
  c.y = bench.room(count);
  c.saved = bench.bytes(operation.saved_bytes());
  c.scratch = bench.bytes(operation.forward_scratch());
  operation.forward(c);
  return c.y;
}

template <typename T>
Gradients run_backward(const Operation<T>& operation, const Operand& dy,
                       const std::vector<Operand>& operands, const std::vector<bool>& needs,
                       const py::array* y, const std::vector<const py::array*>& saved) {
  Bench<T> bench;
  Call<T> c;
  c.stream = stream();
  for (const Operand& operand : operands) c.inputs.push_back(bench.put(operand));
  c.dy = bench.put(*dy.array, dy.raw);
  c.y = y ? bench.put(*y, dy.raw) : nullptr;
  c.saved = bench.bytes(operation.saved_bytes());
  std::int64_t at = 0;
  for (const py::array* part : saved) {
    Transfer<T>::raw_to_device(part->size(), data<T>(*part), reinterpret_cast<T*>(c.saved + at));
    at += bytes_of<T>(part->size());
  }
  c.scratch = bench.bytes(operation.backward_scratch());
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const bool wanted = i < needs.size() && needs[i] && operands[i].present;
    c.gradients.push_back(wanted ? bench.room(element_count(operands[i].shape)) : nullptr);
    c.add.push_back(0);
    c.in_shards.push_back(0);
  }
  operation.backward(c);
  Gradients result(operands.size());
  for (std::size_t i = 0; i < operands.size(); ++i)
    if (c.gradients[i]) result[i] = bench.get(c.gradients[i], operands[i].shape, operands[i].raw);
  return result;
}

py::object object_of(const std::optional<py::array>& array) {
  return array ? py::object(*array) : py::object(py::none());
}

#define PYNN_INSTANTIATE(T)                                                              \
  template class Bench<T>;                                                               \
  template T* run_forward(Bench<T>&, const Operation<T>&, const std::vector<Operand>&,   \
                          std::int64_t, Call<T>&);                                       \
  template Gradients run_backward(const Operation<T>&, const Operand&,                   \
                                  const std::vector<Operand>&, const std::vector<bool>&, \
                                  const py::array*, const std::vector<const py::array*>&)
PYNN_INSTANTIATE(float);
PYNN_INSTANTIATE(double);

}  // namespace pynn::cuda
