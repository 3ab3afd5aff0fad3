"""Sealing to a public key (design 4.6)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PublicKey

from peewit_federation import sealed
from peewit_federation.errors import ForgeryError, LimitError, MalformedError
from peewit_federation.sealed import PLAINTEXT_BYTES_MAX, SIZE_CLASSES, SUITE, Context, open_sealed, seal, xwing_public
from tests.federation_kit import seed

MINE = seed("mine")
OFFER = Context("offer", seed("mailbox"), seed("key"), seed("salt"))


@pytest.mark.parametrize("size", [0, 1, 4092, 4093, 16_380, 16_381, PLAINTEXT_BYTES_MAX])
def test_what_is_sealed_opens_for_its_recipient(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert open_sealed(MINE, seal(xwing_public(MINE), data, OFFER), OFFER) == data


def test_the_length_of_a_sealed_message_tells_its_size_class_only() -> None:
    lengths = {len(seal(xwing_public(MINE), bytes(size), OFFER)) for size in (0, 1, 100, 4092)}
    assert lengths == {SIZE_CLASSES[0] + sealed.OVERHEAD_BYTES}


@pytest.mark.parametrize(
    "other",
    [
        Context("accept", OFFER.mailbox, OFFER.key_id, OFFER.salt),
        Context("offer", seed("another mailbox"), OFFER.key_id, OFFER.salt),
        Context("offer", OFFER.mailbox, seed("another key"), OFFER.salt),
        Context("offer", OFFER.mailbox, OFFER.key_id, seed("another area")),
        Context("offer", OFFER.mailbox + OFFER.key_id, b"", OFFER.salt),
    ],
)
def test_a_message_cannot_be_moved_to_another_mailbox_kind_key_or_area(other: Context) -> None:
    message = seal(xwing_public(MINE), b"hello", OFFER)
    with pytest.raises(ForgeryError):
        open_sealed(MINE, message, other)
    with pytest.raises(ForgeryError):
        open_sealed(seed("somebody else"), message, OFFER)


def test_a_changed_byte_anywhere_is_noticed() -> None:
    message = seal(xwing_public(MINE), b"hello", OFFER)
    for at in (0, 500, 1087, 1088, 1119, 1120, 3000, len(message) - 1):
        with pytest.raises(ForgeryError):
            open_sealed(MINE, message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :], OFFER)


@pytest.mark.parametrize("data", [b"", bytes(100), bytes(4096 + 1135), bytes(4096 + 1137), bytes(1 << 20)])
def test_messages_of_no_size_class_are_refused_unread(data: bytes) -> None:
    with pytest.raises(MalformedError):
        open_sealed(MINE, data, OFFER)


@pytest.mark.parametrize("padded", [b"\xff" * 4096, (5).to_bytes(4, "big").ljust(4096, b"\1"), bytes(16_384)])
def test_false_padding_is_refused(padded: bytes) -> None:
    lattice, curve = sealed._parts(MINE)
    key = MLKEM768X25519PublicKey(lattice.public_key(), curve.public_key())
    with pytest.raises(MalformedError):
        open_sealed(MINE, SUITE.encrypt(padded, key, info=OFFER.info()), OFFER)


def test_public_keys_are_those_of_the_x_wing_draft() -> None:
    """The first vector of draft-connolly-cfrg-xwing-kem: the first bytes of the key of this seed."""
    public = xwing_public(bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"))
    assert public.hex().startswith("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5")


def test_too_much_to_seal_and_bytes_that_are_no_key_are_refused() -> None:
    with pytest.raises(LimitError):
        seal(xwing_public(MINE), bytes(PLAINTEXT_BYTES_MAX + 1), OFFER)
    for public in (b"", bytes(1215), bytes(1217), b"\xff" * 1216):
        with pytest.raises(MalformedError):
            seal(public, b"", OFFER)
    with pytest.raises(MalformedError):
        xwing_public(b"short")
