"""A request that comes back on an empty device, from a code that somebody wrote down."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peewit_clients.letters import Letters
from peewit_clients.place import with_work
from peewit_clients.recovery import Recovery, read_code, write_code
from peewit_clients.user_state import UserState
from peewit_federation.errors import LimitError, MalformedError, UnknownError
from tests.clients.surgery import Surgery
from tests.federation_kit import NAMES, seed


@pytest.fixture
async def surgery(tmp_path: Path) -> AsyncIterator[Surgery]:
    found = await Surgery.open(tmp_path)
    yield found
    await found.federation.stop()


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
            await recovery.save(number, user.state.encode())
        assert (await recovery.load())[0] == 4
        await surgery.federation.stop(NAMES[0])
        number, data = await Recovery(Letters(view.pool, view.clock, os.urandom), user.state.recovery).load()
        assert number == 4
        assert UserState.decode(data).request == user.state.request
        with pytest.raises(UnknownError, match="no node has a copy"):
            await Recovery(user.letters, seed("another code")[:16]).load()
        with pytest.raises(LimitError, match="no room"):
            await recovery.save(9, bytes(49 * 1024))


async def test_nodes_hold_one_copy_and_cannot_read_it(surgery: Surgery) -> None:
    async with surgery.view() as view:
        user = surgery.user(view)
        for number in range(1, 8):
            await Recovery(user.letters, user.state.recovery).save(number, b"what nobody may read")
    sizes = []
    for node in surgery.federation.nodes.values():
        rows = await node.engine.fetch("SELECT body FROM messages")
        assert all(b"nobody may read" not in body for (body,) in rows)
        sizes.append(len(rows))
    assert sorted(sizes)[-2:] == [1, 1], (
        "a later copy replaces the earlier one; who is slow is passed over, so more may"
    )
