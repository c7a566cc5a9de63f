"""Layers: each owns its parameters and records one operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pynn import init, ops
from pynn.arguments import not_negative, pair, real_number, share, whole_number, whole_numbers
from pynn.errors import ShapeError
from pynn.graph import Array
from pynn.nn.module import Module
from pynn.nn.parameter import Buffer, Parameter, float_dtype
from pynn.ops.conv import Padding, Pair
from pynn.random import default_rng

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Init = init.Initializer | str | float | Array


def _parameter(
    initialiser: init.Initializer,
    shape: tuple[int, ...],
    rng: np.random.Generator | None,
    dtype: DTypeLike,
) -> Parameter:
    if rng is None:
        rng = default_rng()
    elif not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a generator, as np.random.default_rng gives, got {rng!r}")
    values = initialiser(shape, rng, float_dtype(dtype))
    if np.shape(values) != shape:
        raise ShapeError(f"the initialiser gave shape {np.shape(values)}, expected {shape}")
    return Parameter(values)


def _padding(value: Padding) -> int | tuple[int, ...] | str:
    return value if isinstance(value, str) else whole_numbers("padding", value)


class Linear(Module):
    """A dense layer: x (N, in_features) -> y (N, out_features).

    Args:
        in_features, out_features: sizes.
        bias: whether there is a bias.
        weight_init: initialiser of the weight: a function of `pynn.init`, its name, a number or an
            array; None is PyTorch's default, U(-1 / sqrt(in_features), 1 / sqrt(in_features)).
        bias_init: likewise for the bias; None is PyTorch's default, the same bounds.
        dtype: float32 or float64.
        rng: what to draw from; None is the generator that `pynn.manual_seed` sets.

    Attributes:
        weight: Parameter (out_features, in_features).
        bias: Parameter (out_features,), or None.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        in_features = whole_number("in_features", in_features, 1)
        out_features = whole_number("out_features", out_features, 1)
        self.in_features, self.out_features = in_features, out_features
        make = init.torch_default if weight_init is None else init.get(weight_init)
        self.weight = _parameter(make, (out_features, in_features), rng, dtype)
        make = init.torch_default_bias(in_features) if bias_init is None else init.get(bias_init)
        self.bias = _parameter(make, (out_features,), rng, dtype) if bias else None

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.linear(x, self.weight, self.bias)

    def describe(self) -> str:
        """Sizes and options, for `repr`."""
        return f"{self.in_features}, {self.out_features}" + (
            "" if self.bias is not None else ", bias=False"
        )


class Conv2d(Module):
    """A convolution: x (N, in_channels, H, W) -> y (N, out_channels, OH, OW).

    Args:
        in_channels, out_channels: sizes; both multiples of groups.
        kernel_size, stride, padding, dilation, groups: as for `ops.conv2d`.
        bias: whether there is a bias, one value for each output channel.
        weight_init, bias_init: as for `Linear`; PyTorch's default bound is 1 / sqrt(in_channels /
            groups KH KW).
        dtype: float32 or float64.
        rng: as for `Linear`.

    Attributes:
        weight: Parameter (out_channels, in_channels / groups, KH, KW).
        bias: Parameter (out_channels,), or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        *,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        in_channels = whole_number("in_channels", in_channels, 1)
        out_channels = whole_number("out_channels", out_channels, 1)
        groups = whole_number("groups", groups, 1)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(
                    f"{name} must be a multiple of groups, got {channels} and {groups}"
                )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride, self.dilation = pair("stride", stride), pair("dilation", dilation)
        self.padding = _padding(padding)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        make = init.torch_default if weight_init is None else init.get(weight_init)
        self.weight = _parameter(make, shape, rng, dtype)
        make = (
            init.torch_default_bias(init.fan(shape)[0])
            if bias_init is None
            else init.get(bias_init)
        )
        self.bias = _parameter(make, (out_channels,), rng, dtype) if bias else None

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.conv2d(
            x, self.weight, self.bias,
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups,
        )  # fmt: skip

    def describe(self) -> str:
        """Sizes and options, for `repr`."""
        text = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}"
        for name, default in (
            ("stride", (1, 1)),
            ("padding", 0),
            ("dilation", (1, 1)),
            ("groups", 1),
        ):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)!r}"
        return text + ("" if self.bias is not None else ", bias=False")


class Bias(Module):
    """An untied bias: one value for each element of a sample. x (N, *shape) -> y (N, *shape).

    Args:
        shape: shape of one sample, such as (1, 28, 28); an int n is (n,).
        bias_init: initialiser, as for `Linear`; zeros by default.
        dtype: float32 or float64.
        rng: as for `Linear`.

    Attributes:
        bias: Parameter (*shape).
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        *,
        bias_init: Init = 0.0,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        sizes = whole_numbers("shape", shape, 0)
        sizes = (sizes,) if isinstance(sizes, int) else sizes
        self.bias = _parameter(init.get(bias_init), sizes, rng, dtype)

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.bias(x, self.bias)

    def describe(self) -> str:
        """The shape, for `repr`."""
        return str(self.bias.shape)


