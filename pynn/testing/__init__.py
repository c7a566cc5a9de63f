"""For tests, ours and yours: gradients against finite differences, and the samples of every
operator."""

from pynn.testing.gradcheck import GradReport, gradcheck, numerical_gradient

__all__ = ["GradReport", "gradcheck", "numerical_gradient"]
