"""For tests, ours and yours: gradients against finite differences, and the samples of every
operator."""

from pynn.testing.gradcheck import GradReport, gradcheck, numerical_gradient
from pynn.testing.opcheck import OpReport, opcheck

__all__ = ["GradReport", "OpReport", "gradcheck", "numerical_gradient", "opcheck"]
