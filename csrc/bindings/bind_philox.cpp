#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/random.h"

namespace pynn {
namespace {

py::array_t<std::uint32_t> philox_words(std::uint64_t seed, std::int64_t step, std::int64_t node,
                                        std::int64_t sample, std::int64_t count) {
  if (count < 0) throw std::invalid_argument(message("count must not be negative, got ", count));
  py::array_t<std::uint32_t> words(count);
  std::uint32_t* to = words.mutable_data();
  const PhiloxStream stream = philox_stream(seed, step, node);
  ReleaseGil nogil(count * 8);
  PhiloxBlock block{};
  for (std::int64_t e = 0; e < count; ++e) {
    if (e % 4 == 0) block = philox(stream, low_word(sample), low_word(e / 4));
    to[e] = block.word[e % 4];
  }
  return words;
}

}  // namespace

void bind_philox(py::module_& m) {
  using namespace py::literals;
  m.def("philox", &philox_words, "seed"_a, "step"_a, "node"_a, "sample"_a, "count"_a);
}

}  // namespace pynn
