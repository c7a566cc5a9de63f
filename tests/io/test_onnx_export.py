"""What export_onnx writes, run by ONNX Runtime (float32) and by onnx's own evaluator (float64)."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

import pynn
from pynn import nn, ops
from pynn.errors import FormatError, MissingExtraError, ShapeError
from pynn.experiments import convnet, denoiser, faces, initialisation, ladder, transfer
from pynn.graph import OPERATORS
from pynn.io import export_onnx, load_onnx, onnx_export
from pynn.models import AlexNet, SqueezeNet
from pynn.testing.op_table import all_cases
from pynn.testing.samples import tolerance

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install onnx")
RNG = np.random.default_rng(5)
BATCHES = (1, 3, 17)


def runtime(path):
    """A function of input arrays: ONNX Runtime on one thread."""
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="ONNX Runtime is the oracle: pip install --group oracles"
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


def evaluator(path):
    """The same with onnx's evaluator, which is slow, plain NumPy."""
    session = importlib.import_module("onnx.reference").ReferenceEvaluator(str(path))
    names = session.input_names
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]


def assert_same(y, expected, terms):
    """As `pynn.testing.samples.tolerance`: roundings of sums of so many terms."""
    eps = np.finfo(expected.dtype).eps
    largest = max(float(np.max(np.abs(expected), initial=0)), 1e-3)
    np.testing.assert_allclose(y, expected, rtol=8 * eps, atol=8 * eps * np.sqrt(terms) * largest)
    assert y.shape == expected.shape
    assert y.dtype == expected.dtype


class Net(nn.Module):
    """Parameters, and a forward given as a function."""

    def __init__(self, function, **variables):
        for name, value in variables.items():
            setattr(self, name, value)
        self.function = function

    def forward(self, *inputs):
        return self.function(self, *inputs)


# The op table

LOSSES = {"cross_entropy", "mse_loss"}
BATCH_STATISTICS = "uses the statistics of the batch in evaluation mode too"
CANNOT = {
    **{f"batch_norm-{name}": BATCH_STATISTICS for name in (
        "batch_3", "features", "images", "one_image", "not_affine", "large_eps",
        "empty_batch_training",
    )},
    **{str(case): "draws in evaluation mode too" for case in all_cases()
       if case.operator in ("dropout", "drop_block2d")},
}  # fmt: skip


def is_input(case, place):
    """Whether an array of a case becomes an input of the network; others become parameters."""
    shape, first = case.shapes[place], case.shapes[0]
    if place == 0 or case.operator == "concat":
        return True
    together = case.operator in ("add", "mul") or (case.operator == "matmul" and len(shape) == 3)
    return together and len(shape) == len(first) and shape[0] == first[0]


class OneOperator(nn.Module):
    """A case of the op table as a network."""

    def __init__(self, case, dtype):
        self.case, self.arrays = case, case.arrays(dtype)
        self.input_places = [
            i for i, a in enumerate(self.arrays) if a is not None and is_input(case, i)
        ]
        for place, array in enumerate(self.arrays):
            if array is not None and place not in self.input_places:
                is_buffer = case.operator == "batch_norm" and place < 3
                setattr(self, f"operand{place}", (nn.Buffer if is_buffer else nn.Parameter)(array))
        self.changed = {}
        self.dtype_holder = nn.Parameter(np.zeros(1, dtype))

    def inputs(self):
        return [self.arrays[place] for place in self.input_places]

    def forward(self, *inputs):
        operands = [
            None if a is None else getattr(self, f"operand{i}", None)
            for i, a in enumerate(self.arrays)
        ]
        for place, x in zip(self.input_places, inputs, strict=True):
            operands[place] = x
        attributes = self.case.attributes | self.changed
        if self.case.operator == "reshape":  # for any batch
            attributes["shape"] = (
                -1 if attributes["shape"][0] == -1 else inputs[0].shape[0],
                *attributes["shape"][1:],
            )
        function = getattr(ops, self.case.operator)
        return function(*(operands if self.case.spread else [operands]), **attributes)


