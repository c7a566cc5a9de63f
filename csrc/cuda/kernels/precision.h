// What products are computed with. Sums are float32 in each, parameters and activations too.
#pragma once

namespace pynn::cuda {

enum class Precision {
  fp32,  // fused multiply-adds of float32
  tf32,  // factors rounded to 10 bits of mantissa, on tensor cores from sm_80 on
  bf16   // factors rounded to bfloat16, on tensor cores from sm_80 on
};
// Devices before sm_80 round the factors and multiply them as float32. double is always double.

}  // namespace pynn::cuda
