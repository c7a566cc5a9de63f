#include "runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "runtime/errors.h"
#include "runtime/floating_point.h"
#include "runtime/thread_limit.h"

namespace pynn {
namespace {

// A thread's part that is larger than the first is taken in pieces, none smaller than the second:
// taking one costs the time of some thousand operations.
constexpr std::int64_t kWorkPerWholePart = 1 << 23;
constexpr std::int64_t kWorkPerPiece = 1 << 19;
// Jobs of that much, many seconds, measure what the processors can do: they run on as many threads
// as were asked for.
constexpr std::int64_t kWorkOfMeasurements = std::int64_t{1} << 40;
constexpr int kMaxThreads = 1024;
// How long a waiting thread looks before it sleeps; waking it then takes about as long.
constexpr std::chrono::microseconds kSpinTime{100};

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks for kSpinTime at most; false where `done` was not true by then.
template <typename Done>
bool spin_until(const Done& done) {
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

thread_local bool inside_parallel_for = false;

struct Shares {
  std::uint32_t begin, end;
  std::uint32_t count() const { return end - begin; }
};

// What is left of a thread's part of a job: it takes from the front, those who have finished theirs
// from the back, half of what there is but no less than `least`. It is one word, so that whoever
// changes it has seen it as it was.
class alignas(64) Range {
 public:
  void give(Shares shares) { left_.store(word(shares), std::memory_order_release); }
  Shares take_front(std::uint32_t least) {
    return take(least, [](Shares left, std::uint32_t count) -> std::pair<Shares, Shares> {
      return {{left.begin, left.begin + count}, {left.begin + count, left.end}};
    });
  }
  Shares take_back(std::uint32_t least) {
    return take(least, [](Shares left, std::uint32_t count) -> std::pair<Shares, Shares> {
      return {{left.end - count, left.end}, {left.begin, left.end - count}};
    });
  }

 private:
  static std::uint64_t word(Shares shares) {
    return static_cast<std::uint64_t>(shares.end) << 32 | shares.begin;
  }
  template <typename Cut>
  Shares take(std::uint32_t least, const Cut& cut) {
    std::uint64_t seen = left_.load(std::memory_order_acquire);
    for (;;) {
      const Shares left{static_cast<std::uint32_t>(seen), static_cast<std::uint32_t>(seen >> 32)};
      if (left.count() == 0) return {0, 0};
      const std::uint32_t count = std::min(std::max(left.count() / 2, least), left.count());
      const auto [taken, rest] = cut(left, count);
      if (left_.compare_exchange_weak(seen, word(rest), std::memory_order_acq_rel,
                                      std::memory_order_acquire))
        return taken;
    }
  }

  std::atomic<std::uint64_t> left_{0};
};

class Pool {
 public:
  explicit Pool(int threads)
      : threads_(threads),
        spins_(threads <= usable_processors()),
        ranges_(static_cast<std::size_t>(threads)),
        limit_(threads) {
    workers_.reserve(static_cast<std::size_t>(threads - 1));
    try {
      for (int part = 1; part < threads; ++part)
        workers_.emplace_back([this, part] { serve(part); });
    } catch (const std::system_error&) {
      // The system has no more threads to give: those that there are do the work.
    }
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_.store(kStop, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }  // as asked for

  // In pieces of at least so many units, or whole parts, where that is 0. False when another caller
  // is using the pool, or one thread is better than several.
  bool run(std::int64_t units, int wanted_parts, std::int64_t least, bool limited,
           RangeFunction function, void* context) {
    if (busy_.exchange(true, std::memory_order_acquire)) return false;
    using Clock = ThreadLimit::Clock;
    limited = limited && spins_;
    const bool measured = limited && limit_.measures();
    const auto begin = measured ? Clock::now() : Clock::time_point{};
    if (measured) limit_.begin(begin);
    const int most = static_cast<int>(workers_.size()) + 1;
    const int parts = std::min(wanted_parts, limited ? std::min(most, limit_.threads()) : most);
    if (parts == 1) {
      busy_.store(false, std::memory_order_release);
      return false;
    }
    const std::int64_t units_per_share = units / kMostShares + 1;
    const std::int64_t shares = (units + units_per_share - 1) / units_per_share;
    pending_.store(shares, std::memory_order_relaxed);
    mode_ = floating_point_mode();
    function_ = function;
    context_ = context;
    units_ = units;
    units_per_share_ = units_per_share;
    least_.store(static_cast<std::uint32_t>(std::min(least, kMostShares)),
                 std::memory_order_relaxed);
    for (int part = 0; least > 0 && part < parts; ++part)
      ranges_[static_cast<std::size_t>(part)].give(part_of(shares, part, parts));
    const std::uint64_t number = job_.load(std::memory_order_relaxed) / kJobs + 1;
    const auto word = number * kJobs + static_cast<std::uint64_t>(parts) * 2 + (least > 0 ? 1 : 0);
    // Either a worker that is about to sleep sees the job, or it is seen here to sleep.
    job_.store(word, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
      }
      wake_.notify_all();
    }
    inside_parallel_for = true;
    const std::int64_t done_here = work(0, parts, least > 0);
    inside_parallel_for = false;
    const auto worked = measured ? Clock::now() : begin;
    const auto finished = [this] { return pending_.load(std::memory_order_acquire) == 0; };
    if (!finished() && !(spins_ && spin_until(finished))) {
      std::unique_lock<std::mutex> lock(mutex_);
      waiting_.store(true, std::memory_order_seq_cst);
      done_.wait(lock, [this] { return pending_.load(std::memory_order_seq_cst) == 0; });
      waiting_.store(false, std::memory_order_relaxed);
    }
    if (measured && done_here > 0) {
      const auto end = Clock::now();
      const auto all = static_cast<double>(shares), own = static_cast<double>(done_here);
      const auto with_half = (worked - begin) * (all / own / (parts / 2));
      limit_.end(parts, end - begin, std::chrono::duration_cast<Clock::duration>(with_half), end);
    }
    const std::exception_ptr error = std::exchange(error_, nullptr);
    busy_.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
    return true;
  }

 private:
  // A job is its number, its parts and whether they go in pieces, in one word. Who comes late for
  // pieces finds none left, or has a hand in the next job; so what a job is may be read only by who
  // has taken a piece of it, or has a whole part to do.
  static constexpr std::uint64_t kJobs = 4 * kMaxThreads;
  static constexpr std::uint64_t kStop = ~std::uint64_t{0};
  static constexpr std::int64_t kMostShares = std::int64_t{1} << 31;

  static Shares part_of(std::int64_t shares, std::int64_t part, std::int64_t parts) {
    return {static_cast<std::uint32_t>(shares * part / parts),
            static_cast<std::uint32_t>(shares * (part + 1) / parts)};
  }

  // How many shares this thread has done.
  std::int64_t work(int part, int parts, bool in_pieces) {
    if (!in_pieces) {
      const Shares whole = part_of((units_ + units_per_share_ - 1) / units_per_share_, part, parts);
      call(whole);
      return whole.count();
    }
    std::int64_t done = 0;
    const auto range = [&](int number) -> Range& {
      return ranges_[static_cast<std::size_t>(number % parts)];
    };
    for (;;) {
      const std::uint32_t least = least_.load(std::memory_order_relaxed);
      Shares taken = range(part).take_front(least);
      for (int other = 1; taken.count() == 0 && other < parts; ++other)
        taken = range(part + other).take_back(least);
      if (taken.count() == 0) return done;
      call(taken);
      done += taken.count();
    }
  }

  void call(Shares shares) {
    if (floating_point_mode() != mode_) set_floating_point_mode(mode_);
    try {
      function_(context_, shares.begin * units_per_share_,
                std::min(shares.end * units_per_share_, units_));
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    if (pending_.fetch_sub(shares.count(), std::memory_order_seq_cst) == shares.count() &&
        waiting_.load(std::memory_order_seq_cst)) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
      }
      done_.notify_one();
    }
  }

  void serve(int part) {
    inside_parallel_for = true;
    std::uint64_t seen = 0;
    for (;;) {
      const auto called = [this, &seen] { return job_.load(std::memory_order_acquire) != seen; };
      if (!(spins_ && spin_until(called))) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [this, &seen] { return job_.load(std::memory_order_seq_cst) != seen; });
        sleepers_.fetch_sub(1, std::memory_order_seq_cst);
      }
      seen = job_.load(std::memory_order_acquire);
      if (seen == kStop) return;
      const int parts = static_cast<int>(seen % kJobs / 2);
      if (part < parts) work(part, parts, seen % 2 == 1);
    }
  }

