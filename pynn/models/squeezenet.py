"""SqueezeNet 1.0 as torchvision has it: layers, numbering and names of parameters.

Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and < 0.5 MB model
size", arXiv:1602.07360.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynn import nn
from pynn.errors import FormatError
from pynn.io import load_state
from pynn.models.imagenet import MEAN, STD
from pynn.models.weights import State, give_weights

# The number of fire2, fire3, ... within features.
_FIRES = (3, 4, 5, 7, 8, 9, 10, 12)
# What Caffe's models subtract from blue, green and red in 0..255.
_CAFFE_MEAN = (104.0, 117.0, 123.0)


class Fire(nn.Module):
    """Few channels by a 1 x 1 convolution, then many by 1 x 1 and 3 x 3 side by side:
    x (N, channels, H, W) -> y (N, expand1x1 + expand3x3, H, W).

    Args:
        channels, squeeze, expand1x1, expand3x3: numbers of channels.
    """

    def __init__(self, channels: int, squeeze: int, expand1x1: int, expand3x3: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand1x1, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand3x3, 3, padding=1)

    def forward(self, x: Any) -> Any:
        """ReLU follows each convolution."""
        x = nn.relu(self.squeeze(x))
        return nn.concat([nn.relu(self.expand1x1(x)), nn.relu(self.expand3x3(x))])


def squeezenet_features() -> nn.Sequential:
    """SqueezeNet's convolutions: x (N, 3, H, W) -> y (N, 512, H / 16, W / 16), 13 x 13 for
    224 x 224 and 227 x 227. Images as `imagenet_input` gives them."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 7, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(96, 16, 64, 64),
        Fire(128, 16, 64, 64),
        Fire(128, 32, 128, 128),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(256, 32, 128, 128),
        Fire(256, 48, 192, 192),
        Fire(384, 48, 192, 192),
        Fire(384, 64, 256, 256),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(512, 64, 256, 256),
    )


class SqueezeNet(nn.Module):
    """SqueezeNet 1.0: x (N, 3, H, W) -> logits (N, classes), each the mean over all positions.

    Args:
        classes: number of outputs.
        padding: of the last convolution: 0 as in torchvision, 1 as in the authors' model.
        dropout: rate before the last convolution.

    Attributes:
        features: see `squeezenet_features`.
        classifier: the last convolution.
    """

    def __init__(self, classes: int = 1000, *, padding: int = 0, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = squeezenet_features()
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Conv2d(512, classes, 1, padding=padding),
            nn.ReLU(),
            nn.GlobalAvgPool2d(),
            nn.Flatten(),
        )

    def forward(self, x: Any) -> Any:
        """Logits of each class."""
        return self.classifier(self.features(x))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take the weights from a file with a state dict of torchvision's SqueezeNet 1.0, or with
        the names and the channels of the authors' model (see `from_caffe`).

        Raises:
            FormatError, ShapeError: as `load_weights` does.
        """
        state: State = load_state(path)
        if "fire2.conv1x1_1.weight" in state:
            state = from_caffe(state, path)
        give_weights(self, state, path)


def from_caffe(state: State, path: str | os.PathLike[str] = "state") -> dict[str, NDArray[Any]]:
    """The authors' model under torchvision's names, for images as `imagenet_input` gives them.

    That model takes blue, green and red, in 0..255 less a mean. What that means for the first
    convolution, which has no padding, goes into its weights and bias, so that outputs stay the
    same.

    Args:
        state: conv1, fireN.conv1x1_1 (squeeze), fireN.conv1x1_2 and fireN.conv3x3_2 (expand) for N
            in 2..9, and conv_final; of each a weight and a bias.
        path: named in errors.

    Raises:
        FormatError: the first convolution is missing, or not of three channels.
    """
    layers = {"conv1": "features.0", "conv_final": "classifier.1"}
    for number, place in enumerate(_FIRES, 2):
        for old, new in (
            ("conv1x1_1", "squeeze"), ("conv1x1_2", "expand1x1"), ("conv3x3_2", "expand3x3"),
        ):  # fmt: skip
            layers[f"fire{number}.{old}"] = f"features.{place}.{new}"
    result: dict[str, NDArray[Any]] = {}
    for name, array in state.items():
        layer, _, kind = name.rpartition(".")
        result[f"{layers.get(layer, layer)}.{kind}"] = array
    weight, bias = result.get("features.0.weight"), result.get("features.0.bias")
    if weight is None or bias is None or weight.ndim != 4 or weight.shape[1] != 3:
        raise FormatError(
            f"{os.fspath(path)}: conv1 needs a weight (96, 3, 7, 7) and a bias, got "
            f"{None if weight is None else weight.shape}"
        )
    rgb = weight[:, ::-1].astype(np.float64)
    mean = np.array(_CAFFE_MEAN[::-1])
    # A pixel of value v in 0..255 comes as u = (v / 255 - MEAN) / STD.
    scale, shift = 255 * np.array(STD), 255 * np.array(MEAN) - mean
    result["features.0.weight"] = (rgb * scale[:, None, None]).astype(weight.dtype)
    result["features.0.bias"] = (bias + rgb.sum(axis=(2, 3)) @ shift).astype(bias.dtype)
    return result
