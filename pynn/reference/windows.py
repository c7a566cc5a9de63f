"""Images seen through the taps of a sliding window, which convolutions and pools have in common."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pynn.reference.arrays import Array


@dataclass(frozen=True)
class Windows:
    """Where the windows of one operator lie; pairs are (rows, columns)."""

    image: tuple[int, ...]
    output: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]  # top, bottom, left, right
    dilation: tuple[int, ...] = (1, 1)

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """Return x (N, C, H, W) with its padding, and with what the last window needs beyond."""
        top, bottom, left, right = self.padding
        sides = []
        for axis, before, after in ((0, top, bottom), (1, left, right)):
            last_start = (self.output[axis] - 1) * self.stride[axis]
            end = last_start + self.dilation[axis] * (self.kernel[axis] - 1) + 1
            sides.append((before, max(after, end - before - self.image[axis])))
        return np.pad(x, ((0, 0), (0, 0), *sides), constant_values=value)

    def cropped(self, padded: Array) -> Array:
        """The adjoint of `padded`."""
        top, left = self.padding[0], self.padding[2]
        return padded[:, :, top : top + self.image[0], left : left + self.image[1]]

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
        """Yield (i, j, place): `padded[place]` (N, C, OH, OW) is what tap (i, j) sees."""
        for i, j in np.ndindex(*self.kernel):
            rows, columns = (
                slice(start, start + count * stride, stride)
                for start, count, stride in zip(
                    (i * self.dilation[0], j * self.dilation[1]),
                    self.output,
                    self.stride,
                    strict=True,
                )
            )
            yield i, j, (slice(None), slice(None), rows, columns)
