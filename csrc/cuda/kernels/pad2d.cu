#include "cuda/kernels/pad2d.h"

#include "cuda/kernels/pointwise.h"

namespace pynn::cuda {
namespace {

struct Frame {
  int N, H, W, OH, OW, top, left;
  Divider samples, across, down;  // of what is written
};

template <typename T>
struct Forward {
  Frame f;
  T value;
  const T* x;
  T* y;
  __device__ __forceinline__ void operator()(int i) const {
    int place, line, plane;
    const int sample = f.samples.split(i, place);
    const int w = f.across.split(place, line) - f.left, h = f.down.split(line, plane) - f.top;
    const bool inside = h >= 0 && h < f.H && w >= 0 && w < f.W;
    y[i] = inside ? x[((plane * f.H + h) * f.W + w) * f.N + sample] : value;
  }
};

template <typename T>
struct Backward {
  Frame f;
  const T* dy;
  bool add;
  T* dx;
  __device__ __forceinline__ void operator()(int i) const {
    int place, line, plane;
    const int sample = f.samples.split(i, place);
    const int w = f.across.split(place, line) + f.left, h = f.down.split(line, plane) + f.top;
    store(dx + i, dy[((plane * f.OH + h) * f.OW + w) * f.N + sample], add);
  }
};

Frame frame(const Pad2dShape& s, std::int64_t N, std::int64_t rows, std::int64_t columns) {
  narrow(s.planes, s.OH(), s.OW(), N);
  return {narrow(N),
          narrow(s.H),
          narrow(s.W),
          narrow(s.OH()),
          narrow(s.OW()),
          narrow(s.top),
          narrow(s.left),
          Divider(narrow(N)),
          Divider(narrow(columns)),
          Divider(narrow(rows))};
}

}  // namespace

template <typename T>
void pad2d_forward(const Pad2dShape& s, std::int64_t N, double value, const T* x, T* y,
                   cudaStream_t stream) {
  pointwise(narrow(s.planes, s.OH(), s.OW(), N),
            Forward<T>{frame(s, N, s.OH(), s.OW()), static_cast<T>(value), x, y}, stream);
}
template <typename T>
void pad2d_backward(const Pad2dShape& s, std::int64_t N, const T* dy, bool add, T* dx,
                    cudaStream_t stream) {
  pointwise(narrow(s.planes, s.H, s.W, N), Backward<T>{frame(s, N, s.H, s.W), dy, add, dx}, stream);
}

#define PYNN_INSTANTIATE(T)                                                          \
  template void pad2d_forward(const Pad2dShape&, std::int64_t, double, const T*, T*, \
                              cudaStream_t);                                         \
  template void pad2d_backward(const Pad2dShape&, std::int64_t, const T*, bool, T*, cudaStream_t);
PYNN_INSTANTIATE(float)
PYNN_INSTANTIATE(double)

}  // namespace pynn::cuda
