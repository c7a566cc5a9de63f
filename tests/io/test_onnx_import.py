"""What load_onnx reads: onnx's own cases and converted networks, PyTorch's exports, networks with
random weights beside ONNX Runtime, and files that are damaged."""

import contextlib
import copy
import importlib
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn import nn, optim
from pynn.errors import FormatError, ShapeError
from pynn.experiments import convnet, denoiser, ladder
from pynn.io import export_onnx, load_onnx, onnx_import
from pynn.models import SqueezeNet

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install onnx")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper
RNG = np.random.default_rng(11)


def runtime(path):
    """ONNX Runtime on one thread, as a function of one input."""
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="ONNX Runtime is the oracle: pip install --group oracles"
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def assert_same(y, expected, terms=100):
    """Roundings of sums of so many terms, measured by the largest result."""
    eps = np.finfo(expected.dtype).eps
    largest = max(float(np.max(np.abs(expected), initial=0)), 1e-3)
    np.testing.assert_allclose(y, expected, rtol=8 * eps, atol=8 * eps * np.sqrt(terms) * largest)
    assert y.shape == expected.shape
    assert y.dtype == expected.dtype


def saved(folder, proto):
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return path


def graph_of(nodes, inputs, weights=(), *, output="y", opset=17, kind=TensorProto.FLOAT):
    """A model of nodes; inputs and weights by name. The shape of its output, which must be said, is
    inferred where onnx can."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, kind, None)],
        [numpy_helper.from_array(np.asarray(w), name) for name, w in dict(weights).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=8)
    with contextlib.suppress(onnx.shape_inference.InferenceError):
        proto = onnx.shape_inference.infer_shapes(proto)
    proto.graph.output[0].type.tensor_type.shape.SetInParent()
    return proto


def node(kind, inputs, output="y", **attributes):
    """A node called "the_KIND", or as its output where that is not y."""
    name = f"the_{kind.lower()}" if output == "y" else output
    return helper.make_node(kind, inputs.split(), [output], name=name, **attributes)


# onnx's own cases, by the module of onnx.backend.test.case.node that has them. What is refused: the
# name of a case without "test_" -> words of the message. Cast has cases of other types alone.

IMAGES_ALONE = r"expected images \(N, C, H, W\)"
BATCH_AXIS = "reshape may not touch the batch axis"
INTEGERS = {r"\w+_u?int(8|16|32|64)": "INT"}
ONE_OUTPUT = "modules have one output"
NOT_FLOATS = "must be of floats of 32 or 64 bits"
ON_CONSTANTS = "supported on shapes and constants alone"
NODE_CASES = {
    "add": INTEGERS,
    "averagepool": {
        r"averagepool_[13]d_\w+": IMAGES_ALONE,
        "averagepool_2d_dilations": "pools have no dilations",
    },
    "batch_normalization": {r"batchnorm_\w+_training_mode": ONE_OUTPUT},
    "clip": {r"clip_default_int8_\w+": "INT8"},
    "concat": {},
    "conv": {},
    "div": INTEGERS | {r"div_int32_trunc": NOT_FLOATS},
    "dropout": {
        r"(training_)?dropout(_default|_zero_ratio)?_mask(_ratio)?": ONE_OUTPUT,
        r"training_dropout(_default|_zero_ratio)?": "training_mode must be false",
    },
    "flatten": {r"flatten_(axis0|axis2|axis3|negative_axis[124])": BATCH_AXIS},
    "gemm": {r"gemm_(transposeA|all_attributes)": "first input cannot be transposed"},
    "globalaveragepool": {},
    "globalmaxpool": {},
    "identity": {r"identity_(sequence|opt)": NOT_FLOATS},
    "leakyrelu": {},
    "logsoftmax": {},
    "matmul": {r"matmul_(1d_3d|4d_1d|1d_1d)": "must have at least 2 dimensions"},
    "maxpool": {
        r"maxpool_[13]d_\w+": IMAGES_ALONE,
        "maxpool_2d_dilations": "pools have no dilations",
        "maxpool_2d_uint8": NOT_FLOATS,
        r"maxpool_with_argmax_\w+": ONE_OUTPUT,
    },
    "mul": INTEGERS,
    "neg": {},
    "pad": {r"(edge|reflect|wrap)_pad": NOT_FLOATS},
    "prelu": {},
    "reducemean": {r"reduce_mean_\w+": "means are taken over rows and columns of images alone"},
    "relu": {},
    "reshape": {
        r"reshape_(reordered_all_dims|one_dim|negative_extended_dims|allowzero_reordered)": BATCH_AXIS
    },
    "sigmoid": {},
    "softmax": {},
    "squeeze": {"squeeze": BATCH_AXIS},
    "sub": INTEGERS,
    "sum": {},
    "tanh": {},
    "transpose": {r"transpose_(default|all_permutations_[1-5])": "pynn does not transpose"},
    "unsqueeze": {"unsqueeze_axis_0": BATCH_AXIS},
}  # fmt: skip
# Operators on shapes and constants: the inputs of their cases become constants.
KNOWN_CASES = {
    "add": INTEGERS,
    "concat": {},
    "constantofshape": {},
    "div": INTEGERS,
    "flatten": {},
    "gather": {},
    "mul": INTEGERS,
    "reshape": {},
    "shape": {},
    "slice": {},
    "squeeze": {},
    "sub": INTEGERS,
    "transpose": {},
    "unsqueeze": {},
}
DIGITS = {"averagepool_2d_ceil_last_window_starts_on_pad": 1e-4}  # four are given


def cases_of(module):
    """The cases of one operator; importing their module makes them."""
    package = importlib.import_module("onnx.backend.test.case.node")
    importlib.import_module(f"{package.__name__}.{module}")
    kind = module.replace("_", "")
    cases = [
        case
        for case in package._NodeTestCases
        if [node.op_type.lower() for node in case.model.graph.node] == [kind]
        and not case.name.endswith("_expanded")
    ]
    assert cases
    return cases


def arrays_of(case):
    """The inputs, by name, and the output of a case."""
    inputs, outputs = case.data_sets[0]
    names = [value.name for value in case.model.graph.input]
    return dict(zip(names, map(np.asarray, inputs), strict=True)), np.asarray(outputs[0])


def check_case(case, refused, path, run):
    """Compare, or expect the refusal that the table says; returns the pattern of that."""
    name = case.name.removeprefix("test_")
    pattern = next((pattern for pattern in refused if re.fullmatch(pattern, name)), None)
    if pattern is not None:
        with pytest.raises(FormatError, match=refused[pattern]):
            run(load_onnx(path))
        return pattern
    y, expected = run(load_onnx(path)), arrays_of(case)[1]
    limit = DIGITS.get(name, 3e-6)
    np.testing.assert_allclose(y, expected, rtol=limit, atol=limit, err_msg=name)
    assert y.shape == expected.shape, name
    return None


@pytest.mark.parametrize("weights", [False, True], ids=["inputs", "weights"])
@pytest.mark.parametrize("module", NODE_CASES)
def test_node_cases(tmp_path, module, weights):
    """As they are, and with all inputs but the first as initialisers. Options, integers and numbers
    are initialisers in either."""
    refused = dict(NODE_CASES[module])
    if module == "div" and not weights:
        refused |= {r"div(_example|_bcast)?": "must be a constant"}
    found = set()
    for case in cases_of(module):
        arrays, _ = arrays_of(case)
        proto = onnx.ModelProto.FromString(case.model.SerializeToString())
        inputs = {value.name: value for value in proto.graph.input}
        given = [
            name
            for place, (name, array) in enumerate(arrays.items())
            if place == 0 or not (weights or array.dtype.kind != "f" or array.ndim == 0)
        ]
        proto.graph.ClearField("input")
        proto.graph.input.extend(inputs[name] for name in given)
        proto.graph.initializer.extend(
            numpy_helper.from_array(array, name)
            for name, array in arrays.items()
            if name not in given
        )
        path, values = saved(tmp_path, proto), [arrays[name] for name in given]
        run = lambda model: model(*values)  # noqa: B023, E731
        found.add(check_case(case, refused, path, run))
    assert found >= set(refused)


@pytest.mark.parametrize("module", KNOWN_CASES)
def test_node_cases_on_constants(tmp_path, module):
    refused, found = KNOWN_CASES[module], set()
    for case in cases_of(module):
        arrays, expected = arrays_of(case)
        constants = [
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))
            for name, array in arrays.items()
        ]
        (operator,) = case.model.graph.node
        number = [
            node("Cast", operator.output[0], "number", to=1),
            node("Mul", "one number", "result"),
        ]
        opset = case.model.opset_import[0].version
        nodes = [*constants, operator, *number]
        proto = graph_of(nodes, {"one": (1,)}, output="result", opset=opset)
        path = saved(tmp_path, proto)
        shape = expected.shape
        run = lambda model: model(np.ones(1, "f")).reshape(shape)  # noqa: B023, E731
        found.add(check_case(case, refused, path, run))
    assert found >= set(refused)


# Networks that PyTorch exported long ago, with inputs and outputs, in onnx's package.

CONVERTED = {
    "pytorch-converted": {
        "AvgPool3d.*|BatchNorm(1d_3d|3d).*|Conv[13]d.*|MaxPool[13]d.*": r"\(N, C, H, W\)",
        "ConvTranspose2d.*|ELU|GLU.*|PoissonNLLLLoss.*|SELU|Soft(plus|sign)": "pynn reads Add, Ave",
        "Embedding.*": NOT_FLOATS,
        "MaxPool2d_stride_padding_dilation": "pools have no dilations",
        "PReLU_[123]d_multiparam": "do not broadcast",
        "PixelShuffle": "pynn does not transpose",
        "Re(flection|plication)Pad2d": "the mode must be constant",
    },
    "pytorch-operator": {
        "operator_(chunk|convtranspose|exp|max|min|pow|repeat.*|selu|sqrt|symbolic_override)":
            "pynn reads Add, Ave",
        "operator_index": ON_CONSTANTS,
        "operator_maxpool": IMAGES_ALONE,
        "operator_non_float_params": NOT_FLOATS,
        "operator_pad": "the mode must be constant",
        "operator_reduced_mean.*": "means are taken over rows and columns",
        "operator_reduced_sum.*": "pynn reads Add, Ave",
        "operator_symbolic_override_nested": ONE_OUTPUT,
    },
}  # fmt: skip
PACKAGED = Path(onnx.__file__).parent / "backend" / "test" / "data"


def tensor(path):
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


@pytest.mark.parametrize("kind", CONVERTED)
def test_converted_networks(tmp_path, kind):
    refused, found, same = CONVERTED[kind], set(), 0
    for folder in sorted((PACKAGED / kind).iterdir()):
        proto = onnx.load(folder / "model.onnx")
        if proto.opset_import[0].version < 7:
            proto = onnx.version_converter.convert_version(proto, 13)
            proto.ir_version = 8  # initialisers need not be inputs
        path = saved(tmp_path, proto)
        files = sorted((folder / "test_data_set_0").glob("input_*.pb"))
        expected = tensor(folder / "test_data_set_0" / "output_0.pb")
        name = folder.name.removeprefix("test_")
        pattern = next((pattern for pattern in refused if re.fullmatch(pattern, name)), None)
        if pattern is not None:
            with pytest.raises(FormatError, match=refused[pattern]):
                load_onnx(path)
            found.add(pattern)
            continue
        y = load_onnx(path)(*map(tensor, files))
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-6, err_msg=name)
        assert y.shape == expected.shape
        same += 1
    assert found == set(refused)
    assert same >= 15


# Whole networks of the model zoo without their weights, in onnx's package: with random ones.

LIGHT = {
    "densenet121": None,
    "inception_v2": None,
    "resnet50": None,
    "squeezenet": None,
    "bvlc_alexnet": r"\(LRN\): not supported",
    "inception_v1": r"\(LRN\): not supported",
    "zfnet512": r"\(LRN\): not supported",
    "shufflenet": r"\(Transpose\): pynn does not transpose",
}


def with_weights(path, folder):
    """A file with a random initialiser in the place of each node that fills one."""
    proto = onnx.load(path)
    shapes = {t.name: tuple(numpy_helper.to_array(t)) for t in proto.graph.initializer}
    nodes, rng = list(proto.graph.node), np.random.default_rng(3)
    variances = {node.input[4] for node in nodes if node.op_type == "BatchNormalization"}
    for filler in [node for node in nodes if node.op_type == "ConstantOfShape"]:
        shape = tuple(int(size) for size in shapes[filler.input[0]])
        scale = np.sqrt(2 / max(np.prod(shape[1:]), 1)) if len(shape) > 1 else 0.1
        array = rng.standard_normal(shape).astype(np.float32) * np.float32(scale)
        if filler.output[0] in variances:
            array = np.abs(array) + 1
        proto.graph.initializer.append(numpy_helper.from_array(array, filler.output[0]))
        proto.graph.node.remove(filler)
    used = {name for node in proto.graph.node for name in node.input}
    for entries in (proto.graph.initializer, proto.graph.input):
        kept = [entry for entry in entries if entry.name in used]
        del entries[:]
        entries.extend(kept)
    proto.ir_version = 8
    return saved(folder, proto)


@pytest.mark.parametrize("name", LIGHT)
def test_light_networks(tmp_path, name):
    packaged = PACKAGED / "light" / f"light_{name}.onnx"
    path = packaged if "LRN" in (LIGHT[name] or "") else with_weights(packaged, tmp_path)
    if LIGHT[name] is not None:
        with pytest.raises(FormatError, match=LIGHT[name]):
            load_onnx(path)
        return
    x = RNG.standard_normal((1, 3, 224, 224)).astype(np.float32)
    assert_same(load_onnx(path)(x), runtime(path)(x), 1e5)


def test_mnist_of_the_model_zoo(shared_data):
    """Its weights are reshaped by nodes, its input is declared with a batch of 1."""
    folder = shared_data("models/mnist-8")
    model = load_onnx(folder / "model.onnx")
    sets = sorted(folder.glob("test_data_set_*"))
    x, expected = (
        np.concatenate([tensor(data / f"{what}_0.pb") for data in sets])
        for what in ("input", "output")
    )
    assert_same(model(x), expected, 256)
    assert_same(model(np.tile(x, (6, 1, 1, 1)))[:3], expected, 256)  # a plan
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    assert shapes == {
        "Parameter193": (256, 10), "Parameter87": (16, 8, 5, 5), "Parameter5": (8, 1, 5, 5),
        "Parameter6": (8, 1, 1), "Parameter88": (16, 1, 1), "Parameter194": (1, 10),
    }  # fmt: skip


# PyTorch's exporter


def torch_networks(torch):
    t = torch.nn
    f = t.functional

    class Forms(t.Module):
        def __init__(self):
            super().__init__()
            self.conv = t.Conv2d(3, 8, 3, padding="same", bias=False)
            self.norm = t.BatchNorm2d(8)
            self.bend, self.grouped = t.PReLU(8), t.Conv2d(8, 8, (3, 2), 2, (1, 0), 1, 4)
            self.dense = t.Linear(32, 5)

        def forward(self, x):
            x = self.bend(self.norm(self.conv(x)))
            x = f.pad(f.relu6(x * 4), (1, 0, 2, 1), value=0.5)
            x = self.grouped(x) / 3 - 0.1
            x = torch.cat([f.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
                           -f.max_pool2d(x, 3, 2, 1, ceil_mode=True)], dim=1)  # fmt: skip
            x = torch.cat([f.adaptive_avg_pool2d(x, 1), x.mean((2, 3), keepdim=True)], 1)
            x = f.dropout(x.view(x.size(0), -1), 0.5, self.training)
            return f.log_softmax(self.dense(x), 1)

    class Shapes(t.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = t.Linear(6, 6), t.Linear(6, 4, bias=False)

        def forward(self, x):
            n, c, h, w = x.shape
            x = self.second(self.first(x.reshape(n, c * h, w)))
            x = torch.sigmoid(x.unsqueeze(1)).squeeze(1).reshape(n, h, c, -1)
            return f.softmax(x.flatten(1).clamp(min=0.4), -1)

    return {
        "sequential": (
            t.Sequential(t.Conv2d(2, 4, 3, 2, 1, 2), t.LeakyReLU(0.2), t.AvgPool2d(2, padding=1),
                         t.Flatten(), t.Linear(36, 7), t.Tanh()), (2, 11, 10),
        ),
        "forms": (Forms(), (3, 9, 8)),
        "shapes": (Shapes(), (2, 3, 6)),
    }  # fmt: skip


@pytest.mark.parametrize("opset", [10, 13, 17, 20])
@pytest.mark.parametrize("batch", ["named", "fixed"])
@pytest.mark.parametrize("name", ["sequential", "forms", "shapes"])
def test_exports_of_pytorch(tmp_path, name, batch, opset):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install torch==2.13.0")
    torch.manual_seed(2)
    network, shape = torch_networks(torch)[name]
    network(torch.randn(8, *shape))  # running statistics
    network.eval()
    options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}} if batch == "named" else {}
    path = tmp_path / "a.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that needs no further package
        torch.onnx.export(
            network, (torch.randn(1, *shape),), path, dynamo=False, opset_version=opset, **options
        )
    model = load_onnx(path)
    for size in (1, 5, 17):
        x = RNG.standard_normal((size, *shape)).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(x)).numpy()
        assert_same(model(x), expected, 300)


def test_training_of_an_export_of_pytorch(tmp_path):
    """Weights of batch norm and its statistics are equal at first, which the exporter makes one."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install torch==2.13.0")
    t = torch.nn
    torch.manual_seed(4)
    network = t.Sequential(
        t.Conv2d(2, 3, 3), t.BatchNorm2d(3, momentum=0.3), t.ReLU(), t.Flatten(), t.Linear(48, 4),
    )  # fmt: skip
    path = tmp_path / "a.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (torch.randn(1, 2, 6, 6),), path, dynamo=False, opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    model = load_onnx(path)
    assert set(model.state_dict()) == {n for n in network.state_dict() if "tracked" not in n}
    x, labels = RNG.standard_normal((20, 2, 6, 6)).astype(np.float32), RNG.integers(0, 4, 20)
    step = pynn.compile(model.train(), nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    optimiser = torch.optim.SGD(network.train().parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        loss = t.functional.cross_entropy(network(torch.from_numpy(x)), torch.from_numpy(labels))
        loss.backward()
        optimiser.step()
        assert step(x, labels) == pytest.approx(loss.item(), rel=1e-5)
    state = network.state_dict()
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, state[name].numpy(), rtol=1e-4, atol=1e-6)


# pynn's own files


class Branches(nn.Module):
    """What Sequential has not: sums, products, a buffer, constants, statistics, shared weights."""

    def __init__(self):
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding="same"), nn.BatchNorm2d(4, momentum=0.2)
        self.bare = nn.BatchNorm2d(4, affine=False)
        self.tied = nn.Linear(80, 80)
        self.scale, self.out = nn.Parameter(np.ones((4, 1, 1), "f")), nn.Linear(80, 3)
        self.shift = nn.Buffer(np.full((4, 1, 1), 0.25, "f"))
        self.rows = nn.Linear(4, 4)

    def forward(self, x):
        x = nn.leaky_relu(self.norm(self.conv(x)), negative_slope=0.3)
        x = self.bare(nn.pad2d(x, (1, 0)) * self.scale + self.shift) * 0.5
        x = nn.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)
        x = nn.flatten(self.rows(nn.reshape(x, (-1, 4, 5, 4))))
        return self.out(nn.tanh(self.tied(nn.sigmoid(self.tied(x)))) - x)


