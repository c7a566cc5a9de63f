# pynn's kernels as functions on pointers, for Cython without Python objects and without the GIL:
#
#     from pynn.cython_api cimport sgemm
#
# Prefix s: float, d: double. Arrays are dense and row-major unless strides are given, sizes and
# strides in elements; what is written must not overlap what is read, except where said. Functions
# may be called from several threads, use pynn's own threads where it is worth it, and give the same
# bits on any number of them. Those that return an int return 0, or another number where sizes do
# not fit or memory is short; nothing has been written then.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

# x (N, C, H, W), w (O, C / groups, KH, KW), b (O,), y (N, O, OH, OW), where
# OH = (H + top + bottom - dilation_h (KH - 1) - 1) / stride_h + 1, and OW likewise.
ctypedef struct Conv2d:
    int64_t N
    int64_t C
    int64_t H
    int64_t W
    int64_t O
    int64_t KH
    int64_t KW
    int64_t groups
    int64_t stride_h
    int64_t stride_w
    int64_t dilation_h
    int64_t dilation_w
    int64_t top
    int64_t bottom
    int64_t left
    int64_t right

# x (planes, H, W), y and argmax (planes, OH, OW), argmax being h * W + w of the maximum.
ctypedef struct Pool2d:
    int64_t planes
    int64_t H
    int64_t W
    int64_t KH
    int64_t KW
    int64_t stride_h
    int64_t stride_w
    int64_t top
    int64_t bottom
    int64_t left
    int64_t right

ctypedef void (*range_function)(void* context, int64_t begin, int64_t end) noexcept nogil

cdef int num_threads() noexcept nogil
# Calls function(context, begin, end) so that the ranges cover 0 ... units once; work_per_unit in
# floating-point operations.
cdef int parallel_for(
    int64_t units, int64_t work_per_unit, range_function function, void* context
) noexcept nogil
# words (count,): Philox4x32-10 of the elements first ... first + count of a sample.
cdef void random_words(
    uint64_t seed, uint32_t step, uint32_t node, uint32_t sample, int64_t first, int64_t count,
    uint32_t* words,
) noexcept nogil

# c (M, N) = a (M, K) b (K, N), or += where `accumulate`. Any strides of a and b; rows of c are dense.
cdef int sgemm(
    int64_t M, int64_t N, int64_t K, const float* a, int64_t a_row, int64_t a_column,
    const float* b, int64_t b_row, int64_t b_column, float* c, int64_t c_row, bint accumulate,
) noexcept nogil
cdef int dgemm(
    int64_t M, int64_t N, int64_t K, const double* a, int64_t a_row, int64_t a_column,
    const double* b, int64_t b_row, int64_t b_column, double* c, int64_t c_row, bint accumulate,
) noexcept nogil

# b may be NULL.
cdef int sconv2d(
    const Conv2d* conv, const float* x, const float* w, const float* b, float* y
) noexcept nogil
cdef int dconv2d(
    const Conv2d* conv, const double* x, const double* w, const double* b, double* y
) noexcept nogil
# dx, dw, db are overwritten; NULL where not wanted.
cdef int sconv2d_backward(
    const Conv2d* conv, const float* dy, const float* x, const float* w, float* dx, float* dw,
    float* db,
) noexcept nogil
cdef int dconv2d_backward(
    const Conv2d* conv, const double* dy, const double* x, const double* w, double* dx, double* dw,
    double* db,
) noexcept nogil

cdef int smax_pool2d(const Pool2d* pool, const float* x, float* y, int64_t* argmax) noexcept nogil
cdef int dmax_pool2d(const Pool2d* pool, const double* x, double* y, int64_t* argmax) noexcept nogil
cdef int smax_pool2d_backward(
    const Pool2d* pool, const float* dy, const int64_t* argmax, float* dx
) noexcept nogil
cdef int dmax_pool2d_backward(
    const Pool2d* pool, const double* dy, const int64_t* argmax, double* dx
) noexcept nogil

# Along the middle axis of arrays (outer, count, inner).
cdef int ssoftmax(
    int64_t outer, int64_t count, int64_t inner, const float* x, float* y
) noexcept nogil
cdef int dsoftmax(
    int64_t outer, int64_t count, int64_t inner, const double* x, double* y
) noexcept nogil
cdef int ssoftmax_backward(
    int64_t outer, int64_t count, int64_t inner, const float* dy, const float* y, float* dx
) noexcept nogil
cdef int dsoftmax_backward(
    int64_t outer, int64_t count, int64_t inner, const double* dy, const double* y, double* dx
) noexcept nogil

# Element by element, on the calling thread; y may be x.
cdef void srelu(int64_t count, const float* x, float* y) noexcept nogil
cdef void drelu(int64_t count, const double* x, double* y) noexcept nogil
cdef void ssigmoid(int64_t count, const float* x, float* y) noexcept nogil
cdef void dsigmoid(int64_t count, const double* x, double* y) noexcept nogil
cdef void stanh(int64_t count, const float* x, float* y) noexcept nogil
cdef void dtanh(int64_t count, const double* x, double* y) noexcept nogil
cdef void sexp(int64_t count, const float* x, float* y) noexcept nogil
cdef void dexp(int64_t count, const double* x, double* y) noexcept nogil
cdef void slog(int64_t count, const float* x, float* y) noexcept nogil
cdef void dlog(int64_t count, const double* x, double* y) noexcept nogil
