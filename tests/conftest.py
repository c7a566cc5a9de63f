import os
from pathlib import Path

import pytest
from hypothesis import settings

import pynn

# Python started by a test imports the installed package, not the folder of the sources it stands in.
os.environ["PYTHONSAFEPATH"] = "1"

# Example times vary with the disk and the machine; a deadline would make failures of that.
settings.register_profile("pynn", deadline=None)
settings.load_profile("pynn")


@pytest.fixture(autouse=True)
def _drawn_anew():
    """What a test draws does not depend on the tests before it."""
    pynn.manual_seed(0)


def _find(name):
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PYNN_TEST_DATA", beside))
    if not (folder / name).exists():
        pytest.skip(f"{name} not found in {folder}; set PYNN_TEST_DATA")
    return folder / name


@pytest.fixture(scope="session")
def shared_data():
    """Gives the path of some data, such as "orl-faces", in $PYNN_TEST_DATA or ../shared/data."""
    return _find


@pytest.fixture(scope="session")
def data_folder():
    """The folder of mnist/ and fashion-mnist/: $PYNN_TEST_DATA, or ../shared/data."""
    for name in ("mnist", "fashion-mnist"):
        folder = _find(name).parent
    return folder