ROUND_TRIPS = {
    "convnet": (lambda: convnet.network(8, 10, "plain"), (1, 8, 8)),
    "denoiser": (lambda: denoiser.network(8, 0.5, "untied"), (1, 8, 8)),
    "ladder": (lambda: ladder.network(4, 28), (1, 28, 28)),
    "branches": (Branches, (2, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trip(tmp_path, name, dtype):
    """The same outputs, the same names, and after some steps of training the same weights."""
    make, shape = ROUND_TRIPS[name]
    pynn.manual_seed(6)
    model = make().astype(dtype)
    first, second = tmp_path / "1.onnx", tmp_path / "2.onnx"
    export_onnx(model, first, input_shape=shape)
    loaded = load_onnx(first)
    export_onnx(loaded, second, input_shape=shape)
    again = load_onnx(second)
    x = RNG.standard_normal((20, *shape)).astype(dtype)
    expected = model.eval()(x)
    for network in (loaded, again):
        assert not network.training
        assert network.dtype == dtype
        assert_same(network(x), expected, 1000)
    target = RNG.standard_normal(expected.shape).astype(dtype)
    for network in (model, loaded, again):
        optimiser = optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
        step = pynn.compile(network.train(), nn.MSELoss(), optimiser)
        losses = [step(x, target) for _ in range(3)]
    state = model.state_dict()
    limit = 1e-4 if dtype == "float32" else 1e-7  # ONNX has eps and momentum in float32
    for network in (loaded, again):
        found = network.state_dict()
        assert {key for key in state if "num_batches" not in key} == set(found)
        assert len(list(network.parameters())) == len(list(model.parameters()))
        for key, array in found.items():
            np.testing.assert_allclose(array, state[key], rtol=limit, atol=limit, err_msg=key)
    assert losses[2] < losses[0]
    before = load_onnx(first).state_dict()
    assert any(not np.array_equal(before[key], array) for key, array in loaded.state_dict().items())


def test_a_loaded_network_is_a_module(tmp_path):
    model = Branches()
    path = tmp_path / "a.onnx"
    export_onnx(model, path, input_shape=(2, 6, 6))
    loaded = load_onnx(path)
    x = RNG.standard_normal((3, 2, 6, 6))
    for other in (copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        np.testing.assert_array_equal(other(x), loaded(x))
    fresh = load_onnx(path)
    for parameter in fresh.parameters():
        parameter.data = np.zeros(parameter.shape)
    fresh.load_state_dict(loaded.state_dict())
    np.testing.assert_array_equal(fresh(x), loaded(x))
    assert repr(loaded) == "OnnxModel('Branches', 22 nodes, opset 17)"
    assert "conv (Conv)" in str(nn.summary(loaded, (2, 6, 6)))
    with pynn.backend("numpy"):
        assert_same(loaded(x), model.eval()(x), 1000)
    with pytest.raises(ShapeError, match=r"'x' must have shape \(N, 2, 6, 6\), got \(1, 2, 6, 5\)"):
        loaded(np.zeros((1, 2, 6, 5)))
    with pytest.raises(TypeError, match="has 1 inputs, x; got 2"):
        loaded(x, x)
    assert loaded.astype("float64")(x).dtype == np.float64


def test_squeezenet_keeps_its_numbers(tmp_path):
    pynn.manual_seed(0)
    model = SqueezeNet(7).eval()
    path = tmp_path / "a.onnx"
    export_onnx(model, path, input_shape=(3, 64, 64))
    x = RNG.standard_normal((17, 3, 64, 64)).astype(np.float32)
    np.testing.assert_array_equal(load_onnx(path)(x), model(x))


# Single forms


def test_fixed_batches_run_with_any(tmp_path):
    weights = {"shape": np.array([4, -1]), "w": RNG.standard_normal((12, 3)).astype("f")}
    nodes = [node("Reshape", "x shape", "flat"), node("MatMul", "flat w")]
    model = load_onnx(saved(tmp_path, graph_of(nodes, {"x": (4, 2, 6)}, weights)))
    for batch in (1, 4, 9):
        x = RNG.standard_normal((batch, 2, 6)).astype(np.float32)
        assert_same(model(x), x.reshape(batch, 12) @ weights["w"])


def test_open_shapes_are_checked_when_they_are_known(tmp_path):
    w = RNG.standard_normal((3, 2, 1, 1)).astype("f")
    path = saved(tmp_path, graph_of([node("Conv", "x w")], {"x": (None, 2, "h", "w")}, {"w": w}))
    model = load_onnx(path)
    assert model(np.zeros((2, 2, 5, 4))).shape == (2, 3, 5, 4)
    assert model(np.zeros((2, 2, 1, 9))).shape == (2, 3, 1, 9)
    with pytest.raises(ShapeError, match=r"'x' must have shape \(N, 2, any, any\)"):
        model(np.zeros((2, 3, 5, 4)))


@pytest.mark.parametrize("order", ["w", "transposed"])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, 0.25, 0.0])
@pytest.mark.parametrize("bias", [(), (4,), (1, 4)])
def test_gemm(tmp_path, order, alpha, beta, bias):
    w, c = RNG.standard_normal((3, 4)).astype("f"), RNG.standard_normal(bias).astype("f")
    weights = {"w": w if order == "w" else np.ascontiguousarray(w.T), "c": c}
    gemm = node("Gemm", "x w c", transB=int(order != "w"), alpha=alpha, beta=beta)
    model = load_onnx(saved(tmp_path, graph_of([gemm], {"x": (None, 3)}, weights)))
    x = RNG.standard_normal((5, 3)).astype(np.float32)
    assert_same(model(x), np.float32(alpha) * (x @ w) + np.float32(beta) * c)


@pytest.mark.parametrize("opset", [7, 13])
@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 6), (-1, 1), (None, 6), (0, None), (-2.5, None), (None, None), (0, 1e9), (-1e9, 6), (-1e9, 1e9),
     (0.1, 1e20), (-1e4, 1e4), (-65504, 65504), (20, 30), (-30, -20)],
)  # fmt: skip
def test_clip(tmp_path, opset, low, high):
    bounds = {"min": low, "max": high}
    given = {name: np.float32(bound) for name, bound in bounds.items() if bound is not None}
    if opset < 11:
        weights, clip = {}, node("Clip", "x", **{name: float(given[name]) for name in given})
    else:
        inputs = ["x", *(name if name in given else "" for name in bounds)]
        weights, clip = given, helper.make_node("Clip", inputs, ["y"], name="the_clip")
    path = saved(tmp_path, graph_of([clip], {"x": (None, 7)}, weights, opset=opset))
    x = np.array([0, 0.1, -3.75, 1e-7, 25, 1e6, -1e6], "f") * np.array([[1], [-1], [7]], "f")
    x[2, :3] = np.inf, -np.inf, np.nan
    model = load_onnx(path)
    expected = np.clip(x, *(given.get(name) for name in bounds)) if given else x
    atol = (
        0 if max(map(abs, given.values()), default=0) > 16 or (low == 0 and high is None) else 4e-6
    )
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("kind", ["Conv", "MaxPool", "AveragePool"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_auto_pad(tmp_path, auto_pad, kind, stride):
    weights = {"w": RNG.standard_normal((2, 2, 4, 3)).astype("f")} if kind == "Conv" else {}
    dilated = kind == "Conv" and not auto_pad.startswith("SAME")  # those ONNX Runtime has not
    dilations = {"dilations": [1, 2]} if dilated else {}
    pads = {"pads": [1, 0, 2, 1]} if auto_pad == "NOTSET" else {}
    names = " ".join(["x", *weights])
    nodes = [node(kind, names, kernel_shape=[4, 3], strides=[stride] * 2, auto_pad=auto_pad,
                  **dilations, **pads)]  # fmt: skip
    path = saved(tmp_path, graph_of(nodes, {"x": (None, 2, 11, 8)}, weights))
    x = RNG.standard_normal((3, 2, 11, 8)).astype(np.float32)
    assert_same(load_onnx(path)(x), runtime(path)(x))


@pytest.mark.parametrize("function", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [None, 1, 2, 3, -1, -2])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_before_and_after_opset_13(tmp_path, function, axis, opset):
    attributes = {} if axis is None else {"axis": axis}
    nodes = [node(function, "x", **attributes)]
    path = saved(tmp_path, graph_of(nodes, {"x": (None, 3, 2, 4)}, opset=opset))
    x = RNG.standard_normal((5, 3, 2, 4)).astype(np.float32)
    assert_same(load_onnx(path)(x), runtime(path)(x))


def test_what_trains_and_what_does_not(tmp_path):
    """Initialisers train, unless they are options, divisors or statistics; constants do not."""
    nodes = [
        node("Clip", "x low high", "a"),
        node("Div", "a divisor", "b"),
        node("BatchNormalization", "b scale bias mean variance", "c"),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        node("Mul", "c two", "d"),
        node("Identity", "merged", "alias"),
        node("Identity", "behind", "weight"),
        node("Add", "d merged", "e"),
        node("Add", "e alias", "f"),
        node("Add", "weight f"),
    ]
    weights = {
        "low": np.float32(-1), "high": np.float32(1), "divisor": np.float32([2, 3, 4]),
        "scale": np.ones(3, "f"), "bias": np.zeros(3, "f"), "mean": np.zeros(3, "f"),
        "variance": np.ones(3, "f"), "merged": np.ones(3, "f"), "behind": np.ones(3, "f"),
        "unused": np.ones(2, "f"),
    }  # fmt: skip
    path = saved(tmp_path, graph_of(nodes, {"x": (None, 3)}, weights))
    model = load_onnx(path)
    names = {name for name, _ in model.named_parameters()}
    assert names == {"scale", "bias", "merged", "alias", "behind"}
    assert {name for name, _ in model.named_buffers()} == {"mean", "variance"}
    x = 2 * RNG.standard_normal((6, 3)).astype(np.float32)
    assert_same(model(x), runtime(path)(x))


def test_dropout_drops_in_training(tmp_path):
    x = np.ones((100, 50), np.float32)
    for opset, attributes, names in ((10, {"ratio": 0.25}, "x"), (13, {}, "x ratio")):
        nodes = [node("Dropout", names, **attributes)]
        weights = {"ratio": np.float32(0.25)} if "ratio" in names else {}
        model = load_onnx(saved(tmp_path, graph_of(nodes, {"x": (None, 50)}, weights, opset=opset)))
        np.testing.assert_array_equal(model(x), x)
        y = model.train()(x)
        assert set(np.unique(y)) == {0, np.float32(4 / 3)}
        assert 0.2 < np.mean(y == 0) < 0.3


def test_names_that_modules_have(tmp_path):
    names = ("training", "forward", "_run_tape", "_program", "dtype")
    nodes, value = [], "x"
    for name in names:
        nodes.append(node("Add", f"{value} {name}", f"after_{name}"))
        value = f"after_{name}"
    weights = {name: np.ones(2, "f") for name in names}
    model = load_onnx(saved(tmp_path, graph_of(nodes, {"x": (None, 2)}, weights, output=value)))
    np.testing.assert_array_equal(model(np.zeros((3, 2))), np.full((3, 2), 5))
    assert list(model.state_dict()) == [f"tensor_{name}" for name in names]


# Weights in files of their own


def external(folder, **changes):
    w = np.arange(6, dtype="<f4").reshape(2, 3)
    proto = graph_of([node("Gemm", "x w", transB=1)], {"x": (None, 3)}, {"w": w})
    (folder / "weights").write_bytes(b"skip" + w.tobytes())
    where = {"location": "weights", "offset": "4", "length": "24"} | changes
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        proto.graph.initializer[0].external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path, w


def test_weights_in_a_file_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    path, w = external(tmp_path)
    x = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(load_onnx(path)(x), w.T)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"location": "../weights"}, "no file in the folder"),
        ({"location": "/etc/hostname"}, "no file in the folder"),
        ({"location": "link"}, "no file in the folder"),
        ({"location": "."}, "no file in the folder"),
        ({"location": ""}, "no file in the folder"),
        ({"location": "missing"}, "no file in the folder"),
        ({"location": "a\0b"}, "not a valid ONNX file"),
        ({"offset": "5"}, "which has 28"),
        ({"offset": "-4"}, "which has 28"),
        ({"length": "-1"}, "which has 28"),
        ({"length": str(2**62)}, "which has 28"),
        ({"length": "20"}, "tensor"),
        ({"offset": "x"}, "not a valid ONNX file"),
    ],
)
def test_weights_elsewhere_are_refused(tmp_path, changes, message):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights").write_bytes(bytes(28))
    (folder / "link").symlink_to(tmp_path / "weights")
    path, _ = external(folder, **changes)
    with pytest.raises(FormatError, match=message):
        load_onnx(path)


