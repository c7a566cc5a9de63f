"""Three operators for pynn; importing this makes them `pynn.ops.swish` and so on."""

from pathlib import Path

import numpy as np

import pynn
from pynn import nn, ops

__all__ = ["BiasSwishDropout", "BoxFilter", "Swish"]

pynn.load_library(Path(__file__).with_name("examples"))


class Swish(nn.Module):
    """x / (1 + exp(-beta x))."""

    def __init__(self, beta=1.0):
        self.beta = beta

    def forward(self, x):
        """Record the operator."""
        return ops.swish(x, beta=self.beta)


class BiasSwishDropout(nn.Module):
    """A bias for each channel, swish, and dropout in training mode."""

    def __init__(self, channels, p=0.5):
        self.bias = nn.Parameter(np.zeros(channels, np.float32))
        self.p = p

    def forward(self, x):
        """Record the operator."""
        return ops.bias_swish_dropout(x, self.bias, p=self.p if self.training else 0.0)


class BoxFilter(nn.Module):
    """The mean of each window."""

    def __init__(self, size=3):
        self.size = size

    def forward(self, x):
        """Record the operator."""
        return ops.box_filter(x, size=self.size)
