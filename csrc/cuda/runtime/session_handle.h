// A library's handle, made once in each session (session.h): what an earlier one had went with its
// device.
#pragma once

#include <mutex>

#include "cuda/runtime/session.h"

namespace pynn::cuda {

template <typename Context>
class SessionHandle {
 public:
  // `create` is the library's function, which gives 0 where it has made one; null where it has not.
  Context* get(int (*create)(Context**)) {
    stream();  // begins the session
    const std::lock_guard<std::mutex> lock(mutex_);
    if (made_in_ != session()) {
      if (create(&made_) != 0) made_ = nullptr;
      made_in_ = session();
    }
    return made_;
  }

 private:
  std::mutex mutex_;
  Context* made_ = nullptr;
  std::uint64_t made_in_ = 0;
};

}  // namespace pynn::cuda
