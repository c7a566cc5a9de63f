/* Operators for pynn, in plain C.
 *
 * A library of operators is a shared library that exports one function, pynn_get_library (below).
 * It links with nothing of pynn: it gives tables of functions, and what it needs of pynn it finds
 * in a table that comes with each call. No C++ type, exception or allocation crosses this border.
 * In C++, op.hpp writes the tables for you.
 *
 * The ABI grows and never changes: structs that begin with `size` may get members at their end, the
 * others stay as they are, numbers keep their meaning. `size` is sizeof the struct as its author
 * knew it. So a library loads in every pynn whose PYNN_ABI_VERSION is at least its own, and a pynn
 * that is older refuses it.
 *
 * Sizes and strides are in elements unless they are called bytes. */
#ifndef PYNN_ABI_H
#define PYNN_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PYNN_ABI_VERSION 1

/* What a callback returns. Other than PYNN_OK, it has written why to the call's message. */
typedef int32_t pynn_status;
#define PYNN_OK 0
#define PYNN_SHAPE_ERROR 1 /* shapes do not fit: pynn.ShapeError */
#define PYNN_VALUE_ERROR 2 /* an attribute is out of its range: ValueError */
#define PYNN_FAILURE 3     /* anything else: pynn.OperatorError */

#define PYNN_MESSAGE_BYTES 1024 /* room for a message, with its final 0 */
#define PYNN_MAX_AXES 8

#define PYNN_FLOAT32 1
#define PYNN_FLOAT64 2

/* An array. What pynn gives is dense (row-major, aligned to its elements); strides say so. */
typedef struct pynn_tensor {
  void* data;             /* NULL: only the shape is known, or the array is not wanted */
  const int64_t* shape;   /* (axes,) */
  const int64_t* strides; /* (axes,) */
  int32_t axes;           /* -1: an optional input that is absent */
  int32_t dtype;          /* PYNN_FLOAT32 or PYNN_FLOAT64; 0 in shape rules */
} pynn_tensor;

/* The value of an attribute, in the member that its type names. */
typedef struct pynn_value {
  int64_t integer;         /* PYNN_BOOL: 0 or 1; PYNN_INTEGER */
  double real;             /* PYNN_REAL */
  const char* text;        /* PYNN_TEXT: UTF-8, ends with 0 */
  const int64_t* integers; /* PYNN_INTEGERS: (count,) */
  int64_t count;
} pynn_value;

#define PYNN_BOOL 1
#define PYNN_INTEGER 2
#define PYNN_REAL 3
#define PYNN_TEXT 4
#define PYNN_INTEGERS 5

/* What a random operator draws from: Philox4x32-10 with the key `seed` and the counter (step, node,
 * first_sample + n, element / 4), of which element % 4 says the word. n is the sample's place in
 * the arrays of the call. */
typedef struct pynn_random {
  uint64_t seed;
  uint32_t step, node, first_sample, reserved;
} pynn_random;

struct pynn_host;
struct pynn_operator;

/* What a callback is given. */
typedef struct pynn_call {
  size_t size;
  const struct pynn_host* host;
  const struct pynn_operator* op;
  const pynn_value* attributes; /* in the order of the table */
  char* message;                /* (PYNN_MESSAGE_BYTES,), to be written where something is wrong */
  const pynn_tensor* inputs;    /* in the order of the table; data is NULL in shape rules, and
                                   backward unless PYNN_BACKWARD_READS_INPUTS */
  const pynn_tensor* y;         /* forward writes all of it; backward reads it, where
                                   PYNN_BACKWARD_READS_OUTPUT is set */
  const pynn_tensor* dy;        /* backward reads it */
  const pynn_tensor* gradients; /* of each input: backward writes all of it, except where data is
                                   NULL */
  void* saved;                  /* forward writes it, backward reads it */
  void* workspace;              /* of this call alone; its content is anything */
  pynn_random random;           /* of PYNN_RANDOM operators: the same forward and backward */
  int32_t dtype;                /* of all arrays; 0 in shape rules */
  int32_t input_count;
} pynn_call;

/* Flags of an operator. */
#define PYNN_POINTWISE                                                       \
  1u /* element i of y is a function of element i of each input. Calls get   \
        any number of elements of each, as (count,), and are made by several \
        threads at once; without shape rule, workspace and random numbers */
