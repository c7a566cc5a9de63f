"""Products that cuBLASLt computes: which they are, how, and what happens where it does not. Without
a GPU, a library stands in for it (libraries/cublaslt.cpp)."""

import numpy as np
import pytest

import pynn
from pynn import nn, optim

SIZES = (20, 16, 12, 5)
PRODUCTS_OF_A_STEP = 8  # y and dw of three layers, dx of two


def perceptron():
    pynn.manual_seed(5)
    return nn.Sequential(
        nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 5)
    )


def batch(count=14):
    rng = np.random.default_rng(2)
    return rng.standard_normal((count, 20)).astype(np.float32), rng.integers(0, 5, count)


def train(steps=6):
    """The losses and the state after some steps, and what the plan says."""
    model = perceptron()
    opt = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, y = batch()
    with pynn.backend("cuda"):
        step = pynn.compile(model, nn.CrossEntropyLoss(), opt)
        losses = [step(x, y) for _ in range(steps)]
        text = step.plan(x.shape).explain()
    return losses, model.state_dict(), text


def assert_same_bits(got, expected):
    assert got[0] == expected[0]
    for key, value in expected[1].items():
        assert got[1][key].tobytes() == value.tobytes(), key


def explain(size, count):
    model = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 10))
    with pynn.backend("cuda"):
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        return step.plan((count, size)).explain()


def test_large_is_from_a_number_of_operations_on(large_products, cuda):
    cuda.set_large_product(None)
    assert cuda.set_large_product(None) == 1e9
    text = explain(500, 2000)  # 10^9 in the first layer
    assert "linear 500 -> 500 + relu (cuBLASLt: y, dx, dw)" in text
    assert text.count("cuBLASLt") == 1
    assert "cuBLASLt" not in explain(500, 1999)


def test_every_product_of_every_step_goes_there(cublaslt_stand_in):
    before = cublaslt_stand_in.pynn_stand_in_products()
    _, _, text = train(steps=6)  # the first as it is, the others from a graph
    assert text.count("(cuBLASLt: y, dx, dw)") == 3
    assert cublaslt_stand_in.pynn_stand_in_products() == before + 6 * PRODUCTS_OF_A_STEP


def test_steps_of_an_epoch_go_there(cublaslt_stand_in):
    model = perceptron()
    x, y = batch(14 * 20)
    before = cublaslt_stand_in.pynn_stand_in_products()
    with pynn.backend("cuda"):
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.05))
        step.epoch(x, y, np.arange(len(x)), batch_size=14)
    assert cublaslt_stand_in.pynn_stand_in_products() == before + 20 * PRODUCTS_OF_A_STEP


class Positions(nn.Module):
    """Dense layers along the last axis of (N, positions, features), one of them used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(24, 3)

    def forward(self, x):
        x = self.b(nn.relu(self.a(nn.tanh(self.a(x)))))
        return self.c(pynn.ops.flatten(x))


class Weights(nn.Module):
    """Products with parameters."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(1)
        self.a, self.b = (
            nn.Parameter(rng.standard_normal(shape) / 4) for shape in ((24, 7), (7, 3))
        )

    def forward(self, x):
        return pynn.ops.matmul(nn.relu(pynn.ops.matmul(pynn.ops.flatten(x), self.a)), self.b)


class OneByOne(nn.Module):
    """Convolutions of 1 x 1, one in groups and one whose results are pooled."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 4, 1, groups=2)
        self.c, self.d = nn.MaxPool2d(2), nn.Linear(24, 3)

    def forward(self, x):
        x = nn.tanh(self.a(pynn.ops.reshape(x, (-1, 1, 4, 6))))
        return self.d(pynn.ops.flatten(self.c(nn.relu(self.b(x)))))


@pytest.mark.parametrize(("module", "products"), [(Positions, 11), (Weights, 5), (OneByOne, 8)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrices_in_every_way(module, products, dtype, cublaslt_stand_in):
    x = np.random.default_rng(0).standard_normal((9, 4, 6))
    y = np.random.default_rng(1).integers(0, 3, 9)

    def run(name, dtype):
        pynn.manual_seed(3)
        model = module().astype(dtype)
        with pynn.backend(name):
            opt = optim.SGD(model.parameters(), lr=0.1)
            step = pynn.compile(model, nn.CrossEntropyLoss(), opt)
            losses = [step(x.astype(dtype), y) for _ in range(4)]
        return losses, model.state_dict()

    before = cublaslt_stand_in.pynn_stand_in_products()
    losses, state = run("cuda", dtype)
    assert cublaslt_stand_in.pynn_stand_in_products() == before + 4 * products
    expected, expected_state = run("native", "float64")
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(losses, expected, rtol=1000 * eps)
    for key, value in expected_state.items():
        np.testing.assert_allclose(state[key], value, rtol=1000 * eps, atol=1000 * eps)


def as_it_lies(x, bits):
    """x with so many bits of its fraction, to nearest: ties away from zero of tf32, to even of
    bfloat16."""
    fraction, exponent = np.frexp(x.astype(np.float64))
    scaled = np.ldexp(fraction, bits + 1)
    whole = np.rint(scaled) if bits == 7 else np.trunc(scaled + np.copysign(0.5, scaled))
    return np.ldexp(whole, exponent - bits - 1)


@pytest.mark.parametrize(("precision", "bits"), [("float32", 23), ("tf32", 10), ("bf16", 7)])
def test_the_precision_is_the_factors(precision, bits, cublaslt_stand_in):
    pynn.manual_seed(1)
    model = nn.Linear(30, 11)
    x = np.random.default_rng(4).standard_normal((17, 30)).astype(np.float32)
    with pynn.backend("cuda", precision=precision):
        y = model(x)
    w, b = model.weight.data, model.bias.data
    expected = as_it_lies(x, bits) @ as_it_lies(w, bits).T + b
    magnitude = np.abs(x) @ np.abs(w).T + np.abs(b)
    assert np.all(np.abs(y - expected) <= 32 * np.finfo(np.float32).eps * magnitude)


@pytest.mark.parametrize("where", ["choose", "run"])
def test_where_it_refuses_pynn_computes(where, cublaslt_stand_in, cuda, monkeypatch):
    monkeypatch.setenv("PYNN_STAND_IN_REFUSES", where)
    before = cublaslt_stand_in.pynn_stand_in_products()
    refused = train()
    assert cublaslt_stand_in.pynn_stand_in_products() == before
    assert ("cuBLASLt" in refused[2]) == (where == "run")  # until then nobody knows
    cuda.set_large_product(None)
    own = train()
    assert "cuBLASLt" not in own[2]
    assert_same_bits(refused, own)
