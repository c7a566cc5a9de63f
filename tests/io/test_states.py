import io as bytes_io
import pickle
import sys
import zipfile

import numpy as np
import pytest

from pynn import io
from pynn.errors import FormatError, MissingExtraError
from pynn.io.npz import read_npz

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(2.5),
}


def check(found):
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].dtype.isnative


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    check(io.load_state(tmp_path / "a.npz"))


def test_safetensors_and_other_endings(tmp_path):
    io.save(tmp_path / "a.safetensors", ARRAYS)
    check(io.load_state(tmp_path / "a.safetensors"))
    with pytest.raises(ValueError, match=r"a\.onnx: weights are read from \.safetensors"):
        io.load_state(tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError):
        io.load_state(tmp_path / "b.npz")


def npy(header, data=b""):
    text = f"{header}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def zipped(**entries):
    buffer = bytes_io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("_npy", ".npy"), content)
    return buffer.getvalue()


def plain(array):
    buffer = bytes_io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def damaged(compression):
    buffer = bytes_io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("a.npy", plain(np.arange(100.0)))
    content = buffer.getvalue()
    return content[:60] + b"\xff" * 20 + content[80:]


GOOD = zipped(a_npy=plain(np.arange(100.0)))
FLOATS = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"
BAD = {
    "no_zip": b"\x93NUMPY",
    "cut": GOOD[:-30],
    "damaged": GOOD[:60] + b"\xff" * 20 + GOOD[80:],
    "not_npy": zipped(readme=b"text"),
    "no_magic": zipped(a_npy=b"abc"),
    "no_literal": zipped(a_npy=npy("{'descr': open('/etc/passwd')")),
    "objects": zipped(a_npy=npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"x" * 8)),
    "pickled": zipped(a_npy=plain(np.zeros(2)) [:-16] + pickle.dumps([1])),
    "huge_shape": zipped(a_npy=npy(FLOATS % "(1000000000000, 1000000000)")),
    "negative": zipped(a_npy=npy(FLOATS % "(-1, -8)", bytes(64))),
    "too_short": zipped(a_npy=npy(FLOATS % "(3,)", bytes(16))),
    "too_long": zipped(a_npy=npy(FLOATS % "(3,)", bytes(32))),
    "version_9": zipped(a_npy=b"\x93NUMPY\x09\x00" + bytes(20)),
    "no_size": zipped(a_npy=npy("{'descr': '|V0', 'fortran_order': False, 'shape': (2,), }")),
    "name": zipped(a_npy=plain(np.zeros(2))).replace(b"a.npy", b"\xc3\xc3npy").replace(
        b"PK\x03\x04\x14\x00\x00\x00", b"PK\x03\x04\x14\x00\x00\x08"
    ).replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x08"),
    "lzma": damaged(zipfile.ZIP_LZMA),
    "bzip2": damaged(zipfile.ZIP_BZIP2),
}  # fmt: skip


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_bad_npz_files_are_named(tmp_path, content):
    (tmp_path / "weights.npz").write_bytes(content)
    with pytest.raises(FormatError, match=r"weights\.npz: not a valid \.npz file: ."):
        read_npz(tmp_path / "weights.npz")


def test_npz_limit(tmp_path):
    (tmp_path / "a.npz").write_bytes(zipped(a_npy=plain(np.zeros(100_000))))
    with pytest.raises(FormatError, match="800128 bytes exceed the limit of 5000"):
        read_npz(tmp_path / "a.npz", limit=5000)


def test_pth(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install torch==2.13.0")
    path = tmp_path / "a.pth"
    torch.save(
        {"a": torch.arange(6.0).reshape(2, 3).T, "half": torch.ones(2, dtype=torch.bfloat16)}, path
    )
    found = io.load_state(path)
    np.testing.assert_array_equal(found["a"], np.arange(6.0).reshape(2, 3).T)
    assert found["half"].tolist() == [1, 1]
    torch.save({"epoch": 3, "model": {"a": torch.ones(1)}}, path)
    with pytest.raises(FormatError, match=r"a\.pth: not a state dict"):
        io.load_state(path)
    for tensor, kind in (
        (torch.ones(2).to(torch.float8_e4m3fn), r"torch\.float8_e4m3fn, torch\.strided"),
        (torch.eye(2).to_sparse(), r"torch\.float32, torch\.sparse_coo"),
        (torch.ones(2, device="meta"), r"torch\.float32, torch\.strided"),
    ):
        torch.save({"odd": tensor}, path)
        with pytest.raises(FormatError, match=rf"a\.pth: the tensor 'odd' \({kind}\) is no array"):
            io.load_state(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError, match=r"a\.pth: PyTorch reads no weights from it"):
        io.load_state(path)


class Harmful:
    def __reduce__(self):
        return eval, ("open('harm', 'w')",)


def test_pth_runs_no_code(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install torch==2.13.0")
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Harmful()}, tmp_path / "a.pth")
    with pytest.raises(FormatError, match=r"a\.pth: PyTorch reads no weights"):
        io.load_state(tmp_path / "a.pth")
    assert not (tmp_path / "harm").exists()


def test_pth_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"a\.pth: only PyTorch reads such files"):
        io.load_state(tmp_path / "a.pth")
