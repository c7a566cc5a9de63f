// What pynn offers to operators of others: the table of abi.h.
#pragma once

#include "pynn/abi.h"

namespace pynn {

const pynn_host& host();

}  // namespace pynn
