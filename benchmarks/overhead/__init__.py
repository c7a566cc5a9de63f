"""What pynn costs beside its arithmetic: python -m benchmarks.overhead."""
