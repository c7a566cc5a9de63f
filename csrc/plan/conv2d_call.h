// A convolution of arrays as a call of its own: in blocks of samples where there are enough of
// them, otherwise on the arrays.
#pragma once

#include "kernels/conv2d.h"

namespace pynn::planned {

// y = conv(x, w) + b; b may be null.
template <typename T>
void conv2d(const Conv2dShape& s, const T* x, const T* w, const T* b, T* y);

// Overwrites dx, dw and db, any of which may be null.
template <typename T>
void conv2d_backward(const Conv2dShape& s, const T* dy, const T* x, const T* w, T* dx, T* dw,
                     T* db);

}  // namespace pynn::planned
