"""Where CMake finds pynn: the entry point that scikit-build-core reads names this folder. It is not
part of the package pynn, so that reading it imports nothing."""
