// Prints the largest error of exp, tanh, sigmoid and log over all float32 values, for every
// instruction set that this processor has; ends with 1 where one is above its bound. Takes minutes.
// Arguments: the functions wanted; without any, all.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iomanip>
#include <iostream>
#include <mutex>

#include "runtime/thread_pool.h"
#include "vector_math.h"

namespace {

using namespace pynn;        // NOLINT: a test of this namespace
using namespace pynn::test;  // NOLINT

constexpr std::int64_t kBlock = 1 << 16, kBlocks = (std::int64_t{1} << 32) / kBlock;

struct Worst {
  double error = 0;
  float x = 0;
};

std::vector<Worst> worst_of_each_isa(Function function, const std::vector<IsaLoops<float>>& isas) {
  std::vector<Worst> worst(isas.size());
  std::mutex mutex;
  parallel_for(kBlocks, kBlock * 1000, [&](std::int64_t begin, std::int64_t end) {
    std::vector<Worst> mine(isas.size());
    std::vector<float> x(kBlock), y(kBlock);
    std::vector<double> expected(kBlock);
    for (std::int64_t block = begin; block < end; ++block) {
      for (std::size_t i = 0; i < kBlock; ++i) {
        const auto bits =
            static_cast<std::uint32_t>(block * kBlock) + static_cast<std::uint32_t>(i);
        std::memcpy(&x[i], &bits, sizeof bits);
        expected[i] = exact(function, static_cast<double>(x[i]));
      }
      for (std::size_t k = 0; k < isas.size(); ++k) {
        isas[k].table.loop[function](kBlock, x.data(), y.data());
        for (std::size_t i = 0; i < kBlock; ++i) {
          if (y[i] == static_cast<float>(expected[i])) continue;  // at most 0.5 ulp
          const double error = ulps(y[i], expected[i]);
          if (error > mine[k].error && in_domain(function, x[i])) mine[k] = {error, x[i]};
        }
      }
    }
    std::lock_guard<std::mutex> lock(mutex);
    for (std::size_t k = 0; k < isas.size(); ++k)
      if (mine[k].error > worst[k].error) worst[k] = mine[k];
  });
  return worst;
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<std::string> wanted(arguments + 1, arguments + count);
  const auto isas = loops_of_each_isa<float>();
  bool within_bounds = true;
  std::cout << std::fixed << std::setprecision(3);
  for (int f = 0; f < kFunctions; ++f) {
    const auto function = static_cast<Function>(f);
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), name(function)) == wanted.end())
      continue;
    const std::vector<Worst> worst = worst_of_each_isa(function, isas);
    for (std::size_t k = 0; k < isas.size(); ++k) {
      std::cout << isas[k].isa << " " << name(function) << ": " << worst[k].error << " ulp at "
                << std::hexfloat << worst[k].x << std::fixed << std::endl;
      within_bounds = within_bounds && worst[k].error <= bound(function);
    }
  }
  return within_bounds ? 0 : 1;
}
