"""The libraries that are timed beside each other, each in a process of its own.

A peer is a function of a workload and a number of threads that returns step(): one training step on
the workload's batch, which returns the loss before the update.
"""
