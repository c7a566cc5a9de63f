// Runs a kernel of every instruction set, on arrays that lie at forbidden pages, in one range and
// in several, and compares the results.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "check.h"
#include "guarded.h"
#include "simd/isa_table.h"

namespace pynn::test {

template <typename T>
constexpr double kEps = std::numeric_limits<T>::epsilon();

enum class Cut { kWhole, kUneven, kSingle };  // how a kernel's units are cut into ranges

// The arrays of one run. Random numbers repeat from run to run.
template <typename T>
class Arrays {
 public:
  Arrays(Place place, Cut cut) : place_(place), cut_(cut) {}

  double random(double low = -1, double high = 1) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * static_cast<double>(state_ >> 11) * 0x1p-53;
  }

  const T* input(std::int64_t count, double low = -1, double high = 1) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& value : values) value = static_cast<T>(random(low, high));
    return input(values);
  }
  template <typename U>
  const U* input(const std::vector<U>& values) {
    Guarded& memory = add(values.size() * sizeof(U));
    if (!values.empty()) std::memcpy(memory.data(), values.data(), memory.bytes());
    memory.make_read_only();
    return reinterpret_cast<const U*>(memory.data());
  }

  // A result: NaN, or -1, until it is written.
  template <typename U = T>
  U* output(std::int64_t count) {
    Guarded& memory = add(static_cast<std::size_t>(count) * sizeof(U));
    std::memset(memory.data(), 0xFF, memory.bytes());
    results_.push_back({&memory, std::is_same_v<U, T>});
    return reinterpret_cast<U*>(memory.data());
  }
  // A result that begins as random numbers.
  T* updated(std::int64_t count, double low = -1, double high = 1) {
    T* const data = output(count);
    for (std::int64_t i = 0; i < count; ++i) data[i] = static_cast<T>(random(low, high));
    return data;
  }
  void number(double value) { *output<T>(1) = static_cast<T>(value); }

  // Working memory: what the last run left there.
  static T* scratch(std::int64_t count) {
    static std::map<std::int64_t, Guarded> kept;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    const auto [at, is_new] = kept.try_emplace(count, bytes, Place::kEnd, std::size_t{64});
    if (is_new) std::memset(at->second.data(), 0xFF, bytes);
    return reinterpret_cast<T*>(at->second.data());
  }

  // Calls function(begin, end) for ranges that cover 0 ... units, the last first; they begin at
  // multiples of `step`.
  template <typename Function>
  void ranges(std::int64_t units, const Function& function, std::int64_t step = 1) const {
    std::vector<std::int64_t> cuts{0};
    if (cut_ == Cut::kUneven)
      for (std::int64_t fifths : {1, 3}) cuts.push_back(units * fifths / 5 / step * step);
    if (cut_ == Cut::kSingle)
      for (std::int64_t unit = step; unit < units; unit += step) cuts.push_back(unit);
    for (std::size_t i = cuts.size(); i-- > 0;) {
      const std::int64_t end = i + 1 < cuts.size() ? cuts[i + 1] : units;
      if (cuts[i] < end) function(cuts[i], end);
    }
  }

  bool slack_intact() const {
    for (const auto& memory : memory_)
      if (!memory->slack_intact()) return false;
    return true;
  }

  std::vector<unsigned char> bits() const {
    std::vector<unsigned char> all;
    for (const Result& result : results_)
      all.insert(all.end(), result.memory->data(), result.memory->data() + result.memory->bytes());
    return all;
  }
  std::vector<double> values() const {  // of the results of type T
    std::vector<double> all;
    for (const Result& result : results_) {
      if (!result.is_t) continue;
      const T* const data = reinterpret_cast<const T*>(result.memory->data());
      all.insert(all.end(), data, data + result.memory->bytes() / sizeof(T));
    }
    return all;
  }

 private:
  struct Result {
    Guarded* memory;
    bool is_t;
  };
  Guarded& add(std::size_t bytes) {
    memory_.push_back(std::make_unique<Guarded>(bytes, place_));
    return *memory_.back();
  }

  Place place_;
  Cut cut_;
  std::uint64_t state_ = 1;
  std::vector<std::unique_ptr<Guarded>> memory_;
  std::vector<Result> results_;
};

// body(kernels, arrays) runs the kernel. Its bits must depend neither on the place of the arrays
// nor on the ranges; between instruction sets its results may differ by `tolerance` times the
// precision of T, absolute or relative.
template <typename T, typename Body>
void check_kernel(const std::string& name, double tolerance, const Body& body) {
  std::vector<double> baseline;
  std::vector<std::string> isas = available_isas();
  for (auto isa = isas.rbegin(); isa != isas.rend(); ++isa) {
    const std::string what = name + (sizeof(T) == 4 ? " float32 " : " float64 ") + *isa;
    const IsaTables& tables = isa_tables(*isa);
    const IsaTable<T>* kernels;
    if constexpr (sizeof(T) == 4)
      kernels = &tables.f32;
    else
      kernels = &tables.f64;
    std::vector<unsigned char> first;
    for (Place place : {Place::kStart, Place::kEnd})
      for (Cut cut : {Cut::kWhole, Cut::kUneven, Cut::kSingle}) {
        Arrays<T> arrays(place, cut);
        body(*kernels, arrays);
        CHECK(arrays.slack_intact(), what);
        const bool is_first = place == Place::kStart && cut == Cut::kWhole;
        if (is_first) first = arrays.bits();
        CHECK(arrays.bits() == first, what, "place", static_cast<int>(place), "cut",
              static_cast<int>(cut));
        if (!is_first) continue;
        const std::vector<double> values = arrays.values();
        if (isa == isas.rbegin()) baseline = values;
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double bound = tolerance * kEps<T> * std::fmax(1, std::fabs(baseline[i]));
          const bool both_nan = std::isnan(values[i]) && std::isnan(baseline[i]);
          CHECK(both_nan || std::fabs(values[i] - baseline[i]) <= bound, what, "value", i,
                values[i], "baseline", baseline[i]);
        }
      }
  }
}

// Calls function(T{}) for T float and double.
template <typename Function>
void for_each_type(const Function& function) {
  function(float{});
  function(double{});
}

}  // namespace pynn::test
