"""Deterministic CBOR: one encoding per value, bounds before parsing (RFC 8949 section 4.2.1)."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewit_federation import cbor
from peewit_federation.cose import Sign1
from peewit_federation.errors import LimitError, MalformedError, SenderError

# RFC 8949 appendix A: those that the profile allows, and those that it refuses.
ALLOWED = [
    ("00", 0), ("17", 23), ("1818", 24), ("1864", 100), ("1903e8", 1000), ("1a000f4240", 1_000_000),
    ("1b000000e8d4a51000", 10**12), ("1bffffffffffffffff", 2**64 - 1), ("20", -1), ("3903e7", -1000),
    ("40", b""), ("4401020304", b"\x01\x02\x03\x04"), ("60", ""), ("62c3bc", "ü"), ("80", []),
    ("83010203", [1, 2, 3]), ("a0", {}), ("a201020304", {1: 2, 3: 4}), ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ("f4", False), ("f5", True), ("f6", None),
]  # fmt: skip
REFUSED = {
    "f90000": "a float",
    "fb3ff199999999999a": "a double",
    "f7": "undefined",
    "f0": "a simple value",
    "c249010000000000000000": "a bignum",
    "c11a514b67b0": "a tag",
    "5f42010243030405ff": "an indefinite byte string",
    "9fff": "an indefinite array",
    "bf61610161629f0203ffff": "an indefinite map",
    "1817": "a head that is too long",
    "190017": "a head that is too long",
    "1b0000000000000017": "a head that is too long",
    "a201020102": "a key twice",
    "a203040102": "keys out of order",
    "a2616201616101": "text keys out of order",
    "a20102616101": "keys of two types",
    "a1414101": "a byte string as a key",
    "a1800000": "an array as a key",
    "a12001": "a negative key",
    "0000": "a byte too many",
    "8201": "an array that ends early",
    "18": "a head that ends early",
    "": "nothing",
    "61ff": "text that is not UTF-8",
    "1c": "a reserved head",
    "ff": "a break",
}


@pytest.mark.parametrize(("data", "value"), ALLOWED)
def test_the_vectors_of_the_rfc_that_the_profile_allows(data: str, value: object) -> None:
    assert cbor.decode(bytes.fromhex(data)) == value
    assert cbor.encode(value).hex() == data


@pytest.mark.parametrize("data", REFUSED)
def test_every_other_form_is_refused(data: str) -> None:
    with pytest.raises(MalformedError):
        cbor.decode(bytes.fromhex(data))


def test_depth_and_size_and_counts_are_bounded_before_anything_is_made() -> None:
    cbor.decode(b"\x81" * 16 + b"\x00")
    for data in (
        b"\x81" * 17 + b"\x00",
        b"\x81" * 1_000_000,
        b"\x99\x27\x11" + b"\x00" * 10_001,
        b"\x99\x27\x10" + b"\x86\x00\x00\x00\x00\x00\x00" * 10_000,
    ):
        with pytest.raises(LimitError):
            cbor.decode(data)
    with pytest.raises(LimitError):
        cbor.decode(b"\x00" * 11, size_bytes_max=10)
    with pytest.raises(MalformedError):
        cbor.decode(b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff")


KEYS = st.integers(0, 2**64 - 1)
LEAVES = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.dictionaries(st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_every_value_has_one_encoding_and_comes_back(value: object) -> None:
    data = cbor.encode(value)
    assert cbor.decode(data) == value
    assert data == cbor2.dumps(value, canonical=True)


@given(st.binary(max_size=60))
def test_what_is_accepted_is_its_own_encoding_and_nothing_but_our_errors_is_raised(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except SenderError:
        return
    assert cbor.encode(value) == data


@given(VALUES, st.data())
def test_a_changed_byte_never_gives_the_same_value(value: object, choice: st.DataObject) -> None:
    data = bytearray(cbor.encode(value))
    at = choice.draw(st.integers(0, len(data) - 1))
    data[at] ^= choice.draw(st.integers(1, 255))
    try:
        changed = cbor.decode(bytes(data))
    except SenderError:
        return
    assert cbor.encode(changed) == bytes(data)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
def test_what_is_signed_is_the_encoding_of_the_array(size: int) -> None:
    """RFC 9052, section 4.4: Sig_structure, put together from its parts."""
    assert cbor.bytes_head(size) + bytes(size) == cbor.encode(bytes(size))
    for kid in (bytes(32), b"short"):
        signed = Sign1(kid, bytes(size), bytes(64))
        protected = cbor.encode({1: -8, 4: kid})
        assert signed._protected == protected
        assert signed._signed("purpose") == cbor.encode(["Signature1", protected, b"purpose", bytes(size)])
        assert Sign1.parse(signed.encode()) == signed
