"""Networks under torchvision's names, beside PyTorch and beside a known answer."""

import numpy as np
import pytest

import pynn
from pynn import io, nn
from pynn.errors import DTypeError, FormatError, ShapeError
from pynn.models import (
    AlexNet,
    AlexNetFeatures,
    Fire,
    SqueezeNet,
    alexnet_features,
    extract_features,
    imagenet_input,
    squeezenet_features,
)
from pynn.models.squeezenet import from_caffe

RNG = np.random.default_rng(7)
# torchvision's AlexNet: https://docs.pytorch.org/vision/stable/models/alexnet.html
ALEXNET = {
    "features.0": (64, 3, 11, 11), "features.3": (192, 64, 5, 5), "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3), "features.10": (256, 256, 3, 3), "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096), "classifier.6": (1000, 4096),
}  # fmt: skip


def shapes(layers):
    found = {}
    for layer, shape in layers.items():
        found |= {f"{layer}.weight": shape, f"{layer}.bias": shape[:1]}
    return found


def test_alexnet_has_torchvisions_names_shapes_and_maps():
    model = AlexNet()
    assert {name: value.shape for name, value in model.state_dict().items()} == shapes(ALEXNET)
    assert sum(parameter.size for parameter in model.parameters()) == 61_100_840
    rows = nn.summary(model.features, (3, 224, 224)).rows
    sides = [row.shape[1] for row in rows if row.operator != "relu"]
    assert sides == [55, 27, 27, 13, 13, 13, 13, 6]
    assert rows[-1].shape == (256, 6, 6)


def test_four_convolutions_are_the_first_of_five():
    four = AlexNetFeatures(convolutions=4)
    assert {name: v.shape for name, v in four.state_dict().items()} == shapes(
        dict(list(ALEXNET.items())[:4])
    )
    with pytest.raises(ValueError, match="convolutions must be 4 or 5, got 3"):
        alexnet_features(3)


def twin(torch, model):
    """The same layers in PyTorch, with the same weights under the same names."""
    t = torch.nn
    kinds = {
        nn.Conv2d: lambda m: t.Conv2d(
            m.in_channels, m.out_channels, m.kernel_size, m.stride, padding=m.padding
        ),
        nn.Linear: lambda m: t.Linear(m.in_features, m.out_features),
        nn.ReLU: lambda m: t.ReLU(),
        nn.Dropout: lambda m: t.Dropout(m.p),
        nn.Flatten: lambda m: t.Flatten(),
        nn.GlobalAvgPool2d: lambda m: t.AdaptiveAvgPool2d(1),
        nn.MaxPool2d: lambda m: t.MaxPool2d(3, 2, ceil_mode=m.ceil_mode),
    }

    class TorchFire(t.Module):
        def __init__(self, fire):
            super().__init__()
            for name, child in fire.named_children():
                setattr(self, name, kinds[nn.Conv2d](child))

        def forward(self, x):
            x = self.squeeze(x).relu()
            return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)

    kinds[Fire] = TorchFire
    other = t.Sequential(*(kinds[type(layer)](layer) for layer in model))
    other.load_state_dict(
        {name: torch.from_numpy(value) for name, value in model.state_dict().items()}
    )
    return other


