#include <cstdlib>

#include "runtime/cpu.h"
#include "runtime/errors.h"
#include "simd/isa_table.h"

namespace pynn {

namespace baseline {
void fill_tables(IsaTables&);
}
#ifdef PYNN_HAVE_avx2
namespace avx2 {
void fill_tables(IsaTables&);
}
#endif
#ifdef PYNN_HAVE_avx512
namespace avx512 {
void fill_tables(IsaTables&);
}
#endif

namespace {

struct Isa {
  std::string name;
  IsaTables tables;
};

Isa make(const char* name, void (*fill_tables)(IsaTables&)) {
  Isa isa{name, {}};
  fill_tables(isa.tables);
  return isa;
}

const std::vector<Isa>& isas() {
  static const std::vector<Isa> found = [] {
    std::vector<Isa> list;
#ifdef PYNN_HAVE_avx512
    if (cpu_features().avx512) list.push_back(make("avx512", avx512::fill_tables));
#endif
#ifdef PYNN_HAVE_avx2
    if (cpu_features().avx2) list.push_back(make("avx2", avx2::fill_tables));
#endif
    list.push_back(make("baseline", baseline::fill_tables));
    return list;
  }();
  return found;
}

const Isa& find(const std::string& name, const char* source) {
  std::string names;
  for (const Isa& isa : isas()) {
    if (isa.name == name) return isa;
    names += (names.empty() ? "" : ", ") + isa.name;
  }
  throw BackendError(source + name + " is not available here; choose from " + names);
}

const Isa& chosen() {
  static const Isa& isa = []() -> const Isa& {
    const char* wanted = std::getenv("PYNN_ISA");
    return wanted && *wanted ? find(wanted, "PYNN_ISA=") : isas().front();
  }();
  return isa;
}

}  // namespace

const std::string& isa_name() { return chosen().name; }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas()) names.push_back(isa.name);
  return names;
}

const IsaTables& isa_tables() { return chosen().tables; }
const IsaTables& isa_tables(const std::string& name) { return find(name, "").tables; }

}  // namespace pynn
