"""Operators beside PyTorch, forward and backward: python -m benchmarks.ops."""
