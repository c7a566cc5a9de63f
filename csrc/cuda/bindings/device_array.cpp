#include "cuda/bindings/device_array.h"

#include <utility>

#include "cuda/bindings/dlpack.h"
#include "cuda/runtime/errors.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {
namespace {

// Waits, on our stream, for what was launched on another one.
void wait_for(std::intptr_t other) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  const auto release =
      std::shared_ptr<void>(event, [](void* e) { cudaEventDestroy(static_cast<cudaEvent_t>(e)); });
  check(cudaEventRecord(event, reinterpret_cast<cudaStream_t>(other)), "recording an event");
  check(cudaStreamWaitEvent(stream(), event, 0), "waiting for an event");
}

bool is_dense(const Shape& shape, const std::int64_t* strides) {
  std::int64_t expected = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

[[noreturn]] void refuse_strides() {
  throw DTypeError("an array on the device must be C-contiguous; make it so first");
}

py::dtype dtype_of(const dlpack::DType& type) {
  const char* kind = type.code == dlpack::kFloat      ? "f"
                     : type.code == dlpack::kInt      ? "i"
                     : type.code == dlpack::kUnsigned ? "u"
                     : type.code == dlpack::kBool     ? "b"
                                                      : nullptr;
  const int bits = type.bits;
  const bool known = bits == 8 || bits == 16 || bits == 32 || bits == 64;
  if (!kind || !known || type.lanes != 1)
    throw DTypeError(
        message("an array on the device has a dtype that pynn does not know (DLPack "
                "code ",
                static_cast<int>(type.code), ", ", bits, " bits)"));
  return py::dtype(std::string(kind) + std::to_string(bits / 8));
}

DeviceArray from_tensor(const dlpack::Tensor& t, std::shared_ptr<void> owner) {
  if (t.device.type != dlpack::kCuda && t.device.type != dlpack::kCudaManaged)
    throw DTypeError(message("expected an array on a CUDA device (DLPack device type ",
                             dlpack::kCuda, "), got device type ", t.device.type));
  if (t.device.number != 0)
    throw DTypeError(
        message("pynn computes on CUDA device 0, got an array on device ", t.device.number));
  Shape shape(t.shape, t.shape + t.axes);
  if (t.strides && !is_dense(shape, t.strides)) refuse_strides();
  return DeviceArray(std::move(shape), dtype_of(t.dtype),
                     static_cast<char*>(t.data) + t.byte_offset, std::move(owner));
}

template <typename Managed>
DeviceArray take(const py::capsule& capsule, const char* name, const char* used) {
  auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (!managed) throw py::error_already_set();
  PyCapsule_SetName(capsule.ptr(), used);
  std::shared_ptr<void> owner(managed, [](void* pointer) {
    auto* const m = static_cast<Managed*>(pointer);
    const py::gil_scoped_acquire gil;
    if (m->deleter) m->deleter(m);
  });
  return from_tensor(managed->tensor, std::move(owner));
}

DeviceArray from_dlpack(py::handle object) {
  using namespace py::literals;
  const auto device = py::cast<std::pair<int, int>>(object.attr("__dlpack_device__")());
  if (device.first == dlpack::kCpu)
    return to_device_array(py::module_::import("numpy").attr("from_dlpack")(object));
  const auto handle = reinterpret_cast<std::intptr_t>(stream());
  py::object made;
  try {
    made = object.attr("__dlpack__")("stream"_a = handle, "max_version"_a = py::make_tuple(1, 0));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
    made = object.attr("__dlpack__")("stream"_a = handle);  // of before DLPack 1.0
  }
  const auto capsule = made.cast<py::capsule>();
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned"))
    return take<dlpack::VersionedTensor>(capsule, "dltensor_versioned", "used_dltensor_versioned");
  return take<dlpack::ManagedTensor>(capsule, "dltensor", "used_dltensor");
}

DeviceArray from_cuda_array_interface(py::handle object) {
  const auto interface = object.attr("__cuda_array_interface__").cast<py::dict>();
  const auto shape = interface["shape"].cast<Shape>();
  const auto dtype = py::dtype::from_args(interface["typestr"]);
  if (interface.contains("strides") && !interface["strides"].is_none()) {
    Shape strides = interface["strides"].cast<Shape>();
    for (std::int64_t& stride : strides) stride /= dtype.itemsize();
    if (!is_dense(shape, strides.data())) refuse_strides();
  }
  if (interface.contains("mask") && !interface["mask"].is_none())
    throw DTypeError("an array on the device must not be masked; fill it first");
  if (interface.contains("stream") && !interface["stream"].is_none())
    wait_for(interface["stream"].cast<std::intptr_t>());
  const auto address = interface["data"].cast<py::tuple>()[0].cast<std::uintptr_t>();
  std::shared_ptr<void> owner(new py::object(py::reinterpret_borrow<py::object>(object)),
                              [](void* held) {
                                const py::gil_scoped_acquire gil;
                                delete static_cast<py::object*>(held);
                              });
  return DeviceArray(shape, dtype, reinterpret_cast<void*>(address), std::move(owner));
}

// What an exported tensor keeps alive.
struct Export {
  Shape shape;
  std::shared_ptr<void> owner;
};

dlpack::Tensor exported(const DeviceArray& array, Export& kept) {
  const char kind = array.dtype().kind();
  const std::uint8_t code = kind == 'f'   ? dlpack::kFloat
                            : kind == 'i' ? dlpack::kInt
                            : kind == 'b' ? dlpack::kBool
                                          : dlpack::kUnsigned;
  return {array.data(),
          {dlpack::kCuda, 0},
          static_cast<std::int32_t>(kept.shape.size()),
          {code, static_cast<std::uint8_t>(8 * array.dtype().itemsize()), 1},
          kept.shape.data(),
          nullptr,
          0};
}

template <typename Managed>
void end_export(Managed* managed) {
  delete static_cast<Export*>(managed->context);
  delete managed;
}

template <typename Managed>
py::object capsule_of(Managed* managed, const char* name) {
  PyObject* const made = PyCapsule_New(managed, name, [](PyObject* capsule) {
    for (const char* each : {"dltensor", "dltensor_versioned"}) {
      if (!PyCapsule_IsValid(capsule, each)) continue;  // taken: its new owner ends it
      auto* const m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, each));
      m->deleter(m);
    }
  });
  if (!made) {
    managed->deleter(managed);
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(made);
}

