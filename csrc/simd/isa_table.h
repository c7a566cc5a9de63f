// One table of kernels for each instruction set; `isa_table<T>()` is the one chosen at import.
#pragma once

#include <string>
#include <vector>

#include "kernels/adam.h"
#include "kernels/add.h"
#include "kernels/avg_pool2d.h"
#include "kernels/batch_norm.h"
#include "kernels/bias.h"
#include "kernels/concat.h"
#include "kernels/conv2d.h"
#include "kernels/cross_entropy.h"
#include "kernels/drop_block2d.h"
#include "kernels/dropout.h"
#include "kernels/elementary.h"
#include "kernels/gemm.h"
#include "kernels/leaky_relu.h"
#include "kernels/log_softmax.h"
#include "kernels/max_pool2d.h"
#include "kernels/mse_loss.h"
#include "kernels/mul.h"
#include "kernels/pad2d.h"
#include "kernels/peak.h"
#include "kernels/relu.h"
#include "kernels/rmsprop.h"
#include "kernels/sgd.h"
#include "kernels/sigmoid.h"
#include "kernels/softmax.h"
#include "kernels/sum_of_squares.h"
#include "kernels/tanh.h"
#include "simd/dot_product.h"
#include "simd/few_rows.h"
#include "simd/outer_product.h"
#include "simd/sample_blocks.h"
#include "simd/winograd.h"

// Every kernel and tile once: the name of its struct, and of its member in the table.
#define PYNN_KERNELS(X)           \
  X(Adam, adam)                   \
  X(Add, add)                     \
  X(AvgPool2d, avg_pool2d)        \
  X(BatchNorm, batch_norm)        \
  X(Bias, bias)                   \
  X(Concat, concat)               \
  X(Conv2d, conv2d)               \
  X(CrossEntropy, cross_entropy)  \
  X(DotProduct, dot_product)      \
  X(DropBlock2d, drop_block2d)    \
  X(Dropout, dropout)             \
  X(Elementary, elementary)       \
  X(FewRows, few_rows)            \
  X(Gemm, gemm)                   \
  X(LeakyRelu, leaky_relu)        \
  X(LogSoftmax, log_softmax)      \
  X(MaxPool2d, max_pool2d)        \
  X(MseLoss, mse_loss)            \
  X(Mul, mul)                     \
  X(OuterProduct, outer_product)  \
  X(Pad2d, pad2d)                 \
  X(Peak, peak)                   \
  X(Relu, relu)                   \
  X(Rmsprop, rmsprop)             \
  X(SampleBlock, sample_blocks)   \
  X(Sgd, sgd)                     \
  X(Sigmoid, sigmoid)             \
  X(Softmax, softmax)             \
  X(SumOfSquares, sum_of_squares) \
  X(Tanh, tanh)                   \
  X(Winograd, winograd)

namespace pynn {

template <typename T>
struct IsaTable {
#define PYNN_MEMBER(Name, member) Name##Kernels<T> member;
  PYNN_KERNELS(PYNN_MEMBER)
#undef PYNN_MEMBER
};

struct IsaTables {
  IsaTable<float> f32;
  IsaTable<double> f64;
};

// The best instruction set that this build and this processor share, or the one that PYNN_ISA
// names.
const std::string& isa_name();
std::vector<std::string> available_isas();  // best first
const IsaTables& isa_tables();
const IsaTables& isa_tables(const std::string& name);  // of an available one

template <typename T>
const IsaTable<T>& isa_table();
template <>
inline const IsaTable<float>& isa_table<float>() {
  return isa_tables().f32;
}
template <>
inline const IsaTable<double>& isa_table<double>() {
  return isa_tables().f64;
}

}  // namespace pynn
