"""`peewit user status|offers|accept|show|note|cancel|withdraw|again|receipt`: what follows a request."""

from __future__ import annotations

from typing import Final

import click
import segno
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from peewit_clients.areas import Area, label, waiting
from peewit_clients.backend import UnreachableError
from peewit_clients.checkin import check_in_code
from peewit_clients.cli.common import emit, plain
from peewit_clients.cli.person import Me, clock, personal, with_user
from peewit_clients.cli.receipt import receipt
from peewit_clients.cli.speaking import show_table
from peewit_clients.facilities import LANGUAGES, STEP_FREE, Facilities
from peewit_clients.user import Found, User
from peewit_clients.user_state import Chosen, Standing
from peewit_clients.words import in_words, said, told, verdict_line
from peewit_federation.appointment.queue_api import PARKED, ROUNDS_MAX
from peewit_federation.errors import MalformedError, RefusedError, UnknownError
from peewit_federation.registry.subjects import Verdict

ROUND_DAYS_S: Final = 86_400
ADDRESS: Final = ("name", "street", "postcode", "city", "phone", "access")


@click.command()
@personal
def status(me: Me) -> None:
    """Where your request stands, who comes before you, and by which rule."""

    async def look(user: User) -> None:
        request, chosen = user.state.request, user.state.chosen
        if request is None:
            if me.as_json:
                emit({"state": "nothing"})
            me.tell("status_none")
            return
        if chosen is not None and user.late is None:
            user.late = await _check(user)
        waits = not user.state.withdrawn and (chosen is None or chosen.state is Standing.DECLINED)
        untaken: UnreachableError | None = None
        parked = False
        if waits and not user.ended and user.late is None:
            try:
                parked = await _parked(user)
            except UnreachableError as error:
                untaken = error
        if user.late is not None:
            me.tell("status_offline", why=plain(in_words(told(user.late), me.language)), err=me.as_json)
        if me.as_json:
            facts = {"state": _state(user), "round": request.round, "group": request.group, **_times(chosen)}
            facts |= {"parked": parked, "ended": waits and user.ended, "cut_off": user.cut_off}
            emit({**facts, "offline": user.late is not None, "held": untaken is None and user.late is None})
            return
        if user.state.withdrawn:
            me.tell("status_withdrawn")
            return
        if chosen is not None and chosen.state is not Standing.DECLINED:
            _tell_chosen(me, user, chosen)
            _tell_practice(me, user)
            _tell_words(me, chosen)
            return
        if user.late is not None:
            me.tell("status_asked", round=request.round, group=request.group or me.say("everybody"))
            return
        if untaken is not None:
            me.tell("status_untaken", why=plain(in_words(told(untaken), me.language)))
            return
        if user.ended:
            me.tell("status_ended", rounds=ROUNDS_MAX)
            return
        if chosen is not None:
            me.tell("status_declined")
        if parked:
            me.tell("status_parked")
        schedule = user.view.charter.schedule
        days = round(schedule.round_s / ROUND_DAYS_S, 2) if schedule else 0
        me.tell("status_waiting", round=request.round, group=request.group or me.say("everybody"), days=f"{days:g}")
        for area in request.areas:
            try:
                catchment = user.catchment(*area)
            except UnknownError as error:
                known = user.area(*area)
                name = label(known) if known else area[1].hex()[:8]
                me.tell("status_area_gone", area=name, why=plain(in_words(told(error), me.language)))
                continue
            groups = catchment.groups
            rank = groups.index(request.group) if request.group in groups else len(groups)
            counts = await waiting(user.view, Area(area[0], catchment))
            ahead = [n for place, n in counts.items() if place < (rank, request.round) and n]
            same = counts.get((rank, request.round), 0)
            me.tell("status_ahead", area=label(catchment), rounds=len(ahead), count=sum(ahead), same=same)
        me.tell("rule")
        count = len(await user.offers())
        if count:
            me.tell("status_offers", count=count)

    with_user(me, look, offline=True)


async def _check(user: User) -> UnreachableError | None:
    """Hear what the practice said, if anybody can be asked now; why not."""
    try:
        await user.check()
    except UnreachableError as error:
        return error
    return None


async def _parked(user: User) -> bool:
    """Whether nobody offers times any more, because offers were not answered. Raises `UnreachableError`."""
    states = await user.states()
    return bool(states) and all(state == PARKED for state in states.values())


def _state(user: User) -> str:
    if user.state.request is None or user.state.withdrawn:
        return "withdrawn"
    return user.state.chosen.state.name.lower() if user.state.chosen else "waiting"


