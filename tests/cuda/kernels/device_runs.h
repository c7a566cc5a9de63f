// Runs kernels on the device, three times, and asks for the same bits each time: in the emulator
// with the blocks and threads in other orders.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "../../cpp/check.h"
#include "cuda/kernels/error.h"
#include "cuda/kernels/step_state.h"

namespace pynn::test {

using cuda::check;

template <typename T>
constexpr double kEps = std::numeric_limits<T>::epsilon();

// The arrays of one run, each of exactly its size.
class Device {
 public:
  Device() { check(cudaStreamCreate(&stream_), "a stream"); }
  ~Device() {
    cudaStreamDestroy(stream_);
    for (const Array& array : arrays_) cudaFree(array.data);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  cudaStream_t stream() const { return stream_; }

  template <typename U>
  U* input(const std::vector<U>& values) {
    return static_cast<U*>(add(values.data(), values.size() * sizeof(U)));
  }
  // A result: NaN, or -1, until it is written.
  template <typename U>
  U* output(std::int64_t count) {
    const std::vector<unsigned char> unwritten(static_cast<std::size_t>(count) * sizeof(U), 0xff);
    results_.push_back(arrays_.size());
    return static_cast<U*>(add(unwritten.data(), unwritten.size()));
  }
  // A result that has values before.
  template <typename U>
  U* updated(const std::vector<U>& values) {
    results_.push_back(arrays_.size());
    return input(values);
  }
  void* workspace(std::int64_t bytes) {
    return input(std::vector<unsigned char>(static_cast<std::size_t>(bytes)));
  }

  template <typename U>
  std::vector<U> result(std::size_t number) const {
    const Array& array = arrays_.at(results_.at(number));
    std::vector<U> values(array.bytes / sizeof(U));
    if (array.bytes)
      check(cudaMemcpy(values.data(), array.data, array.bytes, cudaMemcpyDeviceToHost), "a copy");
    return values;
  }
  std::vector<unsigned char> bits() const {
    std::vector<unsigned char> all;
    for (std::size_t i = 0; i < results_.size(); ++i) {
      const auto one = result<unsigned char>(i);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

 private:
  struct Array {
    void* data;
    std::size_t bytes;
  };
  void* add(const void* values, std::size_t bytes) {
    void* data = nullptr;
    if (bytes) {
      check(cudaMalloc(&data, bytes), "memory");
      check(cudaMemcpy(data, values, bytes, cudaMemcpyHostToDevice), "a copy");
    }
    arrays_.push_back({data, bytes});
    return data;
  }
  cudaStream_t stream_ = nullptr;
  std::vector<Array> arrays_;
  std::vector<std::size_t> results_;
};

template <typename Body>
std::unique_ptr<Device> run_alike(const std::string& name, const Body& body) {
  std::unique_ptr<Device> first;
  for (const char* const order : {"0", "1", "2"}) {
    setenv("PYNN_EMULATOR_SHUFFLE", order, 1);
    auto device = std::make_unique<Device>();
    body(*device);
    check(cudaStreamSynchronize(device->stream()), "a kernel");
    if (!first)
      first = std::move(device);
    else
      CHECK(device->bits() == first->bits(), name, "has other bits in order", order);
  }
  setenv("PYNN_EMULATOR_SHUFFLE", "0", 1);
  return first;
}

// The same numbers in every run of the tests.
class Random {
 public:
  explicit Random(std::uint64_t seed = 0) : state_(seed * 2862933555777941757u + 3037000493u) {}
  double number(double low = -1, double high = 1) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return low + (high - low) * static_cast<double>(state_ >> 11) * 0x1p-53;
  }
  template <typename T>
  std::vector<T> values(std::int64_t count, double low = -1, double high = 1) {
    std::vector<T> result(static_cast<std::size_t>(count));
    for (T& value : result) value = static_cast<T>(number(low, high));
    return result;
  }

 private:
  std::uint64_t state_;
};

// What a result should be, and the sum of the absolute values of what was added up to it.
struct Expected {
  double value = 0, magnitude = 0;
  void add(double term) {
    value += term;
    magnitude += std::fabs(term);
  }
  // Of a further function of slope at most `slope`, whose value is `result`.
  Expected through(double result, double slope = 1) const {
    return {result, slope * magnitude + std::fabs(result)};
  }
};

// Every result within `terms` roundings of its magnitude; NaN and infinities where they are
// expected.
template <typename T>
void compare(const std::string& name, const std::vector<T>& got,
             const std::vector<Expected>& expected, double terms) {
  CHECK(got.size() == expected.size(), name, got.size(), expected.size());
  for (std::size_t i = 0; i < got.size() && i < expected.size(); ++i) {
    const double value = static_cast<double>(got[i]), wanted = expected[i].value;
    const double bound = 2 * terms * kEps<T> * expected[i].magnitude;
    const bool close = std::isfinite(wanted) ? std::fabs(value - wanted) <= bound
                       : std::isnan(wanted)  ? std::isnan(value)
                                             : value == wanted;
    CHECK(close, name, "at", i, "got", value, "expected", wanted, "within", bound);
    if (!close) return;
  }
}

template <typename U>
void compare_exactly(const std::string& name, const std::vector<U>& got,
                     const std::vector<U>& expected) {
  CHECK(got.size() == expected.size(), name, got.size(), expected.size());
  for (std::size_t i = 0; i < got.size() && i < expected.size(); ++i) {
    const bool same = got[i] == expected[i] || (got[i] != got[i] && expected[i] != expected[i]);
    CHECK(same, name, "at", i, "got", +got[i], "expected", +expected[i]);
    if (!same) return;
  }
}

inline std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }
template <typename T>
std::int64_t count(const std::vector<T>& values) {
  return static_cast<std::int64_t>(values.size());
}

}  // namespace pynn::test
