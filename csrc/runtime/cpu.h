// What the processor and the operating system offer.
#pragma once

namespace pynn {

struct CpuFeatures {
  bool avx2 = false;    // AVX2 and FMA, with the registers saved by the operating system
  bool avx512 = false;  // AVX-512 F, VL, BW, DQ, likewise
};
const CpuFeatures& cpu_features();

}  // namespace pynn
