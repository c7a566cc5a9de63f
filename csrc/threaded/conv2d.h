// Convolutions of arrays on several threads.
#pragma once

#include "kernels/conv2d.h"

namespace pynn::threaded {

std::int64_t work_of(const Conv2dShape& s);  // floating-point operations of each of the three

// Overwrites y. b may be null.
template <typename T>
void conv2d(const Conv2dShape& s, const T* x, const T* w, const T* b, T* y);

// Overwrites dx, dw and db, except those that are null.
template <typename T>
void conv2d_backward(const Conv2dShape& s, const T* dy, const T* x, const T* w, T* dx, T* dw,
                     T* db);

}  // namespace pynn::threaded
