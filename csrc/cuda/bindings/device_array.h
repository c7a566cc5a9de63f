// An array on the device, ours or another library's.
#pragma once

#include <memory>

#include "bindings/arrays.h"
#include "cuda/runtime/memory.h"

namespace pynn::cuda {

// Dense, row-major.
class DeviceArray {
 public:
  // New memory, not initialised.
  DeviceArray(Shape shape, py::dtype dtype);
  // Memory of somebody else, kept alive by `owner`.
  DeviceArray(Shape shape, py::dtype dtype, void* data, std::shared_ptr<void> owner);

  const Shape& shape() const { return shape_; }
  const py::dtype& dtype() const { return dtype_; }
  std::int64_t count() const { return element_count(shape_); }
  std::int64_t bytes() const { return count() * dtype_.itemsize(); }
  // DeviceError where the memory went with a lost device.
  void* data() const;
  const std::shared_ptr<void>& owner() const { return owner_; }

 private:
  Shape shape_;
  py::dtype dtype_;
  void* data_ = nullptr;
  std::shared_ptr<void> owner_;
  std::uint64_t session_;
};

// From a NumPy array, or anything that offers __dlpack__ or __cuda_array_interface__. What lies on
// the device already is not copied.
DeviceArray to_device_array(py::handle object);
py::array to_numpy(const DeviceArray& array);

}  // namespace pynn::cuda
