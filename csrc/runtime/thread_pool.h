// One pool of threads for the process. Work is cut by its shape alone, never by the number of
// threads, so that every kernel gives the same bits on any number of them.
#pragma once

#include <cstdint>

namespace pynn {

// Processors this process may use: its affinity mask and its cgroup's quota, at least 1.
int usable_processors();

int num_threads();
void set_num_threads(int count);  // 1 ... 1024; std::invalid_argument otherwise

// The work of an element that is moved, or added to another: reading it is what takes the time.
constexpr std::int64_t kWorkPerMove = 32;

// Below this much work per thread (floating-point operations) waking another one costs more than it
// saves.
constexpr std::int64_t kWorkPerThread = 1 << 18;

using RangeFunction = void (*)(void* context, std::int64_t begin, std::int64_t end);

// Calls function(context, begin, end) so that the ranges cover 0 ... units exactly once, on several
// threads when units * work_per_unit (in floating-point operations, roughly) is worth it. A unit is
// never split. Where there is much to do, threads that have finished take from those that have not,
// so that none waits for one that is slower or was interrupted. A caller that finds the pool busy,
// or that is itself inside such a function, does all the work alone. What the function throws (one
// of the exceptions, where several threads throw) reaches the caller when all threads have
// finished.
void parallel_for(std::int64_t units, std::int64_t work_per_unit, RangeFunction function,
                  void* context);

// Whether a thread of such a parallel_for may be given several ranges, one after the other.
bool goes_in_pieces(std::int64_t units, std::int64_t work_per_unit);

// As long as one lives, what its thread calls runs on that thread alone.
class OnOneThread {
 public:
  OnOneThread();
  ~OnOneThread();
  OnOneThread(const OnOneThread&) = delete;
  OnOneThread& operator=(const OnOneThread&) = delete;

 private:
  const bool before_;
};

template <typename Function>
void parallel_for(std::int64_t units, std::int64_t work_per_unit, const Function& function) {
  parallel_for(
      units, work_per_unit,
      [](void* context, std::int64_t begin, std::int64_t end) {
        (*static_cast<const Function*>(context))(begin, end);
      },
      const_cast<Function*>(&function));
}

}  // namespace pynn
