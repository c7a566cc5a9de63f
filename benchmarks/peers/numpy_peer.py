"""NumPy itself, where one of its functions is the whole operator."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.workloads import OperatorCall

# What follows the arrays: max(x, 0).
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "relu": (np.maximum, (0,)),
    "add": (np.add, ()),
    "matmul": (np.matmul, ()),
}


def call_alone(call: OperatorCall, threads: int) -> Callable[[], Any]:
    """One operator, forward, and nothing around it."""
    function, more = FUNCTIONS[call.operator]
    return partial(function, *call.arrays(), *more)
