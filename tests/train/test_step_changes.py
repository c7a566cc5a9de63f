"""What changes between steps counts in the next one, whatever the shape of its batch."""

import numpy as np
import pytest

import pynn
from pynn import nn, ops, optim
from pynn.errors import DTypeError, LabelError, ShapeError

RNG = np.random.default_rng(5)
BATCHES = [(RNG.random((size, 6)).astype("f"), RNG.integers(0, 3, size)) for size in (20, 6)]


def network():
    pynn.manual_seed(4)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(5, 3))


def freeze(step):
    step.model[0].freeze()


def clip(step):
    step.optimizer.clip_norm = 1e-3


def drop_more(step):
    step.model[2].p = 0.7


def another_head(step):
    step.model[3] = nn.Linear(5, 3, bias_init="zeros")
    step.optimizer.add_param_group({"params": list(step.model[3].parameters())})


def another_optimizer(step):
    step.optimizer = optim.SGD(step.model.parameters(), lr=0.01, momentum=0.9)


def there_and_back(step):
    step.model.astype("float64")
    step.model.astype("float32")


def other_values(step):
    there_and_back(step)
    state = {name: 0.5 * array for name, array in step.model.state_dict().items()}
    step.model.load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [freeze, clip, drop_more, another_head, another_optimizer, there_and_back, other_values],
)
def test_a_change_counts_for_all_shapes(change):
    def train(**options):
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer, **options)
        losses = [step(*batch) for batch in BATCHES * 2]
        change(step)
        losses += [step(*batch) for batch in BATCHES * 2]
        return losses, model.state_dict(), step.optimizer.state_dict()["steps"]

    (losses, state, steps), expected = train(), train(keep_gradients=True)
    assert losses == expected[0]
    assert steps == expected[2]
    for name, array in state.items():
        assert array.tobytes() == expected[1][name].tobytes(), name


def test_another_model_may_take_the_place_of_the_first():
    first, second = network(), network()
    optimizer = optim.SGD([*first.parameters(), *second.parameters()], lr=0.5)
    step = pynn.compile(first, nn.CrossEntropyLoss(), optimizer)
    for _ in range(3):
        step(*BATCHES[0])
    states = [{k: v.copy() for k, v in model.state_dict().items()} for model in (first, second)]
    step.model = second
    step(*BATCHES[0])
    assert all((first.state_dict()[name] == array).all() for name, array in states[0].items())
    assert any((second.state_dict()[name] != array).any() for name, array in states[1].items())


@pytest.mark.parametrize("size", [3, 40])
def test_an_evaluation_sees_what_parameters_became(size):
    x = RNG.random((size, 6)).astype("f")
    model, twin = network().eval(), network().eval()
    before = model(x)
    model.astype("float64")
    model(x)
    model.astype("float32")
    np.testing.assert_array_equal(model(x), before)
    model.load_state_dict({name: -array for name, array in model.state_dict().items()})
    twin.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model(x), twin(x))
    assert not np.array_equal(model(x), before)


def test_an_evaluation_reads_constants_that_must_be_converted():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(np.eye(4, dtype="f"))
            self.offset = np.zeros(4)

        def forward(self, x):
            return ops.linear(x, self.weight, self.offset)

    model, x = Shifted().eval(), np.zeros((3, 4), "f")
    for value in (0.0, 1.0, 2.0):
        model.offset[:] = value
        np.testing.assert_array_equal(model(x), np.full((3, 4), value, "f"))


def test_a_model_that_converts_its_input_in_its_own_way():
    class Halved(nn.Sequential):
        def as_input(self, value):
            return super().as_input(value) / 2

    model, x = Halved(nn.Identity(), nn.ReLU()).eval(), np.ones((3, 4), "f")
    for _ in range(3):
        np.testing.assert_array_equal(model(x), x / 2)


def test_the_settings_of_a_subclass_follow_the_number_of_updates():
    class Fading(optim.SGD):
        def _settings(self, group, steps):
            lr, *others = super()._settings(group, steps)
            return (lr / steps, *others)

    def train(**options):
        model = network()
        step = pynn.compile(
            model, nn.CrossEntropyLoss(), Fading(model.parameters(), lr=0.5), **options
        )
        return [step(*BATCHES[0]) for _ in range(4)]

    assert train() == train(keep_gradients=True)


@pytest.mark.parametrize(
    ("x", "y", "error"),
    [
        (np.zeros((4, 7), "f"), np.zeros(4, int), ShapeError),
        (np.zeros((4, 6), "f"), np.zeros(3, int), ShapeError),
        (np.zeros((4, 6), "f"), np.full(4, 3), LabelError),
        (np.zeros((4, 6), complex), np.zeros(4, int), DTypeError),
    ],
)
def test_a_refused_batch_leaves_the_call_before_to_its_backward(x, y, error):
    model, twin = network(), network()
    for each in (model, twin):
        step = pynn.compile(each, nn.CrossEntropyLoss(), optim.SGD(each.parameters(), lr=0.5))
        step(*BATCHES[1])
        each(BATCHES[0][0])
        if each is model:
            with pytest.raises(error):
                step(x, y)
        each.backward(np.ones((20, 3), "f"))
    for ours, expected in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(ours.grad, expected.grad)
