"""Pictures and tables of trainings."""

from pynn.report.curves import save_learning_curves

__all__ = ["save_learning_curves"]
