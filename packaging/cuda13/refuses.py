"""Checks an installed pynn-core-cuda13: it loads, and where there is no GPU says so."""

import pynn

if pynn.cuda.is_available():
    print(pynn.cuda.describe())
else:
    try:
        with pynn.backend("cuda"):
            raise SystemExit("there is no device, and nothing was said")
    except pynn.BackendError as error:
        print(error)
        if not str(error).startswith("the CUDA back end cannot run here"):
            raise