def _times(chosen: Chosen | None) -> dict[str, object]:
    if chosen is None:
        return {}
    begins_s = chosen.begins_s or next(b for slot, b, _, _ in chosen.offer.slots if slot == chosen.slot)
    words = [{"time": at_s, "practice": theirs, "text": text} for at_s, theirs, text in chosen.words]
    return {"begins": begins_s, "minutes": chosen.minutes, "practice": chosen.data, "words": words}


def _tell_chosen(me: Me, user: User, chosen: Chosen) -> None:
    begins_s = int(str(_times(chosen)["begins"]))
    match chosen.state:
        case Standing.SENT:
            me.tell("status_sent", when=clock(begins_s))
            if user.view.clock() > chosen.offer.until:
                me.tell("status_silent", until=clock(chosen.offer.until))
        case Standing.BOOKED:
            me.tell("status_booked", when=clock(begins_s), minutes=chosen.minutes)
            Console().print(escape(_address(me, chosen.data)), highlight=False)
            if user.cut_off:
                me.tell("status_cut_off")
        case _:
            me.tell("status_cancelled")


def _tell_practice(me: Me, user: User) -> None:
    """What a suspended or revoked practice means for who has an appointment there."""
    verdict = user.practice_verdict()
    if verdict is Verdict.SUSPENDED:
        me.tell("practice_suspended")
    elif verdict is not Verdict.ACTIVE and verdict is not None:
        me.tell("practice_gone", verdict=me.say(verdict_line(verdict)))


def _tell_words(me: Me, chosen: Chosen) -> None:
    for at_s, theirs, text in chosen.words:
        me.tell("said_practice" if theirs else "said_you", when=clock(at_s), text=plain(text))


def _address(me: Me, data: dict[str, str]) -> str:
    """A practice's data in the order in which an address is read, what else there is behind it."""
    facilities = Facilities.of(data)
    rest = [key for key in data if key not in (*ADDRESS, STEP_FREE, LANGUAGES)]
    parts = [data.get(key, "") for key in (*ADDRESS, *rest)]
    parts += [me.say("step_free")] if facilities.step_free else []
    parts += [me.say("speaks", languages=data[LANGUAGES])] if facilities.languages else []
    return plain(", ".join(part for part in parts if part))


def _listed(found: list[Found]) -> list[tuple[Found, tuple[bytes, int, int, str]]]:
    """Offers, slot by slot, in the order of time: what numbers mean."""
    return sorted(((item, slot) for item in found for slot in item.offer.slots), key=lambda pair: pair[1][1:2])


@click.command()
@personal
def offers(me: Me) -> None:
    """Offers that practices made you, each checked. What is wrong with others is said."""

    async def look(user: User) -> None:
        listed = _listed(await user.offers())
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
            address = escape(_address(me, item.data))
            table.add_row(str(number), clock(begins_s), str(minutes), service, address, until)
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
                me.tell("accept_again", when=clock(int(str(_times(chosen)["begins"]))))
                return
        else:
            listed = _listed(await user.offers())
            if not 1 <= number <= len(listed):
                raise UnknownError(said("error_no_offer", number=number))
            item, slot = listed[number - 1]
            await user.accept(item, slot[0])
        if me.as_json:
            emit({"state": "sent"})
        me.tell("accept_sent")

    with_user(me, act)


@click.command()
@personal
def show(me: Me) -> None:
    """Your appointment, with the code to show at the practice."""

    async def look(user: User) -> None:
        chosen = user.state.chosen
        if chosen is not None and user.late is None:
            user.late = await _check(user)
        if chosen is None or chosen.state is not Standing.BOOKED:
            if user.late is not None:
                raise user.late
            raise RefusedError(said("error_unconfirmed"))
        code = check_in_code(user.state.nonce)
        if user.late is not None:
            me.tell("status_offline", why=plain(in_words(told(user.late), me.language)), err=me.as_json)
        if me.as_json:
            emit({"check_in": code, "offline": user.late is not None, **_times(chosen)})
            return
        _tell_chosen(me, user, chosen)
        _tell_practice(me, user)
        _tell_words(me, chosen)
        click.echo()
        me.tell("show_title")
        segno.make(f"PEEWIT:{code}", error="m").terminal(compact=True)
        me.tell("show_code", code=code)

    with_user(me, look, offline=True)


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
        await _check(user)  # what the practice said meanwhile; it can be told in any case
        await user.cancel(text)
        if me.as_json:
            emit({"state": "cancelled"})
        me.tell("cancel_done")

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
            await _check(user)
        await user.reopen()
        assert user.state.request is not None
        group = user.state.request.group or me.say("everybody")
        if me.as_json:
            emit({"state": "waiting", "round": user.state.request.round})
        me.tell("again_done", round=user.state.request.round, group=group)

    with_user(me, act)


COMMANDS: Final = (status, offers, accept, show, note, cancel, withdraw, again, receipt)
