"""Packed arrays: given back to the bit, smaller where they repeat, and checked before use."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contrastive_distillation.memory import pack, unpack

TABLE = "packed"
N_BYTES = 8192

_kinds = st.sampled_from(["?", "u1", "<i4", ">i4", "<i8", "<f2", "<f4", "<f8", "<c16"])
_shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.writeable


@settings(deadline=None)
@given(data=st.data())
def test_what_was_packed_comes_back_to_the_bit(data: st.DataObject) -> None:
    arrays = {}
    for index in range(data.draw(st.integers(0, 4))):
        array = data.draw(hnp.arrays(data.draw(_kinds), data.draw(_shapes)))
        if array.ndim and data.draw(st.booleans()):
            array = np.repeat(array, 2000, axis=0)  # long enough to be packed
        arrays[f"a/{index}"] = array
    assert_same(unpack(pack(arrays)), arrays)


def test_what_repeats_is_small_and_what_does_not_is_left_as_it_is() -> None:
    rng = np.random.default_rng(0)
    repeating = rng.integers(0, 11, (8, 7, 7, 3), dtype=np.uint8)[rng.integers(0, 8, 30_000)]
    random = rng.normal(size=100_000)
    begins_alike = np.concatenate([np.zeros(1 << 17), rng.normal(size=1 << 18)])
    arrays = {"grid": repeating, "noise": random, "late": begins_alike, "few": np.zeros(10)}
    found = pack(arrays)
    assert found.keys() == {*arrays, TABLE}
    assert found["grid"].dtype == np.uint8 and found["grid"].nbytes < repeating.nbytes / 10
    for name in ("noise", "late", "few"):
        assert found[name].tobytes() == arrays[name].tobytes()
    assert_same(unpack(found), arrays)


def test_what_takes_several_pieces() -> None:
    rng = np.random.default_rng(0)
    arrays = {"few": rng.integers(0, 3, 1 << 20, dtype=np.int32), "one": np.zeros(1 << 25)}
    found = pack(arrays)
    assert found["few"].nbytes > 1 << 17 and found["one"].nbytes > 1 << 17
    assert_same(unpack(found), arrays)
    for name in arrays:
        for longer in (found[name][:-1], np.concatenate([found[name], found[name]])):
            with pytest.raises(ValueError, match=f"'{name}' cannot be unpacked"):
                unpack({**found, name: longer})


def test_columns_that_lie_apart_in_memory() -> None:
    rows = np.arange(40_000).reshape(200, 200) // 1000
    arrays = {"turned": rows.T, "every other": rows[::2, ::3]}
    assert TABLE in pack(arrays)
    assert_same(unpack(pack(arrays)), arrays)


def test_nothing_is_packed_that_was_never_packed() -> None:
    plain = {"rewards": np.arange(3.0)}
    assert_same(pack(plain), plain)
    assert_same(unpack(plain), plain)


def test_the_tables_name_is_taken() -> None:
    with pytest.raises(ValueError, match="an array is named 'packed'"):
        pack({TABLE: np.zeros(3)})


def tabled(entry: object, name: str = "a") -> np.ndarray:
    return np.frombuffer(json.dumps({name: entry}).encode(), dtype=np.uint8)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (tabled(["<i8", [1024]], name="b"), "'b' is missing"),
        (tabled(["<i8", [1024]], name="b\n\x1b[31m\ud800"), r"'b\\n\\x1b\[31m\\ud800' is missing"),
        (tabled(["<i8", [1023]]), "'a' cannot be unpacked: it holds more than the 8184 bytes"),
        (tabled(["<i8", [1025]]), "'a' cannot be unpacked: it does not hold the 8200 bytes"),
        (tabled(["<i8", []]), "it holds more than the 8 bytes"),
        (tabled(["<i8", [1024, 1000]]), "bytes do not hold its shape"),
        (tabled(["<i8", [10**12]]), "its shape must be at most 64 sizes from 1 to"),
        (tabled(["<i8", [int("9" * 4000)] * 2000]), "its shape must be at most 64 sizes from 1 to"),
        (tabled(["<i8", [1] * 65]), "its shape must be at most 64 sizes from 1 to"),
        (tabled(["<i8", [0]]), "its shape must be"),
        (tabled(["<i8", [-1024]]), "its shape must be"),
        (tabled(["<i8", [True, 1024]]), "its shape must be"),
        (tabled(["<i8", ["1024"]]), "its shape must be"),
        (tabled(["|O8", [1024]]), "its dtype must be one of <f2, "),
        (tabled([">i8", [1024]]), "its dtype must be one of <f2, "),  # as in no safetensors file
        (tabled(["<f1", [8192]]), "its dtype must be one of <f2, "),
        (tabled(["<i8,<i8", [512]]), "its dtype must be one of <f2, "),
        (tabled([8, [1024]]), "does not tell its dtype and shape"),
        (tabled(["<i8", 1024]), "does not tell its dtype and shape"),
        (tabled(["<i8", [1024], 0]), "does not tell its dtype and shape"),
        (tabled("<i8"), "does not tell its dtype and shape"),
        (np.frombuffer(b"[1]", dtype=np.uint8), "packed is a list, not a table"),
        (np.frombuffer(b"{", dtype=np.uint8), "packed cannot be read"),
        (np.frombuffer(b"\xff", dtype=np.uint8), "packed cannot be read"),
        (np.frombuffer(b"[" * 100_000, dtype=np.uint8), "packed cannot be read"),
        (np.zeros(3), "packed is of dtype float64"),
        (np.zeros((1, 1), dtype=np.uint8), r"packed is of dtype uint8 and shape \(1, 1\)"),
    ],
)
def test_tables_that_say_something_else(table: np.ndarray, message: str) -> None:
    arrays = pack({"a": np.zeros(N_BYTES // 8, dtype=np.int64)})
    assert TABLE in arrays
    with pytest.raises(ValueError, match=message) as error:
        unpack({**arrays, TABLE: table})
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[:-1],
        lambda a: np.concatenate([a, a[:1]]),
        lambda a: a.astype(np.int32),
        lambda a: a.reshape(1, -1),
        lambda a: a[:0],
        lambda a: np.frombuffer(zlib.compress(bytes(10 * N_BYTES), wbits=31), dtype=np.uint8),
    ],
)
def test_bytes_that_are_not_what_was_packed(change) -> None:
    arrays = pack({"a": np.zeros(N_BYTES, dtype=np.uint8)})
    with pytest.raises(ValueError, match="'a' cannot be unpacked"):
        unpack({**arrays, "a": change(arrays["a"])})


@settings(max_examples=1000)
@given(where=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(where: int, bit: int) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 4, N_BYTES, dtype=np.uint8)
    arrays = pack({"a": array})
    assert TABLE in arrays
    broken = arrays["a"].copy()
    broken[where % len(broken)] ^= 1 << bit
    try:
        found = unpack({**arrays, "a": broken})
    except ValueError as error:
        assert "'a' cannot be unpacked" in str(error)
    else:  # in bits that say how it was packed
        assert found["a"].tobytes() == array.tobytes()
