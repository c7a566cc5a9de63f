#include "runtime/thread_limit.h"

#include <algorithm>

#include "check.h"

namespace {

using pynn::ThreadLimit;
using Duration = ThreadLimit::Clock::duration;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// A program whose jobs follow one another: each takes 800 us on one thread, and where more threads
// work than there are free processors, the others come 3 ms later.
struct Program {
  explicit Program(int threads) : limit(threads) {}

  void job() {
    const bool measured = limit.measures();
    if (measured) limit.begin(now);
    const int threads = std::min(limit.threads(), wanted);
    const Duration worked = microseconds(800) / threads;
    const Duration taken = threads > processors ? worked + milliseconds(3) : worked;
    now += taken;
    if (measured && threads > 1) limit.end(threads, taken, worked * threads / (threads / 2), now);
    waited += taken - worked;
    least = std::min(least, threads);
  }
  void run(milliseconds duration) {
    waited = {};
    least = wanted;
    for (const auto end = now + duration; now < end;) job();
  }

  ThreadLimit limit;
  ThreadLimit::Clock::time_point now{};
  int processors = 64, wanted = 64;
  Duration waited{};  // in the last run
  int least = 64;     // threads in it
};

}  // namespace

TEST(all_threads_work_where_none_waits) {
  Program program(16);
  program.run(milliseconds(2000));
  CHECK(program.least == 16, program.least);
}

TEST(a_processor_that_is_away_once_changes_nothing) {
  Program program(2);
  program.wanted = 2;
  for (int i = 0; i < 50; ++i) {
    program.run(milliseconds(100));
    program.processors = 1;
    program.job();
    program.processors = 2;
  }
  program.run(milliseconds(100));
  CHECK(program.least == 2);
}

TEST(one_thread_works_while_processors_are_away) {
  Program program(2);
  program.processors = 1;
  program.run(milliseconds(200));
  program.run(milliseconds(5000));
  CHECK(program.least == 1 && program.waited < milliseconds(100), program.waited.count());
  program.processors = 2;
  program.run(milliseconds(500));
  program.run(milliseconds(5000));
  CHECK(program.least == 2, program.least);
}

TEST(as_many_threads_work_as_there_are_processors) {
  Program program(16);
  program.processors = 4;
  program.run(milliseconds(500));
  program.run(milliseconds(5000));
  CHECK(program.least == 4 && program.waited < milliseconds(100), program.least,
        program.waited.count());
  program.processors = 16;
  program.run(milliseconds(1000));
  program.run(milliseconds(1000));
  CHECK(program.least == 16, program.least);
}

TEST(the_limit_is_of_the_threads_that_jobs_have) {
  Program program(16);
  program.wanted = 3;
  program.processors = 1;
  program.run(milliseconds(300));
  program.run(milliseconds(1000));
  CHECK(program.least == 1 && program.waited < milliseconds(50), program.waited.count());
}

PYNN_TEST_MAIN
