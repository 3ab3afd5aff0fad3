"""A request that comes back on an empty device, from a code that somebody wrote down."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from peewit_clients.backend import UnreachableError
from peewit_clients.cli.person import Me, run_user
from peewit_clients.letters import Letters
from peewit_clients.place import with_work
from peewit_clients.recovery import COPY_S, PADDED_BYTES, OtherDeviceError, Recovery, read_code, write_code
from peewit_clients.user import User
from peewit_clients.user_state import Chosen, UserState
from peewit_clients.vault import Vault
from peewit_federation.appointment.messages import Offer
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import LimitError, MalformedError, UnknownError
from peewit_node.engine import Write
from peewit_node.node import Node
from tests.clients.surgery import Surgery
from tests.federation_kit import NAMES, catchment, provider, seed


def test_a_code_is_read_as_people_write_it_and_a_mistake_is_noticed() -> None:
    secret = seed("code")[:16]
    code = write_code(secret)
    assert len(code) == 31 + 6
    for written in (code, code.lower(), code.replace("-", " "), code.replace("O", "0").replace("I", "1")):
        assert read_code(written) == secret
    for at in range(len(code)):
        for letter in "A7":
            if code[at] not in ("-", letter):
                with pytest.raises(MalformedError):
                    read_code(code[:at] + letter + code[at + 1 :])
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567":
        if letter != code[-1]:  # most of its bits mean nothing
            with pytest.raises(MalformedError):
                read_code(code[:-1] + letter)
    for wrong in ("", "ABCDE", code[:-1], code + "A", "ü" * 31):
        with pytest.raises(MalformedError, match="no recovery code|is wrong"):
            read_code(wrong)


async def test_the_newest_copy_comes_back_also_when_a_node_is_dead(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        recovery = Recovery(user.letters, user.state.recovery)
        for number in range(1, 5):
            await recovery.save(number, user.state.copies())
        assert (await recovery.load()).number == 4
        await surgery.federation.stop(NAMES[0])
        copy = await Recovery(Letters(view.pool, view.clock, os.urandom), user.state.recovery).load()
        assert (copy.number, [NAMES[0] in why for why in copy.silent]) == (4, [True]), "it may have had a newer one"
        assert UserState.decode(copy.state).request == user.state.request
        with pytest.raises(UnknownError, match="no node has a copy"):
            await Recovery(user.letters, seed("another code")[:16]).load()
        with pytest.raises(LimitError, match="no room"):
            await recovery.save(9, [bytes(49 * 1024)])


def own(node: Node) -> bytes:
    return node.state.operator.origin_hash


async def test_copies_stay_where_they_are_and_are_deleted_where_they_were(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        recovery = Recovery(user.letters, user.state.recovery)
        first = await recovery.save(1, user.state.copies())
        assert await recovery.save(2, user.state.copies(), first) == first
        gone = next(name for name, node in surgery.federation.nodes.items() if own(node) == first[0])
        await surgery.federation.stop(gone)
        second = await recovery.save(3, user.state.copies(), first)
        assert set(first) < set(second), "what could not be deleted is remembered"
        await surgery.federation.start(gone)
        await view.pool.reconnect()
        third = await recovery.save(4, user.state.copies(), second[:2] + first[:1])
        assert len(third) == 2
        held = [await user.letters.peek(backend, recovery._key) for backend in view.pool.backends]
        assert sorted(map(len, held)) == [0, 0, 1, 1]


async def test_two_devices_with_one_request_are_told_of_each_other(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        recovery = Recovery(user.letters, user.state.recovery)
        await recovery.save(1, user.state.copies())
        await recovery.save(2, user.state.copies())  # a device that was restored from it goes on
        with pytest.raises(OtherDeviceError, match="another device"):
            await recovery.save(2, user.state.copies())
        assert (await recovery.load()).number == 2


async def test_a_device_that_was_told_of_another_never_makes_a_copy_over_its(surgery: Surgery, tmp_path: Path) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        me, charter = Me("en", True, tmp_path, "me", tmp_path / "charter.toml", ()), surgery.federation.folder
        me.charter_path.write_bytes((charter / "charter.toml").read_bytes())
        recovery, user.state.saved = Recovery(user.letters, user.state.recovery), 1
        at = user.state.copies_at = await recovery.save(1, user.state.copies())
        with Vault.make(me.path, None) as vault:
            vault.write(user.state.encode())
        await recovery.save(2, [b"of the other device"], at)

        def look() -> None:
            async def work(user: User) -> None:
                await user.states()

            with Vault(me.path, None) as vault:
                run_user(me, vault, UserState.decode(vault.read() or b""), work)

        for _ in range(3):
            await asyncio.to_thread(look)
        copy = await recovery.load()
        assert (copy.number, copy.state) == (2, b"of the other device")


async def test_copies_find_room_at_nodes_that_are_rather_full(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        recovery = Recovery(user.letters, user.state.recovery)
        at = await recovery.save(1, user.state.copies())
        for node in surgery.federation.nodes.values():
            node.mailboxes._database_bytes_max = 1 << 30
            node.mailboxes._size_bytes = 5 << 27  # room for one copy in a mailbox, not for two
        for number in range(2, 7):
            at = await recovery.save(number, user.state.copies(), at)
            assert (await recovery.load()).number == number


async def test_a_copy_that_finds_no_room_anywhere_costs_no_other(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        recovery = Recovery(user.letters, user.state.recovery)
        at = await recovery.save(1, user.state.copies())
        for node in surgery.federation.nodes.values():
            node.mailboxes._database_bytes_max = 1
        for number in (2, 3, 4):
            with pytest.raises(UnreachableError, match="no node that could be reached has room"):
                await recovery.save(number, user.state.copies(), at)
            assert (await recovery.load()).number == 1


async def test_a_copy_that_was_not_made_is_made_by_the_next_command(surgery: Surgery, tmp_path: Path) -> None:
    """A device that dies between what it did and the copy, and then only looks."""
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        me, charter = Me("en", True, tmp_path, "me", tmp_path / "charter.toml", ()), surgery.federation.folder
        me.charter_path.write_bytes((charter / "charter.toml").read_bytes())
        with Vault.make(me.path, None) as vault:
            vault.write(user.state.encode())

        def look() -> UserState:
            async def work(user: User) -> None:
                await user.states()

            with Vault(me.path, None) as vault:
                state = UserState.decode(vault.read() or b"")
                run_user(me, vault, state, work)
                return state

        assert (await asyncio.to_thread(look)).copied
        copy = await Recovery(user.letters, user.state.recovery).load()
        assert copy.number == 1
        assert UserState.decode(copy.state).request == user.state.request
        assert (await asyncio.to_thread(look)).saved == 1, "what did not change is not copied again"


async def test_copies_are_made_anew_before_they_end_and_when_an_operator_leaves(surgery: Surgery) -> None:
    """Who looks now and then at an appointment in a year would else have none left when the device is lost."""
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        recovery, made_s = Recovery(user.letters, user.state.recovery), int(time.time())
        at = await recovery.save(1, user.state.copies())
        assert not recovery.is_due(made_s, at)
        assert recovery.is_due(made_s - COPY_S // 2 - 60, at)
        staying = tuple(operator for operator in view.charter.operators if operator.origin_hash != at[0])
        view.pool.charter = replace(view.charter, operators=staying)
        assert recovery.is_due(made_s, at)


async def test_a_later_copy_is_found_at_whichever_node_and_never_deleted(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        await user.ask(with_work)
        recovery = Recovery(user.letters, user.state.recovery)
        at = await recovery.save(9, user.state.copies())
        lost = next(node for node in surgery.federation.nodes.values() if own(node) == at[0])
        await lost.engine.write(Write("DELETE FROM messages"))
        assert await recovery.overtaken(5, at), "the other one has it"
        others = [own(node) for node in surgery.federation.nodes.values() if own(node) not in at]
        real = user.letters.open_mailbox

        async def elsewhere(*args: Any, **more: Any) -> tuple[bytes, ...]:
            return await real(*args, **{**more, "near": others})

        user.letters.open_mailbox = elsewhere  # type: ignore[method-assign]
        with pytest.raises(OtherDeviceError):
            await recovery.save(6, user.state.copies(), at)
        with pytest.raises(OtherDeviceError):
            await recovery._gone(at[1], 6)
        assert (await recovery.load()).number == 9


def test_whatever_was_said_and_signed_a_copy_has_room(tmp_path: Path) -> None:
    """Long notes and many passports: what is needed most is in it."""
    areas = ((seed("mediator"), seed("area")[:16]),)
    state = UserState.new(Person("Muster", "Erika", date(1940, 8, 12)), "", areas, ("flu",), os.urandom)
    offer = Offer(
        seed("H"), seed("mediator"), ((seed("slot")[:16], 5, 10, "flu"),), 9, bytes(2000), bytes(32), bytes(1216),
        bytes(32), (bytes(32),), b"l",
    )  # fmt: skip
    state.chosen = Chosen(offer, provider("a", catchment("b", "1")), seed("slot")[:16], bytes(32), bytes(32))
    state.chosen.words = [(n, True, "ü" * 1000) for n in range(20)]
    state.passports = [bytes([n]) * 3000 for n in range(20)]
    first, *_, last = state.copies()
    assert len(first) > PADDED_BYTES
    assert len(last) < PADDED_BYTES
    kept = UserState.decode(last)
    assert kept.passports == state.passports[-5:]
    assert kept.chosen is not None
    assert not kept.chosen.words


async def test_nodes_hold_one_copy_and_cannot_read_it(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        for number in range(1, 8):
            await Recovery(user.letters, user.state.recovery).save(number, [b"what nobody may read"])
    sizes = []
    for node in surgery.federation.nodes.values():
        rows = await node.engine.fetch("SELECT body FROM messages")
        assert all(b"nobody may read" not in body for (body,) in rows)
        sizes.append(len(rows))
    assert sorted(sizes)[-2:] == [1, 1], (
        "a later copy replaces the earlier one; who is slow is passed over, so more may"
    )
