"""The nodes that keep a practice's journal, when operators leave the federation."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace

import pytest

from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.journal import BehindError
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.practice_state import PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_federation import cbor
from peewit_federation.appointment.journal import Header, encode_page
from peewit_federation.errors import RefusedError
from tests.clients.journal_kit import add, cut_off, disk_of, keepers_of
from tests.clients.office import charter_of
from tests.clients.surgery import Surgery, slot


@asynccontextmanager
async def after(surgery: Surgery, *gone: str) -> AsyncIterator[RegistryView]:
    """As clients see the federation when these operators have left it."""
    charter = charter_of(surgery.federation)
    stay = tuple(operator for operator in charter.operators if operator.name not in gone)
    async with BackendPool(replace(charter, operators=stay)) as pool:
        view = RegistryView(charter, pool)
        await view.refresh([surgery.mediator.id])
        yield view


def times(practice: Practice) -> set[bytes]:
    return set(practice.state.calendar)


def names(*numbers: int) -> set[bytes]:
    return {slot(number).name for number in numbers}


async def test_when_an_operator_leaves_somebody_else_keeps_the_journal_and_no_device_misses_it(
    surgery: Surgery,
) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        await practice.journal.flush()
        old, backup = keepers_of(surgery, practice), deepcopy(disk)
        (outside,) = set(surgery.federation.names) - set(old)
        async with after(surgery, old[0]) as later:
            practice = disk.device(later)
            add(practice, 2)
            await practice.journal.flush()
            new = keepers_of(surgery, practice)
            assert new == [*old[1:], outside]
            # Two of the new ones are enough: one of the old is cut off, and the newcomer has everything.
            add(practice, 3)
            cut_off(practice, {old[1]})
            await practice.journal.flush()
            await practice.journal.mend()
            # A device that was put back from before the move does not know of it, and learns it from any of the two.
            put_back = backup.device(later)
            cut_off(put_back, {old[1]})
            with pytest.raises(BehindError):
                await put_back.journal.ready()
            assert keepers_of(surgery, put_back) == new
            assert times(put_back) == names(1, 2, 3)
            # So does an empty machine.
            empty = on_empty_machine(later, practice)
            await empty.journal.restore()
            assert times(empty) == names(1, 2, 3)
        # Also one whose charter still has who left, and who left still answers it.
        behind = backup.device(view)
        with pytest.raises(BehindError):
            await behind.journal.ready()
        assert keepers_of(surgery, behind) == new
        assert times(behind) == names(1, 2, 3)


def on_empty_machine(view: RegistryView, practice: Practice) -> Practice:
    """It has nothing but the keys."""
    mine = practice.state
    return Practice(view, PracticeState(mine.mediator, mine.key_seed, mine.encryption_seed), os.urandom)


@pytest.mark.parametrize("reached", [0, 1])
async def test_until_enough_nodes_took_a_write_who_kept_it_before_has_to_agree(surgery: Surgery, reached: int) -> None:
    """The newcomers alone have nothing yet: whoever believed them would begin with an old calendar, or an empty one."""
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        await practice.journal.flush()
        (gone, first, second), backup = keepers_of(surgery, practice), deepcopy(disk)
        # The second node misses what is written next.
        add(practice, 2)
        cut_off(practice, {second})
        await practice.journal.flush()
        async with after(surgery, gone) as later:
            mover = disk.device(later)
            real = mover.journal.nodes.call

            async def claims_only(backend, what, body):  # type: ignore[no-untyped-def]
                if what == "write" and (backend.name != first or not reached):
                    raise BackendError("its power goes")
                return await real(backend, what, body)

            mover.journal.nodes.call = claims_only  # type: ignore[method-assign]
            with pytest.raises(UnreachableError):
                await mover.journal.flush()
            empty, down = on_empty_machine(later, practice), {first}
            cut_off(empty, down)
            with pytest.raises(UnreachableError, match="1 of the 3 nodes"):
                await empty.journal.restore()
            put_back = backup.device(later)
            cut_off(put_back, {first})
            with pytest.raises(UnreachableError, match="1 of the 3 nodes"):
                await put_back.journal.ready()
            down.clear()
            await empty.journal.restore()
            assert times(empty) == names(1, 2)


async def test_when_two_leave_at_once_only_a_person_says_which_device_goes_on(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        await practice.journal.flush()
        one, two, _ = keepers_of(surgery, practice)
        add(practice, 2)
        async with after(surgery, one, two) as later:
            practice = disk.device(later)
            with pytest.raises(RefusedError, match="provider journal --go-on"):
                await practice.journal.flush()
            await practice.journal.go_on()
            await practice.journal.flush()
            assert not {one, two} & set(keepers_of(surgery, practice))
            assert times(practice) == names(1, 2)
            again = disk.device(later)
            await again.journal.ready()
            assert times(again) == names(1, 2), "and from then on as ever"


async def test_one_node_cannot_say_who_else_keeps_a_journal(surgery: Surgery) -> None:
    """It could name friends, or nobody who is there."""
    async with surgery.view() as view:
        practice = disk_of(surgery, view, 1).device(view)
        await practice.journal.flush()
        honest = keepers_of(surgery, practice)
        liar, origins = honest[0], practice.state.journal.origins
        (held,) = (await practice.journal.nodes.headers(practice.journal.nodes.of(origins)[:1])).values()
        real = practice.journal.nodes.call
        for keepers, term in ((((origins[0],),), held.term), (((b"\1" * 32, b"\2" * 32),), 1 << 40)):
            lie = Header(term, held.device, held.written, held.number, held.head, keepers, held.known, held.seal)
            lies = {"read": encode_page(lie, ()), "claim": cbor.encode(lie.value())}

            async def call(backend, what, body, lies=lies):  # type: ignore[no-untyped-def]
                answer = await real(backend, what, body)
                return lies.get(what, answer) if backend.name == liar else answer

            practice.journal.nodes.call = call  # type: ignore[method-assign]
            await practice.journal._recover()
            assert keepers_of(surgery, practice) == honest
            assert practice.state.journal.term < 100
            assert any("none of this practice's" in line for line in view.pool.complaints[liar])


async def test_a_device_that_knows_better_asks_everybody_before_it_begins_anew(surgery: Surgery) -> None:
    """Who kept the journal long ago has deleted it, and would take another one."""
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        await practice.journal.flush()
        old, backup = keepers_of(surgery, practice), deepcopy(disk)
        async with after(surgery, old[0]) as later:
            practice = disk.device(later)
            add(practice, 2)
            await practice.journal.flush()
        for name in old[:2]:
            node = surgery.federation.nodes[name]
            await node.journals.expire(node.state.now() + 101 * 86_400)
        again = backup.device(view)
        with pytest.raises(BehindError):
            await again.journal.ready()
        assert times(again) == names(1, 2)
        # Nobody has anything any more: a person says whether this is all that there was.
        for node in surgery.federation.nodes.values():
            await node.journals.expire(node.state.now() + 101 * 86_400)
        last = disk.device(view)
        with pytest.raises(RefusedError, match="--go-on"):
            await last.journal.ready()
        await last.journal.go_on()
        assert times(last) == names(1, 2)


async def test_one_answer_does_not_tell_that_nobody_else_is_at_work(surgery: Surgery) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        practice = disk.device(view)
        await practice.journal.flush()
        first, second, _ = keepers_of(surgery, practice)
        cut_off(practice, {first, second})
        with pytest.raises(UnreachableError, match="1 of the nodes"):
            await practice.journal.ready()


async def test_a_copy_from_before_the_first_write_with_another_charter_begins_no_second_journal(
    surgery: Surgery,
) -> None:
    async with surgery.view() as view:
        disk = disk_of(surgery, view, 1)
        virgin, practice = deepcopy(disk), disk.device(view)
        chosen = [backend.name for backend in practice.journal.nodes.of(practice.journal.nodes.choose())]
        cut_off(practice, {chosen[2]})
        await practice.journal.flush()
        async with after(surgery, chosen[0]) as later:
            copy = virgin.device(later)
            cut_off(copy, {chosen[1]})
            with pytest.raises(UnreachableError, match="1 of the 3 nodes"):
                await copy.journal.flush()
            copy = virgin.device(later)
            with pytest.raises(BehindError):
                await copy.journal.flush()


async def test_a_journal_that_could_not_begin_does_not_begin_with_fewer_the_next_time(surgery: Surgery) -> None:
    async with surgery.view() as view:
        practice = disk_of(surgery, view, 1).device(view)
        nodes = practice.journal.nodes
        two = {backend.name for backend in nodes.of(nodes.choose())[:2]}
        gone = set(surgery.federation.names) - two
        cut_off(practice, gone)
        for _ in range(2):
            with pytest.raises(UnreachableError, match="2 of 4 nodes answer"):
                await practice.journal.flush()
        gone.clear()
        await practice.journal.flush()
