#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "plan/winograd.h"
#include "runtime/cpu.h"
#include "runtime/thread_pool.h"

namespace pynn {
namespace {

py::dict config() {
  py::dict result;
  result["version"] = PYNN_VERSION;
  result["isa"] = isa_name();
  result["available_isas"] = available_isas();
  result["threads"] = num_threads();
  result["usable_processors"] = usable_processors();
  result["winograd"] = winograd_enabled();
#if defined(__clang__)
  result["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
  result["compiler"] = "gcc " __VERSION__;
#endif
  return result;
}

// Fused multiply-adds on every thread at once; returns how many operations were done in all. A
// benchmark times the call.
std::int64_t fma_loop(std::int64_t iterations, bool double_precision) {
  const std::int64_t threads = num_threads();
  std::vector<std::int64_t> operations(static_cast<std::size_t>(threads));
  std::vector<double> results(static_cast<std::size_t>(threads));
  const ReleaseGil nogil;
  parallel_for(threads, std::int64_t{1} << 40, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto place = static_cast<std::size_t>(i);
      results[place] = double_precision
                           ? isa_table<double>().peak.fma_loop(iterations, &operations[place])
                           : isa_table<float>().peak.fma_loop(iterations, &operations[place]);
    }
  });
  std::int64_t total = 0;
  for (std::size_t i = 0; i < results.size(); ++i) total += results[i] >= 0 ? operations[i] : 0;
  return total;
}

}  // namespace

void bind_runtime(py::module_& m) {
  using namespace py::literals;
  m.def("get_num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, "count"_a);
  m.def("get_winograd", &winograd_enabled);
  m.def("set_winograd", &enable_winograd, py::arg("enabled").noconvert());
  m.def("config", &config);
  m.def("fma_loop", &fma_loop, "iterations"_a, "double_precision"_a);
}

}  // namespace pynn
