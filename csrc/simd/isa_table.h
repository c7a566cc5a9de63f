// One table of kernels for each instruction set; `isa_table<T>()` is the one chosen at import.
#pragma once

#include <string>
#include <vector>

#include "kernels/avg_pool2d.h"
#include "kernels/bias.h"
#include "kernels/conv2d.h"
#include "kernels/gemm.h"
#include "kernels/max_pool2d.h"
#include "kernels/relu.h"

// Every kernel file once: the name of its struct, and of its member in the table.
#define PYNN_KERNELS(X)    \
  X(AvgPool2d, avg_pool2d) \
  X(Bias, bias)            \
  X(Conv2d, conv2d)        \
  X(Gemm, gemm)            \
  X(MaxPool2d, max_pool2d) \
  X(Relu, relu)

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

// The best instruction set that this build and this processor share, or the one that PYNN_ISA names.
const std::string& isa_name();
std::vector<std::string> available_isas();  // best first
const IsaTables& isa_tables();

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