# Refusals

ONES = {"w": np.ones((2, 2), "f")}
REFUSED = {
    "another operator": (
        graph_of([node("Einsum", "x w", equation="ij,jk->ik")], {"x": (None, 2)}, ONES),
        r"the_einsum \(Einsum\): not supported; pynn reads Add, AveragePool, .*, Transpose, Unsqueeze$",
    ),
    "another domain": (
        graph_of([helper.make_node("Relu", ["x"], ["y"], domain="my")], {"x": (None, 2)}),
        r"y \(my.Relu\): not supported",
    ),
    "an old opset": (graph_of([node("Relu", "x")], {"x": (None, 2)}, opset=6), "read opsets 7 to"),
    "a future opset": (graph_of([node("Relu", "x")], {"x": (1, 2)}, opset=999), "the file has 999"),
    "half precision": (
        graph_of([node("Relu", "x")], {"x": (1, 2)}, kind=TensorProto.FLOAT16), "got FLOAT16",
    ),
    "half weights": (
        graph_of([node("Add", "x w")], {"x": (1, 2)}, {"w": np.ones(2, np.float16)}),
        "'w' is float16; networks are of float32 or float64",
    ),
    "mixed types": (
        graph_of([node("Add", "x w")], {"x": (1, 2)}, {"w": np.ones(2)}), "a network has one dtype",
    ),
    "no batch": (graph_of([node("Relu", "x")], {"x": ()}), "has no batch axis"),
    "no input": (graph_of([node("Relu", "w")], {}, ONES), "the graph has no input"),
    "a constant": (
        graph_of([node("Identity", "w")], {"x": (1, 2)}, ONES), "does not depend on the input",
    ),
    "indices": (
        graph_of(
            [helper.make_node("MaxPool", ["x"], ["z", "y"], kernel_shape=[2, 2], name="p"),
             node("Cast", "y", "c", to=1), node("Relu", "c", "d")],
            {"x": (1, 1, 4, 4)}, output="d",
        ),
        r"c \(Cast\): its input 'y' is a second output",
    ),
    "a transposed input": (
        graph_of([node("Gemm", "x w", transA=1)], {"x": (2, 2)}, ONES), "cannot be transposed",
    ),
    "two shapes": (
        graph_of([node("Unsqueeze", "w axes", "v"), node("Add", "x v", "z"), node("Add", "z w")],
                 {"x": (1, 1, 2, 2)}, ONES | {"axes": np.array([0])}),
        "the weight 'w' is used in more than one shape",
    ),
    "training": (
        graph_of(
            [helper.make_node("BatchNormalization", ["x", *"abcd"], ["y", "m", "v"], name="bn",
                              training_mode=1)],
            {"x": (2, 2)}, {name: np.ones(2, "f") for name in "abcd"},
        ),
        r"bn \(BatchNormalization\): training_mode must be 0",
    ),
    "a wrong shape": (
        graph_of([node("Gemm", "x w", transB=1)], {"x": (None, 3)}, ONES),
        r"the_gemm \(Gemm\): expected 2 input features, got 3",
    ),
    "negative padding": (
        graph_of([node("MaxPool", "x", kernel_shape=[2, 2], pads=[-1, 0, 0, 0])], {"x": (1, 1, 4, 4)}),
        "pads must be four numbers, 0 or more",
    ),
    "a bomb of constants": (
        graph_of(
            [node("ConstantOfShape", "size", "ones"), node("Mul", "x ones")],
            {"x": (1, 2)}, {"size": np.array([2**40])},
        ),
        "is not computed",
    ),
    "constants that double": (
        graph_of(
            [helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(50)]
            + [node("Reshape", "x c50")], {"x": (1, 2)}, {"c0": np.array([1, 2])},
        ),
        "more than 1024 values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(tmp_path, name):
    proto, message = REFUSED[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(FormatError, match=message) as caught:
        load_onnx(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "content", [b"", b"not onnx", b"\x00" * 100, b"\xff" * 100, b"\x3a" * 10_000]
)
def test_what_is_no_onnx_file(tmp_path, content):
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.onnx: "):
        load_onnx(path)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        load_onnx(tmp_path / "a.onnx")
    export_onnx(nn.Linear(2, 2), tmp_path / "a.onnx", input_shape=(2,))
    monkeypatch.setattr(onnx_import, "MAX_BYTES", 10)
    with pytest.raises(FormatError, match="more than an ONNX file can have"):
        load_onnx(tmp_path / "a.onnx")


def damaged(content, rng):
    """A file with a few bytes changed, or a piece cut out, doubled or moved."""
    data = bytearray(content)
    begin, end = sorted(rng.integers(0, len(data), 2))
    match rng.integers(0, 5):
        case 0:
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] ^= 1 << rng.integers(0, 8)
        case 1:
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] = rng.integers(0, 256)
        case 2:
            del data[begin:]
        case 3:
            del data[begin : min(end, begin + 20)]
        case 4:
            data[begin:begin] = data[end : end + 20]
    return bytes(data)


def small_files(folder):
    """Files whose bytes are structure rather than weights."""
    export_onnx(Branches(), folder / "branches.onnx", input_shape=(2, 6, 6))
    layers = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)
    )
    export_onnx(layers, folder / "layers.onnx", input_shape=(1, 6, 6))
    nodes = [
        node("Shape", "x", "shape"), node("Gather", "shape zero", "n", axis=0),
        node("Concat", "n rest", "target", axis=0), node("Reshape", "x target", "flat"),
        node("Slice", "rest zero one", "part"), node("Cast", "part", "number", to=1),
        node("Mul", "flat number", "scaled"), node("Clip", "scaled low", "clipped"),
        node("Gemm", "clipped w"),
    ]  # fmt: skip
    weights = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1]),
               "low": np.float32(0), "w": np.ones((4, 2), "f")}  # fmt: skip
    (folder / "shapes.onnx").write_bytes(
        graph_of(nodes, {"x": (None, 2, 2)}, weights).SerializeToString()
    )
    return {"branches": (2, 6, 6), "layers": (1, 6, 6), "shapes": (2, 2)}


@pytest.mark.parametrize("name", ["branches", "layers", "shapes"])
def test_damaged_files(tmp_path, name):
    shape = small_files(tmp_path)[name]
    content = (tmp_path / f"{name}.onnx").read_bytes()
    rng, path = np.random.default_rng(9), tmp_path / "damaged.onnx"
    loaded = 0
    for _ in range(400):
        path.write_bytes(damaged(content, rng))
        try:
            model = load_onnx(path)
            graph = model.trace((2, *shape)).graph
        except (FormatError, ShapeError, TypeError):
            continue
        if sum(map(np.prod, graph.shapes)) < 1e6:  # a file may ask for more, rightly
            with np.errstate(all="ignore"):
                assert model(np.ones((2, *shape))).shape == graph.shapes[graph.output]
        loaded += 1
    assert 0 < loaded < 400
