// The functions of csrc/simd/math.h as loops over arrays, compiled for each instruction set as the
// kernels are. No standard library here: see csrc/simd/vector.h.
#pragma once

#include <cstdint>

namespace pynn {

// y[i] = f(x[i]); x, y (size,).
template <typename T>
using Loop = void (*)(std::int64_t size, const T* x, T* y);

enum Function { kExp, kExpOfNonpositive, kTanh, kSigmoid, kLog, kFunctions };

template <typename T>
struct LoopTable {
  Loop<T> loop[kFunctions];
};

namespace baseline {
void get(LoopTable<float>&);
void get(LoopTable<double>&);
}  // namespace baseline
namespace avx2 {
void get(LoopTable<float>&);
void get(LoopTable<double>&);
}  // namespace avx2
namespace avx512 {
void get(LoopTable<float>&);
void get(LoopTable<double>&);
}  // namespace avx512

}  // namespace pynn