def batches(case):
    """The case's own, one, and more than a block of sixteen."""
    return {case.shapes[0][0], 1, 17} if case.shapes[0] else {1}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [c for c in all_cases() if c.operator not in LOSSES], ids=str)
def test_operators(tmp_path, case, dtype):
    model = OneOperator(case, dtype)
    shapes = [array.shape[1:] for array in model.inputs()]
    path = tmp_path / "model.onnx"
    if str(case) in CANNOT:
        with pytest.raises(FormatError, match=CANNOT[str(case)]):
            export_onnx(model, path, input_shape=shapes)
        assert not path.exists()
        return
    export_onnx(model, path, input_shape=shapes)
    run = runtime(path) if dtype == "float32" else evaluator(path)
    again = load_onnx(path)
    model.eval()
    for batch in batches(case):
        if batch == 0 and dtype == "float64":
            continue  # onnx's evaluator has not thought of it
        arrays = [np.resize(array, (batch, *array.shape[1:])) for array in model.inputs()]
        model.changed = {}
        expected = model(*arrays)
        limits = tolerance(case, expected, dtype)
        np.testing.assert_allclose(again(*arrays), expected, **limits)
        if case.operator == "batch_norm" and dtype == "float64":
            model.changed = {"eps": float(np.float32(1e-5))}  # as the file has it
            expected = model(*arrays)
        y = run(*arrays)
        np.testing.assert_allclose(y, expected, **limits)
        assert y.shape == expected.shape
        assert y.dtype == expected.dtype
    state = model.state_dict()
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_every_operator_is_translated():
    assert set(onnx_export._TRANSLATIONS) == {
        name
        for name, operator in OPERATORS.items()
        if not operator.python and operator.library is None and name not in LOSSES
    }


# Networks


