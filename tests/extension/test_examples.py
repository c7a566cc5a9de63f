"""The three operators of project/: built out of the tree as their author would, installed by pip."""

import inspect
import json
import threading

import numpy as np
import pytest

import pynn
from pynn import nn, ops, optim
from pynn.backends import backend
from pynn.executors import Stream, node_by_node
from pynn.graph import OPERATORS

NAMES = ("swish", "bias_swish_dropout", "box_filter")
RNG = np.random.default_rng(0)


def swish(x, beta=1.0):
    return x / (1 + np.exp(-beta * x))


def box_filter(x, size=3):
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    return windows.mean(axis=(4, 5))


def bias_swish_dropout(x, b, p=0.5):
    channels = b.reshape(-1, *[1] * (x.ndim - 2))
    with backend("numpy"):
        return ops.dropout(swish(x + channels), p=p)


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(examples, name):
    report = pynn.testing.opcheck(name, reference=globals()[name])
    assert report.failed == ()
    assert report.passed["memory beside its arrays"] > 100
    assert set(report.passed) >= {
        "gradients against finite differences", "float32 against float64", "layouts of inputs",
        "numbers of threads", "empty batch", "plans", "refusals", "reference",
    }  # fmt: skip


def test_they_look_like_built_in_ones(examples):
    signature = inspect.signature(ops.swish)
    assert str(signature) == "(x: 'Array', *, beta: 'float' = 1.0)"
    assert ops.swish.__doc__.startswith("x / (1 + exp(-beta x)), element by element.")
    assert "b: a parameter, shape (C,)" in ops.bias_swish_dropout.__doc__
    assert list(inspect.signature(ops.bias_swish_dropout).parameters) == [
        "x", "b", "p", "seed", "step", "node", "first_sample",
    ]  # fmt: skip
    assert list(inspect.signature(ops.swish_backward).parameters) == ["dy", "x", "beta"]


def test_arguments_are_checked(examples):
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="unexpected keyword argument 'betta'"):
        ops.swish(x, betta=1)
    with pytest.raises(TypeError, match=r"swish: beta must be a float, got 'a'"):
        ops.swish(x, beta="a")
    with pytest.raises(TypeError, match=r"box_filter: size must be an int, got 2\.5"):
        ops.box_filter(x, size=2.5)
    with pytest.raises(TypeError, match="swish has no attribute 'betta'; it has beta"):
        nn_apply("swish", betta=1)(x)
    with pytest.raises(pynn.DTypeError, match="x must be a NumPy array of float32 or float64"):
        ops.swish([1.0])
    with pytest.raises(pynn.DTypeError, match="b is float64 but the other arrays are float32"):
        ops.bias_swish_dropout(x, np.ones(3))
    with pytest.raises(ValueError, match=r"bias_swish_dropout: p must be in 0 \.\.\. 1"):
        ops.bias_swish_dropout(x, np.ones(3, np.float32), p=-0.1)
    with pytest.raises(pynn.ShapeError, match="b must be an array, got None"):
        nn_apply("bias_swish_dropout", None)(x)
    with pytest.raises(pynn.ShapeError, match=r"Applied\): box_filter: x must have shape \(N, C"):
        nn_apply("box_filter")(x)


def nn_apply(name, *operands, **attributes):
    class Applied(nn.Module):
        def forward(self, x):
            return x.apply(name, *operands, **attributes)

    return nn.Sequential(Applied())


def test_attributes_of_numpy_count_as_numbers(examples):
    x = RNG.standard_normal((2, 1, 5, 5)).astype("f")
    np.testing.assert_array_equal(ops.swish(x, beta=np.float32(2)), ops.swish(x, beta=2))
    np.testing.assert_array_equal(ops.box_filter(x, size=np.int64(2)), ops.box_filter(x, size=2))


