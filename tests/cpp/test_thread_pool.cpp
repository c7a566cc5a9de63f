#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "runtime/floating_point.h"
#include "runtime/scratch.h"
#include "runtime/thread_pool.h"

namespace {

using pynn::parallel_for;
using pynn::set_num_threads;

constexpr std::int64_t kPlenty = 1 << 20;  // of work per unit: worth a thread of its own

const std::vector<int> kThreadCounts{1, 2, 3, 5, 8};

// How often each unit was visited by a parallel_for.
std::vector<int> visits(std::int64_t units, std::int64_t work_per_unit) {
  std::vector<std::atomic<int>> counts(static_cast<std::size_t>(units));
  parallel_for(units, work_per_unit, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) ++counts[static_cast<std::size_t>(unit)];
  });
  return std::vector<int>(counts.begin(), counts.end());
}

bool covers_once(std::int64_t units, std::int64_t work_per_unit = kPlenty) {
  return visits(units, work_per_unit) == std::vector<int>(static_cast<std::size_t>(units), 1);
}

double processor_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void sleep_ms(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

}  // namespace

TEST(ranges_cover_every_unit_once) {
  for (int threads : kThreadCounts) {
    set_num_threads(threads);
    CHECK(pynn::num_threads() == threads);
    for (std::int64_t units : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 100, 1023})
      for (std::int64_t work :
           {std::int64_t{0}, std::int64_t{1}, kPlenty / 16, kPlenty, 100 * kPlenty})
        CHECK(covers_once(units, work), threads, units, work);
  }
}

TEST(every_thread_takes_part) {
  for (int threads : kThreadCounts) {
    set_num_threads(threads);
    std::mutex mutex;
    std::set<std::thread::id> ids;
    parallel_for(threads, kPlenty, [&](std::int64_t begin, std::int64_t end) {
      std::lock_guard<std::mutex> lock(mutex);
      CHECK(end - begin == 1, begin, end);
      ids.insert(std::this_thread::get_id());
    });
    CHECK(static_cast<int>(ids.size()) == threads, ids.size(), threads);
  }
}

TEST(units_of_which_there_are_more_than_a_word_counts) {
  for (int threads : kThreadCounts) {
    set_num_threads(threads);
    constexpr std::int64_t kUnits = (std::int64_t{1} << 33) + 5;
    std::mutex mutex;
    std::map<std::int64_t, std::int64_t> ranges;
    parallel_for(kUnits, 1, [&](std::int64_t begin, std::int64_t end) {
      std::lock_guard<std::mutex> lock(mutex);
      CHECK(ranges.emplace(begin, end).second && begin < end, begin, end);
    });
    std::int64_t covered = 0;
    for (const auto& [begin, end] : ranges) {
      CHECK(begin == covered, begin, covered);
      covered = end;
    }
    CHECK(covered == kUnits, covered);
  }
}

TEST(who_lags_behind_is_helped) {
  set_num_threads(2);
  CHECK(pynn::goes_in_pieces(64, 100 * kPlenty));
  for (const bool caller_lags : {true, false}) {
    std::atomic<int> of_the_slow{0};
    parallel_for(64, 100 * kPlenty,
                 [&, caller = std::this_thread::get_id()](std::int64_t begin, std::int64_t end) {
                   const bool lags = (std::this_thread::get_id() == caller) == caller_lags;
                   if (lags) of_the_slow += static_cast<int>(end - begin);
                   if (lags) sleep_ms(50);
                   while (!lags && of_the_slow == 0) sleep_ms(1);
                 });
    CHECK(of_the_slow > 0 && of_the_slow < 32, caller_lags, of_the_slow.load());
  }
}

// Otherwise bits would depend on which thread does what.
TEST(threads_treat_subnormal_numbers_as_their_caller_does) {
  const auto zeros = [] {
    std::atomic<int> count{0};
    volatile float smallest = 1.2e-38F;
    parallel_for(8, kPlenty, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) count += smallest * 0.1F == 0 ? 1 : 0;
    });
    return count.load();
  };
  for (int threads : kThreadCounts) {
    set_num_threads(threads);
    CHECK(zeros() == 0, threads);
    {
      const pynn::FlushSubnormals flush;
      CHECK(zeros() == (pynn::kFlushing ? 8 : 0), threads);
    }
    CHECK(zeros() == 0, threads);
  }
}

TEST(little_work_stays_with_the_caller) {
  CHECK(!pynn::goes_in_pieces(1, 100 * kPlenty));
  set_num_threads(8);
  parallel_for(1000, 1,
               [caller = std::this_thread::get_id()](std::int64_t begin, std::int64_t end) {
                 CHECK(std::this_thread::get_id() == caller && begin == 0 && end == 1000);
               });
}

TEST(no_units_means_no_call) {
  bool called = false;
  for (std::int64_t units : {0, -1})
    parallel_for(units, kPlenty, [&](std::int64_t, std::int64_t) { called = true; });
  CHECK(!called);
}