class _Pool2d(Module):
    def __init__(
        self,
        kernel_size: Pair,
        *,
        stride: Pair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else pair("stride", stride)
        self.padding, self.ceil_mode = _padding(padding), bool(ceil_mode)

    def describe(self) -> str:
        """Sizes and options, for `repr`."""
        text = f"{self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding!r}" if self.padding != 0 else ""
        return text + (", ceil_mode=True" if self.ceil_mode else "")


class MaxPool2d(_Pool2d):
    """The largest value of each window: x (N, C, H, W) -> y (N, C, OH, OW).

    Args:
        kernel_size, stride, padding, ceil_mode: as for `ops.max_pool2d`.
    """

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.max_pool2d(
            x, self.kernel_size, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode
        )


class AvgPool2d(_Pool2d):
    """The mean of each window: x (N, C, H, W) -> y (N, C, OH, OW).

    Args:
        kernel_size, stride, padding, ceil_mode, count_include_pad: as for `ops.avg_pool2d`.
    """

    def __init__(
        self,
        kernel_size: Pair,
        *,
        stride: Pair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.avg_pool2d(
            x, self.kernel_size, stride=self.stride, padding=self.padding,
            ceil_mode=self.ceil_mode, count_include_pad=self.count_include_pad,
        )  # fmt: skip


class GlobalAvgPool2d(Module):
    """The mean over each image: x (N, C, H, W) -> y (N, C, 1, 1)."""

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.global_avg_pool2d(x)


class ReLU(Module):
    """max(x, 0), in any shape."""

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.relu(x)


class LeakyReLU(Module):
    """y = x where x > 0, else negative_slope * x, in any shape."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = real_number("negative_slope", negative_slope)

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.leaky_relu(x, negative_slope=self.negative_slope)

    def describe(self) -> str:
        """The slope, for `repr`."""
        return str(self.negative_slope)


class Tanh(Module):
    """Hyperbolic tangent, in any shape."""

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)), in any shape."""

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.sigmoid(x)


class _AlongAxis(Module):
    def __init__(self, *, axis: int = 1) -> None:
        self.axis = whole_number("axis", axis)

    def describe(self) -> str:
        """The axis, for `repr`."""
        return f"axis={self.axis}"


class Softmax(_AlongAxis):
    """Shares of 1 along an axis. Before a CrossEntropyLoss it does not belong: that loss takes
    logits."""

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.softmax(x, axis=self.axis)


class LogSoftmax(_AlongAxis):
    """Logarithms of the shares of `Softmax`."""

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.log_softmax(x, axis=self.axis)


class Dropout(Module):
    """In training, each element is zero with probability p and otherwise multiplied by 1 / (1 - p).

    Args:
        p: probability of dropping, 0 ... 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = share("p", p)

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.dropout(x, p=self.p) if self.training else x

    def describe(self) -> str:
        """The probability, for `repr`."""
        return f"p={self.p}"


class DropBlock2d(Module):
    """In training, square blocks of each channel are zero (Ghiasi, Lin, Le 2018). x (N, C, H, W).

    Args:
        p: share of elements to drop, 0 ... 1.
        block_size: side of a block.
    """

    def __init__(self, p: float = 0.1, block_size: int = 7) -> None:
        self.p, self.block_size = share("p", p), whole_number("block_size", block_size, 1)

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.drop_block2d(x, p=self.p, block_size=self.block_size) if self.training else x

    def describe(self) -> str:
        """Probability and size, for `repr`."""
        return f"p={self.p}, block_size={self.block_size}"


class _BatchNorm(Module):
    """Normalise each channel; in training by the batch, in evaluation by running statistics.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: share of the new batch in the running statistics (PyTorch's convention).
        affine: whether weight and bias follow.
        dtype: float32 or float64.

    Attributes:
        weight, bias: Parameters (C,), or None.
        running_mean, running_var: Buffers (C,).
        num_batches_tracked: Buffer (), how many batches the statistics have seen.
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.num_features = num_features = whole_number("num_features", num_features, 1)
        self.eps, self.momentum = not_negative("eps", eps), share("momentum", momentum)
        dtype = float_dtype(dtype)
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine else None
        self.running_mean = Buffer(np.zeros(num_features, dtype))
        self.running_var = Buffer(np.ones(num_features, dtype))
        self.num_batches_tracked = Buffer(np.int64(0))

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return x.apply(
            "batch_norm", self.running_mean, self.running_var, self.weight, self.bias,
            self.num_batches_tracked, training=self.training, momentum=self.momentum, eps=self.eps,
        )  # fmt: skip

    def describe(self) -> str:
        """Sizes and options, for `repr`."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Normalise each feature of x (N, C): `_BatchNorm` has the arguments."""


class BatchNorm2d(_BatchNorm):
    """Normalise each channel of x (N, C, H, W)."""


class Flatten(Module):
    """x (N, ...) -> y (N, F).

    Args:
        start_axis: the first axis that is joined, 1 or more.
    """

    def __init__(self, start_axis: int = 1) -> None:
        self.start_axis = whole_number("start_axis", start_axis)

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.flatten(x, start_axis=self.start_axis)


class Reshape(Module):
    """x (N, ...) -> y (N, *shape).

    Args:
        shape: the new shape of one sample, as sizes or as one tuple of them; one may be -1.
    """

    def __init__(self, *shape: int | Sequence[int]) -> None:
        sizes = whole_numbers("shape", shape[0] if len(shape) == 1 else shape)
        self.shape = (sizes,) if isinstance(sizes, int) else sizes

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.reshape(x, (x.shape[0], *self.shape))

    def describe(self) -> str:
        """The shape, for `repr`."""
        return ", ".join(str(size) for size in self.shape)


class Pad2d(Module):
    """A border around images: x (N, C, H, W) -> y (N, C, H + top + bottom, W + left + right).

    Args:
        padding: one int, (rows, columns), or (top, bottom, left, right).
        value: what the border holds.
    """

    def __init__(self, padding: int | Sequence[int], *, value: float = 0.0) -> None:
        self.padding, self.value = whole_numbers("padding", padding), real_number("value", value)

    def forward(self, x: Any) -> Any:
        """Record the layer."""
        return ops.pad2d(x, self.padding, value=self.value)

    def describe(self) -> str:
        """The border, for `repr`."""
        return f"{self.padding}, value={self.value}"


class Identity(Module):
    """y = x."""

    def forward(self, x: Any) -> Any:
        """Nothing to record."""
        return x
