"""Convolutions that cuDNN computes: which they are, how, and what happens where it does not. Without
a GPU, a library stands in for it (libraries/cudnn.cpp)."""

import numpy as np
import pytest

import pynn
from pynn import nn, optim

# The stand-in's engines that pynn may take; those before them it may not.
TF32, PLAIN = 8, 9
CONVOLUTIONS_OF_A_STEP = 5  # y and dw of two layers, dx of one


def network():
    """Convolutions whose weights end at no multiple of 16 bytes, and a pool after one of them."""
    pynn.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 5, (2, 3), stride=(1, 2)),
        nn.Tanh(), nn.Flatten(), nn.Linear(30, 4),
    )  # fmt: skip


def batch(count=14):
    rng = np.random.default_rng(2)
    return rng.standard_normal((count, 1, 8, 10)).astype(np.float32), rng.integers(0, 4, count)


def train(steps=6, dtype="float32", **options):
    """The losses and the state after some steps, and what the plan says."""
    model = network().astype(dtype)
    opt = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, y = batch()
    x = x.astype(dtype)
    with pynn.backend("cuda", **options):
        step = pynn.compile(model, nn.CrossEntropyLoss(), opt)
        losses = [step(x, y) for _ in range(steps)]
        text = step.plan(x.shape).explain()
    return losses, model.state_dict(), text


def assert_same_bits(got, expected):
    assert got[0] == expected[0]
    for key, value in expected[1].items():
        assert got[1][key].tobytes() == value.tobytes(), key


def counts(library):
    return np.array([library.pynn_stand_in_convolutions(engine) for engine in range(PLAIN + 1)])


def explain(channels, pixels, count, groups=1):
    model = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=groups),
        nn.GlobalAvgPool2d(),
        nn.Flatten(),
    )
    with pynn.backend("cuda"):
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        return step.plan((count, channels, pixels, pixels)).explain()


def test_large_is_from_a_number_of_operations_on(large_convolutions, cuda):
    cuda.set_large_convolution(None)
    assert cuda.set_large_convolution(None) == 1e9
    # 64 x 64 x 9 x 2 operations for each of 16 x 16 positions and 64 samples, and for each of two
    # images 1 048 576 values: 1.2 10^9 operations, where 1.5 10^9 are wanted; twice the samples
    # have 2.4 10^9, and 2.05 10^9 are.
    assert "cuDNN" not in explain(64, 16, 64)
    assert "conv2d 3 x 3, 64 -> 64 channels (cuDNN: y, dx, dw)" in explain(64, 16, 128)
    # Its channels each by themselves, an image has few operations for its values.
    assert "cuDNN" not in explain(64, 64, 256, groups=64)


def test_every_convolution_of_every_step_goes_there(cudnn_stand_in):
    before = counts(cudnn_stand_in)
    _, _, text = train(steps=6)  # the first as it is, the others from a graph
    assert "conv2d 3 x 3, 1 -> 3 channels + relu (cuDNN: y, dx, dw)" in text
    assert text.count("(cuDNN: y, dx, dw)") == 2
    computed = counts(cudnn_stand_in) - before
    assert computed[PLAIN] == 6 * CONVOLUTIONS_OF_A_STEP
    assert computed.sum() == computed[PLAIN]


def test_nothing_is_made_after_the_first_step(cudnn_stand_in):
    model = network()
    x, y = batch()
    with pynn.backend("cuda"):
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.05))
        step(x, y)
        made = cudnn_stand_in.pynn_stand_in_plans()
        for _ in range(3):
            step(x, y)
    assert cudnn_stand_in.pynn_stand_in_plans() == made


def test_steps_of_an_epoch_go_there(cudnn_stand_in):
    model = network()
    x, y = batch(14 * 20)
    before = counts(cudnn_stand_in)
    with pynn.backend("cuda"):
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.05))
        step.epoch(x, y, np.arange(len(x)), batch_size=14)
    assert (counts(cudnn_stand_in) - before)[PLAIN] == 20 * CONVOLUTIONS_OF_A_STEP


def test_runs_have_the_same_bits(cudnn_stand_in):
    assert_same_bits(train(), train())


