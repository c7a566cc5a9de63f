"""Inference beside other libraries: python -m benchmarks.infer."""
