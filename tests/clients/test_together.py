"""Asking several nodes at once."""

from __future__ import annotations

import asyncio

import pytest

from peewit_clients import together as module
from peewit_clients.backend import BackendError
from peewit_clients.together import together


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)


async def says(what: str) -> str:
    return what


async def fails() -> str:
    raise BackendError("no")


async def hangs() -> str:
    await asyncio.Event().wait()
    return "never"


async def late(after: asyncio.Event) -> str:
    await after.wait()
    return "late"


async def test_a_node_that_hangs_holds_nobody_up_once_another_did_it() -> None:
    async with asyncio.timeout(30):
        hung, good, refused = await together([hangs(), says("yes"), fails()])
    assert (good, str(refused)) == ("yes", "no")
    assert isinstance(hung, BackendError)
    assert "not waited for" in str(hung)


async def test_while_nobody_did_it_everybody_is_waited_for() -> None:
    release = asyncio.Event()
    asked = asyncio.create_task(together([fails(), late(release)]))
    await asyncio.sleep(0.1)
    assert not asked.done()
    release.set()
    assert (await asked)[1] == "late"


async def test_an_error_that_is_no_nodes_is_not_swallowed_and_leaves_nothing_running() -> None:
    async def broken() -> str:
        raise ZeroDivisionError

    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await together([says("yes"), broken(), hangs()])
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert await together([]) == []


async def test_patience_begins_when_there_are_enough() -> None:
    """A quorum of slow nodes is waited for, also if one is fast."""

    async def after(seconds: float, value: int) -> int:
        await asyncio.sleep(seconds)
        return value

    assert await together((after(at, n) for n, at in enumerate((0.0, 0.2, 0.25))), 0.1, 2) == [0, 1, 2]
    found = await together((after(at, n) for n, at in enumerate((0.0, 0.1, 5.0))), 0.1, 2)
    assert found[:2] == [0, 1]
    assert isinstance(found[2], BackendError)
