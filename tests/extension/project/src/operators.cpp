#include "bias_swish_dropout.hpp"
#include "box_filter.hpp"
#include "swish.hpp"

PYNN_OPERATORS(Swish, BiasSwishDropout, BoxFilter)
