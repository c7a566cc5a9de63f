#include "cuda/bindings/bindings.h"
#include "cuda/bindings/twin.h"
#include "cuda/runtime/driver.h"
#include "cuda/runtime/libraries.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {

void bind_device(py::module_& m) {
  using namespace py::literals;
  m.def("missing", [] { return missing(); });
  m.def("describe", [] { return describe(); });
  m.def("libraries", [] { return describe_libraries(); });
  m.def("set_library_folders", &set_library_folders, "folders"_a);
  m.def("device_count", &device_count);
  m.def("memory_info", [] {
    const MemoryInfo info = memory_info();
    return py::make_tuple(info.free, info.total);
  });
  m.def("synchronize", [] {
    const py::gil_scoped_release nogil;
    synchronize();
  });
  m.def("lose", &lose);
  py::class_<Twin, std::shared_ptr<Twin>>(m, "Twin")
      .def(py::init<py::array>(), "array"_a)
      .def("to_host", &Twin::to_host)
      .def("to_device", &Twin::to_device)
      .def("changed", &Twin::changed)
      .def_property_readonly("on_device", &Twin::on_device);
}

}  // namespace pynn::cuda
