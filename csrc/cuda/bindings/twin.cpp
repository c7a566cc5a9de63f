#include "cuda/bindings/twin.h"

#include <utility>

namespace pynn::cuda {

Twin::Twin(py::array array) : array_(std::move(array)), bytes_(array_.nbytes()) {
  if (!(array_.flags() & py::array::c_style) || !array_.writeable())
    throw DTypeError("a twin is of a writable, C-contiguous array");
}

bool Twin::on_device() const { return right_ == Right::device && !memory_.lost(); }

void Twin::to_host() {
  if (on_device()) copy_to_host(const_cast<void*>(array_.data()), memory_.data(), bytes_);
  right_ = Right::host;
}

void Twin::to_device() {
  if (right_ != Right::host && !memory_.lost()) return;
  memory_.reserve(bytes_);
  copy_to_device(memory_.data(), array_.data(), bytes_);
  right_ = Right::both;
}

void Twin::changed() { right_ = Right::device; }

}  // namespace pynn::cuda