NETWORKS = {
    "convnet plain": (lambda: convnet.network(28, 10, "plain"), (1, 28, 28)),
    "convnet dropout": (lambda: convnet.network(28, 10, "dropout"), (1, 28, 28)),
    "convnet dropblock": (lambda: convnet.network(8, 10, "dropblock"), (1, 8, 8)),
    "denoiser shared": (lambda: denoiser.network(28, -0.5, "shared"), (1, 28, 28)),
    "denoiser untied": (lambda: denoiser.network(8, 0.5, "untied"), (1, 8, 8)),
    "ladder 1": (lambda: ladder.network(1, 28), (1, 28, 28)),
    "ladder 2": (lambda: ladder.network(2, 28), (1, 28, 28)),
    "ladder 3": (lambda: ladder.network(3, 28), (1, 28, 28)),
    "ladder 4": (lambda: ladder.network(4, 28), (1, 28, 28)),
    "faces": (lambda: faces.network(112 * 92, 12, 40), (112, 92)),
    "initialisation": (lambda: initialisation.network(784, 50, 40, "Glorot"), (1, 28, 28)),
    "transfer": (
        lambda: nn.Sequential(transfer.small_features(3), transfer.head(512, 10)), (3, 32, 32),
    ),
    "alexnet": (lambda: AlexNet(10), (3, 224, 224)),
    "squeezenet": (SqueezeNet, (3, 224, 224)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(tmp_path, name):
    make, shape = NETWORKS[name]
    pynn.manual_seed(1)
    model = make()
    path = tmp_path / "model.onnx"
    export_onnx(model, path, input_shape=shape)
    assert model.training
    model.eval()
    run, again = runtime(path), load_onnx(path)
    for batch in BATCHES:
        x = RNG.standard_normal((batch, *shape)).astype(np.float32)
        expected = model(x)
        assert_same(run(x), expected, 10_000)
        assert_same(again(x), expected, 10_000)
    state, loaded = model.state_dict(), again.state_dict()
    assert list(loaded) == list(state)
    for key, array in state.items():
        np.testing.assert_array_equal(loaded[key], array)


# What stands in the file


def branches():
    """Shared weights, statistics, constants, a buffer, several axes, two inputs."""
    shared = nn.Linear(4, 4)

    def forward(self, a, b):
        x = nn.relu(self.norm(self.conv(a))) * 0.5 + self.shift
        x = nn.flatten(nn.max_pool2d(x, 2))
        y = self.last(self.shared(self.shared(b)))
        return nn.softmax(nn.leaky_relu(self.mix(x) - y) / 2.0) + self.offset

    return Net(
        forward, conv=nn.Conv2d(2, 3, 3, padding=(0, 1, 2, 0)), norm=nn.BatchNorm2d(3),
        shift=nn.Buffer(np.float32([[[1]], [[2]], [[3]]])), shared=shared, last=shared,
        mix=nn.Linear(12, 4), offset=nn.Parameter(np.float32([1, 2, 3, 4])),
        unused=nn.Linear(2, 2),
    )  # fmt: skip


def settle(model, *shapes):
    """Let running statistics differ from where they begin."""
    for _ in range(3):
        model(*(RNG.standard_normal((5, *shape)) for shape in shapes))


BRANCH_SHAPES = [(2, 5, 4), (4,)]


def test_file(tmp_path):
    model = branches()
    settle(model, *BRANCH_SHAPES)
    path = tmp_path / "model.onnx"
    export_onnx(model, path, input_shape=BRANCH_SHAPES)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 17)]
    assert (proto.producer_name, proto.producer_version) == ("pynn", pynn.__version__)
    assert [value.name for value in proto.graph.input] == ["x0", "x1"]
    assert [value.name for value in proto.graph.output] == ["y"]
    for value, sizes in zip(
        [*proto.graph.input, *proto.graph.output], [*BRANCH_SHAPES, (4,)], strict=True
    ):
        first, *others = value.type.tensor_type.shape.dim
        assert first.dim_param == "batch"
        assert tuple(size.dim_value for size in others) == sizes
    state = model.state_dict()
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert set(arrays) == {
        "conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean",
        "norm.running_var", "shift", "shared.weight", "shared.bias", "mix.weight", "mix.bias",
        "offset",
    }  # fmt: skip
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, state[name])
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    batch = {value.type.tensor_type.shape.dim[0].dim_param for value in inferred.graph.value_info
             if value.type.tensor_type.shape.dim and value.type.tensor_type.elem_type == 1
             and value.name not in {n.output[0] for n in proto.graph.node if n.op_type == "Constant"}}  # fmt: skip
    assert batch == {"batch"}
    a, b = (RNG.standard_normal((6, *shape)).astype(np.float32) for shape in BRANCH_SHAPES)
    model.eval()
    assert_same(runtime(path)(a, b), model(a, b), 30)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    model = branches()
    for name in "ab":
        export_onnx(model, tmp_path / name, input_shape=BRANCH_SHAPES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_modes_come_back(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Sequential(nn.Dropout()))
    model[2].eval()
    export_onnx(model, tmp_path / "a.onnx", input_shape=(2,))
    assert [module.training for module in model.modules()] == [True, True, True, False, False]
    assert [node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node] == ["Gemm"]


NAMES = {
    "the input's": lambda: Net(lambda self, x: x + self.x, x=nn.Parameter(np.ones(3, "f"))),
    "the output's": lambda: Net(lambda self, x: x * self.y, y=nn.Parameter(np.ones(3, "f"))),
    "a node's": lambda: Net(
        lambda self, x: nn.relu(x + self.Net), Net=nn.Parameter(np.ones(3, "f"))
    ),
    "nothing recorded": nn.Identity,
    "an output used twice": lambda: Net(lambda self, x: nn.concat([nn.relu(x)] * 2)),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_do_not_clash(tmp_path, name):
    model = NAMES[name]().eval()
    path = tmp_path / "a.onnx"
    export_onnx(model, path, input_shape=(3,))
    x = RNG.standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_array_equal(load_onnx(path)(x), model(x))
    np.testing.assert_array_equal(runtime(path)(x), model(x))
    for key, array in load_onnx(path).state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[key])


# Refusals


def doubled_in_python():
    ops.register("doubled_for_onnx", lambda x: 2 * x, lambda dy, x: 2 * dy)
    return nn.Sequential(nn.ReLU(), Net(lambda self, x: ops.doubled_for_onnx(x)))


@pytest.fixture
def as_before():
    known = set(OPERATORS)
    yield
    for name in set(OPERATORS) - known:
        ops.unregister(name)


CANNOT_SAY = {
    "python operator": (doubled_in_python, r"1 \(Net\): doubled_for_onnx is an operator of your own"),
    "constant of the batch": (
        lambda: Net(lambda self, x: x + np.arange(float(x.shape[0]))[:, None]),
        "Net: a constant depends on the batch size",
    ),
    "operators of the batch": (
        lambda: Net(lambda self, x: nn.relu(x) if x.shape[0] == 2 else nn.tanh(x)), "another batch size",
    ),
    "options of the batch": (
        lambda: Net(lambda self, x: nn.leaky_relu(x, negative_slope=x.shape[0] / 10)), "another batch size",
    ),
    "something else for a single sample": (
        lambda: Net(lambda self, x: nn.relu(x) if x.shape[0] > 1 else nn.tanh(x)), "another batch size",
    ),
    "more for some batches": (
        lambda: Net(lambda self, x: nn.relu(nn.relu(x)) if x.shape[0] == 2 else nn.relu(x)), "another batch size",
    ),
    "dropout": (lambda: Net(lambda self, x: ops.dropout(x)), "dropout draws in evaluation mode too"),
    "empty samples": (
        lambda: Net(lambda self, x: nn.reshape(nn.matmul(x, np.zeros((4, 0))), (-1, 0, 2))), "have no values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CANNOT_SAY)
def test_refusals(tmp_path, name, as_before):
    make, message = CANNOT_SAY[name]
    with pytest.raises(FormatError, match=message):
        export_onnx(make(), tmp_path / "a.onnx", input_shape=(4,))
    assert list(tmp_path.iterdir()) == []


def test_shapes_are_refused_with_their_place(tmp_path):
    with pytest.raises(ShapeError, match=r"1 \(Linear\): expected 3 input features, got 2"):
        export_onnx(nn.Sequential(nn.ReLU(), nn.Linear(3, 1)), tmp_path / "a", input_shape=(2,))


def test_what_a_file_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 1000)
    export_onnx(nn.Linear(10, 10), tmp_path / "a.onnx", input_shape=(10,))
    with pytest.raises(FormatError, match="parameters of this Linear take 2 GB or more"):
        export_onnx(nn.Linear(100, 10), tmp_path / "b.onnx", input_shape=(100,))
    assert not (tmp_path / "b.onnx").exists()


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pynn-core\[onnx\]'"):
        export_onnx(nn.Linear(1, 1), tmp_path / "a.onnx", input_shape=(1,))
    with pytest.raises(MissingExtraError, match=r"pip install 'pynn-core\[onnx\]'"):
        load_onnx(tmp_path / "a.onnx")


def test_onnx_is_imported_when_it_is_needed():
    code = "import sys, pynn, pynn.io; print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("shape", [3, None, (3.5,), "ab", (3, (1, 2)), ((3,), ("a",))])
def test_shapes_that_are_none(tmp_path, shape):
    with pytest.raises(TypeError, match=r"the shape of one sample, such as \(1, 28, 28\), or a l"):
        export_onnx(nn.Linear(3, 3), tmp_path / "a.onnx", input_shape=shape)


def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    export_onnx(nn.Linear(2, 2), path, input_shape=(2,))
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        export_onnx(nn.Linear(3, 3), path, input_shape=(3,))
    assert path.read_bytes() == before
    assert load_onnx(str(path)).state_dict()["weight"].shape == (2, 2)
