"""`peewit user status|show`: how a request and its appointment stand, also without a network."""

from __future__ import annotations

import sys
from typing import Final

import click
import segno
from rich.console import Console
from rich.markup import escape

from peewit_clients.areas import Area, label, waiting
from peewit_clients.backend import UnreachableError
from peewit_clients.checkin import check_in_code
from peewit_clients.cli.common import emit, plain
from peewit_clients.cli.person import Me, clock, personal, with_user
from peewit_clients.facilities import LANGUAGES, STEP_FREE, Facilities
from peewit_clients.recovery import Recovery
from peewit_clients.user import User
from peewit_clients.user_state import Chosen, Standing
from peewit_clients.words import in_words, said, told, verdict_line
from peewit_federation.appointment.queue_api import PARKED, ROUNDS_MAX, rank_of
from peewit_federation.appointment.request import OPENINGS, Request
from peewit_federation.errors import RefusedError, UnknownError
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
            user.late = await heard(user)
            await _tell_other(me, user)
        waits = not user.state.withdrawn and (chosen is None or chosen.state is Standing.DECLINED)
        untaken: UnreachableError | None = None
        parked = False
        if waits and not user.ended and user.late is None:
            try:
                parked = await _parked(user)
            except UnreachableError as error:
                untaken = error
        if user.late is not None:
            _tell_offline(me, user.late)
        if me.as_json:
            facts = {"state": _state(user), "round": request.round, "group": request.group, **times(chosen)}
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
        await _tell_waiting(me, user, request)

    with_user(me, look, offline=True)


@click.command()
@personal
def show(me: Me) -> None:
    """Your appointment, with the code to show at the practice."""

    async def look(user: User) -> None:
        chosen = user.state.chosen
        if chosen is not None and user.late is None:
            user.late = await heard(user)
            await _tell_other(me, user)
        if chosen is None or chosen.state is not Standing.BOOKED:
            if user.late is not None:
                _tell_offline(me, user.late, err=True)
            raise RefusedError(said("error_unconfirmed"))
        code = check_in_code(user.state.nonce)
        if user.late is not None:
            _tell_offline(me, user.late)
        if me.as_json:
            emit({"check_in": code, "offline": user.late is not None, **times(chosen)})
            return
        _tell_chosen(me, user, chosen)
        _tell_practice(me, user)
        _tell_words(me, chosen)
        click.echo()
        me.tell("show_title")
        if _shows_squares():
            segno.make(f"PEEWIT:{code}", error="m").terminal(compact=True)
        me.tell("show_code", code=code)

    with_user(me, look, offline=True)


async def _tell_waiting(me: Me, user: User, request: Request) -> None:
    """How many come before, in each area, and by which rule."""
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
        rank = rank_of(groups, request.group)
        counts = await waiting(user.view, Area(area[0], catchment))
        ahead = [n for place, n in counts.items() if place < (rank, request.round) and n]
        same = counts.get((rank, request.round), 0)
        me.tell("status_ahead", area=label(catchment), rounds=len(ahead), count=sum(ahead), same=same)
    me.tell("rule")
    count = len(await user.offers())
    if count:
        me.tell("status_offers", count=count)


async def _tell_other(me: Me, user: User) -> None:
    """Another device may have read what the practice said since."""
    state = user.state
    if await Recovery(user.letters, state.recovery).overtaken(state.saved, state.copies_at):
        me.tell("status_other_device", err=True)


async def heard(user: User) -> UnreachableError | None:
    """Hear what the practice said, if anybody can be asked now; why not."""
    try:
        await user.check()
    except UnreachableError as error:
        return error
    return None


def _tell_offline(me: Me, late: UnreachableError, *, err: bool = False) -> None:
    me.tell("status_offline", err=err, why=plain(in_words(told(late), me.language)))


def _shows_squares() -> bool:
    """Whether the terminal can show a QR code."""
    try:
        "\u2588\u2580\u2584".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


async def _parked(user: User) -> bool:
    """Whether nobody offers times any more, because offers were not answered. Raises `UnreachableError`."""
    states = await user.states()
    return bool(states) and all(state == PARKED for state in states.values())


def _state(user: User) -> str:
    if user.state.request is None or user.state.withdrawn:
        return "withdrawn"
    return user.state.chosen.state.name.lower() if user.state.chosen else "waiting"


def times(chosen: Chosen | None) -> dict[str, object]:
    if chosen is None:
        return {}
    begins_s = chosen.begins_s or next(b for slot, b, _, _ in chosen.offer.slots if slot == chosen.slot)
    words = [{"time": at_s, "practice": theirs, "text": text} for at_s, theirs, text in chosen.words]
    moved = {"moved_from": chosen.moved_from_s} if chosen.moved_from_s else {}
    return {"begins": begins_s, "minutes": chosen.minutes, "practice": chosen.data, "words": words, **moved}


def _tell_chosen(me: Me, user: User, chosen: Chosen) -> None:
    begins_s = int(str(times(chosen)["begins"]))
    match chosen.state:
        case Standing.SENT:
            me.tell("status_sent", when=clock(begins_s))
            if user.view.clock() > chosen.offer.until:
                me.tell("status_silent", until=clock(chosen.offer.until))
        case Standing.BOOKED:
            me.tell("status_booked", when=clock(begins_s), minutes=chosen.minutes)
            if chosen.moved_from_s:
                me.tell("status_moved", when=clock(chosen.moved_from_s))
            Console().print(escape(address(me, chosen.data)), highlight=False)
            if user.cut_off:
                me.tell("status_cut_off")
        case _:
            last = user.state.request is not None and user.state.request.opened + 1 >= OPENINGS
            if last:
                me.tell("status_cancelled_last")
            else:
                me.tell("status_cancelled")


def _tell_practice(me: Me, user: User) -> None:
    """What a suspended or revoked practice means for who has an appointment there."""
    verdict = user.practice_verdict()
    if user.late is not None and verdict is Verdict.UNKNOWN:
        return  # without a network nothing is known of it
    if verdict is Verdict.SUSPENDED:
        me.tell("practice_suspended")
    elif verdict is not Verdict.ACTIVE and verdict is not None:
        me.tell("practice_gone", verdict=me.say(verdict_line(verdict)))


def _tell_words(me: Me, chosen: Chosen) -> None:
    for at_s, theirs, text in chosen.words:
        me.tell("said_practice" if theirs else "said_you", when=clock(at_s), text=plain(text))


def address(me: Me, data: dict[str, str]) -> str:
    """A practice's data in the order in which an address is read, what else there is behind it."""
    facilities = Facilities.of(data)
    rest = [key for key in data if key not in (*ADDRESS, STEP_FREE, LANGUAGES)]
    parts = [data.get(key, "") for key in (*ADDRESS, *rest)]
    parts += [me.say("step_free")] if facilities.step_free else []
    parts += [me.say("speaks", languages=data[LANGUAGES])] if facilities.languages else []
    return plain(", ".join(part for part in parts if part))
