"""Time is measured here, never in a test: every program checks its answer, then times it."""
