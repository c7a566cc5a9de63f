// An optimiser's hyper-parameters, as Python gives them to its update, in the dtype of the kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>

#include "kernels/adam.h"
#include "kernels/rmsprop.h"
#include "kernels/sgd.h"
#include "runtime/errors.h"

namespace pynn {

template <typename T>
SgdSettings<T> sgd_settings(double lr, double momentum, bool nesterov, bool averaged,
                            double weight_decay) {
  return {static_cast<T>(lr), static_cast<T>(momentum),
          static_cast<T>(averaged ? 1 - momentum : 1.0), static_cast<T>(weight_decay), nesterov};
}

template <typename T>
AdamSettings<T> adam_settings(std::int64_t step, double lr, double beta1, double beta2, double eps,
                              double weight_decay, bool decoupled) {
  if (step < 1) throw std::invalid_argument(message("step must be 1 or more, got ", step));
  const auto exponent = static_cast<double>(step);
  AdamSettings<T> settings;
  settings.beta1 = static_cast<T>(beta1);
  settings.beta2 = static_cast<T>(beta2);
  settings.one_minus_beta1 = static_cast<T>(1 - beta1);
  settings.one_minus_beta2 = static_cast<T>(1 - beta2);
  settings.step_size = static_cast<T>(lr / (1 - std::pow(beta1, exponent)));
  settings.second_scale = static_cast<T>(1 / std::sqrt(1 - std::pow(beta2, exponent)));
  settings.eps = static_cast<T>(eps);
  settings.weight_decay = static_cast<T>(decoupled ? 0 : weight_decay);
  settings.shrink = static_cast<T>(decoupled ? 1 - lr * weight_decay : 1.0);
  return settings;
}

template <typename T>
RmspropSettings<T> rmsprop_settings(double lr, double alpha, double eps, double momentum,
                                    double weight_decay) {
  return {static_cast<T>(lr),  static_cast<T>(alpha),    static_cast<T>(1 - alpha),
          static_cast<T>(eps), static_cast<T>(momentum), static_cast<T>(weight_decay)};
}

}  // namespace pynn