def test_gradients_on_arrays(examples):
    x, dy = RNG.standard_normal((2, 3, 4)), RNG.standard_normal((2, 3, 4))
    s = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(ops.swish_backward(dy, x), dy * s * (1 + x * (1 - s)), rtol=1e-12)
    dx, db = ops.bias_swish_dropout_backward(dy, x, np.zeros(3), p=0.0)
    np.testing.assert_allclose(dx, dy * s * (1 + x * (1 - s)), rtol=1e-12)
    np.testing.assert_allclose(db, dx.sum(axis=(0, 2)), rtol=1e-12)


def network(examples):
    pynn.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), examples.BiasSwishDropout(4, 0.25), examples.BoxFilter(3),
        nn.Conv2d(4, 4, 3, padding=1), examples.Swish(0.7), nn.Conv2d(4, 6, 3, padding="same"),
        nn.Flatten(), nn.Linear(6 * 36, 10),
    )  # fmt: skip


X = RNG.standard_normal((37, 1, 8, 8)).astype("f")
Y = np.arange(37) % 10


def test_a_plan_runs_them_without_python(examples):
    model = network(examples)
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    plan = step.plan(X.shape)
    assert plan.core.foreign == []
    text = plan.explain()
    assert "swish (examples.so, on blocks)" in text
    assert "bias_swish_dropout (examples.so, on arrays (N, ...))" in text
    assert "box_filter (examples.so, on arrays (N, ...))" in text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_by_plan_by_hand_and_node_by_node(examples, dtype):
    """The same network three ways; the plan's own operators round differently from those on
    arrays."""

    def losses(way):
        model = network(examples).astype(dtype)
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        loss = nn.CrossEntropyLoss()
        if way == "compiled":
            step = pynn.compile(model, loss, optimizer)
            return [step(X, Y) for _ in range(6)]
        values = []
        for number in range(6):
            if way == "by hand":
                values.append(loss(model(X), Y))
                model.backward(loss.backward())
            else:
                graph = model.trace(X.shape).graph
                needed = graph.gradient_paths(lambda variable: True, False)
                stream = Stream(pynn.get_seed(), number)
                tape = node_by_node.forward(graph, [X.astype(dtype)], stream, needed)
                values.append(loss(tape.output, Y))
                pynn.executors.backward(graph, tape, loss.backward(), add=True)
            optimizer.step()
            optimizer.zero_grad()
        return values

    compiled = losses("compiled")
    assert losses("by hand") == compiled
    np.testing.assert_allclose(
        losses("node by node"), compiled, rtol=1e-5 if dtype == "float32" else 1e-12
    )
    assert compiled[-1] < compiled[0]


def test_gradients_in_a_model(examples):
    model = network(examples)
    pynn.testing.gradcheck(model, X)  # a plan
    pynn.testing.gradcheck(model, X[:3])  # one on arrays
    pynn.testing.gradcheck(model.eval(), X)


def test_updates_are_fused_where_no_backward_fails(examples):
    """All three say that theirs never does."""
    model = network(examples)
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    step(X, Y)
    assert step._fused["native", "float32", X.shape] is not None


def test_bits_do_not_depend_on_threads_or_on_who_calls(examples):
    def run():
        model = network(examples)
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        x = np.tile(X, (4, 1, 1, 1))
        return [step(x, np.tile(Y, 4)) for _ in range(4)]

    kept = pynn.get_num_threads()
    try:
        pynn.set_num_threads(1)
        expected = run()
        for threads in (2, 5):
            pynn.set_num_threads(threads)
            assert run() == expected
    finally:
        pynn.set_num_threads(kept)


