// Exceptions that Python sees under the same names (pynn.errors), and shapes as they are printed.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace pynn {

using Shape = std::vector<std::int64_t>;

struct ShapeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
struct DTypeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
struct LabelError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
struct BackendError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// (2, 3, 28, 28), as Python prints a tuple.
std::string to_string(const Shape& shape);
std::int64_t element_count(const Shape& shape);

// Joins its arguments into one message: message("expected ", 4, ", got ", shape).
inline void append(std::ostringstream& out, const Shape& shape) { out << to_string(shape); }
template <typename T>
void append(std::ostringstream& out, const T& value) {
  out << value;
}
template <typename... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream out;
  (append(out, parts), ...);
  return out.str();
}

}  // namespace pynn
