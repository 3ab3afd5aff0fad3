"""`peewit provider`: a practice that offers appointments to whoever is next in line."""

from __future__ import annotations

import os
import time

import click

from peewit_clients.areas import around, every_area, read_postcode
from peewit_clients.cli.calendar import calendar
from peewit_clients.cli.changes import cancel, day, move, note
from peewit_clients.cli.clinic import Clinic, clinical, opened, with_practice
from peewit_clients.cli.common import emit, plain, read_charter, with_pool
from peewit_clients.cli.deciding import asking, confirm, decline
from peewit_clients.cli.journal import journal
from peewit_clients.cli.passphrases import new_passphrase
from peewit_clients.cli.running import run
from peewit_clients.cli.vaccinate import passport
from peewit_clients.drawer import Drawer
from peewit_clients.facilities import fields as stated
from peewit_clients.journal import Journal
from peewit_clients.letters import Letters
from peewit_clients.office import Office
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.practice_state import FACTS, JOURNAL, PracticeState
from peewit_clients.recovery import read_code, write_code
from peewit_clients.vault import key_path
from peewit_clients.words import said, verdict_line
from peewit_federation.errors import MalformedError, OperatorError, UnknownError
from peewit_federation.registry.subjects import Verdict


@click.group()
def provider() -> None:
    """Apply to your health district, keep a calendar, and offer times to whoever is next in line.

    \b
    1. peewit provider init --mediator ID         keys of this practice; ID: from your health district
    2. peewit provider apply --name … --postcode … --service flu
    3. peewit provider calendar add …             times that you offer
    4. peewit provider run                        draws, offers and confirms while it runs
    5. peewit provider day                        who comes today
    6. peewit provider passport issue CODE …      a passport for whoever was vaccinated

    What you decide is at three nodes, sealed, before anybody is told. If this machine is lost:
    peewit provider restore CODE, with the code that `peewit provider init` and `recovery` show.
    """


for command in (calendar, run, asking, confirm, decline, day, note, move, cancel, passport, journal):
    provider.add_command(command)


@provider.command()
@click.option("--mediator", required=True, help="Id of the mediator that will vouch for you, 64 hexadecimal digits.")
@clinical
def init(mediator: str, clinic: Clinic) -> None:
    """Make the keys of this practice, and a recovery code. Whoever has one or the other is the practice."""
    try:
        identity = bytes.fromhex(mediator)
    except ValueError:
        identity = b""
    if len(identity) != 32:
        raise MalformedError(said("error_mediator_id"))
    with Drawer.make(clinic.path, new_passphrase(said("for_device"))) as drawer:
        state = PracticeState.new(identity, os.urandom)
        drawer.write([state.item(FACTS)])
    if clinic.as_json:
        emit({"signing_key": state.key.public.hex(), "recovery_code": write_code(state.secret)})
        return
    clinic.tell("clinic_recovery")
    click.echo(f"  {write_code(state.secret)}")
    clinic.tell("clinic_made", folder=clinic.folder)


@provider.command()
@clinical
def recovery(clinic: Clinic) -> None:
    """Show the recovery code again."""
    with opened(clinic) as (_, state):
        code = write_code(state.secret)
    if clinic.as_json:
        emit({"recovery_code": code})
    else:
        click.echo(code)


@provider.command()
@click.argument("code")
@clinical
def restore(code: str, clinic: Clinic) -> None:
    """Bring calendar, offers and appointments back on an empty machine, from the nodes that keep the journal.

    Keys for passports stay on the lost machine: the next passport asks for a new one. If it was stolen, have your
    health district withdraw you, and begin anew.
    """
    charter, state = read_charter(clinic.charter_path), PracticeState.of_secret(read_code(code))
    if key_path(clinic.path).exists():
        raise OperatorError(said("error_practice_there", folder=clinic.folder))

    async def run(pool: BackendPool) -> None:
        await Journal(Letters(pool, time.time, os.urandom), state, os.urandom, lambda _: None).restore()

    with_pool(charter, clinic.nodes, run)
    with Drawer.make(clinic.path, new_passphrase(said("for_device"))) as drawer:
        drawer.write(state.item(*name) for name in (*state.names(), (JOURNAL, b"")))
    facts = {"slots": len(state.calendar), "offers": len(state.offered), "booked": len(state.booked)}
    if clinic.as_json:
        emit(facts)
    clinic.tell("clinic_counts", slots=facts["slots"], offers=facts["offers"], booked=facts["booked"])
    clinic.tell("clinic_back")


