// Convolutions in which every channel makes one of its own: for conv2d, of whose groups each has
// one channel and one output then.
#pragma once

#include "kernels/conv2d.h"

#ifdef PYNN_ISA
namespace pynn::PYNN_ISA {

// Elements of working memory of a call.
constexpr std::int64_t kDepthwiseScratch = 64 * 1024;

bool is_depthwise(const Conv2dShape& s);

// x, dx (H, W), w, dw (KH, KW) and y, dy (OH, OW) are of one channel of one sample; `window` is the
// convolution's.

// Rows begin ... end of y = b + x * w.
void depthwise(const Window& window, std::int64_t begin, std::int64_t end, const float* x,
               const float* w, float b, float* y, float* scratch);
void depthwise(const Window& window, std::int64_t begin, std::int64_t end, const double* x,
               const double* w, double b, double* y, double* scratch);
// Overwrites dx.
void depthwise_backward_input(const Window& window, const float* dy, const float* w, float* dx,
                              float* scratch);
void depthwise_backward_input(const Window& window, const double* dy, const double* w, double* dx,
                              double* scratch);
// Overwrites dw with the sum over `count` samples, which are x_step and dy_step elements apart.
void depthwise_backward_weight(const Window& window, std::int64_t count, const float* dy,
                               std::int64_t dy_step, const float* x, std::int64_t x_step, float* dw,
                               float* scratch);
void depthwise_backward_weight(const Window& window, std::int64_t count, const double* dy,
                               std::int64_t dy_step, const double* x, std::int64_t x_step,
                               double* dw, double* scratch);

}  // namespace pynn::PYNN_ISA
#endif
