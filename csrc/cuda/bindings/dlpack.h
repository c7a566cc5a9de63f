// The structs of DLPack 1.0 (https://dmlc.github.io/dlpack/latest/c_api.html), as far as pynn needs
// them.
#pragma once

#include <cstdint>

namespace pynn::cuda::dlpack {

constexpr std::int32_t kCpu = 1, kCuda = 2, kCudaManaged = 13;
constexpr std::uint8_t kInt = 0, kUnsigned = 1, kFloat = 2, kBool = 6;
constexpr std::uint64_t kReadOnly = 1;

struct Device {
  std::int32_t type, number;
};
struct DType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  std::int32_t axes;
  DType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // null: dense, row-major
  std::uint64_t byte_offset;
};
// In a capsule called "dltensor"; "used_dltensor" once it has been taken.
struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};
// In a capsule called "dltensor_versioned", likewise.
struct VersionedTensor {
  std::uint32_t major, minor;
  void* context;
  void (*deleter)(VersionedTensor*);
  std::uint64_t flags;
  Tensor tensor;
};

}  // namespace pynn::cuda::dlpack
