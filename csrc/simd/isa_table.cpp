// Compiled once for each instruction set: fills that set's table.
#include "simd/isa_table.h"

namespace pynn::PYNN_ISA {

#define PYNN_DECLARE(Name, member) \
  void get(Name##Kernels<float>&); \
  void get(Name##Kernels<double>&);
PYNN_KERNELS(PYNN_DECLARE)
#undef PYNN_DECLARE

void fill_tables(IsaTables& tables) {
#define PYNN_FILL(Name, member) \
  get(tables.f32.member);       \
  get(tables.f64.member);
  PYNN_KERNELS(PYNN_FILL)
#undef PYNN_FILL
}

}  // namespace pynn::PYNN_ISA
