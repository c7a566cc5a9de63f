#include "cuda/plan/transfer.h"

#include "cuda/kernels/broadcast.h"
#include "cuda/kernels/layout.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {
namespace {

template <typename T>
std::int64_t size_of(std::int64_t count) {
  return count * static_cast<std::int64_t>(sizeof(T));
}

bool alike(const Samples& s) { return s.N <= 1 || s.features <= 1; }

}  // namespace

template <typename T>
void Transfer<T>::to_device(const Samples& s, const T* host, T* device) {
  if (alike(s)) return raw_to_device(s.count(), host, device);
  T* const rows = scratch(s.count());
  copy_to_device(rows, host, size_of<T>(s.count()));
  transpose(s.N, s.features, rows, device, stream());
}

template <typename T>
void Transfer<T>::to_host(const Samples& s, const T* device, T* host) {
  if (alike(s)) return raw_to_host(s.count(), device, host);
  T* const rows = scratch(s.count());
  transpose(s.features, s.N, device, rows, stream());
  copy_to_host(host, rows, size_of<T>(s.count()));
}

template <typename T>
void Transfer<T>::add_to_device(const Samples& s, const T* host, T* device) {
  T* const rows = scratch(2 * s.count());
  T* const columns = rows + s.count();
  copy_to_device(rows, host, size_of<T>(s.count()));
  transpose(s.N, s.features, rows, columns, stream());
  accumulate(s.count(), columns, device, stream());
}

template <typename T>
void Transfer<T>::raw_to_device(std::int64_t count, const T* host, T* device) {
  copy_to_device(device, host, size_of<T>(count));
}

template <typename T>
void Transfer<T>::raw_to_host(std::int64_t count, const T* device, T* host) {
  copy_to_host(host, device, size_of<T>(count));
}

template <typename T>
void Transfer<T>::add_raw_to_device(std::int64_t count, const T* host, T* device) {
  T* const part = scratch(count);
  copy_to_device(part, host, size_of<T>(count));
  accumulate(count, part, device, stream());
}

template <typename T>
T* Transfer<T>::scratch(std::int64_t count) {
  memory_.reserve(size_of<T>(count));
  return reinterpret_cast<T*>(memory_.data());
}

template class Transfer<float>;
template class Transfer<double>;

}  // namespace pynn::cuda
