#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "bindings/release_gil.h"
#include "cuda/bindings/bindings.h"
#include "cuda/bindings/twin.h"
#include "cuda/plan/large_convolution.h"
#include "cuda/plan/large_product.h"
#include "cuda/runtime/driver.h"
#include "cuda/runtime/errors.h"
#include "cuda/runtime/libraries.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {
namespace {

// Copies on the device, timed by its clock: bytes read and written in a second.
double copy_rate(std::int64_t bytes, int repeats) {
  const DeviceMemory from(bytes), to(bytes);
  clear(from.data(), bytes);
  const auto event = [] {
    cudaEvent_t made = nullptr;
    check(cudaEventCreate(&made), "making an event");
    return std::shared_ptr<void>(made,
                                 [](void* e) { cudaEventDestroy(static_cast<cudaEvent_t>(e)); });
  };
  const auto begin = event(), end = event();
  const auto record = [](const std::shared_ptr<void>& e) {
    check(cudaEventRecord(static_cast<cudaEvent_t>(e.get()), stream()), "recording an event");
  };
  copy_on_device(to.data(), from.data(), bytes);
  record(begin);
  for (int i = 0; i < repeats; ++i) copy_on_device(to.data(), from.data(), bytes);
  record(end);
  synchronize();
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(begin.get()),
                             static_cast<cudaEvent_t>(end.get())),
        "reading a clock");
  return 2.0 * static_cast<double>(bytes) * repeats / (static_cast<double>(milliseconds) * 1e-3);
}

}  // namespace

void bind_device(py::module_& m) {
  using namespace py::literals;
  m.def("missing", [] { return missing(); });
  m.def("describe", [] { return describe(); });
  m.def("libraries", [] { return describe_libraries(); });
  m.def("set_library_folders", &set_library_folders, "folders"_a);
  m.def(
      "set_large_product",
      [](std::optional<double> flops) {
        const double before = large_product_flops();
        set_large_product_flops(flops.value_or(kLargeProduct));
        return before;
      },
      "flops"_a);
  m.def(
      "set_large_convolution",
      [](std::optional<double> flops) {
        const double before = large_convolution_flops();
        set_large_convolution_flops(flops.value_or(kLargeConvolution));
        return before;
      },
      "flops"_a);
  m.def("device_count", &device_count);
  m.def("memory_info", [] {
    const MemoryInfo info = memory_info();
    return py::make_tuple(info.free, info.total);
  });
  m.def("synchronize", [] {
    const ReleaseGil nogil;
    synchronize();
  });
  m.def("lose", &lose);
  m.def("copy_rate", &copy_rate, "bytes"_a, "repeats"_a, py::call_guard<ReleaseGil>());
  py::class_<Twin, std::shared_ptr<Twin>>(m, "Twin")
      .def(py::init<py::array>(), "array"_a)
      .def("to_host", &Twin::to_host)
      .def("to_device", &Twin::to_device)
      .def("changed", &Twin::changed)
      .def_property_readonly("on_device", &Twin::on_device);
}

}  // namespace pynn::cuda
