"""The last block of a batch, whose images lie in bands of rows side by side."""

import re

import numpy as np
import pytest

import pynn
from pynn import _core, nn, optim


class Residual(nn.Module):
    """What the first convolution gives is read twice: bands end there."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 8, 5, padding=2)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        h = nn.relu(self.first(x))
        return h + self.second(h)


class Twice(nn.Module):
    """A layer that is called twice, of which the second time is not within the fold."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.layer(self.norm(nn.tanh(self.layer(x))))


NETWORKS = {
    "pooled": (
        (1, 28, 28),
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 9, 3, padding=1),
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(441, 3),
        ),
    ),
    "full_padding": (  # by the columns of its kernel; the weight gradient over the pixels of x
        (1, 20, 21),
        lambda: nn.Sequential(
            nn.Conv2d(1, 12, 5), nn.Tanh(), nn.Conv2d(12, 1, 5, padding=4), nn.Sigmoid()
        ),
    ),
    "full_padding_of_many": (
        (3, 17, 9),
        lambda: nn.Sequential(
            nn.Conv2d(3, 7, 3, padding=2), nn.LeakyReLU(), nn.Conv2d(7, 6, 4, padding=3)
        ),
    ),
    "far_reaching": (  # rows of many bands around each
        (2, 12, 15),
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, (9, 3), padding=(4, 1)), nn.ReLU(),
            nn.Conv2d(6, 5, (3, 1), dilation=(4, 1), padding=(5, 0)),
        ),
    ),
    "rows_and_columns": (
        (2, 20, 24),
        lambda: nn.Sequential(
            nn.Conv2d(2, 12, (1, 3), stride=(1, 2)), nn.ReLU(), nn.Conv2d(12, 12, (3, 1)),
            nn.Tanh(), nn.Conv2d(12, 12, (2, 5), padding=(0, 3), dilation=(1, 2)),
        ),
    ),
    "groups": (
        (4, 18, 17),
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 5, padding=2, groups=2), nn.ReLU(),
            nn.MaxPool2d((3, 3), stride=(3, 2), padding=(0, 1)),
            nn.Conv2d(8, 6, 3, groups=2, bias=False), nn.Tanh(), nn.MaxPool2d((2, 1)),
        ),
    ),
    "rows_left_out_by_pools": (
        (1, 23, 19),
        lambda: nn.Sequential(
            nn.Conv2d(1, 9, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(9, 8, 3, padding=1),
            nn.MaxPool2d(3), nn.Flatten(), nn.Linear(48, 4),
        ),
    ),
    "products": (  # 1 x 1, whose weight gradients are products of matrices
        (2, 9, 10),
        lambda: nn.Sequential(
            nn.Conv2d(2, 40, 3, padding=1), nn.ReLU(), nn.Conv2d(40, 36, 1), nn.ReLU(),
            nn.Conv2d(36, 5, 3, padding=1),
        ),
    ),
    "panels": (
        (3, 12, 12),
        lambda: nn.Sequential(
            nn.Conv2d(3, 30, 5, padding=2), nn.ReLU(), nn.Conv2d(30, 29, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(4176, 3),
        ),
    ),
    "small_images_at_the_end": (
        (1, 24, 24),
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 5),
            nn.ReLU(), nn.MaxPool2d(4), nn.Conv2d(8, 6, 2), nn.ReLU(), nn.Flatten(),
        ),
    ),
    "of_rows": (
        (784,),
        lambda: nn.Sequential(
            nn.Reshape(1, 28, 28), nn.Conv2d(1, 12, 5), nn.ReLU(), nn.Flatten(),
            nn.Linear(6912, 3),
        ),
    ),
    "residual": ((2, 14, 13), Residual),
    "twice": ((8, 16, 12), Twice),
}  # fmt: skip

# (samples, bands) of the last block: 1 in 16, 3 in 5, 4 in 4, 8 in 2; of one full block and of two.
BATCHES = [17, 19, 36, 40]


def folds(plan):
    """Whether a layer of the plan goes over bands."""
    return re.search(r"\[16\] and \[1\](\[[\d +]+\]){3}\[16\]", plan.explain()) is not None


def run(name, batch, dtype="float64", backend="native"):
    """Output, dx and gradients of a network in training mode."""
    shape, make = NETWORKS[name]
    pynn.manual_seed(3)
    with pynn.backend(backend):
        model = make().astype(dtype)
        rng = np.random.default_rng(1)
        x = rng.standard_normal((batch, *shape)).astype(dtype)
        y = model(x)
        dx = model.backward(rng.standard_normal(y.shape).astype(dtype))
    assert folds(model.plan(x.shape))
    return {"y": y, "dx": dx} | {path: p.grad for path, p in model.named_parameters()}


