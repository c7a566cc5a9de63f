#include "host/host.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>

#include "runtime/errors.h"
#include "runtime/philox.h"
#include "runtime/thread_pool.h"
#include "shapes/dense.h"
#include "shapes/window.h"
#include "simd/isa_table.h"
#include "threaded/conv2d.h"
#include "threaded/products.h"

namespace pynn {
namespace {

constexpr std::int64_t kWorkPerExponential = 20;

thread_local std::string last_error;

// Runs a function; what it throws becomes a status and the last error.
template <typename Function>
pynn_status guarded(const Function& function) noexcept {
  try {
    function();
    return PYNN_OK;
  } catch (const std::invalid_argument& error) {
    last_error = error.what();
    return PYNN_VALUE_ERROR;
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown failure";
  }
  return PYNN_FAILURE;
}

// Calls function(T{}) with T float or double.
template <typename Function>
void by_type(std::int32_t dtype, const Function& function) {
  if (dtype == PYNN_FLOAT64) return function(double{});
  if (dtype == PYNN_FLOAT32) return function(float{});
  throw std::invalid_argument(message("dtype must be 1 (float32) or 2 (float64), got ", dtype));
}

pynn_status call_parallel_for(std::int64_t units, std::int64_t work_per_unit, pynn_range function,
                              void* context) {
  return guarded([&] {
    parallel_for(units, work_per_unit, [&](std::int64_t begin, std::int64_t end) {
      const OnOneThread alone;
      function(context, begin, end);
    });
  });
}

void random_words(const pynn_random* random, std::int64_t n, std::int64_t first, std::int64_t count,
                  std::uint32_t* words) {
  const PhiloxStream stream{random->seed, random->step, random->node};
  const std::uint32_t sample = random->first_sample + static_cast<std::uint32_t>(n);
  PhiloxBlock block{};
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t element = first + i;
    if (i == 0 || element % 4 == 0)
      block = philox(stream, sample, static_cast<std::uint32_t>(element / 4));
    words[i] = block.word[element % 4];
  }
}

const char* call_last_error() { return last_error.c_str(); }

pynn_status gemm(const pynn_gemm* p) {
  return guarded([&] {
    if (p->M < 0 || p->N < 0 || p->K < 0)
      throw std::invalid_argument(
          message("gemm: sizes must not be negative, got M ", p->M, ", N ", p->N, ", K ", p->K));
    by_type(p->dtype, [&](auto zero) {
      using T = decltype(zero);
      Gemm<T> product;
      product.M = p->M, product.N = p->N, product.K = p->K;
      product.a = static_cast<const T*>(p->a), product.a_row = p->a_row;
      product.a_column = p->a_column;
      product.b = static_cast<const T*>(p->b), product.b_row = p->b_row;
      product.b_column = p->b_column;
      product.c = static_cast<T*>(p->c), product.c_row = p->c_row;
      product.accumulate = p->accumulate != 0;
      multiply(product);
    });
  });
}

Conv2dShape shape_of(const pynn_conv2d& c) {
  if (c.groups < 1 || c.C % c.groups != 0)
    throw std::invalid_argument(
        message("conv2d: groups=", c.groups, " does not divide ", c.C, " channels"));
  Padding padding;
  padding.sides = {c.top, c.bottom, c.left, c.right};
  if (std::min({c.top, c.bottom, c.left, c.right}) < 0)
    throw std::invalid_argument("conv2d: padding must not be negative");
  return conv2d_shape({c.N, c.C, c.H, c.W}, {c.O, c.C / c.groups, c.KH, c.KW}, std::nullopt,
                      {c.stride_h, c.stride_w}, padding, {c.dilation_h, c.dilation_w}, c.groups);
}

pynn_status conv2d(const pynn_conv2d* c, const void* x, const void* w, const void* b, void* y) {
  return guarded([&] {
    const Conv2dShape s = shape_of(*c);
    by_type(c->dtype, [&](auto zero) {
      using T = decltype(zero);
      threaded::conv2d(s, static_cast<const T*>(x), static_cast<const T*>(w),
                       static_cast<const T*>(b), static_cast<T*>(y));
    });
  });
}

pynn_status conv2d_backward(const pynn_conv2d* c, const void* dy, const void* x, const void* w,
                            void* dx, void* dw, void* db) {
  return guarded([&] {
    const Conv2dShape s = shape_of(*c);
    by_type(c->dtype, [&](auto zero) {
      using T = decltype(zero);
      threaded::conv2d_backward(s, static_cast<const T*>(dy), static_cast<const T*>(x),
                                static_cast<const T*>(w), static_cast<T*>(dx), static_cast<T*>(dw),
                                static_cast<T*>(db));
    });
  });
}

Window window_of(const pynn_pool2d& p) {
  Padding padding;
  padding.sides = {p.top, p.bottom, p.left, p.right};
  if (std::min({p.top, p.bottom, p.left, p.right}) < 0)
    throw std::invalid_argument("max_pool2d: padding must not be negative");
  return pool2d_window({p.planes, 1, p.H, p.W}, {p.KH, p.KW}, {p.stride_h, p.stride_w}, padding,
                       false);
}

pynn_status max_pool2d(const pynn_pool2d* p, const void* x, void* y, std::int64_t* argmax) {
  return guarded([&] {
    const Window w = window_of(*p);
    by_type(p->dtype, [&](auto zero) {
      using T = decltype(zero);
      parallel_for(p->planes, 2 * w.OH * w.OW * w.KH * w.KW,
                   [&](std::int64_t begin, std::int64_t end) {
                     isa_table<T>().max_pool2d.forward(w, begin, end, static_cast<const T*>(x),
                                                       static_cast<T*>(y), argmax);
                   });
    });
  });
}

pynn_status max_pool2d_backward(const pynn_pool2d* p, const void* dy, const std::int64_t* argmax,
                                void* dx) {
  return guarded([&] {
    const Window w = window_of(*p);
    std::atomic<bool> valid{true};
    by_type(p->dtype, [&](auto zero) {
      using T = decltype(zero);
      const std::int64_t pixels = w.H * w.W, positions = w.OH * w.OW;
      parallel_for(p->planes, pixels + positions, [&](std::int64_t begin, std::int64_t end) {
        if (!isa_table<T>().max_pool2d.backward(pixels, positions, begin, end,
                                                static_cast<const T*>(dy), argmax,
                                                static_cast<T*>(dx)))
          valid = false;
      });
    });
    if (!valid) throw std::invalid_argument("max_pool2d_backward: argmax lies outside the image");
  });
}

SoftmaxShape lines(std::int64_t outer, std::int64_t count, std::int64_t inner) {
  check_sizes("x", {outer, count, inner});
  return {outer, count, inner};
}

pynn_status softmax(std::int32_t dtype, std::int64_t outer, std::int64_t count, std::int64_t inner,
                    const void* x, void* y) {
  return guarded([&] {
    const SoftmaxShape s = lines(outer, count, inner);
    by_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      parallel_for(s.lines(), s.axis * kWorkPerExponential,
                   [&](std::int64_t begin, std::int64_t end) {
                     isa_table<T>().softmax.forward(s, begin, end, static_cast<const T*>(x),
                                                    static_cast<T*>(y));
                   });
    });
  });
}

