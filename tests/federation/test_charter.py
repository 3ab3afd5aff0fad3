"""Charters: what is refused, and how one follows another (design 4.4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from peewit_clients.charters import Card, compose_charter, usual_quorum
from peewit_federation.charter import Charter
from peewit_federation.charter_file import parse_charter, sign_charter, walk
from peewit_federation.errors import ForgeryError, OperatorError
from peewit_federation.keys import PublicKey, SigningKey
from peewit_federation.log.checkpoint import log_key, witness_key
from peewit_federation.log.note import ED25519, VerifierKey
from tests.federation_kit import seed

NAMES = ("north", "west", "south", "east", "centre")


def offline(name: str) -> SigningKey:
    return SigningKey(seed(name, "charter"))


def card(name: str) -> Card:
    log, witness = SigningKey(seed(name, "log")), SigningKey(seed(name, "witness"))
    charter = VerifierKey(f"{name}/charter", ED25519, PublicKey(offline(name).public))
    key = witness_key(f"{name}.example/witness", witness.public)
    return Card(name, f"https://{name}.example", ("1",), log_key(log.public), key, charter)


def text(names: tuple[str, ...] = NAMES[:4], quorum: int = 3, number: int = 1) -> str:
    return compose_charter("example", [card(name) for name in names], quorum, number=number)


def charter(number: int = 1, names: tuple[str, ...] = NAMES[:4], quorum: int = 3) -> Charter:
    return parse_charter(text(names, quorum, number).encode())


def signed(following: Charter, *names: str) -> Charter:
    for name in names:
        following = sign_charter(following, name, offline(name))
    return following


def test_a_charter_is_what_was_composed_and_stays_so_with_signatures() -> None:
    found = charter()
    assert [o.name for o in found.operators] == list(NAMES[:4])
    assert found.policy.needed() == 3
    assert found.constitution.threshold == 2
    twice = signed(found, "north", "west")
    assert twice.digest == found.digest
    assert parse_charter(twice.encode()) == twice
    assert twice.signed_by(found.operators) == {"north", "west"}


def test_a_node_beyond_the_witnesses_mirrors_without_a_vote() -> None:
    whole = compose_charter("example", [card(name) for name in NAMES], 3, mirrors=("centre",))
    found = parse_charter(whole.encode())
    assert [o.name for o in found.operators if not o.votes] == ["centre"]
    assert found.operator("centre").witness == card("centre").witness
    assert len(found.policy.witnesses) == 4
    signed_by_mirror = signed(found, "centre")
    assert not found.policy.satisfied({o.witness.name for o in found.operators if o.name == "centre"})
    assert signed_by_mirror.signed_by(found.operators) == {"centre"}
    line = next(line for line in whole.split("\n") if line.startswith("witness ="))
    with pytest.raises(OperatorError, match="no witness of this name, and no witness key"):
        parse_charter(whole.replace(line + "\n", "").encode())
    with pytest.raises(OperatorError, match="witness is not of type 0x04"):
        parse_charter(whole.replace(line, f'witness = "{card("centre").charter_key}"').encode())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t.replace("format = 1", "format = 2"), "format"),
        (lambda t: t.replace("number = 1\n", ""), "number is missing"),
        (lambda t: t.replace("number = 1\n", 'number = "1"\n'), "number is not of type int"),
        (lambda t: t.replace("number = 1\n", "number = 0\n"), "number must be at least 1"),
        (lambda t: "surprise = 1\n" + t, "surprise is not known"),
        (lambda t: t.replace("warn_s = 3600", "warn_s = 100000"), "warn_s is larger"),
        (lambda t: t.replace("group nodes 3", "group nodes 2"), "too weak"),
        (lambda t: t.replace("group nodes 3", "group nodes 4"), "too demanding"),
        (lambda t: t.replace('name = "west"', 'name = "weird"'), "no witness of this name"),
        (lambda t: t.replace('url = "https://west.example"', 'url = "west.example"'), "url"),
        (lambda t: t.replace('url = "https://west.example"', 'url = "https://north.example@west.example"'), "url"),
        (lambda t: t.replace('url = "https://west.example"', 'url = "https://west.example?x=1"'), "url"),
        (lambda t: t.replace("admission_threshold = 2", "admission_threshold = 9"), "admission_threshold"),
        (lambda t: t.replace('region = ["1"]', 'region = ["Bavaria"]'), "region"),
        (lambda t: t.replace(str(card("west").charter_key), str(card("west").log)), "two purposes"),
        (lambda t: t + "operator = 1\n", "not TOML|charter"),
        (lambda t: "a = " + "9" * 5000 + "\n" + t, "not TOML"),
        (lambda t: "a = " + "[" * 5000 + "\n" + t, "nested too deeply|not TOML"),
        (lambda t: t + '[[retired]]\nlog = "x"\nsize = 1\nroot = "00"\n', "64 hexadecimal"),
        (lambda t: t.replace("[[operator]]", "[[operators]]"), "operator is missing"),
        (lambda t: t.split("[[operator]]")[0] + "operator = [1]\n", "charter"),
        (lambda t: t[: t.rindex("[[operator]]")], "exactly one operator"),
    ],
)
def test_a_charter_that_cannot_be_meant_is_refused_with_the_name_of_the_key(
    change: Callable[[str], str], what: str
) -> None:
    broken = change(text())
    assert broken != text()
    with pytest.raises(OperatorError, match=what):
        parse_charter(broken.encode())


def test_a_successor_needs_a_quorum_of_the_old_and_of_the_new_operators() -> None:
    first = charter()
    second = charter(2, NAMES[1:])
    with pytest.raises(ForgeryError, match="no quorum"):
        first.require_successor(signed(second, "west", "south"))
    first.require_successor(signed(second, "west", "south", "east"))
    strangers = charter(2, ("west", "centre"), 2)
    with pytest.raises(ForgeryError, match="no quorum"):
        first.require_successor(signed(strangers, "west", "centre"))


def test_gaps_rollbacks_other_federations_and_forged_signatures_are_refused() -> None:
    first, second, third = charter(), charter(2), charter(3)
    everyone = NAMES[:4]
    with pytest.raises(ForgeryError, match="does not follow"):
        first.require_successor(signed(third, *everyone))
    with pytest.raises(ForgeryError, match="does not follow"):
        second.require_successor(signed(charter(), *everyone))
    other = parse_charter(text(number=2).replace('name = "example"', 'name = "other"').encode())
    with pytest.raises(ForgeryError, match="another federation"):
        first.require_successor(signed(other, *everyone))
    forged = signed(second, *everyone).encode().replace(b"warn_s = 3600", b"warn_s = 3601")
    with pytest.raises(ForgeryError, match="does not verify"):
        first.require_successor(parse_charter(forged))


def test_a_phone_that_slept_through_five_versions_walks_the_chain() -> None:
    chain = [signed(charter(number), *NAMES[:3]).encode() for number in range(2, 7)]
    assert walk(charter(), chain).number == 6
    with pytest.raises(ForgeryError):
        walk(charter(), [*chain[:2], *chain[3:]])


@pytest.mark.parametrize("count", range(1, 17))
def test_the_usual_quorum_is_always_a_safe_one(count: int) -> None:
    from peewit_federation.log.policy import parse_policy

    keys = [witness_key(f"w{n}", SigningKey(bytes([n + 1]) * 32).public) for n in range(count)]
    members = "".join(f"witness w{n} {key}\n" for n, key in enumerate(keys))
    names = " ".join(f"w{n}" for n in range(count))
    policy = parse_policy(f"{members}group g {usual_quorum(count)} {names}\nquorum g\n")
    policy.require_honest_intersection()


def test_the_sample_charter_is_valid() -> None:
    sample = Path(__file__).parents[2] / "config" / "charter.sample.toml"
    assert parse_charter(sample.read_bytes()).policy.needed() == 3


def test_whom_an_operator_admitted_that_left_keeps_the_place() -> None:
    """Its log is retired; a mirror never admitted anybody, and does not begin to by leaving."""
    gone, text = card("centre"), charter().text
    table = f'\n[[retired]]\nlog = "{gone.log}"\nsize = 7\nroot = "{"00" * 32}"\n'
    votes = {o.origin_hash for o in charter().operators}
    assert parse_charter((text + table).encode()).admitters == votes
    found = parse_charter((text + table + "voted = true\n").encode())
    assert found.admitters == votes | {found.retired[0].origin_hash}
    with pytest.raises(OperatorError, match="voted is not of type bool"):
        parse_charter((text + table + 'voted = "yes"\n').encode())
