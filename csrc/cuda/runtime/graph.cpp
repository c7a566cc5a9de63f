#include "cuda/runtime/graph.h"

#include <utility>

#include "cuda/runtime/errors.h"
#include "cuda/runtime/session.h"

namespace pynn::cuda {
namespace {

// A stream of its own: what other threads launch meanwhile is not recorded.
class Recording {
 public:
  Recording() {
    stream();
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
    const cudaError_t status = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    if (status != cudaSuccess) {
      cudaStreamDestroy(stream_);
      check(status, "beginning to record a graph");
    }
  }
  ~Recording() {
    if (recording_) cudaStreamEndCapture(stream_, &graph_);
    if (graph_) cudaGraphDestroy(graph_);
    cudaStreamDestroy(stream_);
    cudaGetLastError();
  }
  cudaStream_t on() const { return stream_; }
  cudaGraph_t end() {
    recording_ = false;
    check(cudaStreamEndCapture(stream_, &graph_), "recording a graph");
    return graph_;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaGraph_t graph_ = nullptr;
  bool recording_ = true;
};

}  // namespace

Graph::Graph(const std::function<void(cudaStream_t)>& work) {
  Recording recording;
  work(recording.on());
  const cudaGraph_t graph = recording.end();
  std::size_t count = 0;
  check(cudaGraphGetNodes(graph, nullptr, &count), "counting the nodes of a graph");
  nodes_ = static_cast<std::int64_t>(count);
  check(cudaGraphInstantiate(&executable_, graph, 0), "making a graph ready");
  session_ = session();
}

Graph::~Graph() { release(); }

Graph::Graph(Graph&& other) noexcept { *this = std::move(other); }

Graph& Graph::operator=(Graph&& other) noexcept {
  std::swap(executable_, other.executable_);
  std::swap(nodes_, other.nodes_);
  std::swap(session_, other.session_);
  return *this;
}

bool Graph::empty() const { return !executable_ || session_ != session(); }

void Graph::launch() const { check(cudaGraphLaunch(executable_, stream()), "launching a graph"); }

void Graph::release() {
  if (executable_ && session_ == session()) cudaGraphExecDestroy(executable_);
  executable_ = nullptr;
}

}  // namespace pynn::cuda
