"""Training steps beside other libraries: python -m benchmarks.train."""
