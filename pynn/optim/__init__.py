"""Optimisers and learning-rate schedules."""

from pynn.optim.adam import Adam, AdamW
from pynn.optim.optimizer import Optimizer
from pynn.optim.rmsprop import RMSprop
from pynn.optim.schedules import (
    CosineAnnealingLR,
    OneCycleLR,
    ReduceLROnPlateau,
    Schedule,
    StepLR,
)
from pynn.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "CosineAnnealingLR", "OneCycleLR", "Optimizer", "RMSprop",
    "ReduceLROnPlateau", "Schedule", "StepLR",
]  # fmt: skip
