# The inner loops of pynn.data, without the GIL and without temporaries. Arrays are C-contiguous.
from typing import Any

import numpy as np
from numpy.typing import NDArray

def permute(order: NDArray[np.int64], seed: int, epoch: int) -> None: ...
def gather(
    source: NDArray[Any], rows: NDArray[np.int64], out: NDArray[Any], scale: float
) -> None: ...
def copy_rows(
    source: NDArray[np.uint8], rows: NDArray[np.int64], out: NDArray[np.uint8]
) -> None: ...
