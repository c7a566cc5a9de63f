"""AlexNet as torchvision has it: layers, numbering and names of parameters.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997.
"""

from __future__ import annotations

import os
from typing import Any

from pynn import nn
from pynn.models.weights import load_weights

# The numbers of the convolutions within features.
_CONVOLUTIONS = (0, 3, 6, 8, 10)
_DENSE = (1, 4, 6)


def alexnet_features(convolutions: int = 5) -> nn.Sequential:
    """AlexNet's convolutions: x (N, 3, 224, 224) -> y (N, 256, 6, 6). Images as `imagenet_input`
    gives them.

    Args:
        convolutions: 5, or 4 to leave out the last one.
    """
    if convolutions not in (4, 5):
        raise ValueError(f"convolutions must be 4 or 5, got {convolutions}")
    last = [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()] if convolutions == 5 else []
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        *last,
        nn.MaxPool2d(3, stride=2),
    )


class AlexNet(nn.Module):
    """AlexNet for images of 224 x 224 pixels: x (N, 3, 224, 224) -> logits (N, classes).

    Args:
        classes: number of outputs.
        dropout: rate before each of the first two dense layers.

    Attributes:
        features: see `alexnet_features`.
        classifier: two dense layers of 4096 units with ReLU, and the last one.
    """

    def __init__(self, classes: int = 1000, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = alexnet_features()
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, classes),
        )

    def forward(self, x: Any) -> Any:
        """Logits of each class."""
        return self.classifier(nn.flatten(self.features(x)))


class AlexNetFeatures(nn.Module):
    """AlexNet's convolutions alone, under the names of the whole network.

    Args:
        convolutions: 5, or 4 to leave out the last one.

    Attributes:
        features: see `alexnet_features`.
    """

    def __init__(self, convolutions: int = 5) -> None:
        super().__init__()
        self.features = alexnet_features(convolutions)

    def forward(self, x: Any) -> Any:
        """Maps (N, 256, 6, 6)."""
        return self.features(x)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take the weights from a file with a state dict of torchvision's AlexNet, or of its
        features alone.

        Raises:
            FormatError, ShapeError: as `load_weights` does.
        """
        layers = [f"features.{n}" for n in _CONVOLUTIONS] + [f"classifier.{n}" for n in _DENSE]
        unused = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
        load_weights(self, path, unused=unused)
