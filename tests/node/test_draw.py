"""Admission and the draw at real nodes: one place for each admission, the same whoever answers."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from peewit_clients.backend import Backend, BackendError
from peewit_clients.charters import Draw
from peewit_clients.place import Admitter, Asked, with_code, with_work
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_federation.draw.api import CODE, WORK, Conditions, DrawAsk, TokenAsk, code_at, new_code
from peewit_federation.draw.blind_rsa import Blinded
from peewit_federation.draw.rounds import Rounds
from peewit_federation.errors import RefusedError, UnknownError
from peewit_federation.keys import key_id
from peewit_federation.statements.draw import DrawKey
from peewit_node.config import Admission
from peewit_node.node import DATABASE
from tests.federation_kit import NAMES, Federation, seed
from tests.federation_kit_http import get, post, until

WEEK = Draw(NAMES, 2)


@asynccontextmanager
async def running(folder: Path, admission: Admission, draw: Draw = WEEK) -> AsyncIterator[Federation]:
    federation = Federation.make(folder, draw=draw, admission=admission)
    await federation.start()
    try:
        yield federation
    finally:
        await federation.stop()


def rounds(federation: Federation, name: str) -> Rounds:
    return federation.nodes[name].keeper.registry.rounds


async def opened(federation: Federation, groups: tuple[str, ...] = ("",)) -> int:
    """Wait until the present round is open everywhere and all token keys count; its number."""
    schedule = next(iter(federation.nodes.values())).state.charter.schedule
    assert schedule is not None
    number = schedule.round_at(time.time())

    def ready() -> bool:
        return all(
            (publics := node.keeper.registry.rounds.keys(schedule.seats_of(number), number)) is not None
            and len(node.draw_keys.prove(schedule.seats_of(number), number, publics, seed("H"))) == 3
            and all(node.token_keys.get(number, group) for group in groups)
            for node in federation.nodes.values()
        )

    await until(ready, 40.0)
    await federation.agree()
    return number


@asynccontextmanager
async def client(federation: Federation, *only: str) -> AsyncIterator[Admitter]:
    charter = next(iter(federation.nodes.values())).state.charter
    async with BackendPool(charter, only=only) as pool:
        view = RegistryView(charter, pool)
        await view.refresh()
        yield Admitter(view, os.urandom)


async def codes(federation: Federation, count: int, group: str = "") -> list[str]:
    """Codes that are valid at as many nodes as admit."""
    made = [new_code(seed(group, "code", number)[:20]) for number in range(count)]
    for node in [federation.nodes[name] for name in NAMES[: WEEK.threshold]]:
        origin = node.state.operator.origin_hash
        await node.admission.add(origin, [(code_at(code, origin), group) for code in made])
    return made


async def test_a_client_gets_a_place_that_is_the_same_whoever_answers(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(kind="work", work_bits=8, groups=("over80",))) as federation:
        number = await opened(federation, ("", "over80"))
        request = seed("H")
        async with client(federation) as admitter:
            place = await admitter.get(request, "over80", with_work)
        assert (place.round, place.group) == (number, "over80")
        for pair in (NAMES[:2], NAMES[2:], ("north", "east")):
            async with client(federation, *pair) as admitter:
                again = await admitter.get(request, "over80", with_work)
            assert again.priority == place.priority
            assert {origin for origin, _ in again.tokens} == {
                federation.nodes[name].state.operator.origin_hash for name in pair
            }
        async with client(federation) as admitter:
            assert (await admitter.get(seed("another H"), "", with_work)).priority != place.priority


async def test_with_one_member_dead_places_are_still_given_and_with_all_but_one_they_are_not(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(kind="open")) as federation:
        await opened(federation)
        await federation.stop("north")
        async with client(federation) as admitter:
            await admitter.get(seed("H"), "", with_work)
            tokens = (await admitter.get(seed("H2"), "", with_work)).tokens
        async with client(federation, "west") as admitter:
            with pytest.raises(RefusedError, match="1 of 2 nodes admitted"):
                await admitter.get(seed("H3"), "", with_work)
            with pytest.raises(RefusedError, match="too few members"):
                await admitter.draw(seed("H2"), await opened(federation), "", tokens)


async def test_a_code_gives_one_token_at_each_node_under_sixteen_way_contention(tmp_path: Path) -> None:
    async with running(tmp_path, Admission()) as federation:
        number = await opened(federation)
        made = await codes(federation, 10)
        url, node = federation.url("north"), federation.nodes["north"]
        origin = node.state.operator.origin_hash
        public = rounds(federation, "north").token_key(origin, number, "")
        assert public is not None
        blinded = [public.blind(seed("H", n), seed(n)[:16] * 3, os.urandom(256)).data for n in range(16)]
        for code in made:
            proof = code_at(code, origin)
            asks = [TokenAsk(number, "", data, CODE, proof).encode() for data in blinded]
            answers = await asyncio.gather(*(post(f"{url}/v1/tokens", ask) for ask in asks))
            assert sorted(status for status, _ in answers) == [200] + [403] * 15
            winner = next(place for place, (status, _) in enumerate(answers) if status == 200)
            # The winner lost the answer and asks again: the same signature, and nobody else's.
            assert await post(f"{url}/v1/tokens", asks[winner]) == answers[winner]
            assert (await post(f"{url}/v1/tokens", asks[winner - 1]))[0] == 403
        rows = await node.engine.fetch("SELECT signatures FROM token_keys WHERE round = ? AND grp = ''", number)
        assert rows == [(10,)], "what is published is what was signed"


async def test_a_code_is_worth_nothing_in_another_group_or_at_another_node(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(groups=("over80",))) as federation:
        await opened(federation, ("", "over80"))
        (code,) = await codes(federation, 1, "over80")
        async with client(federation) as admitter:
            with pytest.raises(RefusedError, match="is for over80, not for no group"):
                await admitter.get(seed("H"), "", with_code(code))
            with pytest.raises(RefusedError, match="does not know that signup code"):
                await admitter.get(seed("H"), "over80", with_code(new_code(seed("made up")[:20])))
            assert (
                await admitter.get(seed("H"), "over80", with_code(code.lower().replace("-", " ")))
            ).group == "over80"
            with pytest.raises(RefusedError, match="used already"):
                await admitter.get(seed("H of a friend"), "over80", with_code(code))
        north, west = (federation.nodes[name].state.operator.origin_hash for name in NAMES[:2])
        assert code_at(code, north) != code_at(code, west), "what one node sees cannot be shown to another"


async def test_a_mistyped_code_does_not_lock_anybody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked with it is on the disk, and was perhaps never answered."""
    async with running(tmp_path, Admission()) as federation:
        await opened(federation)
        (good,) = await codes(federation, 1)
        wrong, request, disk = new_code(seed("mistyped")[:20]), seed("H"), dict[Asked, tuple[Blinded, TokenAsk]]()

        def device(admitter: Admitter) -> Admitter:
            kept = dict(disk)

            def save() -> None:
                disk.clear()
                disk.update(kept)

            return Admitter(admitter._view, os.urandom, kept, save)

        async with client(federation) as admitter:
            with pytest.raises(RefusedError, match="does not know that signup code"):
                await device(admitter).get(request, "", with_code(wrong))
            assert not disk, "a plain refusal: nothing was spent"
            real, lost = admitter._pool.post, []

            async def loses(backend: Backend, path: str, body: bytes) -> bytes:
                if path == "/v1/tokens" and backend.name == "north":
                    lost.append(backend)
                    raise BackendError("no answer")
                return await real(backend, path, body)

            with monkeypatch.context() as patch:
                patch.setattr(admitter._pool, "post", loses)
                with pytest.raises(RefusedError):
                    await device(admitter).get(request, "", with_code(wrong))
            assert lost
            assert len(disk) == 1, "north may have spent something on it"
            place = await device(admitter).get(request, "", with_code(good))
            assert len(place.tokens) == WEEK.threshold


