import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pynn import nn
from pynn.errors import DTypeError, FormatError
from pynn.io import load, load_metadata, safetensors, save

DTYPES = (
    ["float64", "float32", "float16", "bool"]
    + [f"int{bits}" for bits in (8, 16, 32, 64)]
    + [f"uint{bits}" for bits in (8, 16, 32, 64)]
)
ARRAYS = hnp.arrays(
    st.sampled_from([np.dtype(d).newbyteorder(o) for d in DTYPES for o in "<>"]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def file_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def check_equal(got, expected):
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype.newbyteorder("=")
        assert got[name].dtype.isnative
        assert got[name].flags.c_contiguous
        assert got[name].flags.writeable
        np.testing.assert_array_equal(got[name], array)
        assert got[name].shape == array.shape


@given(st.dictionaries(NAMES, ARRAYS, max_size=6), st.dictionaries(NAMES, NAMES, max_size=3))
def test_round_trip(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.mktemp("safetensors") / "file"
    save(path, tensors, metadata)
    check_equal(load(path), tensors)
    assert load_metadata(path) == metadata


@pytest.mark.parametrize("dtype", DTYPES)
def test_package_reads_what_pynn_writes(tmp_path, dtype):
    package = pytest.importorskip("safetensors.numpy", reason="needs the safetensors package")
    values = np.array([[0, 1, 2], [3, 100, 1]]).astype(dtype)
    tensors = {"a.weight": values, "empty": values[:0], "scalar": values[1, 1].reshape(())}
    tensors |= {"byte": np.arange(3, dtype=np.uint8), "transposed": values.T, "z": values[:, ::2]}
    path = tmp_path / "file"
    save(path, tensors, {"epoch": "3", "Ünïcode": "日本"})
    back = package.load_file(path)
    check_equal({name: back[name] for name in tensors}, tensors)
    with pytest.importorskip("safetensors").safe_open(path, "numpy") as opened:
        assert opened.metadata() == {"epoch": "3", "Ünïcode": "日本"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_pynn_reads_what_the_package_writes(tmp_path, dtype):
    package = pytest.importorskip("safetensors.numpy", reason="needs the safetensors package")
    values = np.array([[0, 1, 2], [3, 100, 1]]).astype(dtype)
    tensors = {"a.weight": values, "empty": values[:0].copy(), "byte": np.arange(3, dtype=np.uint8)}
    path = tmp_path / "file"
    package.save_file(tensors, path, {"epoch": "3"})
    back = load(path)
    check_equal({name: back[name] for name in tensors}, tensors)
    assert load_metadata(path) == {"epoch": "3"}


def test_tensors_are_aligned(tmp_path):
    tensors = {"a": np.ones(3, np.uint8), "b": np.ones(1, np.float64), "c": np.ones(3, np.float16)}
    tensors["d"] = np.ones(5, np.int32)
    save(tmp_path / "file", tensors)
    content = (tmp_path / "file").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    for name, entry in json.loads(content[8 : 8 + length]).items():
        assert entry["data_offsets"][0] % tensors[name].itemsize == 0


def test_nothing_to_save(tmp_path):
    save(tmp_path / "file", {})
    assert load(tmp_path / "file") == {}
    assert load_metadata(tmp_path / "file") == {}


DATA = bytes(8)
HUGE = 2**62


def test_bfloat16_is_read_as_float32(tmp_path):
    values = np.array([[1.0, -2.5, np.inf], [-0.0, 2.0**-133, 3.0e38]], np.float32)
    stored = (values.view(np.uint32) >> 16).astype("<u2")
    path = tmp_path / "file"
    path.write_bytes(file_of({"a": tensor("BF16", (2, 3), (0, 12))}, stored.tobytes()))
    back = load(path)["a"]
    expected = (stored.astype(np.uint32) << 16).view(np.float32)
    check_equal({"a": back}, {"a": expected})
    np.testing.assert_allclose(back, values, rtol=2.0**-7)
    assert np.isnan(load_bfloat16(tmp_path, 0x7FC0))


def load_bfloat16(folder, bits):
    path = folder / "one"
    path.write_bytes(file_of({"a": tensor("BF16", (), (0, 2))}, bits.to_bytes(2, "little")))
    return load(path)["a"]


REFUSED = {
    "empty": (b"", "0 bytes are too few"),
    "length_cut": (bytes(7), "7 bytes are too few"),
    "no_header": (bytes(8), "not a JSON object"),
    "length_over_limit": ((2**24 + 1).to_bytes(8, "little"), "exceeds the limit of 16777216"),
    "length_over_64_bits": (b"\xff" * 8, "exceeds the limit"),
    "length_over_file": ((100).to_bytes(8, "little") + b"{}", "does not fit in a file of 10"),
    "not_json": (file_of(b"{nonsense"), "not valid JSON"),
    "leading_space": (file_of(b" {}"), "not a JSON object"),
    "list": (file_of(b"[]"), "not a JSON object"),
    "number": (file_of(b"1"), "not a JSON object"),
    "two_objects": (file_of(b"{}{}"), "not valid JSON"),
    "not_utf8": (file_of(b'{"\xff": 1}'), "not valid JSON"),
    "utf16": (file_of("{}".encode("utf-16-le")), "not valid JSON"),
    "surrogate": (file_of(b'{"__metadata__": {"a": "\\ud800"}}'), "not valid JSON"),
    "deep": (file_of(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "not valid JSON"),
    "long_number": (file_of(b'{"a": ' + b"1" * 5000 + b"}"), "not valid JSON"),
    "nan": (file_of(b'{"a": NaN}'), "NaN is not JSON"),
    "duplicate": (file_of(b'{"a": 1, "a": 1}'), "occurs twice"),
    "duplicate_inside": (file_of(b'{"a": {"dtype": "U8", "dtype": "U8"}}'), "occurs twice"),
    "metadata_list": (file_of({"__metadata__": []}), "map text to text"),
    "metadata_number": (file_of({"__metadata__": {"a": 1}}), "map text to text"),
    "entry_list": (file_of({"a": []}), "must have dtype, shape and data_offsets"),
    "entry_lacks": (file_of({"a": {"dtype": "U8", "shape": []}}), "must have dtype"),
    "entry_more": (file_of({"a": tensor(extra=1)}, DATA), "and no more"),
    "float8": (file_of({"a": tensor("F8_E4M3", (8,))}, DATA), "'a' has the dtype 'F8_E4M3', which"),
    "dtype_list": (file_of({"a": tensor([])}, DATA), "has the dtype"),
    "dtype_lower": (
        file_of({"a": tensor("f32")}, DATA),
        "'f32', which is not one of those that pynn reads: F64, F32",
    ),
    "shape_number": (file_of({"a": {**tensor(), "shape": 2}}, DATA), "not a list of sizes"),
    "shape_negative": (file_of({"a": tensor(shape=(-1, -2))}, DATA), "not a list of sizes"),
    "shape_float": (file_of({"a": tensor(shape=(2.0,))}, DATA), "not a list of sizes"),
    "shape_bool": (file_of({"a": tensor(shape=(True, 2))}, DATA), "not a list of sizes"),
    "shape_text": (file_of({"a": tensor(shape=("2",))}, DATA), "not a list of sizes"),
    "shape_65_bits": (file_of({"a": tensor(shape=(2**64,))}, DATA), "not a list of sizes"),
    "shape_long": (file_of({"a": tensor(shape=(1,) * 65)}, DATA), "65 dimensions, more than 64"),
    "shape_overflows": (file_of({"a": tensor(shape=(HUGE, 4))}, DATA), "is too large"),
    "shape_overflows_to_8": (file_of({"a": tensor("U8", (2**63 - 1, 8))}, DATA), "is too large"),
    "shape_zero_overflows": (file_of({"a": tensor(shape=(0, HUGE, HUGE))}, DATA), "is too large"),
    "shape_larger": (file_of({"a": tensor(shape=(3,))}, DATA), "takes 12 bytes, but"),
    "shape_smaller": (file_of({"a": tensor(shape=())}, DATA), "takes 4 bytes, but"),
    "offsets_reversed": (file_of({"a": tensor(offsets=(8, 0))}, DATA), "are 8..0"),
    "offsets_negative": (file_of({"a": tensor(offsets=(-8, 0))}, DATA), "are not two positions"),
    "offsets_float": (file_of({"a": tensor(offsets=(0.0, 8))}, DATA), "are not two positions"),
    "offsets_three": (file_of({"a": tensor(offsets=(0, 4, 8))}, DATA), "are not two positions"),
    "starts_late": (file_of({"a": tensor(offsets=(1, 9))}, bytes(9)), "starts at byte 1 of"),
    "hole": (
        file_of({"a": tensor(), "b": tensor(offsets=(9, 17))}, bytes(17)),
        "'b' starts at byte 9 of the data, but tensor 'a' ends at 8",
    ),
    "overlap": (
        file_of({"b": tensor(offsets=(4, 12)), "a": tensor()}, bytes(12)),
        "'b' starts at byte 4 of the data, but tensor 'a' ends at 8",
    ),
    "same_bytes": (file_of({"a": tensor(), "b": tensor()}, DATA), "starts at byte 0"),
    "data_cut": (file_of({"a": tensor()}, DATA[:-1]), "take 8 bytes, but the file holds 7"),
    "huge_and_missing": (
        file_of({"a": tensor("U8", (HUGE,), (0, HUGE))}),
        "but the file holds 0",
    ),
    "trailing": (file_of({"a": tensor()}, bytes(9)), "take 8 bytes, but the file holds 9"),
    "data_of_nothing": (file_of({}, b"x"), "take 0 bytes, but the file holds 1"),
    "bool_of_two": (file_of({"a": tensor("BOOL", (2,), (0, 2))}, b"\1\2"), "neither 0 nor 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(tmp_path, name):
    content, message = REFUSED[name]
    path = tmp_path / "some-file"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError) as caught:
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_messages_stay_short(tmp_path):
    (tmp_path / "file").write_bytes(file_of({"a" * 10**6: []}))
    with pytest.raises(FormatError) as caught:
        load(tmp_path / "file")
    assert len(str(caught.value)) < 1000


def test_order_in_the_header_is_free(tmp_path):
    header = {"b": tensor("U8", (1,), (2, 3)), "none": tensor("F64", (0,), (2, 2))}
    header["a"] = tensor("U8", (2,), (0, 2))
    (tmp_path / "file").write_bytes(file_of(header, b"\1\2\3"))
    back = load(tmp_path / "file")
    assert list(back) == ["b", "none", "a"]
    assert (back["a"].tolist(), back["b"].tolist()) == ([1, 2], [3])


def test_mutated_files_are_read_or_refused(tmp_path):
    rng = random.Random(0)
    path = tmp_path / "file"
    tensors = {"a": np.arange(6.0).reshape(2, 3), "flag": np.array([True, False])}
    save(path, tensors | {"n": np.arange(4, dtype=np.int16)}, {"epoch": "1"})
    original = path.read_bytes()
    length = int.from_bytes(original[:8], "little")
    refused = 0
    for _ in range(3000):
        content = bytearray(original)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(8 + length if rng.random() < 0.9 else len(content))
            place = min(place, len(content) - 1)
            match rng.randrange(4):
                case 0:
                    content[place] ^= 1 << rng.randrange(8)
                case 1:
                    content[place] = rng.choice(b'0123456789-.eE"[]{},: \\tn')
                case 2:
                    del content[place : place + rng.randint(1, 8)]
                case 3:
                    other = rng.randrange(8, 8 + length)
                    content[place:place] = original[other : other + rng.randint(1, 20)]
            if rng.random() < 0.5 and len(content) >= len(original) - 8:
                fixed = max(len(content) - (len(original) - 8 - length) - 8, 0)
                content[:8] = fixed.to_bytes(8, "little")  # so that the JSON is reached
        path.write_bytes(content)
        try:
            back = load(path)
        except FormatError:
            refused += 1
        else:
            save(path, back)  # what can be read can be written
            check_equal(load(path), back)
    assert 1500 < refused < 3000


@pytest.mark.parametrize("dtype", ["complex64", "object", "<U3", "datetime64[s]", "longdouble"])
def test_save_refuses_dtypes(tmp_path, dtype):
    with pytest.raises(DTypeError, match="tensor 'a': safetensors has no dtype"):
        save(tmp_path / "file", {"a": np.zeros(2, dtype)})
    assert list(tmp_path.iterdir()) == []


def test_save_refuses_masks(tmp_path):
    with pytest.raises(DTypeError, match="tensor 'a' must not be a masked array"):
        save(tmp_path / "file", {"a": np.ma.masked_array([1.0, 2.0], [True, False])})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        ({1: np.zeros(1)}, None, TypeError, "tensor names must be str, got 1"),
        ({"__metadata__": np.zeros(1)}, None, ValueError, "reserved"),
        ({}, {"a": 1}, TypeError, "metadata must map str to str, got 'a': 1"),
        ({}, {1: "a"}, TypeError, "metadata must map str to str"),
        ({"\ud800": np.zeros(1)}, None, ValueError, "surrogates"),
        ({"a" * 2**24: np.zeros(1)}, None, ValueError, "the header takes"),
    ],
)
def test_save_refuses_names(tmp_path, tensors, metadata, error, message):
    with pytest.raises(error, match=message):
        save(tmp_path / "file", tensors, metadata)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("swapped", [nn.Linear(2, 2), "file", [np.zeros(1)]])
def test_save_refuses_what_has_no_names(tmp_path, swapped):
    with pytest.raises(
        TypeError, match=r"arrays by name, such as model\.state_dict\(\), got [Lsl]"
    ):
        save(tmp_path / "file", swapped)
    assert list(tmp_path.iterdir()) == []


OLD = {"a": np.arange(3.0)}


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch, function):
    path = tmp_path / "file"
    save(path, OLD)

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OSError, match="No space left"):
            save(path, {"a": np.zeros(1000)})
    assert list(tmp_path.iterdir()) == [path]
    check_equal(load(path), OLD)


def test_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    save(path, OLD)

    def interrupt(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(path, {"a": np.zeros(1000)})
    assert list(tmp_path.iterdir()) == [path]
    check_equal(load(path), OLD)


def test_unwritable_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot write in folder") as caught:
        save(tmp_path / "none" / "file", OLD)
    assert str(tmp_path / "none") in str(caught.value)
    (tmp_path / "plain").write_text("")
    with pytest.raises(NotADirectoryError, match="cannot write in folder"):
        save(tmp_path / "plain" / "file", OLD)
    with pytest.raises(OSError, match="not a regular file"):
        save(tmp_path, OLD)
    with pytest.raises(OSError, match="not a regular file"):
        save(os.devnull, OLD)
    assert not os.path.isfile(os.devnull)


def test_forbidden_folder(tmp_path, monkeypatch):
    def forbid(path, mode):  # permissions do not bind a test that runs as root
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("pynn.io.atomic.open", forbid, raising=False)
    with pytest.raises(PermissionError, match="cannot write in folder") as caught:
        save(tmp_path / "file", OLD)
    assert str(tmp_path / "file") in str(caught.value)


def test_symbolic_links_stay(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "runs" / "file")
    save(tmp_path / "link", OLD)
    assert (tmp_path / "link").is_symlink()
    check_equal(load(tmp_path / "runs" / "file"), OLD)


def test_saved_files_have_ordinary_permissions(tmp_path):
    save(tmp_path / "file", OLD)
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


WRITER = """
import sys
import numpy as np
from pynn.io import save

for count in range(10**9):
    save(sys.argv[1], {"a": np.full(200_000, count), "b": np.full(200_000, count)})
    print(count, flush=True)
"""


def test_killed_while_writing(tmp_path):
    path = tmp_path / "file"
    rng = random.Random(0)
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout.readline() == "0\n"
            time.sleep(rng.uniform(0.0, 0.05))
            writer.send_signal(signal.SIGKILL)
        back = load(path)
        assert back["a"].shape == (200_000,)
        assert (back["a"] == back["a"][0]).all()
        assert (back["b"] == back["a"][0]).all()


def test_dtypes_are_those_of_the_format():
    names = "F64 F32 F16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL"
    assert " ".join(safetensors._DTYPES) == names
