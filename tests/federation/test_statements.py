"""Statements: round trips, bounds, no personal data, and the signatures of carried ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peewit_federation import cbor
from peewit_federation.cose import Sign1
from peewit_federation.errors import ForgeryError, LimitError, MalformedError
from peewit_federation.keys import PublicKey, SigningKey
from peewit_federation.log.checkpoint import Checkpoint, log_key, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.proofs import consistency_proof, leaf_source
from peewit_federation.statements.carried import (
    CLOSE_PURPOSE,
    DEVICE_PURPOSE,
    Close,
    Device,
    Evidence,
    evidence_of,
    open_carried,
    sign_close,
)
from peewit_federation.statements.codec import (
    GROUP,
    NODE_URL,
    POSTCODE,
    POSTCODE_PREFIX,
    SERVICE,
    Text,
    Type,
    walk_types,
)
from peewit_federation.statements.draw import DrawKey, TokenCount, TokenKey
from peewit_federation.statements.kinds import ALL_KINDS, MEDIATOR_KINDS, OPERATOR_KINDS, check_entry, read_entry
from peewit_federation.statements.mediator import Issuer, Revocation
from peewit_federation.statements.operator import CharterNotice, Node, Withdrawal
from tests.federation_kit import TestMediator, catchment, provider, seed

ALLOWED_TEXTS = {SERVICE, POSTCODE, POSTCODE_PREFIX, GROUP, NODE_URL}
SAMPLES = [
    Node("https://north.example", bytes(32), (1,)),
    TestMediator("m").admission("1", "20"),
    Withdrawal(bytes(32)),
    TokenKey(7, bytes(256)),
    TokenKey(7, bytes(384), "over80"),
    DrawKey(7, bytes(32), 3, bytes(32)),
    TokenCount(7, 50, "over80"),
    CharterNotice(1, bytes(32)),
    catchment("a", "10115", "10117"),
    provider("p", catchment("a", "10115")),
    Issuer(1, 0, 0, 10, (), 7, bytes(91)),
    Revocation(17, bytes(32), 1, bytes(16)),
    Device(bytes(32), bytes(32), bytes(32), bytes(1216)),
    Close(bytes(32), bytes(32), bytes(32), 7, bytes(32)),
]


@pytest.mark.parametrize("kind", ALL_KINDS.values(), ids=lambda kind: kind.__name__)
def test_no_kind_has_a_field_that_could_carry_personal_data(kind: type) -> None:
    """Names, addresses, telephone numbers, free text: every text is of a short list, every byte string is bounded."""

    def visit(name: str, found: Type) -> None:
        if isinstance(found, Text):
            assert found in ALLOWED_TEXTS, f"{kind.__name__}.{name} is a text outside the allow-list"

    walk_types(kind, visit)


@pytest.mark.parametrize("statement", SAMPLES, ids=lambda s: type(s).__name__)
def test_every_kind_comes_back_from_its_encoding(statement: object) -> None:
    data = statement.encode()  # type: ignore[attr-defined]
    assert type(statement).decode(data) == statement  # type: ignore[attr-defined]


def test_unknown_fields_kinds_and_versions_are_ignored_and_malformed_ones_too() -> None:
    fields = cbor.decode(Withdrawal(bytes(32)).encode())
    assert read_entry(cbor.encode({**fields, 99: "later"}), OPERATOR_KINDS) == Withdrawal(bytes(32))
    assert read_entry(cbor.encode({**fields, 1: 2}), OPERATOR_KINDS) is None
    assert read_entry(cbor.encode({**fields, 0: 77}), OPERATOR_KINDS) is None
    assert read_entry(Withdrawal(bytes(32)).encode(), MEDIATOR_KINDS) is None
    with pytest.raises(MalformedError):
        check_entry(Withdrawal(bytes(32)).encode(), MEDIATOR_KINDS)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(provider("p"), services=("flu", "Dr. Example")),
        replace(provider("p"), services=("covid", "flu", "covid")),
        replace(provider("p"), version=2**31),
        replace(provider("p"), status=2),
        replace(provider("p"), signing_key=bytes(31)),
        replace(catchment("a", "10115"), postcodes=("1011x",)),
        replace(catchment("a", "10115"), area=bytes(17)),
        Node("ftp://north.example", bytes(32), (1,)),
        Node("https://user@north.example", bytes(32), (1,)),
        replace(provider("p"), after=tuple(sorted(seed(n) for n in range(65)))),
    ],
)
def test_values_out_of_bounds_are_neither_written_nor_read(wrong: object) -> None:
    with pytest.raises(MalformedError):
        wrong.encode()  # type: ignore[attr-defined]


def test_an_entry_that_would_not_fit_into_a_log_is_refused() -> None:
    from peewit_federation.statements.operator import Carried

    with pytest.raises((LimitError, MalformedError)):
        Carried(bytes(65_530)).encode()


def test_a_device_statement_needs_both_signatures_and_binds_only_its_mediator() -> None:
    mediator = TestMediator("m")
    data = mediator.device()
    assert isinstance(open_carried(data), Device)
    envelope = Sign1.parse(data)
    for broken in (
        replace(envelope, signature=bytes(64)),
        replace(envelope, countersignature=bytes(64)),
        replace(envelope, countersignature=b""),
        replace(envelope, kid=bytes(32)),
        replace(envelope, payload=envelope.payload[:-1] + b"\x01"),
    ):
        with pytest.raises((ForgeryError, MalformedError)):
            open_carried(broken.encode())
    with pytest.raises(ForgeryError):
        envelope.verify(CLOSE_PURPOSE, PublicKey(mediator.root.public))
    envelope.verify(DEVICE_PURPOSE, PublicKey(mediator.root.public))


def test_a_close_signed_by_another_key_or_with_a_countersignature_is_refused() -> None:
    root, thief = SigningKey(seed("root")), SigningKey(seed("thief"))
    close = Close(bytes(32), root.public, bytes(32), 5, bytes(32))
    assert open_carried(sign_close(close, root)) == close
    with pytest.raises(ForgeryError):
        open_carried(sign_close(close, thief))
    doubled = Sign1.parse(sign_close(close, root)).countersigned(CLOSE_PURPOSE, thief)
    with pytest.raises(MalformedError):
        open_carried(doubled.encode())


def forked(key: SigningKey, size_a: int, size_b: int) -> Evidence:
    name = log_key(key.public).name
    a = [leaf_hash(b"a%d" % n) for n in range(size_a)]
    b = [leaf_hash(b"b%d" % n) for n in range(size_b)]
    heads = [sign_checkpoint(Checkpoint(name, len(part), root_of(part)), key) for part in (a, b)]
    path = consistency_proof(size_a, size_b, leaf_source(b))
    return evidence_of(key.public, heads[0], heads[1], root_of(b[:size_a]), path)


@pytest.mark.parametrize(("size_a", "size_b"), [(1, 1), (1, 2), (3, 7), (8, 8), (4, 300)])
def test_evidence_of_a_fork_verifies_for_anyone(size_a: int, size_b: int) -> None:
    evidence = forked(SigningKey(seed("thief")), size_a, size_b)
    assert open_carried(evidence.encode()) == evidence


def test_evidence_against_an_honest_log_cannot_be_made() -> None:
    key = SigningKey(seed("honest"))
    name = log_key(key.public).name
    leaves = [leaf_hash(b"%d" % n) for n in range(9)]
    heads = [sign_checkpoint(Checkpoint(name, n, root_of(leaves[:n])), key) for n in (4, 9)]
    path = consistency_proof(4, 9, leaf_source(leaves))
    with pytest.raises(ForgeryError):
        evidence_of(key.public, heads[0], heads[1], root_of(leaves[:4]), path).verify()
    with pytest.raises(ForgeryError):
        evidence_of(key.public, heads[0], heads[1], bytes(32), path).verify()
    thief = SigningKey(seed("thief"))
    with pytest.raises(ForgeryError):
        replace(forked(thief, 2, 3), log_key=key.public).verify()