async def test_a_code_is_spent_nowhere_while_one_of_its_nodes_is_down(tmp_path: Path) -> None:
    """A round may end before it is back, and what was spent in one admits to no other."""
    async with running(tmp_path, Admission()) as federation:
        await opened(federation)
        (code,) = await codes(federation, 1)
        spent = "SELECT count(*) FROM codes WHERE spent <> x''"
        async with client(federation) as admitter:
            await federation.stop("west")
            with pytest.raises(RefusedError, match="used nowhere: try again later"):
                await admitter.get(seed("H"), "", with_code(code))
            assert await federation.nodes["north"].engine.fetch(spent) == [(0,)]
            await federation.start("west")
            await until(lambda: "west" in federation.nodes, 5.0)
        async with client(federation) as admitter:
            assert len((await admitter.get(seed("H"), "", with_code(code))).tokens) == WEEK.threshold
        assert await federation.nodes["north"].engine.fetch(spent) == [(1,)]


async def test_work_is_bound_to_the_blinded_message_and_node(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(kind="work", work_bits=12)) as federation:
        number = await opened(federation)
        north = federation.nodes["north"].state.operator
        offer = Conditions.decode((await get(f"{federation.url('north')}/v1/admission"))[1])
        blank = TokenAsk(number, "", bytes([1]) * 256)
        done = await with_work(north, blank, offer)
        other = TokenAsk(number, "", bytes([2]) * 256, WORK, done.proof)
        for name, ask, expected in (("north", done, 200), ("north", other, 403), ("south", done, 403)):
            status, answer = await post(f"{federation.url(name)}/v1/tokens", ask.encode())
            assert status == expected, (name, answer)
        status, answer = await post(f"{federation.url('north')}/v1/tokens", blank.encode())
        assert (status, b"not with nothing" in answer) == (403, True)