  const int threads_;
  const bool spins_;  // not where threads outnumber processors: they would hold each other up
  std::vector<Range> ranges_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<bool> busy_{false};
  std::atomic<bool> waiting_{false};  // the caller sleeps
  std::atomic<int> sleepers_{0};
  alignas(64) std::atomic<std::int64_t> pending_{0};  // shares that are not yet done
  // What a worker reads of a job lies together: it comes from another processor's cache.
  alignas(64) std::atomic<std::uint64_t> job_{0};
  std::int64_t units_ = 0, units_per_share_ = 1;
  RangeFunction function_ = nullptr;
  void* context_ = nullptr;
  FloatingPointMode mode_ = 0;            // the caller's, so that all threads round alike
  std::atomic<std::uint32_t> least_{0};   // shares of a piece
  ThreadLimit limit_;                     // of who has busy_
  alignas(64) std::exception_ptr error_;  // guarded by mutex_
};

int default_threads() {
  if (const char* text = std::getenv("PYNN_NUM_THREADS"); text && *text) {
    char* end;
    const long count = std::strtol(text, &end, 10);
    if (*end == 0 && count >= 1 && count <= kMaxThreads) return static_cast<int>(count);
    throw BackendError(message("PYNN_NUM_THREADS=", text,
                               " is no number of threads: it must be 1 to ", kMaxThreads,
                               ", or unset"));
  }
  const char* shared = std::getenv("OMP_NUM_THREADS");  // "4,2" is meant for others: its 4 counts
  const int count = shared ? std::atoi(shared) : 0;
  return count >= 1 ? std::min(count, kMaxThreads) : usable_processors();
}

