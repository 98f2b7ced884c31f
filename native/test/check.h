// A test is a function; a check that fails prints where and what and makes the program exit with 1. No framework: the
// tests must build offline with nothing but a compiler.
#ifndef SKOS_TEST_CHECK_H_
#define SKOS_TEST_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

#include "sampler/reading.h"

namespace skos::test {

inline std::string Show(Quality quality) {
  static const char* const kNames[] = {"ok", "no_data", "stale", "fault", "hung"};
  return kNames[static_cast<int>(quality)];
}

template <typename T>
std::string Show(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

[[noreturn]] inline void Fail(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::exit(1);
}

constexpr int kSkipped = 77;  // ctest's SKIP_RETURN_CODE.

}  // namespace skos::test

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) ::skos::test::Fail(__FILE__, __LINE__, #condition);   \
  } while (false)

#define CHECK_EQ(actual, expected)                                                                              \
  do {                                                                                                          \
    const auto actual_value = (actual);                                                                         \
    const decltype(actual_value) expected_value = (expected);                                                   \
    if (!(actual_value == expected_value)) {                                                                    \
      ::skos::test::Fail(__FILE__, __LINE__,                                                                    \
                         std::string(#actual) + " is " + ::skos::test::Show(actual_value) + ", expected " +     \
                             ::skos::test::Show(expected_value));                                               \
    }                                                                                                           \
  } while (false)

#define RUN(test)                            \
  do {                                       \
    std::printf("  %s\n", #test);            \
    std::fflush(stdout);                     \
    test();                                  \
  } while (false)

#endif  // SKOS_TEST_CHECK_H_
