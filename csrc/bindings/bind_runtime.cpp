#include "bindings/arrays.h"
#include "bindings/bindings.h"
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
#if defined(__clang__)
  result["compiler"] = "clang " __clang_version__;
#elif defined(__GNUC__)
  result["compiler"] = "gcc " __VERSION__;
#endif
  return result;
}

}  // namespace

void bind_runtime(py::module_& m) {
  using namespace py::literals;
  m.def("get_num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, "count"_a);
  m.def("config", &config);
}

}  // namespace pynn
