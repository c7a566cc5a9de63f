"""The studies, each a program that a user runs by name and may start from."""
