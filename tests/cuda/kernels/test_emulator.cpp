// The emulator itself: what kernels may rely on, and what it finds wrong with others.
#include <cuda_runtime.h>

#include <cstdlib>
#include <vector>

#include "../../cpp/check.h"
#include "cuda/kernels/launch.h"

namespace {

using pynn::cuda::check;
using pynn::cuda::launch;
using pynn::cuda::shared_memory;

constexpr unsigned kThreads = 96;

// y = the values of a block in reverse; without the barrier, whatever the order of threads gives.
void reverse_kernel(const int* x, int* y, bool meets) {
  int* const shared = shared_memory<int>();
  const unsigned first = blockIdx.x * blockDim.x, i = threadIdx.x;
  shared[i] = x[first + i];
  if (meets) __syncthreads();
  y[first + i] = shared[blockDim.x - 1 - i];
}

// y = the sum of the lanes above, by shuffles; and how many lanes hold an odd value.
void lanes_kernel(const int* x, int* y, unsigned* odd) {
  const unsigned i = threadIdx.x;
  int sum = x[i];
  for (int distance = 16; distance > 0; distance /= 2)
    sum += __shfl_down_sync(0xffffffffu, sum, distance);
  y[i] = __shfl_sync(0xffffffffu, sum, 0);
  odd[i / 32] = __ballot_sync(0xffffffffu, x[i] % 2);
}

void unwritten_kernel(float* y) { y[threadIdx.x] = shared_memory<float>()[threadIdx.x]; }

template <typename T>
class Memory {
 public:
  explicit Memory(const std::vector<T>& values) : size_(values.size()) {
    check(cudaMalloc(&data_, size_ * sizeof(T)), "memory");
    check(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), "a copy");
  }
  ~Memory() { cudaFree(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  T* data() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> result(size_);
    check(cudaMemcpy(result.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "a copy");
    return result;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

std::vector<int> numbers(std::size_t count) {
  std::vector<int> result;
  for (std::size_t i = 0; i < count; ++i) result.push_back(static_cast<int>(i * i));
  return result;
}

std::vector<int> reversed(bool meets, const char* order) {
  setenv("PYNN_EMULATOR_SHUFFLE", order, 1);
  const Memory<int> x(numbers(4 * kThreads)), y(std::vector<int>(4 * kThreads));
  launch(nullptr, 4, kThreads, kThreads * sizeof(int), reverse_kernel, x.data(), y.data(), meets);
  setenv("PYNN_EMULATOR_SHUFFLE", "0", 1);
  return y.values();
}

TEST(barriers_and_what_is_missing_without) {
  const std::vector<int> x = numbers(4 * kThreads), y = reversed(true, "0");
  for (std::size_t i = 0; i < x.size(); ++i)
    CHECK(y[i] == x[i / kThreads * kThreads + kThreads - 1 - i % kThreads], i);
  CHECK(reversed(true, "1") == y);
  CHECK(reversed(false, "1") != y);
  CHECK(reversed(false, "1") != reversed(false, "2"));
}

TEST(lanes_of_a_warp) {
  const std::vector<int> values = numbers(64);
  const Memory<int> x(values), y(std::vector<int>(64));
  const Memory<unsigned> odd(std::vector<unsigned>(2));
  launch(nullptr, 1, 64, 0, lanes_kernel, x.data(), y.data(), odd.data());
  int sums[2] = {};
  for (std::size_t i = 0; i < 64; ++i) sums[i / 32] += values[i];
  for (std::size_t i = 0; i < 64; ++i) CHECK(y.values()[i] == sums[i / 32], i);
  for (const unsigned lanes : odd.values()) CHECK(lanes == 0xaaaaaaaau, lanes);
}

TEST(shared_memory_holds_nan_before_it_is_written) {
  const Memory<float> y(std::vector<float>(32));
  launch(nullptr, 1, 32, 32 * sizeof(float), unwritten_kernel, y.data());
  for (const float value : y.values()) CHECK(value != value);
}

TEST(captured_work_runs_when_its_graph_is_launched) {
  cudaStream_t stream, other;
  cudaEvent_t fork, join;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check(cudaStreamCreate(&stream), "a stream");
  check(cudaStreamCreate(&other), "a stream");
  check(cudaEventCreate(&fork), "an event");
  check(cudaEventCreate(&join), "an event");
  const Memory<int> x(numbers(kThreads)), y(std::vector<int>(kThreads, 0)),
      z(std::vector<int>(kThreads, 0));
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "a capture");
  launch(stream, 1, kThreads, kThreads * sizeof(int), reverse_kernel, x.data(), y.data(), true);
  check(cudaEventRecord(fork, stream), "an event");
  check(cudaStreamWaitEvent(other, fork, 0), "an event");
  launch(other, 1, kThreads, kThreads * sizeof(int), reverse_kernel, y.data(), z.data(), true);
  check(cudaEventRecord(join, other), "an event");
  check(cudaStreamWaitEvent(stream, join, 0), "an event");
  check(cudaStreamEndCapture(stream, &graph), "a capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "a graph");
  CHECK(z.values() == std::vector<int>(kThreads, 0));
  check(cudaGraphLaunch(exec, stream), "a graph");
  CHECK(z.values() == numbers(kThreads));

  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "a capture");
  void* memory = nullptr;
  CHECK(cudaMalloc(&memory, 4) == cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
  cudaGetLastError();
  cudaGraphExecDestroy(exec);
  cudaEventDestroy(fork);
  cudaEventDestroy(join);
  cudaStreamDestroy(stream);
  cudaStreamDestroy(other);
}

TEST(launches_that_no_device_takes) {
  const auto refused = [](dim3 grid, dim3 block, std::size_t shared) {
    try {
      launch(nullptr, grid, block, shared, unwritten_kernel, static_cast<float*>(nullptr));
    } catch (const pynn::cuda::Error& error) {
      return error.code() == cudaErrorInvalidConfiguration;
    }
    return false;
  };
  CHECK(refused(1, 1025, 0));
  CHECK(refused(dim3(1, 65536), 32, 0));
  CHECK(refused(1, 32, 48 * 1024 + 1));
  launch(nullptr, 0, 32, 0, unwritten_kernel, static_cast<float*>(nullptr));  // nothing to do
}

TEST(a_device_can_be_small_missing_or_lost) {
  void* memory = nullptr;
  setenv("PYNN_EMULATOR_MEMORY", "1000", 1);
  CHECK(cudaMalloc(&memory, 1001) == cudaErrorMemoryAllocation);
  CHECK(cudaMalloc(&memory, 1000) == cudaSuccess);
  CHECK(cudaFree(memory) == cudaSuccess);
  unsetenv("PYNN_EMULATOR_MEMORY");
  setenv("PYNN_EMULATOR_DEVICES", "0", 1);
  int count = -1;
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(cudaMalloc(&memory, 4) == cudaErrorNoDevice);
  unsetenv("PYNN_EMULATOR_DEVICES");
  const Memory<float> y(std::vector<float>(32));
  setenv("PYNN_EMULATOR_LOST_AT", "0", 1);
  bool lost = false;
  for (int i = 0; i < 1000 && !lost; ++i) {
    // Launches of the other tests have been counted, if any came with this setting.
    lost = cudaDeviceSynchronize() == cudaErrorIllegalAddress;
    if (!lost) try {
        launch(nullptr, 1, 32, 32 * sizeof(float), unwritten_kernel, y.data());
      } catch (const pynn::cuda::Error&) {
      }
  }
  CHECK(lost);
  unsetenv("PYNN_EMULATOR_LOST_AT");
  CHECK(cudaDeviceReset() == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

}  // namespace

PYNN_TEST_MAIN