// For the consumer's stream: None is the legacy default stream, -1 asks for no waiting.
void let_wait(const py::object& consumer) {
  const std::intptr_t handle = consumer.is_none() ? 1 : consumer.cast<std::intptr_t>();
  if (handle == -1) return;
  if (handle == 0)
    throw std::invalid_argument(
        "stream 0 is ambiguous: 1 is the legacy default stream, 2 that of "
        "the thread");
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  const auto release =
      std::shared_ptr<void>(event, [](void* e) { cudaEventDestroy(static_cast<cudaEvent_t>(e)); });
  check(cudaEventRecord(event, stream()), "recording an event");
  check(cudaStreamWaitEvent(reinterpret_cast<cudaStream_t>(handle), event, 0),
        "waiting for an event");
}

py::object to_dlpack(const DeviceArray& array, const py::object& consumer,
                     const py::object& max_version) {
  let_wait(consumer);
  auto kept = std::make_unique<Export>(Export{array.shape(), array.owner()});
  const dlpack::Tensor tensor = exported(array, *kept);
  if (!max_version.is_none() && max_version.cast<std::pair<int, int>>().first >= 1) {
    auto* const managed = new dlpack::VersionedTensor{
        1, 0, kept.release(), &end_export<dlpack::VersionedTensor>, 0, tensor};
    return capsule_of(managed, "dltensor_versioned");
  }
  auto* const managed =
      new dlpack::ManagedTensor{tensor, kept.release(), &end_export<dlpack::ManagedTensor>};
  return capsule_of(managed, "dltensor");
}

}  // namespace

DeviceArray::DeviceArray(Shape shape, py::dtype dtype)
    : shape_(std::move(shape)), dtype_(std::move(dtype)) {
  auto memory = std::make_shared<DeviceMemory>(bytes());
  data_ = memory->data();
  owner_ = std::move(memory);
  session_ = session();
}

DeviceArray::DeviceArray(Shape shape, py::dtype dtype, void* data, std::shared_ptr<void> owner)
    : shape_(std::move(shape)),
      dtype_(std::move(dtype)),
      data_(data),
      owner_(std::move(owner)),
      session_(session()) {}

