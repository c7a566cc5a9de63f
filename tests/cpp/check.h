// The tests' own harness: TEST(name) { ... CHECK(condition, what...); } in any number, and
// PYNN_TEST_MAIN once. `what` is printed where the condition is false; the test goes on. Tests
// whose names are given to the program are left out.
#pragma once

#include <exception>
#include <iostream>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace pynn::test {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& all_tests() {
  static std::vector<Test> tests;
  return tests;
}
inline int& failures() {
  static int count = 0;
  return count;
}

struct Register {
  Register(const char* name, void (*run)()) { all_tests().push_back({name, run}); }
};

constexpr int kShownFailures = 50;  // one wrong kernel should not bury its first line

template <typename... What>
void fail(const char* file, int line, const char* condition, const What&... what) {
  static std::mutex mutex;  // threads check, too
  std::lock_guard<std::mutex> lock(mutex);
  if (++failures() > kShownFailures) return;
  std::cerr << file << ":" << line << ": failed: " << condition;
  ((std::cerr << " " << what), ...);
  std::cerr << std::endl;
}

inline int run_all(const std::set<std::string>& left_out) {
  for (const Test& test : all_tests()) {
    if (left_out.count(test.name)) continue;
    std::cout << test.name << std::endl;
    try {
      test.run();
    } catch (const std::exception& error) {
      fail(test.name, 0, "threw", error.what());
    }
  }
  if (failures()) std::cerr << failures() << " checks failed" << std::endl;
  return failures() ? 1 : 0;
}

}  // namespace pynn::test

#define TEST(name)                                                \
  static void name();                                             \
  static const pynn::test::Register register_##name(#name, name); \
  static void name()
#define CHECK(condition, ...)                                                                      \
  do {                                                                                             \
    if (!(condition)) pynn::test::fail(__FILE__, __LINE__, #condition __VA_OPT__(, ) __VA_ARGS__); \
  } while (false)
#define PYNN_TEST_MAIN \
  int main(int count, char** names) { return pynn::test::run_all({names + 1, names + count}); }
