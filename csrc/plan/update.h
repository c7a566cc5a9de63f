// The optimiser's update as part of the backward pass: a gradient is used where it is computed, and
// never lies in memory as a whole.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>

#include "kernels/adam.h"
#include "kernels/rmsprop.h"
#include "kernels/sgd.h"
#include "runtime/prefetch.h"
#include "simd/isa_table.h"

namespace pynn {

template <typename T>
using UpdateSettings = std::variant<SgdSettings<T>, AdamSettings<T>, RmspropSettings<T>>;

// Of one parameter: its memory and that of its state; the settings are its group's.
template <typename T>
struct Update {
  const UpdateSettings<T>* settings = nullptr;  // null: the gradient goes to memory instead
  T* p = nullptr;
  T* state[2] = {nullptr, nullptr};

  void prefetch(std::int64_t first, std::int64_t count) const {
    constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
    for (T* const array : {p, state[0], state[1]})
      for (std::int64_t i = 0; array && i < count; i += kLine) prefetch_to_write(array + first + i);
  }

  // Plain gradient descent, which needs no state; else nothing.
  std::optional<GradientStep<T>> step() const {
    const auto* sgd = std::get_if<SgdSettings<T>>(settings);
    if (!sgd || state[0]) return std::nullopt;
    return GradientStep<T>{sgd->lr, sgd->weight_decay};
  }

  // g (count,) is the gradient of the elements first ... first + count.
  void apply(std::int64_t first, std::int64_t count, const T* g) const {
    const auto at = [first](T* array) { return array ? array + first : nullptr; };
    const IsaTable<T>& k = isa_table<T>();
    if (const auto* sgd = std::get_if<SgdSettings<T>>(settings))
      k.sgd.update(*sgd, count, p + first, g, at(state[0]));
    else if (const auto* adam = std::get_if<AdamSettings<T>>(settings))
      k.adam.update(*adam, count, p + first, g, at(state[0]), at(state[1]));
    else
      k.rmsprop.update(std::get<RmspropSettings<T>>(*settings), count, p + first, g, at(state[0]),
                       at(state[1]));
  }
};

}  // namespace pynn
