"""Pictures, tables and pages of trainings and studies."""

from pynn.report.curves import save_learning_curves
from pynn.report.figures import Contour, Panel, contours, curves, images
from pynn.report.report import Comparison, Report

__all__ = [
    "Comparison", "Contour", "Panel", "Report", "contours", "curves", "images",
    "save_learning_curves",
]  # fmt: skip
