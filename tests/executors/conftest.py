import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def printed_on():
    """Runs a program, which may import from the tests, on an instruction set: what it prints as
    JSON."""

    def run(isa, program):
        tests = str(Path(__file__).resolve().parents[1])
        result = subprocess.run(
            [sys.executable, "-c", f"import json, sys\nsys.path.insert(0, {tests!r})\n{program}"],
            env=os.environ | {"PYNN_ISA": isa}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(result.stdout)

    return run
