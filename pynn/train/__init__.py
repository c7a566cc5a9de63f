"""Training: the compiled step, the loop around it, callbacks, history, checkpoints."""

from pynn.train.callbacks import Callback, EarlyStopping, Run
from pynn.train.checkpoint import Checkpoint
from pynn.train.evaluation import evaluate
from pynn.train.history import History
from pynn.train.loop import fit
from pynn.train.step import CompiledStep, compile

__all__ = [
    "Callback", "Checkpoint", "CompiledStep", "EarlyStopping", "History", "Run", "compile",
    "evaluate", "fit",
]  # fmt: skip