class Added(nn.Module):
    """A convolution used twice, and an image that two read: gradients are added."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 3, padding=1)
        self.c, self.d = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3, bias=False)
        self.e = nn.Linear(96, 4)

    def forward(self, x):
        x = self.b(nn.relu(self.b(nn.tanh(self.a(x)))))
        return self.e(pynn.ops.flatten(self.c(x) + self.d(x)))


class Windows(nn.Module):
    """Strides, dilations, groups, and padding that is another on every side."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 4, (3, 4), padding="same")
        self.b = nn.Conv2d(4, 6, 3, stride=2, dilation=(1, 2), padding=2, groups=2)
        self.c = nn.Conv2d(6, 6, 2, padding="full", groups=6)
        self.d = nn.Linear(6 * 6 * 6, 4)

    def forward(self, x):
        x = nn.leaky_relu(self.a(x), negative_slope=0.1)
        return self.d(pynn.ops.flatten(nn.relu(self.c(nn.sigmoid(self.b(x))))))


@pytest.mark.parametrize(("module", "convolutions"), [(network, 5), (Added, 12), (Windows, 8)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolutions_in_every_way(module, convolutions, dtype, cudnn_stand_in):
    x, y = batch(9)

    def run(name, dtype):
        pynn.manual_seed(3)
        model = module().astype(dtype)
        with pynn.backend(name):
            opt = optim.SGD(model.parameters(), lr=0.1)
            step = pynn.compile(model, nn.CrossEntropyLoss(), opt)
            losses = [step(x.astype(dtype), y) for _ in range(4)]
        return losses, model.state_dict()

    before = counts(cudnn_stand_in)
    losses, state = run("cuda", dtype)
    assert (counts(cudnn_stand_in) - before).sum() == 4 * convolutions
    expected, expected_state = run("native", "float64")
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(losses, expected, rtol=1000 * eps)
    for key, value in expected_state.items():
        np.testing.assert_allclose(state[key], value, rtol=1000 * eps, atol=1000 * eps)


@pytest.mark.parametrize(
    ("precision", "dtype", "engine"),
    [("float32", "float32", PLAIN), ("tf32", "float32", TF32), ("bf16", "float32", None),
     ("tf32", "float64", TF32), ("bf16", "float64", TF32), ("float32", "float64", TF32)],
)  # fmt: skip
def test_the_precision_chooses_the_engine(precision, dtype, engine, cudnn_stand_in):
    """Tensor cores round no factor of float64."""
    before = counts(cudnn_stand_in)
    train(steps=1, dtype=dtype, precision=precision)
    expected = np.zeros(PLAIN + 1, int)
    if engine is not None:
        expected[engine] = CONVOLUTIONS_OF_A_STEP
    np.testing.assert_array_equal(counts(cudnn_stand_in) - before, expected)


def test_factors_are_rounded_to_tf32(cudnn_stand_in):
    pynn.manual_seed(1)
    model = nn.Conv2d(2, 3, 3, padding=1)
    x = np.random.default_rng(4).standard_normal((5, 2, 6, 7)).astype(np.float32)
    with pynn.backend("cuda", precision="tf32"):
        y = model(x)

    def rounded(values):
        bits = values.view(np.uint32) + np.uint32(0x1000)
        return (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)

    w, b = rounded(model.weight.data), model.bias.data.astype(np.float64)
    expected = pynn.ops.conv2d(rounded(x), w, b, padding=1)
    magnitude = pynn.ops.conv2d(np.abs(rounded(x)), np.abs(w), np.abs(b), padding=1)
    assert np.all(np.abs(y - expected) <= 32 * np.finfo(np.float32).eps * magnitude)


@pytest.mark.parametrize("where", ["describe", "choose", "build", "run"])
def test_where_it_refuses_pynn_computes(where, cudnn_stand_in, cuda, monkeypatch):
    monkeypatch.setenv("PYNN_STAND_IN_REFUSES", where)
    before = counts(cudnn_stand_in)
    refused = train()
    assert (counts(cudnn_stand_in) == before).all()
    assert ("cuDNN" in refused[2]) == (where == "run")  # until then nobody knows
    cuda.set_large_convolution(None)
    own = train()
    assert "cuDNN" not in own[2]
    if where != "run":  # then the pool was not left to the convolution
        assert_same_bits(refused, own)
    np.testing.assert_allclose(refused[0], own[0], rtol=1e-6)


def test_a_failure_is_told(cudnn_stand_in, monkeypatch):
    monkeypatch.setenv("PYNN_STAND_IN_REFUSES", "fail")
    with pytest.raises(pynn.DeviceError, match="cuDNN failed with its status 5000"):
        train(steps=1)
