"""`peewit provider run`: a practice at work, and what a person sees of it.

Rules kept here: between turns the practice's folder is free for other commands; what they changed is read before the
next turn. A terminal shows a table that renews itself, anything else gets a line for each thing that happened, and a
program gets one JSON object for each turn.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import nullcontext
from typing import Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from peewit_clients.cli.clinic import Clinic, clinical, complain, local_time, opened
from peewit_clients.cli.common import emit, plain, read_charter, with_pool
from peewit_clients.drawer import Drawer
from peewit_clients.locks import InUseError
from peewit_clients.office import Office
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.practice_state import PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.serve import Server, ServeSettings, Turn
from peewit_clients.words import Words, said, verdict_line
from peewit_federation.appointment.notes import CANCEL, Note
from peewit_federation.errors import OperatorError, RefusedError

LINES: Final = 12
PAUSE_S: Final = 0.1


@click.command()
@click.option("--once", is_flag=True, help="One turn, and end.")
@click.option("--every", "every_s", type=click.FloatRange(0.1, 3600), default=20.0, show_default=True, help="Seconds.")
@click.option("--slots", type=click.IntRange(1, 16), default=2, show_default=True, help="Offered to each person.")
@click.option(
    "--answer-hours", type=click.FloatRange(0.2, 72), default=24.0, show_default=True, help="To answer an offer."
)
@click.option(
    "--notice-hours", type=click.FloatRange(0, 240), default=2.0, show_default=True,
    help="Times that begin sooner are offered to nobody.",
)  # fmt: skip
@click.option("--by-hand", is_flag=True, help="Book nobody before you said so: see `peewit provider asking`.")
@clinical
def run(
    once: bool, every_s: float, slots: int, answer_hours: float, notice_hours: float, by_hand: bool, clinic: Clinic
) -> None:  # fmt: skip
    """Draw who is next, offer them times, and confirm. Runs until you end it (Ctrl-C); nothing is lost then.

    Other commands can be used meanwhile: they wait for the end of a turn.
    """
    settings = ServeSettings(slots, int(answer_hours * 3600), int(notice_hours * 3600), by_hand)
    charter = read_charter(clinic.charter_path)
    try:
        with opened(clinic) as (drawer, state):

            async def work(pool: BackendPool) -> None:
                view = RegistryView(charter, pool)
                await view.refresh([state.mediator])
                server = await _begin(view, state, drawer, settings)
                if once:
                    turn = await server.turn()
                    found = _lines(clinic.say, turn, 0) or [clinic.say("clinic_nothing")]
                    emit(_facts(turn)) if clinic.as_json else _say(found)
                    complain(server.practice)
                    return
                await _go_on(clinic, server, view, drawer, every_s)

            with_pool(charter, clinic.nodes, work)
    except KeyboardInterrupt:
        clinic.tell("clinic_ended")


async def _begin(view: RegistryView, state: PracticeState, drawer: Drawer, settings: ServeSettings) -> Server:
    """A practice that may begin its first turn. Raises `RefusedError` if it is not admitted."""
    server = _server(view, state, drawer, settings)
    if state.data:
        await server.practice.ready()
    else:
        await server.office.receive()
        if state.rejected and not state.data:
            raise RefusedError(said("error_rejected", reason=state.rejected))
        if not state.data:
            raise RefusedError(said("error_not_admitted"))
    await server.office.open()
    return server


def _server(view: RegistryView, state: PracticeState, drawer: Drawer, settings: ServeSettings) -> Server:
    """Made anew from what is kept; asks nobody, so that a network that is down ends no work."""
    practice = Practice(view, state, os.urandom, drawer.write)
    return Server(practice, Office(view, state, os.urandom, drawer.write, practice.deal_with), settings)


async def _go_on(clinic: Clinic, server: Server, view: RegistryView, drawer: Drawer, every_s: float) -> None:
    """Turn after turn."""
    say, as_json = clinic.say, clinic.as_json
    console, log, unsuited = Console(), list[str](), 0
    watched = console.is_terminal and not as_json
    with (
        Live(_table(say, server.practice, log), console=console, auto_refresh=False)
        if watched
        else nullcontext() as live
    ):
        while True:
            turn = await server.turn()
            lines = _lines(say, turn, unsuited) + [
                f"! {plain(line)}" for line in dict.fromkeys(server.practice.complaints)
            ]
            unsuited = turn.waiting
            if as_json:
                emit(_facts(turn) | {"complaints": list(dict.fromkeys(server.practice.complaints))})
            elif live is None:
                _say(lines)
            server.practice.complaints.clear()
            log = [*log, *lines][-LINES:]
            if live is not None:
                live.update(_table(say, server.practice, log), refresh=True)
            drawer.pause()
            await asyncio.sleep(every_s)
            if await _resumed(drawer):
                state = PracticeState.load(drawer.read())
                if state is None:
                    raise OperatorError(f"{drawer.path} was emptied by another command")
                server = _server(view, state, drawer, server.settings)


async def _resumed(drawer: Drawer) -> bool:
    """Whether another command changed something; waits until it has ended."""
    while True:
        try:
            return drawer.resume()
        except InUseError:
            await asyncio.sleep(PAUSE_S)


def _say(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


def _facts(turn: Turn) -> dict[str, object]:
    return {
        "booked": len(turn.bookings), "offers": turn.offers, "notes": len(turn.notes), "ended": len(turn.ended),
        "asking": turn.asking, "verdict": turn.verdict.value,
    }  # fmt: skip


def _lines(say: Words, turn: Turn, unsuited: int) -> list[str]:
    """What happened; how many no time suits only if that is another number than was said last."""
    found = [say("clinic_letter", text=turn.letter)] if turn.letter else []
    if turn.stopped:
        found += [say("clinic_stopped", verdict=say(verdict_line(turn.verdict)))]
    found += [say("clinic_booked", when=local_time(b.slot.begins_s), service=b.slot.service) for b in turn.bookings]
    found += [say("clinic_note", when=local_time(b.slot.begins_s), text=_said(say, note)) for b, note in turn.notes]
    found += [say("clinic_free_again", when=local_time(b.slot.begins_s)) for b in turn.ended]
    found += [say("clinic_asking", count=turn.asking)] if turn.asking else []
    found += [say("clinic_offers", count=turn.offers)] if turn.offers else []
    found += [say("clinic_unsuited", count=turn.waiting)] if turn.waiting not in (0, unsuited) else []
    return [plain(line) for line in found]


def _said(say: Words, note: Note) -> str:
    if note.what == CANCEL:
        return say("clinic_cancelled_by", text=note.text) if note.text else say("clinic_cancelled_word")
    return note.text


def _table(say: Words, practice: Practice, log: list[str]) -> Table:
    state, now_s = practice.state, practice.view.clock()
    heads = ("column_free", "column_offered", "column_booked", "column_letters", "column_happened")
    table = Table(*map(say, heads), title="peewit provider run")
    promised = sum(len(offer.slots) for offer in state.offered.values() if offer.until_s > now_s)
    counts = (len(state.free(now_s)), promised, len(state.booked), state.unsent)
    table.add_row(*map(str, counts), "\n".join(log) or say("clinic_nothing_yet"))
    return table
