"""`peewit user offers|accept|note|cancel|withdraw|again`: what a person does after a request."""

from __future__ import annotations

from typing import Final

import click
from rich.markup import escape
from rich.table import Table

from peewit_clients.cli.common import emit, plain
from peewit_clients.cli.person import Me, clock, personal, with_user
from peewit_clients.cli.receipt import receipt
from peewit_clients.cli.speaking import show_table
from peewit_clients.cli.status import address, heard, show, status, times
from peewit_clients.user import Found, User
from peewit_clients.user_state import Standing
from peewit_clients.words import in_words, said
from peewit_federation import cbor
from peewit_federation.errors import MalformedError, UnknownError
from peewit_federation.keys import sha256


def _listed(found: list[Found]) -> list[tuple[Found, tuple[bytes, int, int, str]]]:
    """Offers, slot by slot, in the order of time: what numbers mean."""
    return sorted(((item, slot) for item in found for slot in item.offer.slots), key=lambda pair: pair[1][1:2])


def _shown(item: Found, slot: tuple[bytes, int, int, str]) -> bytes:
    """What stood in a line: which time, and at which practice."""
    return sha256(cbor.encode([list(slot), item.practice.subject]))


async def _numbered(user: User, number: int) -> tuple[Found, tuple[bytes, int, int, str]]:
    """What a number means: the time that stood there when offers were shown. Raises `UnknownError`."""
    listed = _listed(await user.offers())
    shown = user.state.shown or [_shown(*one) for one in listed]
    if not 1 <= number <= len(shown):
        raise UnknownError(said("error_no_offer", number=number))
    for item, slot in listed:
        if _shown(item, slot) == shown[number - 1]:
            return item, slot
    raise UnknownError(said("error_offer_changed", number=number))


@click.command()
@personal
def offers(me: Me) -> None:
    """Offers that practices made you, each checked. What is wrong with others is said."""

    async def look(user: User) -> None:
        listed = _listed(await user.offers())
        user.shown([_shown(*one) for one in listed])
        if me.as_json:
            emit([
                {
                    "number": number, "begins": slot[1], "minutes": slot[2], "service": slot[3],
                    "until": item.offer.until, "practice": item.data,
                }
                for number, (item, slot) in enumerate(listed, start=1)
            ])  # fmt: skip
            return
        say = me.say
        columns = ("column_number", "column_when", "column_minutes", "column_service", "column_practice")
        table = Table(*map(say, columns), say("column_answer"), title=say("offers_title"))
        for number, (item, (_, begins_s, minutes, service)) in enumerate(listed, start=1):
            until = say("offers_until", when=clock(item.offer.until))
            where = escape(address(me, item.data))
            table.add_row(str(number), clock(begins_s), str(minutes), service, where, until)
        if listed:
            show_table(table, 0, 1)
            me.tell("offers_hint")
        else:
            me.tell("offers_none")
        for reason in user.dropped:
            me.tell("offers_dropped", reason=plain(in_words(reason, me.language)))

    with_user(me, look)


@click.command()
@click.argument("number", type=int)
@personal
def accept(number: int, me: Me) -> None:
    """Choose an offer, by its number in `offers`. Only now does this one practice learn your name."""

    async def act(user: User) -> None:
        chosen = user.state.chosen
        stands = await user.check() if chosen is not None else None
        if chosen is not None and stands is Standing.BOOKED and chosen.stands(user.view.clock()):
            if me.as_json:
                emit({"state": "booked"})
            me.tell("accept_booked", when=clock(chosen.begins_s))
            return
        if chosen is not None and stands is Standing.SENT:
            await user.again()
            if not me.as_json:
                me.tell("accept_again", when=clock(int(str(times(chosen)["begins"]))))
                return
        else:
            item, slot = await _numbered(user, number)
            await user.accept(item, slot[0])
            chosen = user.state.chosen
        assert chosen is not None
        facts = times(chosen)
        if me.as_json:
            emit({"state": "sent", "begins": facts["begins"], "practice": chosen.data})
        where = plain(chosen.data.get("name", "")) or address(me, chosen.data)
        me.tell("accept_sent", when=clock(int(str(facts["begins"]))), where=where)

    with_user(me, act)


@click.command()
@click.argument("text")
@personal
def note(text: str, me: Me) -> None:
    """Say something to the practice, for example that you use a wheelchair."""

    async def act(user: User) -> None:
        if not text.strip():
            raise MalformedError(said("error_no_word"))
        await user.note(text)
        if me.as_json:
            emit({"said": text})
        me.tell("note_done")

    with_user(me, act)


@click.command()
@click.option("--text", default="", help="A word to the practice.")
@personal
def cancel(text: str, me: Me) -> None:
    """Give the appointment back: the time goes to the next in line. You keep your place, see `again`."""

    async def act(user: User) -> None:
        await heard(user)  # what the practice said meanwhile; it can be told in any case
        heard_of = await user.cancel(text)
        if me.as_json:
            emit({"state": "cancelled", "told": heard_of})
        if heard_of:
            me.tell("cancel_done")
        else:
            me.tell("cancel_untold")

    with_user(me, act)


@click.command()
@personal
def withdraw(me: Me) -> None:
    """Take the request out of all queues, if you need no appointment any more."""

    async def act(user: User) -> None:
        await user.withdraw()
        if me.as_json:
            emit({"state": "withdrawn"})
        me.tell("withdraw_done")

    with_user(me, act)


@click.command()
@personal
def again(me: Me) -> None:
    """Back into the queue, in the old place: after a cancelled appointment, or offers that were not answered."""

    async def act(user: User) -> None:
        if user.state.chosen is not None:
            await heard(user)
        await user.reopen()
        assert user.state.request is not None
        group = user.state.request.group or me.say("everybody")
        if me.as_json:
            emit({"state": "waiting", "round": user.state.request.round})
        me.tell("again_done", round=user.state.request.round, group=group)

    with_user(me, act)


COMMANDS: Final = (status, offers, accept, show, note, cancel, withdraw, again, receipt)
