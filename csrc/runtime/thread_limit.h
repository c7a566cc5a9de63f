// How many threads of a pool work: fewer than it has, as long as waiting for the others takes more
// time than fewer threads would, as where other programs use the processors. Since work is cut by
// its shape, this changes no result.
#pragma once

#include <chrono>
#include <cstdint>

namespace pynn {

// Has no lock of its own.
class ThreadLimit {
 public:
  using Clock = std::chrono::steady_clock;

  explicit ThreadLimit(int threads) : all_(threads), limit_(threads) {}

  // How many threads the next job may have.
  int threads() const { return limit_; }
  // Whether it is a job to be measured: most are not, since clocks take their time.
  bool measures();
  // When such a job begins: whether it is time to try more threads.
  void begin(Clock::time_point now);
  // When it has ended, if it had several threads: what it took, and what half of them would have
  // taken without any waiting.
  void end(int threads, Clock::duration taken, Clock::duration with_half, Clock::time_point now);

 private:
  bool tries() const { return before_ > 0; }
  void begin_window();

  const int all_;
  int limit_;
  std::uint64_t jobs_ = 0;
  int before_ = 0;      // the limit before more threads are tried; 0: they are not
  bool wakes_ = false;  // the first job that tries them waits for them to wake up
  Clock::duration taken_{0}, with_half_{0};  // of the jobs of a window
  int most_ = 0;                             // threads that one of them had
  Clock::duration pause_{0};                 // until more threads are tried
  Clock::time_point next_try_{};
};

}  // namespace pynn
