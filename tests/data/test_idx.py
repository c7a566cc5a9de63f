import gzip
import io
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pynn.data import read_idx, write_idx
from pynn.errors import DTypeError, FormatError, ShapeError

DTYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]


def idx(code, shape, data=b""):
    header = bytes([0, 0, code, len(shape)])
    return header + b"".join(size.to_bytes(4, "big") for size in shape) + data


def read_bytes(content, **options):
    return read_idx(io.BytesIO(content), **options)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(tmp_path, dtype, ending):
    array = (np.arange(24).reshape(2, 3, 4) * 7 - 80).astype(dtype)
    path = tmp_path / f"a{ending}"
    write_idx(path, array)
    assert path.read_bytes().startswith(b"\x1f\x8b") == (ending == ".gz")
    back = read_idx(path)
    assert back.dtype == dtype
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, array)
    back[0] = 0  # fresh and writable


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(d).newbyteorder(o) for d in DTYPES for o in "<>"]),
        hnp.array_shapes(min_dims=1, max_dims=8, min_side=0, max_side=3),
    )
)
def test_round_trip_of_anything(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("idx") / "a"
    for layout in (array, array.T, array[::-1]):
        write_idx(path, layout)
        np.testing.assert_array_equal(read_idx(path), layout)


def test_bytes_are_those_of_the_format(tmp_path):
    write_idx(tmp_path / "a", np.array([[1, -2, 3]], "<i2"))
    assert (tmp_path / "a").read_bytes() == bytes.fromhex(
        "00000b02 00000001 00000003 0001 fffe 0003"
    )


def test_equal_arrays_give_equal_gzip_files(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, np.arange(5, dtype=np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_gzip_is_known_by_its_bytes(tmp_path):
    packed = gzip.compress(idx(0x08, (2,), b"\1\2"))
    (tmp_path / "no-ending").write_bytes(packed)
    (tmp_path / "plain.gz").write_bytes(idx(0x08, (2,), b"\1\2"))
    for name in ("no-ending", "plain.gz"):
        np.testing.assert_array_equal(read_idx(tmp_path / name), [1, 2])


def test_gzip_of_several_members():
    content = idx(0x08, (4,), b"\1\2\3\4")
    np.testing.assert_array_equal(
        read_bytes(gzip.compress(content[:6]) + gzip.compress(content[6:])), [1, 2, 3, 4]
    )


def test_a_file_object_is_read_from_its_position():
    file = io.BytesIO(b"before" + idx(0x08, (2,), b"\1\2"))
    file.seek(6)
    np.testing.assert_array_equal(read_idx(file), [1, 2])


PACKED = gzip.compress(idx(0x08, (100,), bytes(range(100))))
REFUSED = {
    "empty": (b"", "0 bytes are too few"),
    "header_cut": (b"\0\0\x08", "3 bytes are too few"),
    "magic": (b"\0\1\x08\1\0\0\0\0", "starts with 00 01 08 01"),
    "png": (b"\x89PNG\r\n", "starts with 89 50 4e 47"),
    "type": (idx(0x0A, (1,), b"\0"), "unknown element type 0x0a"),
    "no_dims": (idx(0x08, (), b"\0"), "0 dimensions"),
    "many_dims": (idx(0x08, (1,) * 9, b"\0"), "9 dimensions"),
    "sizes_cut": (idx(0x08, (1, 1))[:-1], "header ends after 11 of 12 bytes"),
    "data_cut": (idx(0x0B, (2, 2), bytes(7)), "takes 8 bytes, found 7"),
    "data_missing": (idx(0x0E, (2**20,)), "found 0"),
    "trailing": (idx(0x08, (2,), bytes(3)), "data follows after the 2 bytes"),
    "over_limit": (idx(0x08, (2**31 + 1,)), "exceeds the limit of 2147483648"),
    "over_limit_by_itemsize": (idx(0x0E, (2**28 + 1,)), "exceeds the limit"),
    "product_overflows_64_bits": (idx(0x08, (2**31, 2**31, 4)), "exceeds the limit"),
    "product_of_zero_overflows": (idx(0x08, (0, 2**31, 2**31, 2**31)), "exceeds the limit"),
    "gzip_alone": (b"\x1f\x8b", "corrupt gzip"),
    "gzip_cut": (PACKED[:-12], "corrupt gzip"),
    "gzip_crc": (PACKED[:-8] + bytes(4) + PACKED[-4:], "corrupt gzip"),
    "gzip_length": (PACKED[:-4] + bytes(4), "corrupt gzip"),
    "gzip_method": (PACKED[:2] + b"\7" + PACKED[3:], "corrupt gzip"),
    "gzip_deflate": (PACKED[:10] + b"\xff" * 20, "corrupt gzip"),
    "gzip_garbage_behind": (PACKED + b"garbage", "corrupt gzip"),
    "gzip_trailing": (gzip.compress(idx(0x08, (2,), bytes(3))), "data follows"),
    "gzip_data_cut": (gzip.compress(idx(0x08, (4,), bytes(3))), "takes 4 bytes, found 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(tmp_path, name):
    content, message = REFUSED[name]
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_limit_is_an_argument():
    content = idx(0x0C, (5,), bytes(20))
    assert read_bytes(content, limit=20).shape == (5,)
    with pytest.raises(FormatError, match="exceeds the limit of 19 bytes"):
        read_bytes(content, limit=19)


@pytest.mark.parametrize(
    "content",
    [
        idx(0x08, (2**31 - 1,)),  # promises 2 GiB and has none
        gzip.compress(idx(0x08, (2**31 - 1,))),
        gzip.compress(idx(0x08, (10,), bytes(2**27))),  # promises 10 bytes and has 128 MiB
    ],
    ids=["plain", "gzip", "gzip_bomb"],
)
def test_false_sizes_cost_no_memory(content):
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            read_bytes(content)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


@pytest.mark.parametrize("dtype", ["int64", "uint16", "float16", "bool", "complex64", "object"])
def test_write_refuses_dtypes(tmp_path, dtype):
    with pytest.raises(DTypeError, match=dtype):
        write_idx(tmp_path / "a", np.zeros(3, dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(), (1,) * 9])
def test_write_refuses_shapes(tmp_path, shape):
    with pytest.raises(ShapeError, match="1 to 8 dimensions"):
        write_idx(tmp_path / "a", np.zeros(shape, np.uint8))


def test_mutated_files_are_read_or_refused():
    rng = random.Random(0)
    plain = idx(0x0B, (3, 4), bytes(range(24)))
    seeds = [plain, gzip.compress(plain), gzip.compress(plain[:9]) + gzip.compress(plain[9:])]
    refused = 0
    for _ in range(6000):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(content))
            match rng.randrange(4):
                case 0:
                    content[place] ^= 1 << rng.randrange(8)
                case 1:
                    content[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
                case 2:
                    del content[place : place + rng.randint(1, 8)]
                case 3:
                    content[place:place] = rng.randbytes(rng.randint(1, 8))
            content = content or bytearray(1)
        try:
            assert isinstance(read_bytes(bytes(content), limit=2**20), np.ndarray)
        except FormatError:
            refused += 1
    assert refused > 3000  # most of the mutations hurt
