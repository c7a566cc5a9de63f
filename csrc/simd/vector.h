// One register of the instruction set that the file is compiled for, as a GCC/Clang vector.
// Everything is internal to the file that includes it: code that the linker could merge must not
// carry one set's instructions into another's.
#pragma once

#include <cstdint>
#include <utility>

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

// Lane i of the result is lane index(i) of a and b, one after the other.
template <typename T, typename Index, int... kLane>
PYNN_INLINE Vector<T> shuffle(typename VectorType<T>::type a, typename VectorType<T>::type b,
                              Index index, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(a, b, index(kLane)...);
}
template <typename T, typename Index>
PYNN_INLINE Vector<T> shuffle(typename VectorType<T>::type a, typename VectorType<T>::type b,
                              Index index) {
  return shuffle<T>(a, b, index, std::make_integer_sequence<int, kLanes<T>>());
}

// Lanes kFirst ... kFirst + kCount.
template <typename T, int kFirst, int... kLane>
PYNN_INLINE void store_part(T* to, typename VectorType<T>::type v,
                            std::integer_sequence<int, kLane...>) {
  const auto part = __builtin_shufflevector(v, v, (kFirst + kLane)...);
  __builtin_memcpy(to, &part, sizeof part);
}
template <typename T, int kFirst, int kCount>
PYNN_INLINE void store_part(T* to, typename VectorType<T>::type v) {
  store_part<T, kFirst>(to, v, std::make_integer_sequence<int, kCount>());
}

// Every other piece of kSize lanes of a and b, from the first (kFirst = 0) or the second (1) on.
template <typename T, int kSize, int kFirst>
PYNN_INLINE Vector<T> every_other(typename VectorType<T>::type a, typename VectorType<T>::type b) {
  return shuffle<T>(a, b, [](int i) { return (i / kSize * 2 + kFirst) * kSize + i % kSize; });
}

// a[0] b[0] a[1] b[1] ... of the lower half of the lanes, and of the upper half.
template <typename T>
PYNN_INLINE Vector<T> interleave_low(typename VectorType<T>::type a,
                                     typename VectorType<T>::type b) {
  return shuffle<T>(a, b, [](int i) { return i / 2 + i % 2 * kLanes<T>; });
}
template <typename T>
PYNN_INLINE Vector<T> interleave_high(typename VectorType<T>::type a,
                                      typename VectorType<T>::type b) {
  return shuffle<T>(a, b, [](int i) { return kLanes<T> / 2 + i / 2 + i % 2 * kLanes<T>; });
}

// Transposes registers by log2(R) perfect shuffles. Where they are fewer than they have lanes, each
// gets several columns, one after the other.
template <typename T, int R>
PYNN_INLINE void transpose(Vector<T> (&rows)[R]) {
#pragma GCC unroll 4
  for (int stage = 1; stage < R; stage *= 2) {
    Vector<T> shuffled[R];
#pragma GCC unroll 8
    for (int i = 0; i < R / 2; ++i) {
      shuffled[2 * i] = interleave_low<T>(rows[i], rows[i + R / 2]);
      shuffled[2 * i + 1] = interleave_high<T>(rows[i], rows[i + R / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) rows[i] = shuffled[i];
  }
}

template <typename T>
constexpr int kPart = 16 / static_cast<int>(sizeof(T));  // lanes of 128 bits

// a[0] b[0] a[1] b[1] of the lower half of each 128 bits, and of their upper half.
template <typename T>
PYNN_INLINE Vector<T> unpack_low(typename VectorType<T>::type a, typename VectorType<T>::type b) {
  return shuffle<T>(
      a, b, [](int i) { return i / kPart<T> * kPart<T> + i % kPart<T> / 2 + i % 2 * kLanes<T>; });
}
template <typename T>
PYNN_INLINE Vector<T> unpack_high(typename VectorType<T>::type a, typename VectorType<T>::type b) {
  return shuffle<T>(a, b, [](int i) {
    return i / kPart<T> * kPart<T> + kPart<T> / 2 + i % kPart<T> / 2 + i % 2 * kLanes<T>;
  });
}

// Vectors are summed by halves, two of them at once: the lower halves of parts of a and b, plus the
// upper halves of the same parts. kBits: of a part, more than 128.
template <typename T, int kBits>
PYNN_INLINE Vector<T> fold(typename VectorType<T>::type a, typename VectorType<T>::type b) {
  const auto x = (Vector<double>)a, y = (Vector<double>)b;
  return (Vector<T>)every_other<double, kBits / 128, 0>(x, y) +
         (Vector<T>)every_other<double, kBits / 128, 1>(x, y);
}
template <typename T>
PYNN_INLINE Vector<T> fold_128_bits(typename VectorType<T>::type a,
                                    typename VectorType<T>::type b) {
  const auto x = (Vector<double>)a, y = (Vector<double>)b;
  return (Vector<T>)unpack_low<double>(x, y) + (Vector<T>)unpack_high<double>(x, y);
}
PYNN_INLINE Vector<float> fold_64_bits(Vector<float> a, Vector<float> b) {
  const auto first = [](int i) { return i / 4 * 4 + i % 4 / 2 * kLanes<float> + i % 2 * 2; };
  const auto second = [](int i) { return i / 4 * 4 + i % 4 / 2 * kLanes<float> + i % 2 * 2 + 1; };
  return shuffle<float>(a, b, first) + shuffle<float>(a, b, second);
}

// Of every kStep-th vector from `rows` on, a part of 128 bits each.
template <typename T, int kStep>
PYNN_INLINE Vector<T> fold_to_128_bits(const Vector<T>* rows) {
#if defined(__AVX512F__)
  return fold<T, 256>(fold<T, 512>(rows[0], rows[kStep]),
                      fold<T, 512>(rows[2 * kStep], rows[3 * kStep]));
#elif defined(__AVX2__)
  return fold<T, 256>(rows[0], rows[kStep]);
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
  const auto low01 = (Vector<double>)unpack_low<float>(rows[0], rows[1]);
  const auto high01 = (Vector<double>)unpack_high<float>(rows[0], rows[1]);
  const auto low23 = (Vector<double>)unpack_low<float>(rows[2], rows[3]);
  const auto high23 = (Vector<double>)unpack_high<float>(rows[2], rows[3]);
  columns[0] = (Vector<float>)unpack_low<double>(low01, low23);
  columns[1] = (Vector<float>)unpack_high<double>(low01, low23);
  columns[2] = (Vector<float>)unpack_low<double>(high01, high23);
  columns[3] = (Vector<float>)unpack_high<double>(high01, high23);
}
PYNN_INLINE void load_columns(const double* from, std::int64_t row_stride,
                              Vector<double> (&columns)[2]) {
  const Vector<double> even = load_pieces(from, 2 * row_stride);
  const Vector<double> odd = load_pieces(from + row_stride, 2 * row_stride);
  columns[0] = unpack_low<double>(even, odd);
  columns[1] = unpack_high<double>(even, odd);
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
