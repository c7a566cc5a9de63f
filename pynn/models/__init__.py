"""Networks that others have trained, under the names their weights have, and their features."""

from pynn.models.alexnet import AlexNet, AlexNetFeatures, alexnet_features
from pynn.models.extraction import extract_features
from pynn.models.imagenet import imagenet_input
from pynn.models.squeezenet import Fire, SqueezeNet, squeezenet_features
from pynn.models.weights import load_weights

__all__ = [
    "AlexNet", "AlexNetFeatures", "Fire", "SqueezeNet", "alexnet_features", "extract_features",
    "imagenet_input", "load_weights", "squeezenet_features",
]  # fmt: skip