def trained(name, batch, dtype, **options):
    """The losses of three steps, the last output, and what became of the parameters."""
    shape, make = NETWORKS[name]
    pynn.manual_seed(5)
    model = make().astype(dtype)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((batch, *shape)).astype(dtype)
    y = rng.standard_normal(model(x).shape).astype(dtype)
    step = pynn.compile(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.01), **options)
    losses = np.array([step(x, y) for _ in range(3)])
    left = {path: parameter.data for path, parameter in model.named_parameters()}
    return {"losses": losses, "output": step.output} | left


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_the_reference(name, batch):
    expected = run(name, batch, backend="numpy")
    for path, array in run(name, batch).items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-10, atol=1e-10, err_msg=path)
    for path, array in run(name, batch, "float32").items():
        np.testing.assert_allclose(array, expected[path], rtol=2e-4, atol=5e-4, err_msg=path)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_equal_the_reference(name, batch):
    with pynn.backend("numpy"):
        expected = trained(name, batch, "float64")
    for path, array in trained(name, batch, "float64").items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-9, atol=1e-11, err_msg=path)


@pytest.mark.parametrize("batch", [19, 68])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_on_any_number_of_threads_by_hand_and_compiled(name, batch):
    before = pynn.get_num_threads()
    try:
        pynn.set_num_threads(1)
        expected = trained(name, batch, "float32")
        for threads in (1, 2, 3, 5, 8):
            pynn.set_num_threads(threads)
            for options in ({}, {"keep_gradients": True}):
                for path, array in trained(name, batch, "float32", **options).items():
                    assert array.tobytes() == expected[path].tobytes(), (threads, options, path)
    finally:
        pynn.set_num_threads(before)


SCRIPT = """
from executors.test_fold import NETWORKS, run
print(json.dumps({name: {k: v.ravel().tolist() for k, v in run(name, 36).items()}
                  for name in NETWORKS}))
"""


@pytest.mark.parametrize("isa", _core.config()["available_isas"])
def test_every_instruction_set(isa, printed_on):
    for name, arrays in printed_on(isa, SCRIPT).items():
        expected = run(name, 36, backend="numpy")
        for path, values in arrays.items():
            np.testing.assert_allclose(
                values, expected[path].ravel(), rtol=1e-10, atol=1e-10, err_msg=f"{name} {path}"
            )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_call_has_the_outputs_of_its_full_blocks(name):
    """Rows of an image are summed alike wherever they lie."""
    shape, make = NETWORKS[name]
    pynn.manual_seed(3)
    model = make().eval()
    x = np.random.default_rng(1).random((36, *shape), dtype=np.float32)
    folded = model(x)
    np.testing.assert_array_equal(folded, model(np.concatenate([x, x[:12]]))[:36])


@pytest.mark.parametrize("sample", [3, 35])
def test_nan_stays_in_its_sample(sample):
    shape, make = NETWORKS["pooled"]
    pynn.manual_seed(3)
    model = make()
    x = np.random.default_rng(1).random((36, *shape), dtype=np.float32)
    clean = model(x)
    dirty = x.copy()
    dirty[sample, 0, 9, 9] = np.nan
    y = model(dirty)
    others = np.arange(36) != sample
    np.testing.assert_array_equal(y[others], clean[others])
    with pynn.backend("numpy"):
        np.testing.assert_array_equal(np.isnan(y[sample]), np.isnan(model(dirty)[sample]))


@pytest.mark.parametrize(
    ("layers", "batch"),
    [
        ((nn.Conv2d(1, 20, 5),), 16),
        ((nn.Conv2d(1, 20, 5),), 25),  # its last block is more than half full
        ((nn.Conv2d(1, 20, 5),), 4),
        ((nn.Conv2d(1, 20, 5, stride=2),), 20),
        ((nn.Conv2d(1, 1, 3),), 20),  # too little work
        ((nn.Dropout(0.1), nn.Conv2d(1, 20, 5)), 20),
        ((nn.Flatten(), nn.Linear(784, 300)), 20),
    ],
)  # fmt: skip
def test_what_does_not_fold(layers, batch):
    assert not folds(nn.Sequential(*layers).plan((batch, 1, 28, 28)))


def test_batches_of_any_size_by_turns():
    """One model, whose steps of several shapes share its parameters."""

    def losses(backend):
        shape, make = NETWORKS["pooled"]
        pynn.manual_seed(1)
        model = make().astype("float64")
        rng = np.random.default_rng(0)
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
        with pynn.backend(backend):
            return [
                step(rng.standard_normal((batch, *shape)), rng.integers(0, 3, batch))
                for batch in (36, 4, 17, 36, 24, 32)
            ]

    np.testing.assert_allclose(losses("native"), losses("numpy"), rtol=1e-9)
