// Other Python threads run while this one computes.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <cstdint>
#include <thread>

namespace pynn {

class ReleaseGil {
 public:
  ReleaseGil() : state_(PyEval_SaveThread()) {}
  // Only for real work (in floating-point operations, roughly): a tiny call keeps the lock.
  explicit ReleaseGil(std::int64_t work)
      : state_(work >= 1 << 16 ? PyEval_SaveThread() : nullptr) {}
  ~ReleaseGil() {
    if (!state_) return;
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      // The interpreter is ending, and ends this thread by unwinding it: but nothing that it holds
      // may be given back any more. As from Python 3.14 on, it waits for the end of the process.
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;

 private:
  PyThreadState* const state_;
};

}  // namespace pynn
