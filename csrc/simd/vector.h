// One register of the instruction set that the file is compiled for, as a GCC/Clang vector.
// Everything is internal to the file that includes it: code that the linker could merge must not
// carry one set's instructions into another's.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define PYNN_INLINE inline __attribute__((always_inline))

namespace pynn::PYNN_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct VectorType {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <typename T>
using Vector = typename VectorType<T>::type;

template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <typename T>
PYNN_INLINE Vector<T> load(const T* from) {  // any alignment
  Vector<T> v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

// The same, for a value of several uses: compilers may otherwise read it from memory for each of
// them, and multiply-adds then wait for loads.
template <typename T>
PYNN_INLINE Vector<T> load_once(const T* from) {
  Vector<T> v = load(from);
#if defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

template <typename T>
PYNN_INLINE void store(T* to, typename VectorType<T>::type v) {  // any alignment
  __builtin_memcpy(to, &v, sizeof v);
}

template <typename T>
PYNN_INLINE Vector<T> broadcast(T value) {
  return value - Vector<T>{};
}

// a * b + c: rounded once where the instruction set has the instruction, and twice on the others.
#if defined(__AVX512F__)
PYNN_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
PYNN_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif defined(__AVX2__)
PYNN_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
PYNN_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#elif defined(__aarch64__)
PYNN_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
PYNN_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
template <typename V>
PYNN_INLINE V fma(V a, V b, V c) {
  return a * b + c;
}
#endif

// a[0] b[0] a[1] b[1] ... of the lower half of the lanes, and of the upper half.
template <typename T>
PYNN_INLINE Vector<T> interleave_low(typename VectorType<T>::type a,
                                     typename VectorType<T>::type b) {
  if constexpr (kLanes<T> == 16)
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  else if constexpr (kLanes<T> == 8)
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  else if constexpr (kLanes<T> == 4)
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
  else
    return __builtin_shufflevector(a, b, 0, 2);
}
template <typename T>
PYNN_INLINE Vector<T> interleave_high(typename VectorType<T>::type a,
                                      typename VectorType<T>::type b) {
  if constexpr (kLanes<T> == 16)
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
  else if constexpr (kLanes<T> == 8)
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  else if constexpr (kLanes<T> == 4)
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  else
    return __builtin_shufflevector(a, b, 1, 3);
}

// Transposes a square of registers: log2(lanes) perfect shuffles of its rows.
template <typename T>
PYNN_INLINE void transpose(Vector<T> (&rows)[kLanes<T>]) {
  constexpr int lanes = kLanes<T>;
#pragma GCC unroll 4
  for (int stage = 1; stage < lanes; stage *= 2) {
    Vector<T> shuffled[lanes];
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) {
      shuffled[2 * i] = interleave_low<T>(rows[i], rows[i + lanes / 2]);
      shuffled[2 * i + 1] = interleave_high<T>(rows[i], rows[i + lanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) rows[i] = shuffled[i];
  }
}

// a[0] b[0] a[1] b[1] of the lower half of each 128 bits, and of their upper half.
PYNN_INLINE Vector<float> unpack_low(Vector<float> a, Vector<float> b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
#else
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}
PYNN_INLINE Vector<float> unpack_high(Vector<float> a, Vector<float> b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}
PYNN_INLINE Vector<double> unpack_low(Vector<double> a, Vector<double> b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 0, 4, 2, 6);
#else
  return __builtin_shufflevector(a, b, 0, 2);
#endif
}
PYNN_INLINE Vector<double> unpack_high(Vector<double> a, Vector<double> b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 1, 5, 3, 7);
#else
  return __builtin_shufflevector(a, b, 1, 3);
#endif
}

// Vectors are summed by halves, two of them at once: the lower halves of parts of a and b, plus the
// upper halves of the same parts.
#if defined(__AVX512F__)
template <typename T>
PYNN_INLINE Vector<T> fold_512_bits(typename VectorType<T>::type a,
                                    typename VectorType<T>::type b) {
  const auto x = (Vector<double>)a, y = (Vector<double>)b;
  return (Vector<T>)__builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11) +
         (Vector<T>)__builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15);
}
template <typename T>
PYNN_INLINE Vector<T> fold_256_bits(typename VectorType<T>::type a,
                                    typename VectorType<T>::type b) {
  const auto x = (Vector<double>)a, y = (Vector<double>)b;
  return (Vector<T>)__builtin_shufflevector(x, y, 0, 1, 4, 5, 8, 9, 12, 13) +
         (Vector<T>)__builtin_shufflevector(x, y, 2, 3, 6, 7, 10, 11, 14, 15);
}
#elif defined(__AVX2__)
template <typename T>
PYNN_INLINE Vector<T> fold_256_bits(typename VectorType<T>::type a,
                                    typename VectorType<T>::type b) {
  const auto x = (Vector<double>)a, y = (Vector<double>)b;
  return (Vector<T>)__builtin_shufflevector(x, y, 0, 1, 4, 5) +
         (Vector<T>)__builtin_shufflevector(x, y, 2, 3, 6, 7);
}
#endif
template <typename T>
PYNN_INLINE Vector<T> fold_128_bits(typename VectorType<T>::type a,
                                    typename VectorType<T>::type b) {
  const auto x = (Vector<double>)a, y = (Vector<double>)b;
  return (Vector<T>)unpack_low(x, y) + (Vector<T>)unpack_high(x, y);
}
PYNN_INLINE Vector<float> fold_64_bits(Vector<float> a, Vector<float> b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +
         __builtin_shufflevector(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +
         __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
#else
  return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
}

// Of every kStep-th vector from `rows` on, a part of 128 bits each.
template <typename T, int kStep>
PYNN_INLINE Vector<T> fold_to_128_bits(const Vector<T>* rows) {
#if defined(__AVX512F__)
  return fold_256_bits<T>(fold_512_bits<T>(rows[0], rows[kStep]),
                          fold_512_bits<T>(rows[2 * kStep], rows[3 * kStep]));
#elif defined(__AVX2__)
  return fold_256_bits<T>(rows[0], rows[kStep]);
#else
  return rows[0];
#endif
}

// Lane r: the sum of the lanes of rows[r].
PYNN_INLINE Vector<float> lane_sums(const Vector<float> (&rows)[kLanes<float>]) {
  const auto part = [&rows](int first) { return fold_to_128_bits<float, 4>(rows + first); };
  return fold_64_bits(fold_128_bits<float>(part(0), part(1)),
                      fold_128_bits<float>(part(2), part(3)));
}
PYNN_INLINE Vector<double> lane_sums(const Vector<double> (&rows)[kLanes<double>]) {
  return fold_128_bits<double>(fold_to_128_bits<double, 2>(rows),
                               fold_to_128_bits<double, 2>(rows + 1));
}

// One vector of pieces of 16 bytes, which lie `stride` elements apart.
template <typename T>
PYNN_INLINE Vector<double> load_pieces(const T* from, std::int64_t stride) {
  typedef double Piece __attribute__((vector_size(16)));
  Piece piece[kVectorBytes / 16];
#pragma GCC unroll 4
  for (int i = 0; i < kVectorBytes / 16; ++i)
    __builtin_memcpy(&piece[i], from + i * stride, sizeof(Piece));
#if defined(__AVX512F__)
  return __builtin_shufflevector(__builtin_shufflevector(piece[0], piece[1], 0, 1, 2, 3),
                                 __builtin_shufflevector(piece[2], piece[3], 0, 1, 2, 3), 0, 1, 2,
                                 3, 4, 5, 6, 7);
#elif defined(__AVX2__)
  return __builtin_shufflevector(piece[0], piece[1], 0, 1, 2, 3);
#else
  return piece[0];
#endif
}

// columns[c] = column c of kLanes rows that are `row_stride` apart: as many columns as 16 bytes
// hold, so that nothing crosses the 128 bits that every instruction set shuffles fastest.
PYNN_INLINE void load_columns(const float* from, std::int64_t row_stride,
                              Vector<float> (&columns)[4]) {
  Vector<float> rows[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    rows[i] = (Vector<float>)load_pieces(from + i * row_stride, 4 * row_stride);
  const auto low01 = (Vector<double>)unpack_low(rows[0], rows[1]);
  const auto high01 = (Vector<double>)unpack_high(rows[0], rows[1]);
  const auto low23 = (Vector<double>)unpack_low(rows[2], rows[3]);
  const auto high23 = (Vector<double>)unpack_high(rows[2], rows[3]);
  columns[0] = (Vector<float>)unpack_low(low01, low23);
  columns[1] = (Vector<float>)unpack_high(low01, low23);
  columns[2] = (Vector<float>)unpack_low(high01, high23);
  columns[3] = (Vector<float>)unpack_high(high01, high23);
}
PYNN_INLINE void load_columns(const double* from, std::int64_t row_stride,
                              Vector<double> (&columns)[2]) {
  const Vector<double> even = load_pieces(from, 2 * row_stride);
  const Vector<double> odd = load_pieces(from + row_stride, 2 * row_stride);
  columns[0] = unpack_low(even, odd);
  columns[1] = unpack_high(even, odd);
}

// memcpy of a short run without the call: two copies of a fixed size that overlap.
template <typename T, int Count>
PYNN_INLINE void copy_few(std::int64_t count, const T* from, T* to) {
  if constexpr (Count == 0) {
    return;
  } else {
    if (count < Count) return copy_few<T, Count / 2>(count, from, to);
    __builtin_memcpy(to, from, Count * sizeof(T));
    __builtin_memcpy(to + count - Count, from + count - Count, Count * sizeof(T));
  }
}
template <typename T>
PYNN_INLINE void copy_run(std::int64_t count, const T* from, T* to) {
  constexpr int lanes = kLanes<T>;
  if (count < lanes) return copy_few<T, lanes / 2>(count, from, to);
  for (std::int64_t i = 0; i + lanes <= count; i += lanes) store<T>(to + i, load(from + i));
  store<T>(to + count - lanes, load(from + count - lanes));
}

// The first `count` lanes of a, and the others of b.
template <typename T>
PYNN_INLINE Vector<T> first_lanes(std::int64_t count, typename VectorType<T>::type a,
                                  typename VectorType<T>::type b) {
  Vector<T> lane;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = static_cast<T>(i);
  return lane < broadcast(static_cast<T>(count)) ? a : b;
}

}  // namespace
}  // namespace pynn::PYNN_ISA