TEST(nested_calls_run_alone) {
  for (int threads : kThreadCounts) {
    set_num_threads(threads);
    std::atomic<int> inner{0};
    parallel_for(16, kPlenty, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t unit = begin; unit < end; ++unit) {
        const std::thread::id outer_thread = std::this_thread::get_id();
        int calls = 0;
        parallel_for(10, kPlenty, [&](std::int64_t inner_begin, std::int64_t inner_end) {
          CHECK(std::this_thread::get_id() == outer_thread);
          ++calls;
          inner += static_cast<int>(inner_end - inner_begin);
        });
        CHECK(calls == 1, threads, calls);
      }
    });
    CHECK(inner == 160, inner.load());
  }
}

TEST(on_one_thread) {
  set_num_threads(3);
  const pynn::OnOneThread one;
  int calls = 0;
  parallel_for(64, kPlenty, [&](std::int64_t begin, std::int64_t end) {
    CHECK(begin == 0 && end == 64, begin, end);
    ++calls;
  });
  CHECK(calls == 1, calls);
}

TEST(several_callers_at_once) {
  set_num_threads(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) wrong += !covers_once(1 + i % 40);
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0, wrong.load());
}

TEST(the_number_of_threads_changes_while_others_run) {
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller)
    callers.emplace_back([&] {
      while (!stop) wrong += !covers_once(37);
    });
  for (int i = 0; i < 200; ++i) {
    set_num_threads(kThreadCounts[static_cast<std::size_t>(i) % kThreadCounts.size()]);
    wrong += !covers_once(64);
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0, wrong.load());
}

TEST(many_short_calls) {  // a lost wake-up would hang here
  for (int threads : kThreadCounts) {
    set_num_threads(threads);
    for (int i = 0; i < 2000; ++i) {
      std::atomic<int> sum{0};
      parallel_for(1 + i % 11, kPlenty, [&](std::int64_t begin, std::int64_t end) {
        sum += static_cast<int>(end - begin);
      });
      CHECK(sum == 1 + i % 11, threads, i, sum.load());
    }
  }
}

TEST(
    calls_with_sleeping_threads) {  // pauses longer than the spinning, so that each call wakes them
  for (int threads : kThreadCounts) {
    set_num_threads(threads);
    for (int i = 0; i < 20; ++i) {
      sleep_ms(1);
      CHECK(covers_once(1 + i % 11), threads, i);
    }
  }
}

TEST(exceptions_reach_the_caller) {
  for (int threads : kThreadCounts) {
    set_num_threads(threads);
    for (std::int64_t bad : {0, 7, 15}) {
      bool caught = false;
      try {
        parallel_for(16, kPlenty, [&](std::int64_t begin, std::int64_t end) {
          if (begin <= bad && bad < end) throw std::length_error("too long");
        });
      } catch (const std::length_error&) {
        caught = true;
      }
      CHECK(caught, threads, bad);
      CHECK(covers_once(16), threads, bad);
    }
  }
}

TEST(bad_counts_are_refused) {
  set_num_threads(2);
  for (int count : {0, -1, 1025}) {
    bool caught = false;
    try {
      set_num_threads(count);
    } catch (const std::invalid_argument&) {
      caught = true;
    }
    CHECK(caught && pynn::num_threads() == 2, count);
  }
  CHECK(pynn::usable_processors() >= 1);
}

TEST(scratch_is_aligned_and_of_each_thread) {
  set_num_threads(8);
  for (std::int64_t size : {1, 1000, 100, 100000})
    parallel_for(8, kPlenty, [size](std::int64_t begin, std::int64_t) {
      auto* const memory = pynn::scratch<std::int64_t>(size);
      CHECK(reinterpret_cast<std::uintptr_t>(memory) % 64 == 0);
      for (std::int64_t i = 0; i < size; ++i) memory[i] = begin;
      for (std::int64_t i = 0; i < size; ++i) CHECK(memory[i] == begin);
    });
}

TEST(idle_threads_sleep) {
  set_num_threads(4);
  CHECK(covers_once(64));
  sleep_ms(50);
  const double before = processor_seconds();
  sleep_ms(300);
  // Four threads that spin would take 300 ms of as many processors as there are.
  CHECK(processor_seconds() - before < 0.1, processor_seconds() - before);
}

TEST(a_forked_child_has_its_own_pool) {
  set_num_threads(3);
  CHECK(covers_once(3));  // a unit for each thread, so that all have started
  std::atomic<bool> started{false}, stop{false};
  std::thread other([&] {  // so that the fork finds the pool at work, and its locks taken
    // No thread allocates meanwhile: the child would find locks of AddressSanitizer's taken as
    // well.
    std::atomic<std::int64_t> done{0};
    for (; !stop; started = true)
      parallel_for(64, kPlenty, [&](std::int64_t begin, std::int64_t end) { done += end - begin; });
  });
  while (!started) sleep_ms(1);
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);  // a child that hangs is a failure, not a test that never ends
      bool right = covers_once(64) && covers_once(1000);
      set_num_threads(5);
      right = right && covers_once(64);
      _exit(right ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, status);
    CHECK(covers_once(64));
  }
  stop = true;
  other.join();
}

PYNN_TEST_MAIN
