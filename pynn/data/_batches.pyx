# cython: freethreading_compatible=True
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Inner loops of pynn.data: shuffling and gathering rows, without the GIL and without temporaries."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from * nogil:
    """
    // Asks the memory for the start of a row; what follows it the hardware fetches by itself.
    static inline void prefetch_row(const void* row, long long bytes) {
      const long long end = bytes < 4096 ? bytes : 4096;
      for (long long i = 0; i < end; i += 64) __builtin_prefetch((const char*)row + i);
    }
    """
    void prefetch_row(const void* row, int64_t bytes)

ctypedef fused source_t:
    uint8_t
    float
    double

ctypedef fused target_t:
    float
    double

# Shuffled rows lie anywhere: asked for this many rows ahead, those of MNIST take a quarter less time.
cdef enum:
    PREFETCH = 2


cdef inline uint64_t mix(uint64_t z) noexcept nogil:
    # The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words.
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint32_t next_word(uint64_t* state) noexcept nogil:
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    return <uint32_t>(mix(state[0]) >> 32)


cdef inline uint32_t below(uint64_t* state, uint32_t bound) noexcept nogil:
    # Uniform in 0..bound-1, by multiplication with rejection (Lemire 2019, "Fast random integer
    # generation in an interval"). 32 bits, because 128-bit products are not portable.
    cdef uint64_t product = <uint64_t>next_word(state) * bound
    cdef uint32_t threshold
    if <uint32_t>product < bound:
        threshold = (<uint32_t>0 - bound) % bound  # 2**32 mod bound
        while <uint32_t>product < threshold:
            product = <uint64_t>next_word(state) * bound
    return <uint32_t>(product >> 32)


def permute(int64_t[::1] order, uint64_t seed, uint64_t epoch):
    """Fill order (n,) with a permutation of 0..n-1 that depends on n, seed and epoch alone.

    Fisher-Yates from the last place down, with the upper halves of SplitMix64's words. The generator
    starts at mix(mix(seed) ^ epoch), so that no two epochs of a seed start alike.
    """
    cdef int64_t n = order.shape[0]
    cdef int64_t i, j, held
    cdef uint64_t state
    if n >= (<int64_t>1 << 32):
        raise ValueError(f"at most 2**32 - 1 rows can be shuffled, got {n}")
    with nogil:
        state = mix(mix(seed) ^ epoch)
        for i in range(n):
            order[i] = i
        for i in range(n - 1, 0, -1):
            j = below(&state, <uint32_t>(i + 1))
            held = order[i]
            order[i] = order[j]
            order[j] = held


cdef int check_rows(const int64_t[::1] rows, int64_t limit) except -1:
    cdef int64_t i, n = rows.shape[0]
    cdef int64_t bad = -1
    with nogil:
        for i in range(n):
            if rows[i] < 0 or rows[i] >= limit:
                bad = i
                break
    if bad >= 0:
        raise IndexError(f"row {rows[bad]} at place {bad} is outside 0..{limit - 1}")
    return 0


cdef int check_out(int64_t n, int64_t width, int64_t out_n, int64_t out_width) except -1:
    if out_n != n or out_width != width:
        raise ValueError(f"out must have shape ({n}, {width}), got ({out_n}, {out_width})")
    return 0


def gather(const source_t[:, ::1] source, const int64_t[::1] rows, target_t[:, ::1] out, double scale):
    """out[i] = source[rows[i]] * scale, with value and scale first rounded to the dtype of out.

    source (n, width) uint8, float32 or float64; rows (m,) int64; out (m, width) float32 or float64,
    overwritten. IndexError where a row lies outside 0..n-1, before anything is written.
    """
    cdef int64_t m = rows.shape[0], width = source.shape[1]
    cdef int64_t i, j
    cdef target_t factor = <target_t>scale
    cdef const source_t* source_i
    cdef target_t* out_i
    check_out(m, width, out.shape[0], out.shape[1])
    check_rows(rows, source.shape[0])
    if width == 0:
        return
    with nogil:
        for i in range(m):
            if i + PREFETCH < m:
                prefetch_row(&source[rows[i + PREFETCH], 0], width * <int64_t>sizeof(source_t))
            source_i = &source[rows[i], 0]
            out_i = &out[i, 0]
            for j in range(width):
                out_i[j] = <target_t>source_i[j] * factor


def copy_rows(const uint8_t[:, ::1] source, const int64_t[::1] rows, uint8_t[:, ::1] out):
    """out[i] = source[rows[i]], byte for byte: rows of any dtype, seen as uint8.

    source (n, bytes), rows (m,) int64, out (m, bytes), overwritten. IndexError as in gather.
    """
    cdef int64_t m = rows.shape[0], width = source.shape[1]
    cdef int64_t i
    check_out(m, width, out.shape[0], out.shape[1])
    check_rows(rows, source.shape[0])
    if width == 0:
        return
    with nogil:
        for i in range(m):
            memcpy(&out[i, 0], &source[rows[i], 0], <size_t>width)
