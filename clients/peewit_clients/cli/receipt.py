"""`peewit user receipt`: that a place in the draw is what the rules give, for its holder and for anybody else.

    {"request": H, "round": 2966, "group": "over80", "priority": …, "ticket": …, "keys": [VRF key, …],
     "tokens": [[origin hash, signature], …]}          in hexadecimal

Rules kept here: nothing in the file is believed; keys come from operators' logs that a quorum cosigned, the priority is
computed again, and as many operators as it takes must have admitted the request.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from peewit_clients.cli.common import emit, read_charter, read_text, with_pool
from peewit_clients.cli.person import Me, personal, with_user
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_clients.user import User
from peewit_clients.words import said
from peewit_federation.draw.tickets import Ticket
from peewit_federation.errors import ForgeryError, MalformedError, OperatorError, RefusedError, UnknownError

FILE_CHARACTERS_MAX = 100_000


@click.command()
@click.option(
    "--check", "path", type=click.Path(path_type=Path, dir_okay=False),
    help="Check a receipt that somebody else printed with --json; it takes no request of yours.",
)  # fmt: skip
@personal
def receipt(path: Path | None, me: Me) -> None:
    """Prove the draw: recompute your priority from the proofs, and print them for others to check (--json)."""
    if path is not None:
        _check(path, me)
        return

    async def look(user: User) -> None:
        request = user.state.request
        if request is None:
            raise UnknownError(said("error_nothing_asked"))
        ticket = Ticket.decode(request.ticket)
        keys = _keys(user.view, request.round)
        priority = ticket.priority(request.name, keys).hex()
        if me.as_json:
            emit({
                "request": request.name.hex(), "round": request.round, "group": request.group, "priority": priority,
                "ticket": request.ticket.hex(), "keys": [public.hex() for public in keys],
                "tokens": [[origin.hex(), token.hex()] for origin, token in request.tokens],
            })  # fmt: skip
        group = request.group or me.say("everybody")
        me.tell("receipt_good", round=request.round, group=group, priority=priority[:16] + "…")

    with_user(me, look)


def _keys(view: RegistryView, number: int) -> tuple[bytes, ...]:
    """The draw's keys of a round. Raises `RefusedError`."""
    schedule = view.charter.schedule
    if schedule is None:
        raise OperatorError("the charter of this federation has no draw")
    keys = view.registry.rounds.keys(schedule.seats_of(number), number)
    if keys is None:
        raise RefusedError(f"the keys of round {number} are not known; it may be over")
    return keys


def _check(path: Path, me: Me) -> None:
    """Raise `ForgeryError` if a receipt does not hold, `MalformedError` if it is none."""
    text = read_text(path)
    try:
        said: dict[str, Any] = json.loads(text) if len(text) <= FILE_CHARACTERS_MAX else {}
        request, ticket = bytes.fromhex(said["request"]), Ticket.decode(bytes.fromhex(said["ticket"]))
        number, group, priority = int(said["round"]), str(said["group"]), str(said["priority"])
        tokens = [(bytes.fromhex(origin), bytes.fromhex(token)) for origin, token in said["tokens"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, MalformedError):
        raise MalformedError(f"{path} is not a receipt of `peewit user receipt --json`") from None
    charter = read_charter(me.charter_path)

    async def look(pool: BackendPool) -> None:
        view = RegistryView(charter, pool)
        await view.refresh()
        keys = _keys(view, number)
        if ticket.priority(request, keys).hex() != priority:
            raise ForgeryError(f"{path}: the draw gave this request another priority")
        assert charter.schedule is not None
        seats = charter.schedule.seats_of(number)
        view.registry.rounds.require_tokens(request, number, group, tokens, seats, charter.admitters)

    with_pool(charter, me.nodes, look)
    if me.as_json:
        emit({"proven": True, "request": request.hex(), "round": number, "group": group, "priority": priority})
    me.tell("receipt_good", round=number, group=group or me.say("everybody"), priority=priority[:16] + "…")
