# cython: freethreading_compatible=True
"""pynn's kernels for Cython, as functions on pointers: see cython_api.pxd."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from pynn import _core


cdef extern from "pynn/abi.h" nogil:
    const char* PYNN_HOST_CAPSULE
    int32_t PYNN_FLOAT32
    int32_t PYNN_FLOAT64

    ctypedef struct pynn_random:
        uint64_t seed
        uint32_t step
        uint32_t node
        uint32_t first_sample

    ctypedef struct pynn_gemm:
        size_t size
        int64_t M
        int64_t N
        int64_t K
        const void* a
        int64_t a_row
        int64_t a_column
        const void* b
        int64_t b_row
        int64_t b_column
        void* c
        int64_t c_row
        int32_t dtype
        int32_t accumulate

    ctypedef struct pynn_conv2d:
        size_t size
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
        int32_t dtype

    ctypedef struct pynn_pool2d:
        size_t size
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
        int32_t dtype

    ctypedef struct pynn_host:
        int32_t (*num_threads)() noexcept nogil
        int32_t (*parallel_for)(int64_t, int64_t, range_function, void*) noexcept nogil
        void (*random_words)(
            const pynn_random*, int64_t, int64_t, int64_t, uint32_t*
        ) noexcept nogil
        int32_t (*gemm)(const pynn_gemm*) noexcept nogil
        int32_t (*conv2d)(
            const pynn_conv2d*, const void*, const void*, const void*, void*
        ) noexcept nogil
        int32_t (*conv2d_backward)(
            const pynn_conv2d*, const void*, const void*, const void*, void*, void*, void*
        ) noexcept nogil
        int32_t (*max_pool2d)(const pynn_pool2d*, const void*, void*, int64_t*) noexcept nogil
        int32_t (*max_pool2d_backward)(
            const pynn_pool2d*, const void*, const int64_t*, void*
        ) noexcept nogil
        int32_t (*softmax)(
            int32_t, int64_t, int64_t, int64_t, const void*, void*
        ) noexcept nogil
        int32_t (*softmax_backward)(
            int32_t, int64_t, int64_t, int64_t, const void*, const void*, void*
        ) noexcept nogil
        void (*relu)(int32_t, int64_t, const void*, void*) noexcept nogil
        void (*sigmoid)(int32_t, int64_t, const void*, void*) noexcept nogil
        void (*tanh)(int32_t, int64_t, const void*, void*) noexcept nogil
        void (*exp)(int32_t, int64_t, const void*, void*) noexcept nogil
        void (*log)(int32_t, int64_t, const void*, void*) noexcept nogil


cdef const pynn_host* host = <const pynn_host*>PyCapsule_GetPointer(_core.host, PYNN_HOST_CAPSULE)


cdef int num_threads() noexcept nogil:
    return host.num_threads()


cdef int parallel_for(
    int64_t units, int64_t work_per_unit, range_function function, void* context
) noexcept nogil:
    return host.parallel_for(units, work_per_unit, function, context)


cdef void random_words(
    uint64_t seed, uint32_t step, uint32_t node, uint32_t sample, int64_t first, int64_t count,
    uint32_t* words,
) noexcept nogil:
    cdef pynn_random random
    random.seed, random.step, random.node, random.first_sample = seed, step, node, sample
    host.random_words(&random, 0, first, count, words)


cdef inline int gemm(
    int32_t dtype, int64_t M, int64_t N, int64_t K, const void* a, int64_t a_row, int64_t a_column,
    const void* b, int64_t b_row, int64_t b_column, void* c, int64_t c_row, bint accumulate,
) noexcept nogil:
    cdef pynn_gemm product
    product.size = sizeof(product)
    product.dtype, product.accumulate = dtype, accumulate
    product.M, product.N, product.K = M, N, K
    product.a, product.a_row, product.a_column = a, a_row, a_column
    product.b, product.b_row, product.b_column = b, b_row, b_column
    product.c, product.c_row = c, c_row
    return host.gemm(&product)


cdef int sgemm(
    int64_t M, int64_t N, int64_t K, const float* a, int64_t a_row, int64_t a_column,
    const float* b, int64_t b_row, int64_t b_column, float* c, int64_t c_row, bint accumulate,
) noexcept nogil:
    return gemm(
        PYNN_FLOAT32, M, N, K, a, a_row, a_column, b, b_row, b_column, c, c_row, accumulate
    )


cdef int dgemm(
    int64_t M, int64_t N, int64_t K, const double* a, int64_t a_row, int64_t a_column,
    const double* b, int64_t b_row, int64_t b_column, double* c, int64_t c_row, bint accumulate,
) noexcept nogil:
    return gemm(
        PYNN_FLOAT64, M, N, K, a, a_row, a_column, b, b_row, b_column, c, c_row, accumulate
    )


cdef inline pynn_conv2d typed_conv2d(int32_t dtype, const Conv2d* conv) noexcept nogil:
    cdef pynn_conv2d typed
    typed.size, typed.dtype = sizeof(typed), dtype
    typed.N, typed.C, typed.H, typed.W = conv.N, conv.C, conv.H, conv.W
    typed.O, typed.KH, typed.KW, typed.groups = conv.O, conv.KH, conv.KW, conv.groups
    typed.stride_h, typed.stride_w = conv.stride_h, conv.stride_w
    typed.dilation_h, typed.dilation_w = conv.dilation_h, conv.dilation_w
    typed.top, typed.bottom, typed.left, typed.right = conv.top, conv.bottom, conv.left, conv.right
    return typed


cdef int sconv2d(
    const Conv2d* conv, const float* x, const float* w, const float* b, float* y
) noexcept nogil:
    cdef pynn_conv2d typed = typed_conv2d(PYNN_FLOAT32, conv)
    return host.conv2d(&typed, x, w, b, y)


cdef int dconv2d(
    const Conv2d* conv, const double* x, const double* w, const double* b, double* y
) noexcept nogil:
    cdef pynn_conv2d typed = typed_conv2d(PYNN_FLOAT64, conv)
    return host.conv2d(&typed, x, w, b, y)


cdef int sconv2d_backward(
    const Conv2d* conv, const float* dy, const float* x, const float* w, float* dx, float* dw,
    float* db,
) noexcept nogil:
    cdef pynn_conv2d typed = typed_conv2d(PYNN_FLOAT32, conv)
    return host.conv2d_backward(&typed, dy, x, w, dx, dw, db)


cdef int dconv2d_backward(
    const Conv2d* conv, const double* dy, const double* x, const double* w, double* dx, double* dw,
    double* db,
) noexcept nogil:
    cdef pynn_conv2d typed = typed_conv2d(PYNN_FLOAT64, conv)
    return host.conv2d_backward(&typed, dy, x, w, dx, dw, db)


cdef inline pynn_pool2d typed_pool2d(int32_t dtype, const Pool2d* pool) noexcept nogil:
    cdef pynn_pool2d typed
    typed.size, typed.dtype = sizeof(typed), dtype
    typed.planes, typed.H, typed.W, typed.KH, typed.KW = pool.planes, pool.H, pool.W, pool.KH, pool.KW
    typed.stride_h, typed.stride_w = pool.stride_h, pool.stride_w
    typed.top, typed.bottom, typed.left, typed.right = pool.top, pool.bottom, pool.left, pool.right
    return typed


cdef int smax_pool2d(const Pool2d* pool, const float* x, float* y, int64_t* argmax) noexcept nogil:
    cdef pynn_pool2d typed = typed_pool2d(PYNN_FLOAT32, pool)
    return host.max_pool2d(&typed, x, y, argmax)


cdef int dmax_pool2d(const Pool2d* pool, const double* x, double* y, int64_t* argmax) noexcept nogil:
    cdef pynn_pool2d typed = typed_pool2d(PYNN_FLOAT64, pool)
    return host.max_pool2d(&typed, x, y, argmax)


cdef int smax_pool2d_backward(
    const Pool2d* pool, const float* dy, const int64_t* argmax, float* dx
) noexcept nogil:
    cdef pynn_pool2d typed = typed_pool2d(PYNN_FLOAT32, pool)
    return host.max_pool2d_backward(&typed, dy, argmax, dx)


cdef int dmax_pool2d_backward(
    const Pool2d* pool, const double* dy, const int64_t* argmax, double* dx
) noexcept nogil:
    cdef pynn_pool2d typed = typed_pool2d(PYNN_FLOAT64, pool)
    return host.max_pool2d_backward(&typed, dy, argmax, dx)


cdef int ssoftmax(
    int64_t outer, int64_t count, int64_t inner, const float* x, float* y
) noexcept nogil:
    return host.softmax(PYNN_FLOAT32, outer, count, inner, x, y)


cdef int dsoftmax(
    int64_t outer, int64_t count, int64_t inner, const double* x, double* y
) noexcept nogil:
    return host.softmax(PYNN_FLOAT64, outer, count, inner, x, y)


cdef int ssoftmax_backward(
    int64_t outer, int64_t count, int64_t inner, const float* dy, const float* y, float* dx
) noexcept nogil:
    return host.softmax_backward(PYNN_FLOAT32, outer, count, inner, dy, y, dx)


cdef int dsoftmax_backward(
    int64_t outer, int64_t count, int64_t inner, const double* dy, const double* y, double* dx
) noexcept nogil:
    return host.softmax_backward(PYNN_FLOAT64, outer, count, inner, dy, y, dx)


cdef void srelu(int64_t count, const float* x, float* y) noexcept nogil:
    host.relu(PYNN_FLOAT32, count, x, y)


cdef void drelu(int64_t count, const double* x, double* y) noexcept nogil:
    host.relu(PYNN_FLOAT64, count, x, y)


cdef void ssigmoid(int64_t count, const float* x, float* y) noexcept nogil:
    host.sigmoid(PYNN_FLOAT32, count, x, y)


cdef void dsigmoid(int64_t count, const double* x, double* y) noexcept nogil:
    host.sigmoid(PYNN_FLOAT64, count, x, y)


cdef void stanh(int64_t count, const float* x, float* y) noexcept nogil:
    host.tanh(PYNN_FLOAT32, count, x, y)


cdef void dtanh(int64_t count, const double* x, double* y) noexcept nogil:
    host.tanh(PYNN_FLOAT64, count, x, y)


cdef void sexp(int64_t count, const float* x, float* y) noexcept nogil:
    host.exp(PYNN_FLOAT32, count, x, y)


cdef void dexp(int64_t count, const double* x, double* y) noexcept nogil:
    host.exp(PYNN_FLOAT64, count, x, y)


cdef void slog(int64_t count, const float* x, float* y) noexcept nogil:
    host.log(PYNN_FLOAT32, count, x, y)


cdef void dlog(int64_t count, const double* x, double* y) noexcept nogil:
    host.log(PYNN_FLOAT64, count, x, y)
