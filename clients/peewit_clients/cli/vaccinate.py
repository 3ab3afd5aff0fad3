"""`peewit provider passport`: from the vaccinated arm to a signed passport."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import date
from functools import partial
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Column, Table

from peewit_clients.bookings import Booking
from peewit_clients.calendar import read_day
from peewit_clients.checkin import check_in_code
from peewit_clients.cli.clinic import Clinic, clinical, local_day, with_practice
from peewit_clients.cli.common import emit, plain
from peewit_clients.cli.speaking import show_table
from peewit_clients.cli.wallet import passport_lines
from peewit_clients.issued import Issued
from peewit_clients.issuing import Issuing
from peewit_clients.office import Office
from peewit_clients.paper import write_page
from peewit_clients.practice import Practice
from peewit_clients.recovery import read_code
from peewit_clients.walk_in import read_walk_in, request_id
from peewit_clients.words import said, verdict_line
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import MalformedError, OperatorError, RefusedError, UnknownError
from peewit_federation.passports import pw1
from peewit_federation.passports.issue import Dose, Passport
from peewit_federation.passports.values import product
from peewit_federation.registry.subjects import Verdict

CHECK_IN_LETTERS = 10
OUT_OF_SCOPE = Verdict.OUT_OF_SCOPE.value
WAITING = {Verdict.UNKNOWN.value: "clinic_key_waits", OUT_OF_SCOPE: "clinic_key_scope"}
country_option = click.option(
    "--country", default="DE", show_default=True, envvar="PEEWIT_COUNTRY", help="That stands in certificates."
)


pdf_option = click.option(
    "--pdf",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also a page to print, for who has no device; in the language of --language.",
)


def _print_out(pdf: Path | None, clinic: Clinic, made: Passport) -> None:
    if pdf is None:
        return
    say = clinic.say
    until = time.strftime("%Y-%m-%d", time.localtime(made.expires_s))
    lines = [*passport_lines(say, pw1.unpack(made.pw1), made.hc1), (say("passport_until"), until)]
    write_page(pdf, made.hc1, say("passport_title"), lines, say("passport_hint"), clinic.language)


def _name(person: Person) -> str:
    return f"{person.given_name} {person.family_name}".strip()


def _issuing(practice: Practice, country: str = "DE") -> Issuing:
    if not (len(country) == 2 and country.isascii() and country.isalpha() and country.isupper()):
        raise MalformedError(f"--country {country}: two capitals, such as DE")
    return Issuing(practice, country, practice.view.charter.name)


@click.group()
def passport() -> None:
    """Sign vaccination passports for people who came.

    \b
    1. peewit provider passport key               ask your health district to vouch for a key, every month
    2. peewit provider passport issue CODE --vaccine Comirnaty --dose 2/2
    3. peewit provider passport renew             sign anew what expires soon; no visit is needed
    """


@passport.command()
@click.option("--request", type=click.Path(path_type=Path, dir_okay=False), help="Write a certificate request (PEM).")
@click.option(
    "--certificate", type=click.Path(path_type=Path, dir_okay=False), help="Bring what an authority made of it."
)
@click.option("--new", is_flag=True, help="Make and ask for another key, though there is one.")
@country_option
@clinical
def key(request: Path | None, certificate: Path | None, new: bool, country: str, clinic: Clinic) -> None:
    """Ask the mediator to vouch for a key that signs passports, or see how it stands.

    A key signs for 30 days and is erased then; a week before, this asks for the next one, and so does
    `peewit provider run`. What it signed counts on.

    Verifiers outside the federation need a certificate: by an authority of your country (--request, then
    --certificate), or by your health district, which then gives one with the key.
    """
    brought = _read(certificate) if certificate else b""
    asked: list[bytes] = []

    async def act(practice: Practice, _: Office) -> tuple[list[tuple[str, str, int]], list[str]]:
        issuing = _issuing(practice, country)
        issuing.erase_old()
        if brought:
            return [], await issuing.bring_certificate(brought)
        if request is not None:
            asked.append(issuing.request())
        known = [
            (one.subject.hex(), issuing.verdict(one).value, issuing.signs_until_s(one))
            for one in issuing.signing_keys()
        ]
        rests = any(verdict in ("active", OUT_OF_SCOPE) for _, verdict, _ in known) and not issuing.next_is_due()
        return known, [] if rests and not new else await issuing.ask_for_key(fresh=new or issuing.next_is_due())

    known, taken = with_practice(clinic, act)
    if request is not None and asked:
        _write(request, asked[0])
        clinic.tell("clinic_key_request", file=request)
    if clinic.as_json:
        keys = [{"key": name, "verdict": verdict, "signs_until": until_s} for name, verdict, until_s in known]
        emit({"keys": keys, "taken_by": taken})
        return
    for name, verdict, until_s in known:
        state = clinic.say(WAITING.get(verdict, verdict_line(Verdict(verdict))))
        clinic.tell("clinic_key", key=name[:16], state=state, day=local_day(until_s))
    if taken:
        clinic.tell("clinic_key_asked", nodes=", ".join(taken))


@passport.command()
@click.argument("code")
@click.option("--vaccine", required=True, help="Comirnaty, Spikevax, … or the code of the vaccine.")
@click.option("--dose", "doses", required=True, help="2/2, or 3/2 for a booster.")
@click.option("--day", default="", help="Of the dose: 2026-11-22; today if left out.")
@click.option("--replaces", default="", help="Id of a wrong passport, which is revoked.")
@click.option(
    "--machine-name",
    "machine",
    default="",
    help="As in the document's machine-readable line, SALAMA<<ALI, if its letters are not Latin or Cyrillic.",
)
@click.option("--again", is_flag=True, help="Though there is one for this dose already.")
@click.option("--yes", is_flag=True, help="The identity document was compared.")
@pdf_option
@country_option
@clinical
def issue(
    code: str, vaccine: str, doses: str, day: str, replaces: str, machine: str, again: bool, yes: bool, country: str,
    pdf: Path | None, clinic: Clinic,
) -> None:  # fmt: skip
    """Sign a passport for the person who checked in with CODE, and send it, sealed, to that person's device.

    CODE is that of the day list, or the longer one that `peewit wallet request` shows.
    """
    number, _, series = doses.partition("/")
    if not (number.isascii() and number.isdigit() and series.isascii() and series.isdigit()):
        raise MalformedError(f"--dose {doses}: write it as 2/2")
    dose = Dose(product(vaccine), int(number), int(series), read_day(day) if day else date.today())

    async def act(practice: Practice, _: Office) -> tuple[dict[str, object], Passport]:
        issuing = _issuing(practice, country)
        old = issuing.find(replaces).id if replaces else b""
        sign: Callable[[Dose, bytes, str], Awaitable[Passport]]
        if sum(c.isalnum() for c in code) > CHECK_IN_LETTERS:
            try:
                secret = read_code(code)
            except MalformedError:
                raise MalformedError(
                    f"a letter of {code} is wrong, or it is cut off: compare it with what `peewit wallet request` shows"
                ) from None
            try:
                asked = await read_walk_in(practice.letters, secret)
            except UnknownError as error:
                raise UnknownError(
                    "no request lies behind this code any more; it is deleted when a passport has come. The person has "
                    f"to say `peewit wallet request` again ({error})"
                ) from None
            person, sign = asked.person, partial(issuing.issue_walk_in, asked, request_id(secret))
        else:
            booking = _booking(practice, code)
            person, sign = booking.person, partial(issuing.issue, booking)
        shown = plain(clinic.say("clinic_born", name=_name(person), born=person.born.isoformat()))
        if not yes and not click.confirm(clinic.say("clinic_identity", shown=shown), err=True):
            raise RefusedError("nothing was signed")
        if old:
            issuing.require_same(old, person)
        elif not again and (there := issuing.same(person, dose)) is not None:
            raise RefusedError(
                f"there is a passport for this dose: {there.id.hex()}. If it is wrong, say --replaces; else --again"
            )
        made = await sign(dose, old, machine)
        if old:
            await issuing.revoke(old)
        facts = {"passport": made.id.hex(), "uvci": made.uvci, "expires": made.expires_s, "person": shown}
        return facts, made

    made, signed = with_practice(clinic, act)
    _print_out(pdf, clinic, signed)
    if clinic.as_json:
        emit(made)
    clinic.tell("clinic_signed", person=made["person"])
    clinic.tell("clinic_passport", passport=made["passport"], uvci=made["uvci"])
    if pdf is not None:
        clinic.tell("clinic_paper", file=pdf)


@passport.command(name="list")
@clinical
def list_(clinic: Clinic) -> None:
    """What this practice has signed."""

    async def look(practice: Practice, _: Office) -> tuple[list[Issued], set[bytes], set[bytes]]:
        issuing = _issuing(practice)
        issued = issuing.issued()
        return issued, {one.id for one in issuing.due()}, {one.id for one in issued if issuing.is_revoked(one)}

    issued, due, revoked = with_practice(clinic, look)
    if clinic.as_json:
        emit([
            {"passport": one.id.hex(), "issued": one.issued_s, "expires": one.expires_s, "revoked": one.id in revoked,
             "revocation_asked": one.revoked, "renewal_due": one.id in due} for one in issued
        ])  # fmt: skip
        return
    say = clinic.say
    heads = map(say, ("column_name", "column_dose", "column_signed", "column_until", "column_state"))
    table = Table(Column(say("column_passport"), no_wrap=True, min_width=10), *heads)
    for one in issued:
        asked = say("passport_asked") if one.revoked else say("passport_renew") if one.id in due else ""
        state = say("passport_gone") if one.id in revoked else asked
        until = time.strftime("%Y-%m-%d", time.localtime(one.expires_s))
        dose = f"{one.dose.product.name} {one.dose.number}/{one.dose.series}"
        name = escape(plain(_name(one.person)))
        table.add_row(one.id.hex()[:10], name, dose, local_day(one.issued_s), until, state)
    show_table(table if issued else say("clinic_no_passports"))
    if issued:
        clinic.tell("clinic_first_letters")


@passport.command()
@country_option
@clinical
def renew(country: str, clinic: Clinic) -> None:
    """Sign anew whatever expires within 28 days, or was signed with a key that was revoked."""

    async def act(practice: Practice, _: Office) -> tuple[int, int]:
        issuing, count = _issuing(practice, country), 0
        for one in reversed(issuing.due()):  # the newest last, as they came
            await issuing.renew(one)
            count += 1
        return count, practice.state.unsent

    count, waiting = with_practice(clinic, act)
    if clinic.as_json:
        emit({"renewed": count, "letters_to_send": waiting})
        return
    if count:
        clinic.tell("clinic_renewed", count=count)
    else:
        clinic.tell("clinic_none_due")
    if waiting:
        clinic.tell("clinic_letters_wait", count=waiting, err=True)


@passport.command()
@click.argument("passport_id")
@pdf_option
@country_option
@clinical
def reprint(passport_id: str, pdf: Path | None, country: str, clinic: Clinic) -> None:
    """Sign a passport anew under its old identifier, for its holder who lost it; with --pdf also on paper.

    PASSPORT_ID: its id, the first letters of it, or its identifier (URN:UVCI:…).
    """

    async def act(practice: Practice, _: Office) -> tuple[str, Passport]:
        issuing = _issuing(practice, country)
        one = issuing.find(passport_id)
        return _name(one.person), await issuing.renew(one)

    name, made = with_practice(clinic, act)
    _print_out(pdf, clinic, made)
    if clinic.as_json:
        emit({"passport": made.id.hex(), "expires": made.expires_s})
    clinic.tell("clinic_reprinted", name=plain(name))
    if pdf is not None:
        clinic.tell("clinic_paper", file=pdf)


@passport.command()
@click.argument("passport_id")
@clinical
def revoke(passport_id: str, clinic: Clinic) -> None:
    """Ask the mediator to revoke a passport that is wrong, or whose holder wishes it.

    PASSPORT_ID: its id, the first letters of it, or its identifier (URN:UVCI:…).
    """

    async def act(practice: Practice, _: Office) -> list[str]:
        issuing = _issuing(practice)
        return await issuing.revoke(issuing.find(passport_id).id)

    taken = with_practice(clinic, act)
    if clinic.as_json:
        emit({"taken_by": taken})
    clinic.tell("clinic_revocation", nodes=", ".join(taken))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None


def _booking(practice: Practice, code: str) -> Booking:
    held = {check_in_code(booking.accept.nonce): booking for booking in practice.state.booked.values()}
    letters = "".join(c for c in code.upper() if c.isalnum())
    booking = held.get(f"{letters[:4]}-{letters[4:]}")
    if booking is None:
        raise UnknownError(said("error_nobody", code=code))
    return booking
