# distutils: language = c++
"""A user of pynn's kernels: a small network's forward pass on pointers, without the GIL."""

from libc.stdint cimport int64_t

from pynn.cython_api cimport (
    Conv2d, Pool2d, dgemm, dsoftmax, num_threads, parallel_for, sconv2d, sconv2d_backward, sgemm,
    smax_pool2d, srelu, ssigmoid,
)


def probabilities(double[:, ::1] x, double[:, ::1] w, double[:, ::1] logits, double[:, ::1] out):
    """logits = x w^T, out = softmax(logits), row by row."""
    cdef int64_t N = x.shape[0], K = x.shape[1], M = w.shape[0]
    cdef int status
    with nogil:
        status = dgemm(N, M, K, &x[0, 0], K, 1, &w[0, 0], 1, K, &logits[0, 0], M, False)
        if status == 0:
            status = dsoftmax(N, M, 1, &logits[0, 0], &out[0, 0])
    return status


def block(float[:, :, :, ::1] x, float[:, :, :, ::1] w, float[:, :, :, ::1] y,
          float[:, :, :, ::1] pooled, int64_t[:, :, :, ::1] argmax):
    """relu(conv2d(x, w, padding=1)), then max_pool2d(2)."""
    cdef Conv2d conv
    cdef Pool2d pool
    cdef int first, second
    cdef int64_t size = y.shape[0] * y.shape[1] * y.shape[2] * y.shape[3]
    conv.N, conv.C, conv.H, conv.W = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    conv.O, conv.KH, conv.KW, conv.groups = w.shape[0], w.shape[2], w.shape[3], 1
    conv.stride_h = conv.stride_w = conv.dilation_h = conv.dilation_w = 1
    conv.top = conv.bottom = conv.left = conv.right = 1
    pool.planes, pool.H, pool.W = conv.N * conv.O, y.shape[2], y.shape[3]
    pool.KH = pool.KW = pool.stride_h = pool.stride_w = 2
    pool.top = pool.bottom = pool.left = pool.right = 0
    with nogil:
        first = sconv2d(&conv, &x[0, 0, 0, 0], &w[0, 0, 0, 0], NULL, &y[0, 0, 0, 0])
        srelu(size, &y[0, 0, 0, 0], &y[0, 0, 0, 0])
        second = smax_pool2d(&pool, &y[0, 0, 0, 0], &pooled[0, 0, 0, 0], &argmax[0, 0, 0, 0])
    return first, second


def weight_gradient(float[:, :, :, ::1] dy, float[:, :, :, ::1] x, float[:, :, :, ::1] w,
                    float[:, :, :, ::1] dw, int64_t groups):
    """dw of conv2d(x, w, groups=groups)."""
    cdef Conv2d conv
    conv.N, conv.C, conv.H, conv.W = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    conv.O, conv.KH, conv.KW, conv.groups = w.shape[0], w.shape[2], w.shape[3], groups
    conv.stride_h = conv.stride_w = conv.dilation_h = conv.dilation_w = 1
    conv.top = conv.bottom = conv.left = conv.right = 0
    return sconv2d_backward(
        &conv, &dy[0, 0, 0, 0], &x[0, 0, 0, 0], &w[0, 0, 0, 0], NULL, &dw[0, 0, 0, 0], NULL
    )


cdef void sigmoid_range(void* context, int64_t begin, int64_t end) noexcept nogil:
    cdef float* x = <float*>context
    ssigmoid(end - begin, x + begin, x + begin)


def sigmoid(float[::1] x):
    """In place, on several threads."""
    return parallel_for(x.shape[0], 20, sigmoid_range, &x[0])


def negative_size(float[:, ::1] a):
    """A call that is refused."""
    return sgemm(-1, 1, 1, &a[0, 0], 1, 1, &a[0, 0], 1, 1, &a[0, 0], 1, False)


def threads():
    return num_threads()