async def test_an_open_node_admits_at_a_rate(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(kind="open", per_minute=3)) as federation:
        number = await opened(federation)
        asks = [TokenAsk(number, "", bytes([place]) * 256).encode() for place in (1, 2, 3, 4, 5, 1)]
        statuses = [(await post(f"{federation.url('north')}/v1/tokens", ask))[0] for ask in asks]
        assert statuses == [200, 200, 200, 429, 429, 200], "who was admitted may ask again"


async def test_who_was_not_admitted_by_enough_operators_is_not_drawn(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(kind="open", groups=("over80",))) as federation:
        number = await opened(federation, ("", "over80"))
        request = seed("H")
        async with client(federation) as admitter:
            place = await admitter.get(request, "", with_work)
        (one, token), second = place.tokens
        for tokens in (
            (), ((one, token),), ((one, token), (one, token)), ((one, token), (second[0], token)),
            ((one, token), (key_id(b"nobody"), second[1])),
        ):  # fmt: skip
            status, answer = await post(
                f"{federation.url('west')}/v1/draw", DrawAsk(request, number, "", tokens).encode()
            )
            assert status == 422, tokens
            assert b"operators admitted this request" in answer
        for ask in (
            DrawAsk(seed("H of a friend"), number, "", place.tokens),
            DrawAsk(request, number, "over80", place.tokens),
        ):
            assert (await post(f"{federation.url('west')}/v1/draw", ask.encode()))[0] == 422


async def test_a_token_of_a_round_that_is_over_finds_no_drawer_and_its_keys_are_gone(tmp_path: Path) -> None:
    draw = Draw(NAMES, 2, round_s=10, starts_s=int(time.time()))
    async with running(tmp_path, Admission(kind="open"), draw) as federation:
        schedule = federation.nodes["north"].state.charter.schedule
        assert schedule is not None
        number = await opened(federation)
        async with client(federation) as admitter:
            place = await admitter.get(seed("H"), "", with_work)
        number = place.round
        await until(lambda: time.time() > schedule.begins_s(number + 1) + schedule.grace_s + 1.5)
        ask = DrawAsk(place.request, number, "", place.tokens).encode()
        status, answer = await post(f"{federation.url('west')}/v1/draw", ask)
        assert (status, f"round {number} is not open".encode() in answer) == (403, True)
        status, answer = await post(
            f"{federation.url('west')}/v1/tokens", TokenAsk(number, "", bytes([1]) * 256).encode()
        )
        assert status == 403
        async with client(federation) as admitter:
            assert (await admitter.get(seed("H"), "", with_work)).round > number, "the next round is open"
            # Whoever has the ticket can still prove it: public parts stay in the logs.
            publics = admitter._rounds.keys(schedule.seats_of(number), number)
            assert publics is not None
            assert place.ticket.priority(place.request, publics) == place.priority
        await until(lambda: all(_oldest(federation, name) > number for name in NAMES))
        counts = [rounds(federation, name).signatures(number, "", 2) for name in NAMES]
        assert counts == [1] * 4, "how many were admitted is published when a round is over"


def _oldest(federation: Federation, name: str) -> int:
    """The oldest round of which a node's database has a private key."""
    with sqlite3.connect(f"file:{federation.folder / name / DATABASE}?mode=ro", uri=True) as database:
        oldest: int = database.execute(
            "SELECT min(a) FROM (SELECT min(round) a FROM token_keys UNION SELECT min(round) FROM draw_keys)"
        ).fetchone()[0]
        return oldest


async def test_a_key_is_handed_over_only_to_a_member_that_may_hold_it(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(kind="open")) as federation:
        number = await opened(federation)
        schedule = federation.nodes["north"].state.charter.schedule
        assert schedule is not None
        seats = schedule.seats_of(number)
        publics = rounds(federation, "north").keys(seats, number)
        assert publics is not None
        url = f"{federation.url('north')}/federation/v1/draw-keys"
        for place, public in enumerate(publics):
            for asker in NAMES:
                origin = federation.nodes[asker].state.operator.origin_hash.hex()
                status, _ = await get(f"{url}/{number}/{place}/{public.hex()}/{origin}")
                may = asker in seats.committee.holders(place)
                mine = "north" in seats.committee.holders(place)
                assert status == (403 if not may else 200 if mine else 404), (place, asker)
        origin, first = federation.nodes["north"].state.operator.origin_hash.hex(), publics[0].hex()
        for path in (f"x/0/{first}", f"{number}/99/{first}", f"{number}/-1/{first}", f"{number}/0/xyz"):
            assert (await get(f"{url}/{path}/{origin}"))[0] in (400, 403), path


