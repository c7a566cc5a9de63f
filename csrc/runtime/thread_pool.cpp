#include "runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
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

namespace pynn {
namespace {

// Below this much work per thread (floating-point operations) waking another one costs more than it
// saves.
constexpr std::int64_t kWorkPerThread = 1 << 18;
// How often a waiting thread looks before it sleeps: some tens of microseconds.
constexpr int kSpins = 4000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

thread_local bool inside_worker = false;

class Pool {
 public:
  explicit Pool(int threads) {
    workers_.reserve(static_cast<std::size_t>(threads - 1));
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(i); });
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      epoch_.fetch_add(1);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // False when another caller is using the pool.
  bool run(std::int64_t units, int parts, RangeFunction function, void* context) {
    std::unique_lock<std::mutex> busy(busy_, std::try_to_lock);
    if (!busy.owns_lock()) return false;
    units_ = units;
    parts_ = parts;
    function_ = function;
    context_ = context;
    pending_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    work(0);
    for (int spin = 0; pending_.load(std::memory_order_acquire) != 0; ++spin) {
      if (spin < kSpins) {
        pause();
        continue;
      }
      std::unique_lock<std::mutex> lock(mutex_);
      done_.wait(lock, [this] { return pending_.load(std::memory_order_acquire) == 0; });
    }
    return true;
  }

 private:
  void work(int part) {
    if (part >= parts_) return;
    const std::int64_t begin = units_ * part / parts_, end = units_ * (part + 1) / parts_;
    if (begin < end) function_(context_, begin, end);
  }

  void serve(int part) {
    inside_worker = true;
    std::uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && epoch_.load(std::memory_order_acquire) == seen; ++spin)
        pause();
      if (epoch_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [this, seen] { return epoch_.load(std::memory_order_acquire) != seen; });
      }
      seen = epoch_.load(std::memory_order_acquire);
      if (stop_.load()) return;
      work(part);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
    }
  }

  std::vector<std::thread> workers_;
  std::mutex busy_, mutex_;
  std::condition_variable wake_, done_;
  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<int> pending_{0};
  std::atomic<bool> stop_{false};
  std::int64_t units_ = 0;
  int parts_ = 0;
  RangeFunction function_ = nullptr;
  void* context_ = nullptr;
};

int default_threads() {
  for (const char* name : {"PYNN_NUM_THREADS", "OMP_NUM_THREADS"}) {
    const char* text = std::getenv(name);
    const int count = text ? std::atoi(text) : 0;
    if (count >= 1) return std::min(count, 1024);
  }
  return usable_processors();
}

// Never destroyed: at exit, threads of the host program may still be calling.
std::mutex& pool_mutex() {
  static std::mutex* mutex = new std::mutex;
  return *mutex;
}
std::shared_ptr<Pool>& pool_slot() {
  static auto* slot = new std::shared_ptr<Pool>;
  return *slot;
}
std::atomic<int> thread_count{0};

// A forked child has none of its parent's threads and may have inherited a locked mutex: it starts
// from nothing, and leaves the parent's pool where it lies.
void forget_pool_in_child() {
  new (&pool_mutex()) std::mutex;
  new (&pool_slot()) std::shared_ptr<Pool>;
  inside_worker = false;
}

std::shared_ptr<Pool> pool() {
  std::lock_guard<std::mutex> lock(pool_mutex());
  std::shared_ptr<Pool>& slot = pool_slot();
  const int threads = num_threads();
  if (!slot || slot->threads() != threads) {
#if defined(__unix__) || defined(__APPLE__)
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool_in_child);
    (void)registered;
#endif
    slot.reset();
    slot = std::make_shared<Pool>(threads);
  }
  return slot;
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
  if (count < 1 || count > 1024)
    throw std::invalid_argument("the number of threads must be 1 to 1024, got " +
                                std::to_string(count));
  thread_count.store(count);
}

void parallel_for(std::int64_t units, std::int64_t work_per_unit, RangeFunction function,
                  void* context) {
  if (units <= 0) return;
  const std::int64_t wanted =
      std::min(units, units * std::max<std::int64_t>(work_per_unit, 1) / kWorkPerThread);
  const int parts = static_cast<int>(std::min<std::int64_t>(num_threads(), wanted));
  if (parts > 1 && !inside_worker && pool()->run(units, parts, function, context)) return;
  function(context, 0, units);
}

}  // namespace pynn