def test_several_threads_evaluate_one_model(examples):
    model = network(examples).eval()
    expected = model(X)
    results = [None] * 6

    def evaluate(place):
        for _ in range(10):
            results[place] = model(X)

    threads = [threading.Thread(target=evaluate, args=(i,)) for i in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        assert result.tobytes() == expected.tobytes()


def test_evaluation_in_chunks_gives_the_same_rows(examples):
    model = network(examples).eval()
    x = RNG.standard_normal((300, 1, 8, 8)).astype("f")
    np.testing.assert_allclose(model(x)[290:], model(x[290:]), rtol=1e-4, atol=1e-6)


def test_masks_follow_the_seed_the_step_and_the_sample(examples):
    x, b = np.ones((4, 3, 5), np.float32), np.zeros(3, np.float32)
    y = ops.bias_swish_dropout(x, b, seed=1)
    np.testing.assert_array_equal(ops.bias_swish_dropout(x, b, seed=1), y)
    for other in ({"seed": 2}, {"seed": 1, "step": 1}, {"seed": 1, "node": 1}):
        assert (ops.bias_swish_dropout(x, b, **other) != y).any()
    np.testing.assert_array_equal(ops.bias_swish_dropout(x[2:], b, seed=1, first_sample=2), y[2:])
    with backend("numpy"):
        kept = ops.dropout(x, seed=1) != 0
    np.testing.assert_array_equal(y != 0, kept)


def test_a_model_of_them_is_copied_saved_and_summarised(examples, tmp_path):
    model = network(examples).eval()
    pynn.io.save(tmp_path / "model.safetensors", model.state_dict())
    other = network(examples).eval()
    other[1].bias.data[...] = 1
    other.load_state_dict(pynn.io.load(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(other(X), model(X))
    assert "bias_swish_dropout" in str(pynn.summary(model, (1, 8, 8)))


def test_info_and_bench_know_installed_operators(installed, run_python, tmp_path):
    done = run_python("-m", "pynn", "info", "--json", path=installed, cwd=tmp_path)
    found = json.loads(done.stdout)
    assert set(NAMES) <= set(found["operators"])
    assert list(found["libraries"].values()) == [list(NAMES)]
    assert found["operator_abi"] == 1
    done = run_python("-m", "pynn", "bench", *NAMES, "--json", path=installed, cwd=tmp_path)
    rows = json.loads(done.stdout)["rows"]
    assert {row["operator"] for row in rows} == set(NAMES)
    assert all(row["native_ms"] > 0 and row["numpy_ms"] is None for row in rows)
    done = run_python("-m", "pynn", "bench", "swish", path=installed, cwd=tmp_path)
    assert done.stdout.splitlines()[1].split()[:2] == ["swish", "32x28x28_b100"]


def test_the_command_line_loads_what_it_is_told(installed, run_python, tmp_path):
    library = installed / "pynn_examples" / "examples.so"
    arguments = ("-m", "pynn", "info", "--json", "--library")
    done = run_python(*arguments, library, path="", cwd=tmp_path)
    assert set(NAMES) <= set(json.loads(done.stdout)["operators"])
    done = run_python(*arguments, tmp_path / "nothing.so", path="", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"pynn: there is no library {tmp_path / 'nothing.so'}\n"


def test_a_broken_package_is_reported_and_passed_over(installed, run_python, tmp_path):
    (tmp_path / "pynn_broken").mkdir()
    (tmp_path / "pynn_broken" / "__init__.py").write_text("raise ImportError('it is Monday')")
    info = tmp_path / "pynn_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pynn-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pynn.operators]\nbroken = pynn_broken\n")
    done = run_python("-m", "pynn", "info", "--json", path=tmp_path, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "pynn: operators of pynn_broken are not loaded: it is Monday\n"


def test_unregistering_leaves_traced_models_alone(examples):
    class Layer(nn.Module):
        def forward(self, x):
            return ops.swish(x)

    model = nn.Sequential(Layer())
    expected = model(X)
    table = OPERATORS["swish"].library
    ops.unregister("swish")
    try:
        np.testing.assert_array_equal(model(X), expected)
        with pytest.raises(AttributeError, match="no operator 'swish'"):
            ops.swish  # noqa: B018
    finally:
        pynn.load_library(next(p for p, (_, ts) in loaded() if table in ts))
    np.testing.assert_array_equal(ops.swish(X), expected)


def loaded():
    from pynn.extension.library import LOADED

    return LOADED.items()
