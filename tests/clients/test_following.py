"""Charters that follow others: who leaves, who joins, and what stands of what was before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from peewit_clients.charters import Card, Draw, compose_charter, usual_draw
from peewit_clients.following import following, furthest
from peewit_clients.keepers import Kept, keepers
from peewit_federation.charter import Charter, Retired
from peewit_federation.charter_file import parse_charter
from peewit_federation.errors import OperatorError
from peewit_federation.keys import PublicKey, SigningKey
from peewit_federation.log.checkpoint import Checkpoint, Head, cosign, log_key, origin_of, sign_checkpoint, witness_key
from peewit_federation.log.note import ED25519, VerifierKey
from tests.clients.surgery import Surgery
from tests.commands import peewit
from tests.federation_kit import NAMES, Federation, seed

WEEK_S = 7 * 86_400
NOW_S = 4 * 86_400 + 100.5 * WEEK_S
"In the middle of round 100."


def card(name: str, part: str = "") -> Card:
    log, witness, offline = (SigningKey(seed(name, part, number)).public for number in range(3))
    charter_key = VerifierKey(f"{name}/charter", ED25519, PublicKey(offline))
    key = witness_key(f"{name}{part}", witness)
    return Card(name, f"https://{name}.example", ("1",), log_key(log), key, charter_key)


def charter(*names: str, draw: Draw | None = None) -> Charter:
    return parse_charter(compose_charter("example", [card(name) for name in names], 3, draw=draw).encode())


def gone(charter: Charter, name: str) -> Retired:
    operator = charter.operator(name)
    return Retired(operator.log, 7, seed("root"), operator.votes)


def test_who_leaves_keeps_what_it_said_and_the_rounds_that_it_draws_and_gets_no_new_ones() -> None:
    first = charter(*NAMES, draw=usual_draw(NAMES))
    second = parse_charter(following(first, [gone(first, "south")], [], NOW_S).encode())
    assert (second.number, [o.name for o in second.operators]) == (2, ["north", "west", "east"])
    assert second.retired == (gone(first, "south"),)
    assert second.admitters == first.admitters, "people whom it admitted keep their places"
    assert first.schedule is not None
    assert second.schedule is not None
    first.schedule.require_successor(second.schedule)
    assert [(s.from_round, s.committee.threshold) for s in second.schedule.seats] == [(0, 2), (103, 2)]
    assert second.schedule.seats[1].committee.members == ("north", "west", "east")
    third = parse_charter(following(second, [], [card("south", "again")], NOW_S + WEEK_S).encode())
    assert third.retired == second.retired
    assert [s.from_round for s in third.schedule.seats] == [0, 103], "a committee that nobody left stays"  # type: ignore[union-attr]
    assert third.policy.needed() == 3


def test_who_goes_on_with_other_keys_leaves_its_people_their_places() -> None:
    first = charter(*NAMES, draw=usual_draw(NAMES))
    second = parse_charter(following(first, [gone(first, "west")], [card("west", "new")], NOW_S).encode())
    assert [retired.voted for retired in second.retired] == [True]
    assert first.admitters < second.admitters
    assert second.schedule is not None
    assert second.schedule.seats[-1].committee.members == ("north", "south", "east", "west")
    assert second.operator("west").log == card("west", "new").log


def test_a_mirror_leaves_no_vote_and_one_that_joins_gets_none() -> None:
    cards = [card(name) for name in (*NAMES, "centre")]
    first = parse_charter(compose_charter("example", cards, 3, mirrors=("centre",)).encode())
    second = parse_charter(
        following(first, [gone(first, "centre")], [card("coast")], NOW_S, mirrors=("coast",)).encode()
    )
    assert [o.name for o in second.operators if not o.votes] == ["coast"]
    assert [retired.voted for retired in second.retired] == [False]
    assert (second.schedule, second.policy.needed()) == (None, 3)


def test_a_charter_that_nobody_could_mean_is_not_made() -> None:
    first = charter("north", "west", "south")
    with pytest.raises(OperatorError, match="north is an operator already"):
        following(first, [], [card("north", "new")], NOW_S)
    with pytest.raises(OperatorError, match="nobody would be left"):
        following(first, [gone(first, name) for name in ("north", "west", "south")], [], NOW_S)
    with pytest.raises(OperatorError, match="too weak"):
        following(first, [], [card("coast")], NOW_S, quorum=1)
    nested = first.text.replace("group nodes 3 north west south", "group two 2 north west\ngroup nodes 2 two south")
    with pytest.raises(OperatorError, match="by hand"):
        following(replace(parse_charter(nested.encode()), number=1), [], [card("coast")], NOW_S)


async def test_an_operator_leaves_by_the_command_line_and_the_others_go_on(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path, draw=usual_draw(NAMES, round_s=3600))
    await federation.start()
    await federation.agree()
    size = federation.nodes["south"].own.log.size
    await federation.stop("south")
    code, _, errors = await peewit(tmp_path, "charter", "next", "--leaves", "nobody")
    assert (code, "it has north, west, south, east" in errors) == (4, True), errors
    code, _, errors = await peewit(tmp_path, "charter", "next")
    assert (code, "--leaves NAME or --joins CARD" in errors) == (4, True), errors
    code, text, errors = await peewit(tmp_path, "charter", "next", "--leaves", "south")
    assert code == 0, errors
    assert f"south leaves: what its log says stays in force, up to {size} entries" in errors
    assert "north, west, east draw" in errors
    (tmp_path / "2.toml").write_text(text)
    for name in ("north", "west", "east"):
        sign = ("charter", "sign", "2.toml", "--operator", name, "--key", f"{name}/charter.key")
        code, text, errors = await peewit(tmp_path, *sign)
        assert code == 0, errors
        (tmp_path / "2.toml").write_text(text)
    follows = ("charter", "show", "--charter", "2.toml", "--follows", "charter.toml", "--json")
    code, output, errors = await peewit(tmp_path, *follows)
    assert (code, json.loads(output)["quorum"]) == (0, 2), errors
    (tmp_path / "charter.toml").write_text(text)
    for name in ("north", "west", "east"):
        await federation.nodes[name].charters.reload()
        assert federation.nodes[name].state.charter.retired[0].size == size
    await federation.agree()
    await federation.stop()
    code, _, errors = await peewit(tmp_path, "charter", "next", "--leaves", "west")
    assert (code, "no quorum shows where the log of west ends" in errors) == (4, True), errors


def test_where_a_log_ends_is_what_a_quorum_cosigned_also_beside_another_branch() -> None:
    first, key = charter(*NAMES), SigningKey(seed("log"))

    def shown(size: int, branch: str, *witnesses: str) -> Head:
        head = sign_checkpoint(Checkpoint(origin_of(key.public), size, seed(branch)), key)
        signed = [cosign(head.checkpoint, name, SigningKey(seed(name, "", 1)), 100) for name in witnesses]
        return head.with_cosignatures(zip(witnesses, signed, strict=True))

    heads = [
        shown(7, "a", "north"),
        shown(7, "b", "east"),
        shown(7, "a", "west"),
        shown(7, "b"),
        shown(9, "a", "south"),
    ]
    assert furthest(heads, first.policy) is None, "of no branch more than two of four"
    found = furthest([*heads, shown(7, "a", "south"), shown(5, "a", *NAMES)], first.policy)
    assert found is not None
    assert (found.size, found.root) == (7, seed("a"))


async def test_a_mediator_is_told_which_operators_keep_its_queues_no_more(surgery: Surgery) -> None:
    async with surgery.view() as view:
        area = surgery.place.area
        assert keepers(view, surgery.mediator.id) == [Kept(area, ("north", "west"), 0)]
        staying = tuple(operator for operator in view.charter.operators if operator.name != "north")
        view.charter = replace(view.charter, operators=staying)
        assert keepers(view, surgery.mediator.id) == [Kept(area, ("west",), 1)]