#define PYNN_PER_SAMPLE                                               \
  2u /* sample n of y is a function of sample n of each input, and of \
        parameters; PYNN_POINTWISE implies it */
#define PYNN_RANDOM 4u
#define PYNN_BACKWARD_READS_INPUTS 8u
#define PYNN_BACKWARD_READS_OUTPUT 16u
#define PYNN_BACKWARD_NEVER_FAILS \
  32u /* it returns PYNN_OK always: updates can be made on the way */

/* Flags of an input. */
#define PYNN_OPTIONAL 1u    /* it may be None; only the last inputs may */
#define PYNN_PARAMETER 2u   /* it has no batch axis: a weight */
#define PYNN_NO_GRADIENT 4u /* backward does not write its gradient */

typedef struct pynn_input {
  size_t size;
  const char* name;
  const char* doc;
  uint32_t flags;
} pynn_input;

typedef struct pynn_attribute {
  size_t size;
  const char* name;
  const char* doc;
  int32_t type;
  int32_t required;         /* whether it has no default */
  pynn_value default_value; /* where it is not required */
} pynn_attribute;

/* A sample call: pynn.testing.opcheck runs the cases and refusals, `pynn bench` the benchmarks. */
#define PYNN_CASE 1
#define PYNN_REFUSAL 2 /* it must fail */
#define PYNN_BENCHMARK 3

typedef struct pynn_sample {
  size_t size;
  const char* name;       /* why it is here */
  const char* shapes;     /* of the inputs, as in Python: "(3, 5, 7), (5,), None" */
  const char* attributes; /* as in a call: "beta=2.0, padding=(1, 2)"; may be NULL */
  const char* message;    /* of a refusal: words of its message */
  int32_t kind;
} pynn_sample;

#define PYNN_FORWARD 1
#define PYNN_BACKWARD 2

/* An operator. Its functions keep no state: several threads may call them at once. */
typedef struct pynn_operator {
  size_t size;
  const char* name; /* pynn.ops.<name> */
  const char* doc;
  const void* data; /* the library's own */
  uint32_t flags;
  int32_t input_count;
  int32_t attribute_count;
  int32_t sample_count;
  const pynn_input* const* inputs;
  const pynn_attribute* const* attributes;
  const pynn_sample* const* samples;
  /* Checks shapes and attributes; writes the shape of y: up to PYNN_MAX_AXES sizes. With
   * PYNN_PER_SAMPLE, the first is that of the first input. NULL: the shape of the first input. */
  pynn_status (*shape)(const pynn_call* call, int32_t* axes, int64_t* shape);
  pynn_status (*forward)(const pynn_call* call);
  /* May be NULL where no input has a gradient. */
  pynn_status (*backward)(const pynn_call* call);
  /* Bytes of workspace of a pass (PYNN_FORWARD or PYNN_BACKWARD), aligned to 64; the shapes of y
   * and the inputs are known. NULL: none. */
  pynn_status (*workspace)(const pynn_call* call, int32_t pass, int64_t* bytes);
  /* Bytes that forward leaves for backward. NULL: none. */
  pynn_status (*saved)(const pynn_call* call, int64_t* bytes);
  /* Floating-point operations of forward, for reports. NULL: not known. */
  pynn_status (*flops)(const pynn_call* call, int64_t* count);
} pynn_operator;

/* A library. The version comes first: nothing else is read where it is too new. */
typedef struct pynn_library {
  uint32_t abi_version;
  int32_t operator_count;
  size_t size;
  const pynn_operator* const* operators;
  const char* error; /* why there are no operators, where there are none */
} pynn_library;

#if defined(_WIN32)
#define PYNN_EXPORT __declspec(dllexport)
#else
#define PYNN_EXPORT __attribute__((visibility("default")))
#endif

/* What a library exports. The tables stay as they are until the process ends. A Python extension
 * module may instead give `pynn.load_library` a capsule called "pynn.library", which points to a
 * pynn_library. */
#define PYNN_LIBRARY_CAPSULE "pynn.library"
typedef const pynn_library* (*pynn_get_library_function)(void);
PYNN_EXPORT const pynn_library* pynn_get_library(void);

/* What pynn offers. All of it may be called from several threads, and gives the same bits on any
 * number of them. Functions with `dtype` take pointers to arrays of it, dense unless strides are
 * given; what they write must not overlap what they read, except where they say so. */