pynn_status softmax_backward(std::int32_t dtype, std::int64_t outer, std::int64_t count,
                             std::int64_t inner, const void* dy, const void* y, void* dx) {
  return guarded([&] {
    const SoftmaxShape s = lines(outer, count, inner);
    by_type(dtype, [&](auto zero) {
      using T = decltype(zero);
      parallel_for(s.lines(), s.axis * 4, [&](std::int64_t begin, std::int64_t end) {
        isa_table<T>().softmax.backward(s, begin, end, static_cast<const T*>(dy),
                                        static_cast<const T*>(y), static_cast<T*>(dx));
      });
    });
  });
}

#define PYNN_POINTWISE_FUNCTION(name, kernel)                                                    \
  void name(std::int32_t dtype, std::int64_t count, const void* x, void* y) {                    \
    if (dtype == PYNN_FLOAT64)                                                                   \
      isa_table<double>().kernel(count, static_cast<const double*>(x), static_cast<double*>(y)); \
    else                                                                                         \
      isa_table<float>().kernel(count, static_cast<const float*>(x), static_cast<float*>(y));    \
  }
PYNN_POINTWISE_FUNCTION(relu, relu.forward)
PYNN_POINTWISE_FUNCTION(sigmoid, sigmoid.forward)
PYNN_POINTWISE_FUNCTION(hyperbolic_tangent, tanh.forward)
PYNN_POINTWISE_FUNCTION(exponential, elementary.exp)
PYNN_POINTWISE_FUNCTION(natural_log, elementary.log)
#undef PYNN_POINTWISE_FUNCTION

constexpr pynn_host kHost{sizeof(pynn_host),
                          PYNN_ABI_VERSION,
                          0,
                          PYNN_VERSION,
                          num_threads,
                          call_parallel_for,
                          random_words,
                          call_last_error,
                          gemm,
                          conv2d,
                          conv2d_backward,
                          max_pool2d,
                          max_pool2d_backward,
                          softmax,
                          softmax_backward,
                          relu,
                          sigmoid,
                          hyperbolic_tangent,
                          exponential,
                          natural_log};

}  // namespace

const pynn_host& host() { return kHost; }

}  // namespace pynn
