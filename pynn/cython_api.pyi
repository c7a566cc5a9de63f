# The functions are for Cython alone: cython_api.pxd.
