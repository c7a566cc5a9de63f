"""Where CMake finds pynn: `find_package(pynn)`, through an entry point that scikit-build-core reads.
Not a part of the package pynn, so that reading it imports nothing."""
