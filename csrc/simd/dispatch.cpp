#include <cstdlib>
#include <stdexcept>

#include "runtime/cpu.h"
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

struct Choice {
  const char* name;
  void (*fill)(IsaTables&);
};

std::vector<Choice> choices() {
  std::vector<Choice> found;
#ifdef PYNN_HAVE_avx512
  if (cpu_features().avx512) found.push_back({"avx512", avx512::fill_tables});
#endif
#ifdef PYNN_HAVE_avx2
  if (cpu_features().avx2) found.push_back({"avx2", avx2::fill_tables});
#endif
  found.push_back({"baseline", baseline::fill_tables});
  return found;
}

Choice choose() {
  const std::vector<Choice> found = choices();
  const char* wanted = std::getenv("PYNN_ISA");
  if (!wanted || !*wanted) return found.front();
  std::string names;
  for (const Choice& choice : found) {
    if (std::string(wanted) == choice.name) return choice;
    names += std::string(names.empty() ? "" : ", ") + choice.name;
  }
  throw std::runtime_error("PYNN_ISA=" + std::string(wanted) +
                           " is not available here; choose from " + names);
}

struct Chosen {
  std::string name;
  IsaTables tables;
};

const Chosen& chosen() {
  static const Chosen value = [] {
    const Choice choice = choose();
    Chosen result{choice.name, {}};
    choice.fill(result.tables);
    return result;
  }();
  return value;
}

}  // namespace

const std::string& isa_name() { return chosen().name; }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Choice& choice : choices()) names.emplace_back(choice.name);
  return names;
}

const IsaTables& isa_tables() { return chosen().tables; }

}  // namespace pynn
