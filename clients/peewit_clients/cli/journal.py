"""`peewit provider journal`: which nodes keep what a practice decided, and how far each of them is."""

from __future__ import annotations

from typing import Final

import click
from rich.table import Table

from peewit_clients.cli.clinic import Clinic, clinical, with_practice
from peewit_clients.cli.common import emit, plain
from peewit_clients.cli.speaking import show_table
from peewit_clients.journal import BehindError
from peewit_clients.office import Office
from peewit_clients.practice import Practice

HAS, BEHIND, SILENT = "has everything", "is behind", "does not answer"
STATES: Final = {HAS: "clinic_has", BEHIND: "clinic_behind", SILENT: "clinic_silent"}
ENOUGH: Final = 2


@click.command()
@click.option("--go-on", is_flag=True, help="What this device knows counts, though most nodes that could tell left.")
@clinical
def journal(go_on: bool, clinic: Clinic) -> None:
    """Which nodes keep what you decide, and whether each of them has all of it.

    Two of three have to answer before anything is told to anybody. When an operator leaves the federation, another one
    takes its place by itself. Only if two of them leave at once, nodes cannot tell what was decided last: say --go-on
    then, on the device that was at work last.
    """

    async def look(practice: Practice, _: Office) -> list[tuple[str, str]]:
        journal = practice.journal
        async with practice.one:
            if go_on:
                try:
                    await journal.go_on()
                except BehindError as error:
                    click.echo(plain(str(error)), err=True)
                practice.complaints.clear()  # of what was tried without it
            await journal.flush()
            await journal.mend()
            mine = practice.state.journal
            backends = journal.nodes.of(mine.origins)
            held = await journal.nodes.headers(backends)
        found = []
        for backend in backends:
            header = held.get(backend.operator.origin_hash)
            there = header is not None and (header.written, header.number) == (mine.written, mine.number)
            found.append((backend.name, HAS if there else BEHIND if header else SILENT))
        return found

    found = with_practice(clinic, look)
    if clinic.as_json:
        emit({"nodes": [{"node": name, "state": state} for name, state in found]})
        return
    table = Table(clinic.say("column_node"), clinic.say("column_state"))
    for name, state in found:
        table.add_row(plain(name), clinic.say(STATES[state]))
    show_table(table)
    good = sum(state == HAS for _, state in found)
    clinic.tell("clinic_keepers", good=good, count=len(found))
    if good < ENOUGH:
        clinic.tell("clinic_keepers_few")