void* DeviceArray::data() const {
  if (session_ != session())
    throw DeviceError("this array lay on a device that was lost; make it anew");
  return data_;
}

DeviceArray to_device_array(py::handle object) {
  if (py::isinstance<DeviceArray>(object)) return object.cast<DeviceArray>();
  if (!py::isinstance<py::array>(object)) {
    if (py::hasattr(object, "__dlpack__")) return from_dlpack(object);
    if (py::hasattr(object, "__cuda_array_interface__")) return from_cuda_array_interface(object);
  }
  const auto array = py::module_::import("numpy").attr("asarray")(object).cast<py::array>();
  const char kind = array.dtype().kind();
  if ((kind != 'f' && kind != 'i' && kind != 'u') || array.dtype().byteorder() == '>')
    throw DTypeError(
        "an array on the device holds integers or floats in native byte order, got "
        "dtype " +
        py::str(array.dtype()).cast<std::string>());
  const auto dense =
      py::module_::import("numpy").attr("ascontiguousarray")(array).cast<py::array>();
  DeviceArray made(shape_of(array), array.dtype());
  copy_to_device(made.data(), dense.data(), made.bytes());
  return made;
}

py::array to_numpy(const DeviceArray& array) {
  py::array made(array.dtype(), array.shape());
  copy_to_host(made.mutable_data(), array.data(), array.bytes());
  return made;
}

}  // namespace pynn::cuda

#include "cuda/bindings/bindings.h"

namespace pynn::cuda {

void bind_array(py::module_& m) {
  using namespace py::literals;
  py::class_<DeviceArray>(m, "Array")
      .def_property_readonly("shape", [](const DeviceArray& a) { return to_tuple(a.shape()); })
      .def_property_readonly("dtype", &DeviceArray::dtype)
      .def_property_readonly("nbytes", &DeviceArray::bytes)
      .def_property_readonly("ndim", [](const DeviceArray& a) { return a.shape().size(); })
      .def("__len__",
           [](const DeviceArray& a) {
             if (a.shape().empty()) throw py::type_error("a single value has no length");
             return a.shape()[0];
           })
      .def("numpy", &to_numpy)
      .def(
          "__array__",
          [](const DeviceArray& a, const py::object& dtype, const py::object& copy) {
            if (!copy.is_none() && !copy.cast<bool>())
              throw std::invalid_argument("an array on the device is copied to become NumPy's");
            const py::array array = to_numpy(a);
            return dtype.is_none() ? py::object(array) : py::object(array.attr("astype")(dtype));
          },
          "dtype"_a = py::none(), "copy"_a = py::none())
      .def("__dlpack_device__", [](const DeviceArray&) { return py::make_tuple(dlpack::kCuda, 0); })
      .def(
          "__dlpack__",
          [](const DeviceArray& a, const py::object& stream, const py::object& max_version,
             const py::object& device, const py::object& copy) {
            if (!device.is_none() && device.cast<std::pair<int, int>>().first != dlpack::kCuda)
              throw py::buffer_error("the array is on CUDA device 0: copy it with numpy()");
            if (!copy.is_none() && copy.cast<bool>())
              throw py::buffer_error("the array is shared, not copied");
            return to_dlpack(a, stream, max_version);
          },
          py::kw_only(), "stream"_a = py::none(), "max_version"_a = py::none(),
          "dl_device"_a = py::none(), "copy"_a = py::none())
      .def_property_readonly(
          "__cuda_array_interface__",
          [](const DeviceArray& a) {
            return py::dict(
                "shape"_a = to_tuple(a.shape()), "typestr"_a = a.dtype().attr("str"),
                "data"_a = py::make_tuple(reinterpret_cast<std::uintptr_t>(a.data()), false),
                "version"_a = 3, "strides"_a = py::none(),
                "stream"_a = reinterpret_cast<std::intptr_t>(stream()));
          })
      .def("__repr__", [](const DeviceArray& a) {
        return message("pynn.cuda.Array(shape=", a.shape(),
                       ", dtype=", py::str(a.dtype()).cast<std::string>(), ")");
      });
  m.def("asarray", &to_device_array, "object"_a);
}

}  // namespace pynn::cuda