@pytest.mark.parametrize("name", ["alexnet", "squeezenet"])
def test_forward_and_backward_equal_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install torch==2.13.0")
    if name == "alexnet":
        # All convolutions in their full shape, and the head of the study without its dropout.
        layers = [
            *alexnet_features(), nn.Flatten(), nn.Linear(9216, 2048), nn.ReLU(),
            nn.Linear(2048, 12), nn.ReLU(), nn.Linear(12, 40),
        ]  # fmt: skip
    else:
        layers = [*squeezenet_features(), nn.Conv2d(512, 40, 1), nn.GlobalAvgPool2d(), nn.Flatten()]
    model = nn.Sequential(*layers)
    rng = np.random.default_rng(3)
    # torch's weights of convolutions let signals fade; He's keep their size.
    for parameter in model.parameters():
        if len(parameter.shape) > 1:
            parameter.data = rng.normal(0, (2 / parameter.data[0].size) ** 0.5, parameter.shape)
    other = twin(torch, model)
    x = rng.normal(size=(17, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        expected = other(torch.from_numpy(x)).numpy()
    # Sums of up to 9216 float32 products, one layer after the other.
    np.testing.assert_allclose(model.eval()(x), expected, rtol=1e-3, atol=1e-4)

    # Gradients in float64: in float32 a unit near zero may be on in one and off in the other.
    model.train().astype("float64")
    other.double()
    x, y = x[:2].astype(np.float64), np.array([3, 31])
    loss = nn.CrossEntropyLoss()
    value = loss(model(x), y)
    dx = model.backward(loss.backward())
    x_torch = torch.from_numpy(x).requires_grad_()
    loss_torch = torch.nn.functional.cross_entropy(other(x_torch), torch.from_numpy(y))
    loss_torch.backward()
    assert value == pytest.approx(loss_torch.item(), rel=1e-10)
    pairs = zip(model.named_parameters(), other.parameters(), strict=True)
    gradients = [(key, ours.grad, theirs.grad.numpy()) for (key, ours), theirs in pairs]
    for key, ours, theirs in [*gradients, ("x", dx, x_torch.grad.numpy())]:
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * scale, err_msg=key)


def saved(tmp_path, layers, changed=None):
    state = {name: RNG.normal(size=s).astype(np.float32) for name, s in shapes(layers).items()}
    state |= changed or {}
    state = {name: value for name, value in state.items() if value is not None}
    io.save(tmp_path / "alexnet.safetensors", state)
    return tmp_path / "alexnet.safetensors", state


def small(**shapes_of_some):
    """AlexNet's names with little behind the unused ones."""
    return {
        name: (2, 2) if name.startswith("classifier") else shape for name, shape in ALEXNET.items()
    } | shapes_of_some


@pytest.mark.parametrize("layers", [small(), dict(list(ALEXNET.items())[:4])])
def test_features_take_a_whole_state_dict_or_their_own(tmp_path, layers):
    path, state = saved(tmp_path, layers)
    features = AlexNetFeatures(convolutions=4)
    features.load(path)
    for name, value in features.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


BAD = {
    "missing": (
        {"features.6.bias": None}, FormatError,
        r"alexnet\.safetensors does not hold the weights of AlexNetFeatures: missing features\.6\.bias$",
    ),
    "extra": (
        {"features.11.weight": np.zeros(3)}, FormatError, r"unknown features\.11\.weight$",
    ),
    "misshaped": (
        {"features.3.weight": np.zeros((192, 64, 3, 3), np.float32)}, ShapeError,
        r"alexnet\.safetensors: features\.3\.weight must have shape \(192, 64, 5, 5\), "
        r"got \(192, 64, 3, 3\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "error", "message"), BAD.values(), ids=BAD)
def test_bad_state_dicts_are_named_and_nothing_changes(tmp_path, changed, error, message):
    path, _ = saved(tmp_path, small(), changed)
    features = AlexNetFeatures(convolutions=4)
    before = features.state_dict()
    with pytest.raises(error, match=message):
        features.load(path)
    for name, value in features.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_another_networks_file_gets_a_short_error(tmp_path):
    path = tmp_path / "other.safetensors"
    io.save(path, {f"layer{i}.weight": np.zeros(2, np.float32) for i in range(90)})
    with pytest.raises(FormatError, match=r"unknown layer0\.weight.* and 86 more$") as caught:
        AlexNetFeatures(4).load(path)
    assert "missing features.0.weight" in str(caught.value)
    assert "and 4 more" in str(caught.value)


def test_pth_files_where_pytorch_is_installed(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install torch==2.13.0")
    _, state = saved(tmp_path, small())
    path = tmp_path / "alexnet.pth"
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    features = AlexNetFeatures(convolutions=4)
    features.load(path)
    np.testing.assert_array_equal(features.features[3].bias.data, state["features.3.bias"])


def test_squeezenet_gives_the_known_answer(shared_data):
    folder = shared_data("models/squeezenet1_0")
    model = SqueezeNet(padding=1)
    model.load(folder / "squeezenet1_0.npz")
    assert sum(parameter.size for parameter in model.parameters()) == 1_248_424
    dog = np.load(folder / "dog_bgr_3x227x227_uint8.npy")[::-1]
    logits = model.eval()(imagenet_input(dog[np.newaxis]))[0].astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    known = np.load(folder / "dog_probabilities_1000.npy")
    np.testing.assert_allclose(probabilities, known, rtol=1e-4, atol=1e-6)
    names = (folder / "imagenet_classes.txt").read_text().splitlines()
    assert names[probabilities.argmax()] == "Samoyed"


def caffe_state():
    """All layers of the authors' model, tiny but for the first."""
    names = ["conv_final"]
    names += [
        f"fire{n}.{kind}" for n in range(2, 10) for kind in ("conv1x1_1", "conv1x1_2", "conv3x3_2")
    ]
    state = {}
    for name in names:
        state |= {f"{name}.weight": np.zeros((1, 1)), f"{name}.bias": np.zeros(1)}
    weight = RNG.normal(size=(96, 3, 7, 7)).astype(np.float32)
    bias = RNG.normal(size=96).astype(np.float32)
    return state | {"conv1.weight": weight, "conv1.bias": bias}


def test_the_authors_first_convolution_gives_the_same_on_our_input():
    state = caffe_state()
    ours = from_caffe(state)
    assert set(ours) == set(SqueezeNet().state_dict())
    images = RNG.integers(0, 256, (1, 3, 9, 9), dtype=np.uint8)
    theirs = images[:, ::-1].astype(np.float64) - np.array([104, 117, 123.0])[:, None, None]
    expected = pynn.ops.conv2d(
        np.ascontiguousarray(theirs),
        *(state[f"conv1.{k}"].astype(float) for k in ("weight", "bias")),
    )
    found = pynn.ops.conv2d(
        imagenet_input(images), ours["features.0.weight"], ours["features.0.bias"]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=0.05)  # of sums of about 1e4


def test_the_authors_model_without_its_first_convolution():
    state = caffe_state()
    del state["conv1.bias"]
    with pytest.raises(FormatError, match=r"mine\.npz: conv1 needs a weight .* and a bias"):
        from_caffe(state, "mine.npz")


def test_imagenet_input():
    images = RNG.integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    found = imagenet_input(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (images / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    grey = imagenet_input(images[:, :1])
    np.testing.assert_array_equal(grey, imagenet_input(np.repeat(images[:, :1], 3, axis=1)))
    with pytest.raises(DTypeError, match="uint8, got float32"):
        imagenet_input(found)
    with pytest.raises(ShapeError, match=r"got \(3, 4, 5\)"):
        imagenet_input(images[0])


def test_features_are_those_of_evaluation_and_modes_stay():
    trunk = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
    images = RNG.integers(0, 256, (40, 1, 6, 6), dtype=np.uint8)
    found = extract_features(trunk, images, prepare=lambda x: x / 255, batch_size=16)
    assert trunk.training
    assert trunk[2].training
    assert found.shape == (40, 64)
    np.testing.assert_allclose(found, trunk.eval()(images / 255), rtol=1e-6)


def test_a_frozen_trunk_trains_like_its_features():
    """The head learns the same from the network with the trunk frozen as from cached features."""
    images = RNG.normal(size=(32, 1, 6, 6)).astype(np.float32)
    labels = RNG.integers(0, 3, 32)
    results = []
    for cached in (True, False):
        pynn.manual_seed(1)
        trunk = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()).freeze()
        head = nn.Linear(64, 3)
        model = head if cached else nn.Sequential(trunk, head)
        x = extract_features(trunk, images) if cached else images
        step = pynn.compile(
            model, nn.CrossEntropyLoss(), pynn.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        )
        kept = trunk.state_dict()
        results.append([step(x, labels) for _ in range(10)])
        for name, value in trunk.state_dict().items():
            np.testing.assert_array_equal(value, kept[name])
    np.testing.assert_allclose(*results, rtol=1e-5)