@provider.command()
@click.option("--name", required=True, help="Of the practice, as patients know it.")
@click.option("--street", default="", help="And number.")
@click.option("--postcode", required=True, help="Where you are, and whose catchment areas you serve.")
@click.option("--city", default="")
@click.option("--phone", default="")
@click.option("--access", default="", help="How to get in, for example: lift at the back.")
@click.option("--step-free", is_flag=True, help="There is a way in without steps.")
@click.option("--speak", "languages", multiple=True, help="Languages that are spoken: de.")
@click.option("--service", "services", multiple=True, required=True, help="What you offer, for example flu.")
@click.option("--code", default="", help="A signup code, if your health district sent you one.")
@clinical
def apply(
    name: str, street: str, postcode: str, city: str, phone: str, access: str, step_free: bool,
    languages: tuple[str, ...], services: tuple[str, ...], code: str, clinic: Clinic,
) -> None:  # fmt: skip
    """Ask your health district to admit you. Only its devices can read what you say."""
    fields = {"name": name, "street": street, "postcode": postcode, "city": city, "phone": phone, "access": access}
    data = {key: value for key, value in fields.items() if value}
    data |= stated(step_free=step_free, languages=languages)

    read_postcode(postcode)
    if not name.strip():
        raise MalformedError(said("error_name"))

    async def act(practice: Practice, office: Office) -> list[str]:
        if not practice.view.registry.standing_roots(practice.state.mediator):
            raise UnknownError(said("error_district", mediator=practice.state.mediator.hex()[:16]))
        found = around(await every_area(practice.view), {postcode: 0.0})
        places = [
            area.place
            for area in found
            if area.mediator == practice.state.mediator and set(services) & set(area.catchment.services)
        ]
        if not places:
            raise UnknownError(said("error_district_area", postcode=postcode, services=", ".join(services)))
        return await office.apply(data, places, services, code)

    taken = with_practice(clinic, act)
    if clinic.as_json:
        emit({"taken_by": taken})
    clinic.tell("clinic_applied", nodes=", ".join(taken))


@provider.command()
@clinical
def status(clinic: Clinic) -> None:
    """Whether you are admitted, and what is going on."""

    async def look(practice: Practice, office: Office) -> tuple[str, str]:
        letter = await office.receive()
        if practice.state.data:
            async with practice.one:
                await practice.deliver()
        return letter, practice.verdict.value

    letter, verdict = with_practice(clinic, look)
    with opened(clinic) as (_, state):
        facts = {
            "admitted": bool(state.data), "verdict": verdict, "letter": letter, "rejected": state.rejected,
            "areas": [place.area.hex() for place in state.places], "slots": len(state.calendar),
            "offers": len(state.offered), "booked": len(state.booked), "letters_to_send": state.unsent,
        }  # fmt: skip
        name = state.known.get("name", "")
    if clinic.as_json:
        emit(facts)
        return
    if state.rejected:
        clinic.tell("clinic_rejected", reason=plain(state.rejected))
        clinic.tell("clinic_apply_again")
    if state.data:
        if verdict == Verdict.ACTIVE.value:
            clinic.tell("clinic_admitted", name=plain(name), count=len(state.places))
        else:
            clinic.tell("clinic_was_admitted", name=plain(name), verdict=clinic.say(verdict_line(Verdict(verdict))))
    elif state.application and not state.rejected:
        clinic.tell("clinic_undecided")
    elif not state.application:
        clinic.tell("clinic_not_applied")
    clinic.tell("clinic_counts", slots=facts["slots"], offers=facts["offers"], booked=facts["booked"])
