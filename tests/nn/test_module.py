"""Modules: tracing and change, storage, state, containers, summaries, errors that teach."""

import copy
import sys
import threading
from collections import deque

import numpy as np
import pytest

import pynn
from pynn import executors, nn, ops, optim

RNG = np.random.default_rng(8)
X = RNG.random((6, 20)).astype("f")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(20, 20), nn.Linear(20, 3)
        self.scale = 1.0

    def forward(self, x):
        return self.b(nn.relu(self.a(x)) * self.scale + x)


def by_numpy(model, x, scale=1.0):
    a, b = model.a, model.b
    hidden = np.maximum(x @ a.weight.data.T + a.bias.data, 0) * scale + x
    return hidden @ b.weight.data.T + b.bias.data


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_any_graph():
    model = Net()
    close(model(X), by_numpy(model, X))
    report = pynn.testing.gradcheck(model, RNG.standard_normal((4, 20)))
    assert {c.name for c in report.comparisons} == {
        "input 0", "a.weight", "a.bias", "b.weight", "b.bias",
    }  # fmt: skip


def test_branches_on_shapes_and_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(4, 2)

        def forward(self, x, y):
            if x.shape[1] == 4:
                return self.linear(x) - self.linear(y) / 2.0 + (1 - x.dtype.itemsize / 4)
            return x + y

    model = Two()
    x, y = RNG.random((3, 4)).astype("f"), RNG.random((3, 4)).astype("f")
    w, b = model.linear.weight.data, model.linear.bias.data
    close(model(x, y), (x @ w.T + b) - (y @ w.T + b) / 2)
    dx, dy = model.backward(np.ones((3, 2)))
    close(dx, np.ones((3, 2)) @ w)
    close(dy, np.ones((3, 2)) @ w / -2)
    close(model(x[:, :3], y[:, :3]), x[:, :3] + y[:, :3])
    pynn.testing.gradcheck(model, [x, y])


def test_branching_on_values_is_refused():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x else x + 1

    with pytest.raises(TypeError, match="not known while forward is traced"):
        Branch()(X)


