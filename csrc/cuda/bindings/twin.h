// The copy on the device of an array in host memory.
#pragma once

#include "bindings/arrays.h"
#include "cuda/runtime/memory.h"

namespace pynn::cuda {

// Whichever was changed last is right. The host's array may be changed by anybody who has seen it,
// so that reading it there makes it the one that is right.
class Twin {
 public:
  // A dense array, which this holds.
  explicit Twin(py::array array);

  // Makes the host's array right, and supposes that it is changed. Where the device was lost, the
  // array stays as it is.
  void to_host();
  // Makes the device's copy right: from now on, both are alike until one is changed.
  void to_device();
  // The device's copy has been changed.
  void changed();

  // Whether the device's copy is right and the array is not.
  bool on_device() const;
  void* device() const { return memory_.data(); }
  const py::array& host() const { return array_; }

 private:
  enum class Right { host, both, device };

  const py::array array_;
  const std::int64_t bytes_;
  DeviceMemory memory_;
  Right right_ = Right::host;
};

}  // namespace pynn::cuda
