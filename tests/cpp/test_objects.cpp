// What the object files of the instruction sets are made of. Arguments: nm, objdump, the files.
//
// A weak symbol may be merged with another set's, and a static initialiser runs on any processor:
// either would execute instructions that the processor may not have. A spill in the innermost loop
// of a matrix product costs much of its speed, and so does mathematics for one value at a time.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"

namespace {

std::vector<std::string> lines_of(const std::string& command) {
  std::vector<std::string> lines;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string line;
  for (int c; pipe && (c = std::fgetc(pipe.get())) != EOF;) {
    if (c != '\n') {
      line += static_cast<char>(c);
      continue;
    }
    lines.push_back(line);
    line.clear();
  }
  return lines;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}
bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

struct Instruction {
  unsigned long address;
  std::string text;

  unsigned long target() const {  // of a jump within the function, or 0
    const bool jumps = text[0] == 'j' || text[0] == 'b' || text.rfind("cb", 0) == 0;
    const std::size_t end = text.find(" <");  // jne 4c <tile+0x10>, or cbnz x0, 4c <...>
    if (!jumps || end == std::string::npos) return 0;
    return std::strtoul(text.c_str() + text.find_last_of(" \t", end - 1) + 1, nullptr, 16);
  }
  bool multiplies() const {
    return text.rfind("vfm", 0) == 0 || text.rfind("mulp", 0) == 0 || text.rfind("fmla", 0) == 0;
  }
  // A vector there; a pointer costs a load that the tile has room for.
  bool spills() const {
    return (has(text, "(%rsp") && has(text, "mm")) || (has(text, "[sp") && has(text, "\tq"));
  }
};

using Code = std::vector<Instruction>;

// The loops of the function that multiply and have no other such loop within.
std::vector<Code> inner_loops(const Code& function) {
  using Place = std::pair<std::ptrdiff_t, std::ptrdiff_t>;
  std::vector<Place> places;
  for (std::size_t last = 0; last < function.size(); ++last) {
    const unsigned long target = function[last].target();
    if (target == 0 || target > function[last].address || target < function[0].address) continue;
    const auto first = std::find_if(function.begin(), function.end(),
                                    [&](const Instruction& i) { return i.address == target; });
    const auto end = function.begin() + static_cast<std::ptrdiff_t>(last) + 1;
    if (std::any_of(first, end, [](const Instruction& i) { return i.multiplies(); }))
      places.emplace_back(first - function.begin(), end - function.begin());
  }
  std::vector<Code> loops;
  for (const Place& place : places) {
    const bool outer = std::any_of(places.begin(), places.end(), [&](const Place& other) {
      return other != place && other.first >= place.first && other.second <= place.second;
    });
    if (!outer) loops.emplace_back(function.begin() + place.first, function.begin() + place.second);
  }
  return loops;
}

void check_tile(const std::string& file, const std::string& name, const Code& function) {
  const std::vector<Code> loops = inner_loops(function);
  CHECK(!loops.empty(), file, name, "has no loop that multiplies");
  for (const Code& loop : loops) {
    const auto count = [&loop](bool (Instruction::*is)() const) {
      return std::count_if(loop.begin(), loop.end(),
                           [is](const Instruction& i) { return (i.*is)(); });
    };
    // What an unrolled loop keeps in memory for a few k hides behind its many multiplications; a
    // loop over single k has no room for that.
    const auto spills = count(&Instruction::spills), multiplies = count(&Instruction::multiplies);
    CHECK(spills <= multiplies / 32 * 2, file, name, spills, "spills in a loop that multiplies",
          multiplies, "times");
  }
}

void check_tiles(const std::string& objdump, const std::string& file) {
  std::string name;
  Code function;
  int tiles = 0;
  const auto finish = [&] {
    if (has(name, "::tile<")) {
      check_tile(file, name, function);
      ++tiles;
    }
    function.clear();
  };
  for (const std::string& line : lines_of(objdump + " -d -C --no-show-raw-insn '" + file + "'")) {
    const std::size_t label = line.find(" <"), tab = line.find('\t');
    if (ends_with(line, ">:") && label != std::string::npos) {
      finish();
      name = line.substr(label + 2);
    } else if (tab != std::string::npos) {
      function.push_back({std::strtoul(line.c_str(), nullptr, 16), line.substr(tab + 1)});
    }
  }
  finish();
  CHECK(tiles >= 8, file, tiles, "tiles found");
}

// A loop over a function of csrc/simd/math.h is vector code: here, it divides vectors.
void check_vectors(const std::string& objdump, const std::string& file) {
  const std::vector<std::string> lines =
      lines_of(objdump + " -d --no-show-raw-insn '" + file + "'");
  for (const auto& [x86, arm] : {std::pair{"divps", ".4s"}, std::pair{"divpd", ".2d"}})
    CHECK(std::any_of(lines.begin(), lines.end(),
                      [&, x86 = x86, arm = arm](const std::string& line) {
                        return has(line, x86) || (has(line, "fdiv\tv") && has(line, arm));
                      }),
          file, "has no", x86);
}

}  // namespace

int main(int count, char** arguments) {
  // Releases are built with GCC. Clang keeps some sums of the widest dot tiles on the stack.
  const bool gcc = std::string(arguments[1]) == "GNU";
  const std::string nm = arguments[2], objdump = arguments[3];
  CHECK(count > 4, "no object files");
  for (int i = 4; i < count; ++i) {
    const std::string file = arguments[i];
    const std::vector<std::string> symbols = lines_of(nm + " -P '" + file + "'");
    CHECK(!symbols.empty(), file, "has no symbols");
    for (const std::string& symbol : symbols) {  // name, kind, address, size
      const std::string kind = symbol.substr(symbol.find(' ') + 1, 1);
      CHECK(!has("WwVvu", kind), file, "weak:", symbol);
      CHECK(!has(symbol, "_GLOBAL__sub_I"), file, "initialiser:", symbol);
    }
    // The dot tile is for sets with fused multiply-adds; without them it has a register too few.
    const bool baseline = has(file, "_baseline.dir");
    if (gcc && (ends_with(file, "gemm.cpp.o") || ends_with(file, "outer_product.cpp.o") ||
                (ends_with(file, "dot_product.cpp.o") && !baseline)))
      check_tiles(objdump, file);
    if (ends_with(file, "tanh.cpp.o") || ends_with(file, "sigmoid.cpp.o"))
      check_vectors(objdump, file);
  }
  return pynn::test::failures() ? 1 : 0;
}