CHANGES = {
    "a number": lambda m: setattr(m, "scale", 2.0),
    "a replaced layer": lambda m: setattr(m, "b", nn.Linear(20, 3)),
    "a replaced parameter": lambda m: setattr(m.b, "bias", nn.Parameter(np.ones(3, "f"))),
    "a value": lambda m: m.a.weight.data.__setitem__(..., 0.5),
    "an assigned value": lambda m: setattr(m.a.weight, "data", np.full((20, 20), 0.25)),
    "a loaded state": lambda m: m.load_state_dict(Net().state_dict()),
    "astype": lambda m: m.astype("float64"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_change_after_tracing_takes_effect(change, mode):
    model = getattr(Net(), mode)()
    model(X)
    model(X)
    change(model)
    close(model(X), by_numpy(model, X, model.scale))


def test_setting_an_attribute_to_an_array_changed_in_place_takes_effect():
    class Scaled(nn.Module):
        def __init__(self):
            self.scale = np.full(20, 2.0)

        def forward(self, x):
            return x / self.scale

    model = Scaled()
    close(model(X), X / 2)
    model.scale *= 2
    close(model(X), X / 4)


def test_another_object_in_a_container_takes_effect():
    class Factor:
        def __init__(self, value):
            self.value = value

    class Listed(nn.Module):
        def __init__(self):
            self.factors = []

        def forward(self, x):
            return x * self.factors[0].value

    model = Listed()
    for value in (2.0, 3.0, 4.0):  # each may get the memory, and the id, of the one before
        model.factors.clear()
        model.factors.append(Factor(value))
        close(model(X), X * value)


@pytest.mark.parametrize(("layer", "name"), [(0, "weight"), (1, "running_mean")])
def test_an_array_in_place_of_a_parameter_or_buffer_is_refused(layer, name):
    model = nn.Sequential(nn.Linear(20, 3), nn.BatchNorm1d(3))
    held = getattr(model[layer], name)
    with pytest.raises(TypeError, match=rf"{name} is a \w+, got ndarray: .*assign to {name}.data"):
        setattr(model[layer], name, np.zeros(held.shape))
    assert getattr(model[layer], name) is held


def test_containers_as_attributes_are_watched():
    class Listed(nn.Module):
        def __init__(self):
            self.options = {"factors": [1.0, 2.0]}
            self.offset = np.ones(20, "f")

        def forward(self, x):
            for factor in self.options["factors"]:
                x = x * factor
            return x + self.offset

    model = Listed()
    close(model(X), X * 2 + 1)
    model.options["factors"].append(3.0)
    close(model(X), X * 6 + 1)
    model.offset[:] = 5
    close(model(X), X * 6 + 5)


CHANGES = {
    "list": ([1.0], lambda held: held.append(2.0)),
    "deque": (deque([1.0], maxlen=1), lambda held: held.append(2.0)),
    "bytearray": (bytearray(b"\x01"), lambda held: held.append(2)),
    "list_in_a_tuple": (([1.0],), lambda held: held[0].append(2.0)),
    "deque_in_a_dictionary": ({"a": deque([1.0])}, lambda held: held["a"].append(2.0)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("training", [True, False])
def test_containers_that_change_in_place_count(name, training):
    class Holding(nn.Module):
        def __init__(self, held):
            self.held = held

        def forward(self, x):
            last = self.held
            while not isinstance(last, (int, float)):
                last = list(last.values() if isinstance(last, dict) else last)[-1]
            return x * last

    held, change = copy.deepcopy(CHANGES[name])
    model = Holding(held).train(training)
    close(model(X), X)
    change(held)
    close(model(X), X * 2)


def test_the_mode_of_one_layer_counts():
    model = nn.Sequential(nn.Linear(20, 20), nn.Dropout(0.5))
    assert not np.array_equal(model(X), model(X))
    model[1].eval()
    np.testing.assert_array_equal(model(X), model(X))
    model.train()
    assert not np.array_equal(model(X), model(X))


def test_going_back_and_forth_between_modes_does_not_trace_again():
    traced = []

    class Counted(nn.Module):
        def forward(self, x):
            traced.append(self.training)
            return x * 2.0

    model = Counted()
    for _ in range(4):
        model.train()
        model(X)
        model.eval()
        model(X)
    assert traced == [True, False]


def test_the_cache_of_graphs_is_bounded():
    model = nn.Linear(20, 3)
    for batch in range(1, 60):
        model(X[:1].repeat(batch, axis=0))
    assert len(model._run_traces) <= 16


def test_evaluation_runs_in_chunks(monkeypatch):
    model = nn.Sequential(nn.Linear(20, 3), nn.BatchNorm1d(3), nn.Dropout()).eval()
    x = RNG.random((1000, 20)).astype("f")
    expected = np.concatenate([model(part) for part in np.split(x, 10)])
    ran = []
    forward = executors.forward

    def watched(graph, inputs, *others, **options):
        ran.append(len(inputs[0]))
        return forward(graph, inputs, *others, **options)

    monkeypatch.setattr(executors, "forward", watched)
    close(model(x), expected)
    assert ran == [256, 256, 256, 232]


MIXING = {
    "softmax": lambda x: ops.softmax(x, axis=0),
    "softmax_from_the_end": lambda x: ops.softmax(x, axis=-2),
    "concat": lambda x: ops.concat([x, x], axis=0),
    "matmul": lambda x: ops.matmul(x, x),
    "constant_in_the_shape_of_the_batch": lambda x: x + np.arange(x.shape[0])[:, None],
    "constant_of_the_size_of_the_batch": lambda x: x * (1.0 / x.shape[0]),
    "attribute_of_the_size_of_the_batch": lambda x: ops.leaky_relu(
        x - 0.5, negative_slope=1.0 / x.shape[0]
    ),
    "another_operator_for_large_batches": lambda x: ops.relu(x - 0.5) if x.shape[0] > 260 else x,
    "more_operators_for_large_batches": lambda x: (
        ops.tanh(x * 2.0) if x.shape[0] > 260 else x * 2.0
    ),
    "an_operator_that_says_so": lambda x: x.apply("centred"),
}


@pytest.mark.parametrize("function", MIXING.values(), ids=MIXING)
def test_what_depends_on_the_whole_batch_runs_on_the_whole_batch(function):
    class Mixing(nn.Module):
        def forward(self, x):
            return function(x)

    model = Mixing()
    x = RNG.random((300, 300)).astype("f")
    ops.register(
        "centred", lambda x: x - x.mean(axis=0), lambda dy, x: dy - dy.mean(axis=0),
        mixes_samples=True,
    )  # fmt: skip
    try:
        np.testing.assert_array_equal(model.eval()(x), model.train()(x))
    finally:
        ops.unregister("centred")


def test_an_error_in_evaluation_names_the_shape_that_came():
    with pytest.raises(pynn.ShapeError, match=r"got 4 \(input shape \(600, 4\)\)"):
        nn.Linear(20, 3).eval()(np.ones((600, 4)))


def test_threads_evaluate_at_once():
    x = RNG.random((60, 20)).astype("f")
    failures = []

    def work(model, barrier, first):
        barrier.wait()
        try:
            for rows in range(first, 60, 3):  # more shapes than the cache holds
                close(model(x[:rows]), by_numpy(model, x[:rows]))
        except Exception as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            model, barrier = Net().eval(), threading.Barrier(4)
            threads = [threading.Thread(target=work, args=(model, barrier, n)) for n in range(1, 5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []


def test_a_shared_layer_is_one_parameter_and_its_gradients_add():
    class Shared(nn.Module):
        def __init__(self):
            self.first = nn.Linear(20, 20)
            self.second = self.first

        def forward(self, x):
            return self.second(nn.tanh(self.first(x)))

    model = Shared()
    assert [name for name, _ in model.named_parameters()] == ["first.weight", "first.bias"]
    state = model.state_dict()
    assert list(state) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    model.load_state_dict({name: array * 2 for name, array in state.items()})
    np.testing.assert_array_equal(model.second.weight.data, 2 * state["first.weight"])
    pynn.testing.gradcheck(model, X)


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("fused", [True, False])
def test_parameters_lie_in_one_flat_buffer_each_from_a_line_of_the_cache_on(dtype, fused):
    model = Net().astype(dtype)
    optimizer = optim.Adam(model.parameters(), lr=0.1, weight_decay=0.5)
    step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer, keep_gradients=not fused)
    for _ in range(3):
        step(X.astype(dtype), np.arange(len(X)) % 3)
    segments = {p.segment for p in model.parameters()}
    assert len(segments) == 1
    flat = segments.pop().data
    for state in optimizer._slots[model.a.weight].arrays.values():
        assert state.ctypes.data % 64 == 0
    between = np.ones(flat.shape, bool)
    end = 0
    for p in model.parameters():
        assert p.data.ctypes.data % 64 == 0
        begin = (p.data.ctypes.data - flat.ctypes.data) // flat.itemsize
        assert end <= begin < end + 64 // flat.itemsize
        end = begin + p.size
        between[begin:end] = False
        np.testing.assert_array_equal(flat[begin:end], p.data.ravel())
    assert not flat[between].any()
    flat[:] = 0
    assert not model.a.weight.data.any()


def test_neighbours_are_updated_in_one_pass():
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model(X)
    for p in model.parameters():
        p.grad = np.ones(p.shape)
    optimizer.step()
    [span] = optimizer._spans(optimizer.param_groups[0])
    assert span.data.size == model.a.weight.segment.data.size


@pytest.mark.parametrize("run", ["trained", "by_hand", "called"])
def test_arrays_that_are_held_before_the_first_run_stay_right(run):
    models = [Net(), Net()]
    models[1].load_state_dict(models[0].state_dict())
    model = models[0]
    weight, row = model.a.weight.data, model.b.weight.data[1]
    loss = nn.CrossEntropyLoss()
    for each in models:
        optimizer = optim.SGD(each.parameters(), lr=0.1, momentum=0.9, clip_norm=0.5)
        step = pynn.compile(each, loss, optimizer)
        if run == "trained":
            for _ in range(3):
                step(X, np.zeros(6, int))
        else:
            loss(each(X), np.zeros(6, int))
        if run == "by_hand":
            each.backward(loss.backward())
            optimizer.step()
    assert np.shares_memory(weight, model.a.weight.data)
    np.testing.assert_array_equal(row, model.b.weight.data[1])
    for name, values in models[1].state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], values, err_msg=name)
    weight[...], row[...] = 0.0, 2.0
    model.a.bias.data[...] = 0.0
    model.eval()
    np.testing.assert_allclose(model(X)[:, 1], 2 * X.sum(axis=1) + model.b.bias.data[1], rtol=1e-5)
    assert len({p.segment for p in model.parameters()}) == 3


def test_a_layer_shared_between_models_stays_where_it_is():
    features = nn.Sequential(nn.Linear(20, 8), nn.ReLU())
    one = nn.Sequential(features, nn.Linear(8, 2))
    one(X)
    view = features[0].weight.data
    two = nn.Sequential(features, nn.Linear(8, 5))
    two(X)
    assert features[0].weight.data is view
    loss = nn.CrossEntropyLoss()
    step = pynn.compile(two, loss, optim.SGD(two.parameters(), lr=0.1, momentum=0.9))
    before = one(X)
    step(X, np.zeros(6, int))
    assert not np.array_equal(one(X), before)
    close(one(X), one[1](np.maximum(X @ view.T + features[0].bias.data, 0)))


def test_state_dict_copies_and_loads_in_place():
    model = Net()
    state = model.state_dict()
    assert list(state) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    view = model.a.weight.data
    state["a.weight"][:] = 7
    assert not (view == 7).any()
    model.load_state_dict(state)
    assert (view == 7).all()


BAD_STATES = {
    "missing": (lambda s: s.pop("b.bias"), pynn.FormatError, "missing b.bias"),
    "unknown": (lambda s: s.update(c=np.ones(1)), pynn.FormatError, "unknown c"),
    "text": (
        lambda s: s.update({"b.weight": np.full((3, 20), "x")}), pynn.DTypeError,
        "b.weight must be an array of real numbers, got dtype <U1",
    ),
    "complex": (
        lambda s: s.update({"b.weight": np.ones((3, 20), complex)}), pynn.DTypeError, "complex128",
    ),
    "misshaped": (
        lambda s: s.update({"b.weight": np.ones((20, 3))}), pynn.ShapeError,
        r"b.weight must have shape \(3, 20\), got \(20, 3\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_STATES)
def test_states_of_other_models_are_refused(name):
    change, error, message = BAD_STATES[name]
    model = Net()
    state = {key: value + 1 for key, value in model.state_dict().items()}
    change(state)
    before = model.state_dict()
    with pytest.raises(error, match=message):
        model.load_state_dict(state)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_buffers_of_integers_take_no_fractions():
    model = nn.BatchNorm2d(3)
    state = model.state_dict()
    model.load_state_dict(state | {"num_batches_tracked": np.array(4.0)})
    with pytest.raises(pynn.DTypeError, match="num_batches_tracked holds integers"):
        model.load_state_dict(state | {"num_batches_tracked": np.array(1.5), "bias": np.ones(3)})
    assert model.num_batches_tracked.data == 4
    assert not model.bias.data.any()


def test_generators_of_random_numbers_are_no_seeds():
    with pytest.raises(TypeError, match=r"as np\.random\.default_rng gives, got 3"):
        nn.Linear(4, 5, rng=3)


def test_lenient_loading_takes_what_fits():
    model = Net()
    model.load_state_dict({"a.bias": np.full(20, 4.0), "other": np.ones(2)}, strict=False)
    assert (model.a.bias.data == 4).all()


def test_a_module_in_a_plain_list_is_refused():
    class Hidden(nn.Module):
        def __init__(self):
            self.layers = [nn.Linear(20, 20)]

        def forward(self, x):
            return self.layers[0](x)

    with pytest.raises(pynn.StateError, match=r"nn\.ModuleList"):
        Hidden()(X)


def test_module_list():
    class Listed(nn.Module):
        def __init__(self):
            self.layers = nn.ModuleList(nn.Linear(20, 20) for _ in range(3))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    model = Listed()
    assert list(model.state_dict())[:2] == ["layers.0.weight", "layers.0.bias"]
    pynn.testing.gradcheck(model, X)
    model.layers[1] = nn.Linear(20, 20, bias=False)
    assert "layers.1.bias" not in model.state_dict()


def test_sequential_is_a_list():
    model = nn.Sequential(nn.Linear(20, 5), nn.ReLU()).append(nn.Linear(5, 2))
    assert len(model) == 3
    assert isinstance(model[-1], nn.Linear)
    assert isinstance(model[:2], nn.Sequential)
    close(model[:2](X), np.maximum(X @ model[0].weight.data.T + model[0].bias.data, 0))
    with pytest.raises(IndexError):
        model[3]
    with pytest.raises(TypeError, match="holds modules, got function"):
        nn.Sequential(ops.relu)


def test_a_sequential_changes_as_a_list_does():
    layers = [nn.Linear(20, 20), nn.ReLU(), nn.Tanh(), nn.Linear(20, 3)]
    model = nn.Sequential(*layers)
    model(X)
    del model[1]
    assert list(model) == [layers[0], layers[2], layers[3]]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    close(model(X), layers[3](np.tanh(layers[0](X))))
    del model[1:]
    assert list(model) == layers[:1]
    for wrong in (3, None, "relu"):
        with pytest.raises(TypeError, match="a Sequential holds modules"):
            model[0] = wrong
    assert list(model) == layers[:1]

    model = nn.Sequential(*layers)
    delattr(model, "1")
    assert model[1] is layers[2]
    assert list(model.append(nn.Sigmoid()))[:3] == [layers[0], layers[2], layers[3]]
    assert isinstance(model[-1], nn.Sigmoid)


def test_errors_name_the_layer():
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(20, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(7, 2)
    )
    with pytest.raises(
        pynn.ShapeError,
        match=r"0\.0 \(Conv2d\): expected 20 input channels, got 1 "
        r"\(input shape \(64, 1, 12, 12\)\)",
    ):
        model(np.zeros((64, 1, 12, 12)))
    with pytest.raises(pynn.ShapeError, match=r"2 \(Linear\): expected 7 input features, got 400"):
        model(np.zeros((64, 20, 12, 12)))


def test_one_dtype_for_each_model():
    model = nn.Sequential(nn.Linear(20, 4), nn.Linear(4, 2, dtype="float64"))
    with pytest.raises(pynn.DTypeError, match=r"0\.weight is float32 but 1\.weight is float64"):
        model(X)
    assert model.astype("float64")(X).dtype == np.float64
    with pytest.raises(pynn.DTypeError, match="float32 or float64, got int32"):
        model.astype("int32")
    for make in (lambda: model.astype(None), lambda: nn.Linear(2, 2, dtype=None)):
        with pytest.raises(pynn.DTypeError, match="float32 or float64, got None"):
            make()


@pytest.mark.parametrize("kind", [nn.Parameter, nn.Buffer])
def test_parameters_and_buffers_take_real_numbers_of_their_shape(kind):
    for values in (np.ones(2, complex), ["a"], None, np.ma.masked_array([1.0, 2.0])):
        with pytest.raises(pynn.DTypeError, match=r"data must (not )?be an? "):
            kind(values)
    with pytest.raises(pynn.ShapeError, match=r"has shape \(3,\), got \(1,\)"):
        kind(np.zeros(3)).data = [1.0]


def test_sizes_are_integers_of_any_kind():
    layer = nn.Conv2d(1, 2, np.int64(3), stride=np.int8(2), padding=np.int64(1))
    assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (2, 2), 1)


def test_buffers_are_read_in_the_dtype_of_the_model():
    class Scaled(nn.Module):
        def __init__(self):
            self.a, self.scale = nn.Linear(20, 3), nn.Buffer(np.full(3, 2.0))

        def forward(self, x):
            return self.a(x) * self.scale

    model = Scaled()
    assert model(X).dtype == np.float32
    close(model(X), 2 * model.a(X))


def test_without_parameters_buffers_have_the_dtype_of_the_model():
    for model in (
        nn.BatchNorm1d(20, affine=False, dtype="float64"),
        nn.BatchNorm1d(20, affine=False).astype("float64"),
    ):
        assert model(X).dtype == model.dtype == np.float64


@pytest.mark.parametrize("training", [True, False])
def test_a_module_without_parameters_has_the_dtype_it_was_given(training):
    x = RNG.standard_normal((5, 20))
    layer = nn.Tanh().train(training)
    assert layer(x).dtype == np.float32
    assert layer.astype("float64")(x).dtype == np.float64
    close(layer(x), np.tanh(x))
    assert copy.deepcopy(layer).dtype == layer.dtype == np.float64
    assert layer.astype("float32")(x).dtype == np.float32

    model = nn.Sequential(nn.Linear(20, 20), nn.Sequential(nn.Tanh())).astype("float64")
    assert model[1](x).dtype == np.float64
    assert nn.Sequential(model[1], nn.Linear(20, 2)).dtype == np.float32  # its parameters'


def test_forward_must_return_a_symbol():
    class Nothing(nn.Module):
        def forward(self, x):
            return None

    with pytest.raises(TypeError, match="must return one symbol, got NoneType"):
        Nothing()(X)


def test_summary_of_study_five():
    from pynn.experiments.convnet import network

    text = str(pynn.summary(network(28, 10), (1, 28, 28)))
    assert "206,500 parameters, 206,500 of them trainable" in text
    for count in ("520", "9,630", "10,840", "180,500", "5,010"):
        assert f" {count}\n" in text
    assert "(360,)" in text
    model = network(28, 10)
    model[0].freeze()
    assert pynn.summary(model, (1, 28, 28)).trainable == 206_500 - 520


def test_summary_of_a_batch_norm_in_training():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    summary = pynn.summary(model, (6,))
    assert [(row.shape, row.parameters) for row in summary.rows] == [
        ((4,), 28),
        ((4,), 8),
        ((2,), 10),
    ]
    assert model.training


def test_repr_shows_layers_and_options():
    text = repr(nn.Sequential(nn.Conv2d(1, 8, 3, padding="same", bias=False), nn.ReLU()))
    assert text == (
        "Sequential(\n  (0): Conv2d(1, 8, (3, 3), padding='same', bias=False)\n  (1): ReLU()\n)"
    )


def test_repr_of_a_module_that_refers_back():
    model = nn.Sequential(nn.ReLU())
    model[0].parent = model
    assert repr(model) == "Sequential(\n  (0): ReLU(\n    (parent): ...\n  )\n)"


def test_layers_equal_their_operators():
    x = RNG.standard_normal((3, 4, 9, 8)).astype("f")
    pairs = [
        (nn.MaxPool2d(3, stride=2, padding=1), lambda: ops.max_pool2d(x, 3, stride=2, padding=1)),
        (nn.AvgPool2d(2, ceil_mode=True), lambda: ops.avg_pool2d(x, 2, ceil_mode=True)),
        (nn.GlobalAvgPool2d(), lambda: x.mean((2, 3), keepdims=True)),
        (nn.LeakyReLU(0.2), lambda: np.where(x > 0, x, 0.2 * x)),
        (nn.Tanh(), lambda: np.tanh(x)),
        (nn.Sigmoid(), lambda: 1 / (1 + np.exp(-x))),
        (nn.Softmax(axis=-1), lambda: ops.softmax(x, axis=-1)),
        (nn.LogSoftmax(), lambda: np.log(ops.softmax(x))),
        (nn.Reshape(2, -1), lambda: x.reshape(3, 2, -1)),
        (nn.Reshape((2, -1)), lambda: x.reshape(3, 2, -1)),
        (nn.Flatten(2), lambda: x.reshape(3, 4, -1)),
        (nn.Pad2d((0, 1, 2, 3), value=2.0), lambda: ops.pad2d(x, (0, 1, 2, 3), value=2.0)),
        (nn.Identity(), lambda: x),
    ]
    for layer, expected in pairs:
        close(layer(x), expected())
    bias = nn.Bias((4, 9, 8), bias_init=0.5)
    close(bias(x), x + 0.5)


def test_initialisers_by_name_number_and_function():
    layer = nn.Linear(30, 20, weight_init="glorot_uniform", bias_init=0.25)
    assert np.abs(layer.weight.data).max() <= np.sqrt(6 / 50)
    assert (layer.bias.data == 0.25).all()
    layer = nn.Conv2d(2, 3, 3, weight_init=pynn.init.normal(0, 0.5), bias_init="zeros")
    assert not layer.bias.data.any()
    with pytest.raises(ValueError, match="glorot_uniform"):
        nn.Linear(2, 2, weight_init="xavier")


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(0, 3), lambda: nn.Conv2d(3, 4, 3, groups=2), lambda: nn.Dropout(1.5),
        lambda: nn.Conv2d(1, 1, (1, 2, 3)), lambda: nn.DropBlock2d(0.1, 0),
        lambda: nn.BatchNorm2d(0), lambda: nn.CrossEntropyLoss(reduction="none"),
        lambda: nn.Conv2d(1, 1, -1), lambda: nn.BatchNorm1d(3, eps=-1.0),
        lambda: nn.BatchNorm1d(3, momentum=1.5),
    ],
)  # fmt: skip
def test_layers_refuse_senseless_options(make):
    with pytest.raises(ValueError, match=r"must be|has reduction"):
        make()


def test_seeded_models_are_equal():
    pynn.manual_seed(4)
    first = Net().state_dict()
    pynn.manual_seed(4)
    second = Net().state_dict()
    assert all(np.array_equal(first[key], second[key]) for key in first)
    rng = np.random.default_rng(0)
    assert not np.array_equal(
        nn.Linear(3, 3, rng=rng).weight.data, nn.Linear(3, 3, rng=rng).weight.data
    )


def test_a_copy_with_gradients_lies_in_one_flat_buffer_too():
    model = Net()
    model.backward(np.ones_like(model(X)))
    copied = copy.deepcopy(model)
    for parameter, original in zip(copied.parameters(), model.parameters(), strict=True):
        np.testing.assert_array_equal(parameter.grad, original.grad)
        assert not np.shares_memory(parameter.grad, original.grad)
    copied(X)
    assert len({parameter.segment for parameter in copied.parameters()}) == 1


def test_deepcopy_is_independent():
    model = Net()
    model(X)
    other = copy.deepcopy(model)
    other.a.weight.data[...] = 0
    assert model.a.weight.data.any()
    close(other(X), by_numpy(other, X))


def test_a_python_operator_is_like_any_other():
    def shape(x):
        return (x[0], 2 * x[1])

    ops.register(
        "doubled", lambda x, factor=1.0: np.concatenate([x, factor * x], axis=1),
        lambda dy, x, factor=1.0: dy[:, : x.shape[1]] + factor * dy[:, x.shape[1] :],
        shape=lambda x, factor=1.0: shape(x),
    )  # fmt: skip
    try:
        model = nn.Sequential(nn.Linear(20, 4), Doubled(), nn.Linear(8, 2))
        pynn.testing.gradcheck(model, X)
        close(ops.doubled(X, factor=2.0), np.concatenate([X, 2 * X], axis=1))
        for taken in ("doubled", "relu", "register", "loss"):
            with pytest.raises(ValueError, match=f"something called '{taken}' already"):
                ops.register(taken, lambda x: x, lambda dy, x: dy)
        with pytest.raises(ValueError, match="must be a Python identifier"):
            ops.register("lambda", lambda x: x, lambda dy, x: dy)
        with pytest.raises(TypeError, match="backward must be a function, got None"):
            ops.register("halved", lambda x: x / 2, None)
        with pytest.raises(TypeError, match="shape must be a function"):
            ops.register("halved", lambda x: x / 2, lambda dy, x: dy / 2, shape=(3, 4))
    finally:
        ops.unregister("doubled")
    with pytest.raises(AttributeError, match="no operator 'doubled'"):
        ops.doubled  # noqa: B018
    with pytest.raises(ValueError, match=r"1 \(Doubled\): no operator is called 'doubled'"):
        model(X[:1])


class Doubled(nn.Module):
    def forward(self, x):
        return x.apply("doubled", factor=3.0)


def test_attributes_of_a_python_operator_may_have_any_name():
    names = ("k", "inputs", "outputs", "needs", "first")
    ops.register(
        "summed", lambda x, **factors: x * sum(factors.values()),
        lambda dy, x, **factors: dy * sum(factors.values()),
    )  # fmt: skip

    class Summed(nn.Module):
        def forward(self, x):
            return ops.summed(x, **dict.fromkeys(names, 2.0))

    try:
        close(Summed()(X), 10 * X)
        pynn.testing.gradcheck(Summed(), X)
    finally:
        ops.unregister("summed")


@pytest.mark.parametrize("given", [None, 4, (6, 20.0), (6, -20), "ab"])
def test_a_shape_rule_that_gives_no_shape_is_caught(given):
    ops.register("shapeless", lambda x: x, lambda dy, x: dy, shape=lambda x: given)
    try:

        class Shapeless(nn.Module):
            def forward(self, x):
                return ops.shapeless(x)

        with pytest.raises(
            pynn.ShapeError, match="the shape rule of 'shapeless' must give a tuple of sizes, such"
        ):
            Shapeless()(X)
    finally:
        ops.unregister("shapeless")


def test_a_python_operator_that_lies_about_its_shape_is_caught():
    ops.register("liar", lambda x: x[:, :1], lambda dy, x: dy)
    try:

        class Lying(nn.Module):
            def forward(self, x):
                return ops.liar(x)

        with pytest.raises(ValueError, match=r"'liar' has shape \(6, 1\), expected \(6, 20\)"):
            Lying()(X)
    finally:
        ops.unregister("liar")


def test_gradcheck_finds_a_wrong_gradient():
    ops.register("wrong", lambda x: x * x, lambda dy, x: dy * x)
    try:
        with pytest.raises(AssertionError, match="input 0: relative error 5"):
            pynn.testing.gradcheck(ops.wrong, X)
    finally:
        ops.unregister("wrong")


def test_mixed_up_losses():
    with pytest.raises(pynn.StateError, match="needs a call first"):
        nn.MSELoss().backward()

    class Loss(nn.Module):
        def forward(self, x):
            return ops.mse_loss(x, x)

    with pytest.raises(TypeError, match="not part of forward"):
        Loss()(X)


@pytest.mark.parametrize(
    "target",
    [X[:, :2] + 1j, np.full((6, 2), "2"), np.full((6, 2), None)],
    ids=["complex", "text", "None"],
)
def test_targets_that_are_no_real_numbers_are_refused(target):
    with pytest.raises(pynn.DTypeError, match="target must be an array of real numbers"):
        nn.MSELoss()(X[:, :2], target)


def test_weights_and_values_that_are_no_real_numbers_are_refused():
    with pytest.raises(pynn.DTypeError, match="weight must be an array of real numbers"):
        nn.CrossEntropyLoss(weight=[1j, 2j])
    parameter, buffer = nn.Parameter(X), nn.Buffer(X)
    for owner, name in ((parameter, "data"), (parameter, "grad"), (buffer, "data")):
        with pytest.raises(pynn.DTypeError, match=f"{name} must be an array of real numbers"):
            setattr(owner, name, X + 1j)


@pytest.mark.parametrize(
    ("constant", "error", "said"),
    [
        (2j, pynn.DTypeError, "1 .Plus.: operand must be an array of real numbers, got .*complex"),
        ("text", pynn.DTypeError, "1 .Plus.: operand must be an array of real numbers"),
        (np.ma.masked_less(X, 0.5), pynn.DTypeError, "1 .Plus.: operand must not be a masked"),
        (None, TypeError, "unsupported operand .* 'Symbol' and 'NoneType'"),
    ],
)
@pytest.mark.parametrize("times", [True, False])
def test_constants_are_real_numbers(constant, error, said, times):
    class Plus(nn.Module):
        def forward(self, x):
            return x * constant if times else x + constant

    model = nn.Sequential(nn.Identity(), Plus())
    with pytest.raises(error, match=said):
        model(X)


def test_a_batch_norm_says_how_many_channels_it_expects():
    with pytest.raises(
        pynn.ShapeError, match=r"expects an input of 3 channels, as .* got shape \(6, 20\)"
    ):
        nn.BatchNorm1d(3)(X)
