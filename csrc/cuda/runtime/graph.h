// Work of the device recorded once and launched as one.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>

namespace pynn::cuda {

class Graph {
 public:
  Graph() = default;
  // Records what `work` launches on the stream it is given.
  explicit Graph(const std::function<void(cudaStream_t)>& work);
  ~Graph();
  Graph(Graph&& other) noexcept;
  Graph& operator=(Graph&& other) noexcept;

  // Whether there is nothing to launch, or it went with a lost device.
  bool empty() const;
  // On the session's stream.
  void launch() const;
  std::int64_t nodes() const { return nodes_; }

 private:
  void release();

  cudaGraphExec_t executable_ = nullptr;
  std::int64_t nodes_ = 0;
  std::uint64_t session_ = 0;
};

}  // namespace pynn::cuda
