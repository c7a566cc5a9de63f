"""Ten steps of training from the same weights, beside PyTorch and beside the NumPy back end."""

import numpy as np
import pytest

import pynn
from pynn import nn, optim

torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install torch==2.13.0")

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 10, 20)


def mlp():
    return nn.Sequential(
        nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 20), nn.Tanh(), nn.Linear(20, 10)
    )


def torch_mlp():
    t = torch.nn
    return t.Sequential(t.Linear(784, 32), t.ReLU(), t.Linear(32, 20), t.Tanh(), t.Linear(20, 10))


def convnet():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, stride=2, groups=2), nn.LeakyReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(108, 32), nn.Sigmoid(), nn.Linear(32, 10),
    )  # fmt: skip


def torch_convnet():
    t = torch.nn
    return t.Sequential(
        t.Conv2d(1, 8, 3, padding="same"), t.ReLU(), t.MaxPool2d(2),
        t.Conv2d(8, 12, 3, stride=2, groups=2), t.LeakyReLU(), t.AvgPool2d(2),
        t.Flatten(), t.Linear(108, 32), t.Sigmoid(), t.Linear(32, 10),
    )  # fmt: skip


def normalised():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(676, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def torch_normalised():
    t = torch.nn
    return t.Sequential(
        t.Conv2d(1, 4, 3, bias=False), t.BatchNorm2d(4), t.ReLU(), t.MaxPool2d(2), t.Flatten(),
        t.Linear(676, 32, bias=False), t.BatchNorm1d(32), t.ReLU(), t.Linear(32, 10),
    )  # fmt: skip


MODELS = {
    "mlp": (mlp, torch_mlp, (20, 784)),
    "convnet": (convnet, torch_convnet, (20, 1, 28, 28)),
    "normalised": (normalised, torch_normalised, (20, 1, 28, 28)),
}
OPTIMISERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    "adam": ("Adam", {"lr": 1e-3, "weight_decay": 1e-3}),
    "adamw": ("AdamW", {"lr": 1e-3}),
    "rmsprop": ("RMSprop", {"lr": 1e-3, "momentum": 0.5}),
}


def tensors(model):
    return {name: torch.from_numpy(array) for name, array in model.state_dict().items()}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ten_steps_equal_torch(name, optimiser, dtype):
    make, make_torch, shape = MODELS[name]
    pynn.manual_seed(1)
    model = make().astype(dtype)
    theirs = make_torch().to(getattr(torch, dtype))
    theirs.load_state_dict(tensors(model))
    kind, options = OPTIMISERS[optimiser]
    step = pynn.compile(
        model, nn.CrossEntropyLoss(label_smoothing=0.1),
        getattr(optim, kind)(model.parameters(), **options),
    )  # fmt: skip
    their_optimizer = getattr(torch.optim, kind)(theirs.parameters(), **options)
    their_loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    # float64 shows that the formulas are the same; float32 that nothing is lost beyond rounding.
    bound = 1e-4 if dtype == "float32" else 1e-10
    for number in range(10):
        x = np.random.default_rng(number).random(shape).astype(dtype)
        loss = step(x, LABELS)
        their_optimizer.zero_grad()
        their_value = their_loss(theirs(torch.from_numpy(x)), torch.from_numpy(LABELS))
        their_value.backward()
        their_optimizer.step()
        assert loss == pytest.approx(their_value.item(), abs=bound)
    if dtype == "float32" and optimiser == "rmsprop":
        return  # its first step is the sign of the gradient: rounding decides where that is 0
    state = model.state_dict()
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_allclose(state[key], tensor.numpy(), atol=bound, err_msg=key)
    model.eval()
    theirs.eval()
    with torch.no_grad():
        np.testing.assert_allclose(model(x), theirs(torch.from_numpy(x)).numpy(), atol=10 * bound)


def test_state_dicts_have_torch_keys_in_torch_order():
    assert list(normalised().state_dict()) == list(torch_normalised().state_dict())


def test_a_torch_state_dict_loads():
    theirs = torch_normalised().eval()
    model = normalised().eval()
    model.load_state_dict(theirs.state_dict())
    x = RNG.random((3, 1, 28, 28)).astype("f")
    with torch.no_grad():
        np.testing.assert_allclose(model(x), theirs(torch.from_numpy(x)).numpy(), atol=1e-5)


def test_one_cycle_equals_torch():
    parameter = nn.Parameter(np.ones(1))
    optimizer = optim.SGD([parameter], lr=1.0)
    schedule = optim.OneCycleLR(optimizer, 0.4, 20)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    their_schedule = torch.optim.lr_scheduler.OneCycleLR(
        theirs, 0.4, total_steps=20, cycle_momentum=False
    )
    for _ in range(19):
        assert optimizer.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
        theirs.step()
        schedule.step()
        their_schedule.step()


def test_plateau_equals_torch():
    optimizer = optim.SGD([nn.Parameter(np.ones(1))], lr=1.0)
    schedule = optim.ReduceLROnPlateau(optimizer, patience=2, factor=0.5)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    their_schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, patience=2, factor=0.5)
    for metric in [3, 2, 2, 2, 2, 1.9999, 1.9999, 1.9999, 1.5, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6]:
        schedule.step(metric)
        their_schedule.step(metric)
        assert optimizer.lr == theirs.param_groups[0]["lr"]


def test_plateau_equals_torch_where_the_first_metric_is_not_a_number():
    optimizer = optim.SGD([nn.Parameter(np.ones(1))], lr=1.0)
    schedule = optim.ReduceLROnPlateau(optimizer, patience=1)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    their_schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, patience=1)
    for metric in [np.nan, 1, 0.9, 0.8, np.nan, 0.7, 0.6, np.nan, np.nan, 0.5]:
        schedule.step(metric)
        their_schedule.step(metric)
        assert optimizer.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)


def test_a_schedule_takes_in_groups_that_are_added_as_torch_does():
    optimizer = optim.SGD([nn.Parameter(np.ones(1))], lr=1.0)
    schedule = optim.StepLR(optimizer, 2, gamma=0.5)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    their_schedule = torch.optim.lr_scheduler.StepLR(theirs, 2, gamma=0.5)
    for number in range(9):
        if number == 3:
            optimizer.add_param_group({"params": [nn.Parameter(np.ones(1))], "lr": 0.3})
            theirs.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.3})
        theirs.step()
        schedule.step()
        their_schedule.step()
        ours = [group["lr"] for group in optimizer.param_groups]
        assert ours == pytest.approx([group["lr"] for group in theirs.param_groups], rel=1e-12)
    with pytest.raises(pynn.FormatError, match="the state is of 1 groups, the optimiser has 2"):
        schedule.load_state_dict({"steps": 3, "base": [1.0]})


def test_gradient_clipping_equals_torch():
    model = mlp().astype("float64")
    theirs = torch_mlp().double()
    theirs.load_state_dict(tensors(model))
    loss = nn.CrossEntropyLoss(reduction="sum")
    x = RNG.random((20, 784))
    loss(model(x), LABELS)
    model.backward(loss.backward())
    torch.nn.CrossEntropyLoss(reduction="sum")(
        theirs(torch.from_numpy(x)), torch.from_numpy(LABELS)
    ).backward()
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    optim.SGD(model.parameters(), lr=0.0, clip_norm=0.5).step()
    for ours, other in zip(model.parameters(), theirs.parameters(), strict=True):
        # torch divides by the norm plus 1e-6
        np.testing.assert_allclose(ours.grad, other.grad.numpy(), rtol=1e-5, atol=1e-12)