typedef void (*pynn_range)(void* context, int64_t begin, int64_t end);

/* C (M, N) = A (M, K) B (K, N), or += where accumulate is not 0. */
typedef struct pynn_gemm {
  size_t size;
  int64_t M, N, K;
  const void* a;
  int64_t a_row, a_column; /* strides: any, so that a transpose is a matter of strides */
  const void* b;
  int64_t b_row, b_column;
  void* c;
  int64_t c_row; /* rows of C are dense */
  int32_t dtype;
  int32_t accumulate;
} pynn_gemm;

/* x (N, C, H, W)   w (O, C / groups, KH, KW)   b (O,)   y (N, O, OH, OW), where
 * OH = (H + top + bottom - dilation_h (KH - 1) - 1) / stride_h + 1, and OW likewise. */
typedef struct pynn_conv2d {
  size_t size;
  int64_t N, C, H, W, O, KH, KW, groups;
  int64_t stride_h, stride_w, dilation_h, dilation_w;
  int64_t top, bottom, left, right; /* zeros around the image */
  int32_t dtype;
} pynn_conv2d;

/* x (planes, H, W)   y, argmax (planes, OH, OW), where argmax is h * W + w of the maximum. OH as in
 * pynn_conv2d, with dilation 1; padding is less than the window and never wins. */
typedef struct pynn_pool2d {
  size_t size;
  int64_t planes, H, W, KH, KW, stride_h, stride_w;
  int64_t top, bottom, left, right;
  int32_t dtype;
} pynn_pool2d;

/* For extension modules: PyCapsule_Import(PYNN_HOST_CAPSULE, 0) gives a const pynn_host*. */
#define PYNN_HOST_CAPSULE "pynn._core.host"

typedef struct pynn_host {
  size_t size;
  uint32_t abi_version;
  int32_t reserved;
  const char* version; /* of pynn: "0.1.0" */
  int32_t (*num_threads)(void);
  /* Calls function(context, begin, end) so that the ranges cover 0 ... units once, on several
   * threads where units * work_per_unit (in floating-point operations, roughly) is worth it.
   * `function` must not throw. For the same bits on any number of threads, it must not matter how
   * units are shared. Inside such a function, everything runs on the calling thread. */
  pynn_status (*parallel_for)(int64_t units, int64_t work_per_unit, pynn_range function,
                              void* context);
  /* words (count,): of the elements first ... first + count of sample n. */
  void (*random_words)(const pynn_random* random, int64_t n, int64_t first, int64_t count,
                       uint32_t* words);
  /* Why the last call of this thread, of those below that return a status, did not return PYNN_OK.
   */
  const char* (*last_error)(void);
  pynn_status (*gemm)(const pynn_gemm* product);
  pynn_status (*conv2d)(const pynn_conv2d* conv, const void* x, const void* w, const void* b,
                        void* y); /* b may be NULL */
  pynn_status (*conv2d_backward)(const pynn_conv2d* conv, const void* dy, const void* x,
                                 const void* w, void* dx, void* dw,
                                 void* db); /* dx, dw, db: overwritten, NULL where not wanted */
  pynn_status (*max_pool2d)(const pynn_pool2d* pool, const void* x, void* y, int64_t* argmax);
  pynn_status (*max_pool2d_backward)(const pynn_pool2d* pool, const void* dy, const int64_t* argmax,
                                     void* dx);
  /* Along the middle axis of x, y, dy, dx (outer, count, inner). */
  pynn_status (*softmax)(int32_t dtype, int64_t outer, int64_t count, int64_t inner, const void* x,
                         void* y);
  pynn_status (*softmax_backward)(int32_t dtype, int64_t outer, int64_t count, int64_t inner,
                                  const void* dy, const void* y, void* dx);
  /* Element by element, on the calling thread; y may be x. */
  void (*relu)(int32_t dtype, int64_t count, const void* x, void* y);
  void (*sigmoid)(int32_t dtype, int64_t count, const void* x, void* y);
  void (*tanh)(int32_t dtype, int64_t count, const void* x, void* y);
  void (*exp)(int32_t dtype, int64_t count, const void* x, void* y);
  void (*log)(int32_t dtype, int64_t count, const void* x, void* y);
} pynn_host;

#ifdef __cplusplus
}
#endif

#endif
