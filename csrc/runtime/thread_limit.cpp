#include "runtime/thread_limit.h"

#include <algorithm>

namespace pynn {
namespace {

using std::chrono::milliseconds;

// A processor that is taken away once, for a few milliseconds, is no reason to do without it.
constexpr milliseconds kWindow{10};
constexpr milliseconds kTry{2};
constexpr milliseconds kShortestPause{10}, kLongestPause{320};

}  // namespace

bool ThreadLimit::measures() {
  // One job in eight, none of which is always at the same place in a program that repeats itself.
  const bool chosen = (++jobs_ * 0x9E3779B97F4A7C15u) >> 61 == 0;
  return chosen || tries() || taken_ > with_half_;
}

void ThreadLimit::begin(Clock::time_point now) {
  if (limit_ == all_ || tries() || now < next_try_) return;
  before_ = limit_;
  limit_ = std::min(2 * limit_, all_);
  wakes_ = true;
  begin_window();
}

void ThreadLimit::end(int threads, Clock::duration taken, Clock::duration with_half,
                      Clock::time_point now) {
  if (wakes_) {
    wakes_ = false;
    return;
  }
  taken_ += taken;
  with_half_ += with_half;
  most_ = std::max(most_, threads);
  if (taken_ < (tries() ? kTry : kWindow)) return;
  if (taken_ > with_half_) {
    limit_ = tries() ? before_ : std::max(most_ / 2, 1);
    pause_ = std::clamp<Clock::duration>(2 * pause_, kShortestPause, kLongestPause);
    next_try_ = now + pause_;
  } else if (tries() || limit_ == all_) {
    pause_ = std::max<Clock::duration>(pause_ / 2, kShortestPause);
    next_try_ = now + pause_;
  }
  before_ = 0;
  begin_window();
}

void ThreadLimit::begin_window() {
  taken_ = with_half_ = {};
  most_ = 0;
}

}  // namespace pynn
