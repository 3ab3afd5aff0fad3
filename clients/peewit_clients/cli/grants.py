"""`peewit mediator catchments` and `peewit mediator provider`: areas and practices from tables, and by name."""

from __future__ import annotations

from pathlib import Path

import click

from peewit_clients.cli.common import read_text
from peewit_clients.cli.publishing import Work, act_on, publishing
from peewit_clients.identity import Identity
from peewit_clients.mediator import Mediator
from peewit_clients.plans import Plan, Planner
from peewit_clients.tables import read_catchments, read_providers
from peewit_clients.vouching import stop_signing
from peewit_federation.errors import RefusedError
from peewit_federation.statements.mediator import Catchment, Provider


@click.group()
def catchments() -> None:
    """Catchment areas."""


@catchments.command(name="import")
@click.argument("table", type=click.Path(path_type=Path))
@publishing
def import_(table: Path, work: Work) -> None:
    """Open or change catchment areas from a CSV file. The same table again renews what ends.

    \b
    name,postcodes,services,groups,nodes,days
    mitte,10115 10117 10119,flu measles,over80 staff all,north west,400
    """
    rows = read_catchments(read_text(table))

    def plan(planner: Planner, role: Mediator) -> Plan:
        return planner.catchments(rows, lambda name: role.state.subject(Catchment.KIND, name))

    act_on(plan, work)


@click.group()
def provider() -> None:
    """Practices: admit, suspend, revoke."""


@provider.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--readmit", is_flag=True, help="Also admit practices that were revoked.")
@click.option("--replace", is_flag=True, help="End the older key of a practice that has a new one.")
@publishing
def admit(table: Path, readmit: bool, replace: bool, work: Work) -> None:
    """Admit practices from a CSV file, or change what is said of them; lifts a suspension.

    The same table again renews what ends, and leaves the rest as it is.

    \b
    name,areas,services,signing_key,encryption_key,days,street,…
    practice-1,mitte,flu,<64 hex digits>,<base64>,400,…
    Further columns are practice data: they stay on this device, the log gets a commitment.
    """
    if Identity.load(work.folder).two_persons:
        raise RefusedError(
            "this mediator admits by two persons: let practices apply (`peewit provider apply`), and approve on two "
            "devices"
        )
    rows = read_providers(read_text(table))

    def plan(planner: Planner, role: Mediator) -> Plan:
        known = role.state
        return planner.providers(
            rows, lambda name: known.subject(Catchment.KIND, name), readmit=readmit, replace=replace
        )

    act_on(plan, work)


@provider.command()
@click.argument("name")
@publishing
def suspend(name: str, work: Work) -> None:
    """Suspend a practice for now (NAME, or its subject in hexadecimal). `provider admit` lifts it."""

    def plan(planner: Planner, role: Mediator) -> Plan:
        subject, grant = role.provider(name)
        return planner.suspend(name, Provider.KIND, subject, grant) + stop_signing(role, planner, subject)

    act_on(plan, work)


@provider.command()
@click.argument("name")
@click.option(
    "--reason", default=0, show_default=True, help="1 key lost, 2 left, 3 admitted in error, 4 breach, 5 replaced."
)
@publishing
def revoke(name: str, reason: int, work: Work) -> None:
    """Revoke a practice: ends everything that was ever granted to it."""

    def plan(planner: Planner, role: Mediator) -> Plan:
        subject, _ = role.provider(name)
        return planner.revoke(name, Provider.KIND, subject, reason) + stop_signing(role, planner, subject)

    act_on(plan, work)