async def test_a_member_that_names_keys_and_hands_them_to_nobody_stops_no_round(tmp_path: Path) -> None:
    # The others lose patience after a quarter of a round for each member before them.
    draw = Draw(NAMES, 2, round_s=12, starts_s=int(time.time()) - 6)
    federation = Federation.make(tmp_path, draw=draw, admission=Admission(kind="open"))
    await federation.start("north")
    north = federation.nodes["north"]
    schedule = north.state.charter.schedule
    assert schedule is not None
    seats = schedule.seats_of(0)
    north.draw_keys.hand_over = _refuse  # type: ignore[method-assign, assignment]
    try:
        await north.own.append(*(
            DrawKey(number, seats.digest, place, seed(number, place)).encode()
            for number in range(12)
            for place in seats.committee.held_by("north")
        ))  # fmt: skip
        await federation.start(*NAMES[1:])
        await until(lambda: all(_open(federation, name) is not None for name in NAMES), 60.0)
        place = None
        while place is None:
            async with client(federation) as admitter:
                with suppress(RefusedError):  # a round may end just then
                    place = await admitter.get(seed("H"), "", with_work)
        assert len(place.ticket.proofs) == 4
    finally:
        await federation.stop()


def _refuse(*_: object) -> bytes:
    raise UnknownError("not to you")


def _open(federation: Federation, name: str) -> int | None:
    node = federation.nodes[name]
    assert node.state.charter.schedule is not None
    return node.keeper.registry.rounds.open_round(node.state.charter.schedule, time.time())


async def test_two_codes_never_give_three_places(tmp_path: Path) -> None:
    async with running(tmp_path, Admission()) as federation:
        number = await opened(federation)
        made = await codes(federation, 2)
        tokens: dict[bytes, dict[bytes, bytes]] = {}
        async with client(federation) as admitter:
            for request in (seed("H1"), seed("H2"), seed("H3")):
                for code in made:
                    for backend in admitter._pool.backends:
                        key = rounds(federation, "north").token_key(backend.operator.origin_hash, number, "")
                        assert key is not None
                        try:
                            token = await admitter._token(backend, key, request, number, "", with_code(code))
                        except BackendError:
                            continue
                        tokens.setdefault(request, {})[backend.operator.origin_hash] = token
        assert sum(len(found) for found in tokens.values()) == 4, "two signatures for each code"
        assert sum(len(found) >= 2 for found in tokens.values()) <= 2


async def test_an_admission_that_is_asked_for_again_is_counted_once(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(kind="work", work_bits=4)) as federation:
        number = await opened(federation)
        url, north = federation.url("north"), federation.nodes["north"]
        offer = Conditions.decode((await get(f"{url}/v1/admission"))[1])
        ask = (await with_work(north.state.operator, TokenAsk(number, "", bytes([1]) * 256), offer)).encode()
        answers = await asyncio.gather(*(post(f"{url}/v1/tokens", ask) for _ in range(16)))
        assert {status for status, _ in answers} == {200}
        assert len({answer for _, answer in answers}) == 1
        rows = await north.engine.fetch("SELECT signatures FROM token_keys WHERE round = ? AND grp = ''", number)
        assert rows == [(1,)], "a faked crowd hides nobody"


async def test_no_fewer_than_the_threshold_of_members_hold_all_keys(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(kind="open")) as federation:
        number = await opened(federation)
        schedule = federation.nodes["north"].state.charter.schedule
        assert schedule is not None
        seats = schedule.seats_of(number)
        publics = rounds(federation, "north").keys(seats, number)
        assert publics is not None
        held = {
            name: {place for place, _ in node.draw_keys.prove(seats, number, publics, seed("H"))}
            for name, node in federation.nodes.items()
        }
        assert all(len(places) == 3 for places in held.values())
        assert all(held[a] | held[b] == set(range(4)) for a in NAMES for b in NAMES if a != b)


async def test_a_node_that_starts_again_has_its_keys(tmp_path: Path) -> None:
    async with running(tmp_path, Admission(kind="open")) as federation:
        await opened(federation)
        async with client(federation) as admitter:
            place = await admitter.get(seed("H"), "", with_work)
        for name in NAMES:
            await federation.stop(name)
            await federation.start(name)
        await opened(federation)
        async with client(federation) as admitter:
            assert (await admitter.get(seed("H"), "", with_work)).priority == place.priority


async def test_a_federation_without_a_draw_says_so(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    await federation.start("north")
    try:
        status, answer = await get(f"{federation.url('north')}/v1/admission")
        assert (status, b"has no draw" in answer) == (404, True)
    finally:
        await federation.stop()
