#include "kernels/pad2d.h"

namespace pynn::PYNN_ISA {
namespace {

template <typename T>
void copy(const T* from, std::int64_t count, T* to) {
  __builtin_memcpy(to, from, static_cast<std::uint64_t>(count) * sizeof(T));
}

template <typename T>
T* fill(T* to, std::int64_t count, T value) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = value;
  return to + count;
}

template <typename T>
void forward(const Pad2dShape& s, std::int64_t begin, std::int64_t end, T value, const T* x, T* y) {
  const T* x_h = x + begin * s.H * s.W;
  T* to = y + begin * s.OH() * s.OW();
  for (std::int64_t plane = begin; plane < end; ++plane) {
    to = fill(to, s.top * s.OW(), value);
    for (std::int64_t h = 0; h < s.H; ++h, x_h += s.W) {
      to = fill(to, s.left, value);
      copy(x_h, s.W, to);
      to = fill(to + s.W, s.right, value);
    }
    to = fill(to, s.bottom * s.OW(), value);
  }
}

template <typename T>
void backward(const Pad2dShape& s, std::int64_t begin, std::int64_t end, const T* dy, T* dx) {
  for (std::int64_t plane = begin; plane < end; ++plane)
    for (std::int64_t h = 0; h < s.H; ++h)
      copy(dy + (plane * s.OH() + s.top + h) * s.OW() + s.left, s.W, dx + (plane * s.H + h) * s.W);
}

}  // namespace

void get(Pad2dKernels<float>& k) { k = {forward<float>, backward<float>}; }
void get(Pad2dKernels<double>& k) { k = {forward<double>, backward<double>}; }

}  // namespace pynn::PYNN_ISA