// Never destroyed: at exit, threads of the host program may still be calling.
struct State {
  std::mutex mutex;
  std::shared_ptr<Pool> pool;
};
State* make_state();
State* state = make_state();
std::atomic<int> thread_count{0};

#if defined(__unix__) || defined(__APPLE__)
// A forked child has none of its parent's threads and may have inherited a locked mutex: it starts
// from nothing, and leaves the parent's pool where it lies.
void forget_pool_in_child() {
  state = new State;
  inside_parallel_for = false;
}
#endif

State* make_state() {
#if defined(__unix__) || defined(__APPLE__)
  pthread_atfork(nullptr, nullptr, forget_pool_in_child);
#endif
  return new State;
}

std::shared_ptr<Pool> pool() {
  std::lock_guard<std::mutex> lock(state->mutex);
  const int threads = num_threads();
  if (!state->pool || state->pool->threads() != threads) {
    state->pool.reset();
    state->pool = std::make_shared<Pool>(threads);
  }
  return state->pool;
}

#if defined(__linux__)
// Processors that the cgroup's quota amounts to, or 0 where there is none.
int cgroup_quota() {
  std::string quota;
  double period = 0;
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  if (v2 >> quota >> period) {
    if (quota == "max" || period <= 0) return 0;
    return std::max(1, static_cast<int>(std::atof(quota.c_str()) / period + 0.5));
  }
  double microseconds = 0;
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (v1_quota >> microseconds && v1_period >> period && microseconds > 0 && period > 0)
    return std::max(1, static_cast<int>(microseconds / period + 0.5));
  return 0;
}
#endif

// How units are divided among threads.
struct Cut {
  Cut(std::int64_t units, std::int64_t work_per_unit) {
    if (inside_parallel_for) return;
    const std::int64_t work = std::max<std::int64_t>(work_per_unit, 1);
    const std::int64_t wanted = std::min(units, units * work / kWorkPerThread);
    parts = static_cast<int>(std::min<std::int64_t>(num_threads(), wanted));
    if (parts > 1 && units * work > parts * kWorkPerWholePart)
      least = (kWorkPerPiece + work - 1) / work;
    limited = units * work < kWorkOfMeasurements;
  }
  int parts = 1;
  std::int64_t least = 0;  // units of a piece; 0: each thread has one part
  bool limited = true;     // to fewer threads, where those do as well
};

}  // namespace

int usable_processors() {
  int count = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
  const int quota = cgroup_quota();
  if (quota > 0) count = std::min(count, quota);
#endif
  return std::max(count, 1);
}

int num_threads() {
  int count = thread_count.load();
  if (count == 0) {
    const int fresh = default_threads();
    count = thread_count.compare_exchange_strong(count, fresh) ? fresh : count;
  }
  return count;
}

void set_num_threads(int count) {
  if (count < 1 || count > kMaxThreads)
    throw std::invalid_argument("the number of threads must be 1 to " +
                                std::to_string(kMaxThreads) + ", got " + std::to_string(count));
  thread_count.store(count);
}

bool goes_in_pieces(std::int64_t units, std::int64_t work_per_unit) {
  return Cut(units, work_per_unit).least > 0;
}

OnOneThread::OnOneThread() : before_(std::exchange(inside_parallel_for, true)) {}
OnOneThread::~OnOneThread() { inside_parallel_for = before_; }

void parallel_for(std::int64_t units, std::int64_t work_per_unit, RangeFunction function,
                  void* context) {
  if (units <= 0) return;
  const Cut cut(units, work_per_unit);
  if (cut.parts > 1 && pool()->run(units, cut.parts, cut.least, cut.limited, function, context))
    return;
  function(context, 0, units);
}

}  // namespace pynn
