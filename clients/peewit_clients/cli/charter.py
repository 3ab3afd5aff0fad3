"""`peewit charter`: the federation's founding file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from peewit_clients.charters import Card, compose_charter, usual_draw, usual_quorum
from peewit_clients.cli.clinic import local_time
from peewit_clients.cli.common import (
    charter_option,
    dry_run_option,
    emit,
    json_option,
    node_option,
    read_charter,
    read_text,
    with_pool,
)
from peewit_clients.cli.speaking import show_table
from peewit_clients.following import ended, following
from peewit_clients.pool import BackendPool
from peewit_clients.secret_file import read_secret
from peewit_federation.charter import Retired
from peewit_federation.charter_file import parse_charter, sign_charter
from peewit_federation.draw.schedule import Schedule
from peewit_federation.errors import OperatorError
from peewit_federation.keys import SigningKey


@click.group()
def charter() -> None:
    """The federation's charter: who its operators are and whose cosignatures suffice."""


@charter.command()
@click.argument("cards", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The federation's name.")
@click.option("--quorum", type=int, help="How many nodes must cosign; the smallest safe number if left out.")
@click.option("--threshold", type=int, help="How many operators admit a mediator; 2 if left out.")
@click.option("--committee", type=click.IntRange(0, 9), help="Members of the draw's committee; 5, or 0 for no draw.")
@click.option("--collude", type=click.IntRange(1, 9), help="So many break the draw; half of the committee if left out.")
@click.option(
    "--round-days",
    type=click.FloatRange(0.001, 366),
    default=7.0,
    show_default=True,
    help="How long a round of the draw is.",
)
@click.option("--mirror", "mirrors", multiple=True, help="A node without a vote; more than 16 cannot vote.")
@dry_run_option
def new(
    cards: tuple[Path, ...],
    name: str,
    quorum: int | None,
    threshold: int | None,
    committee: int | None,
    collude: int | None,
    round_days: float,
    mirrors: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Make a charter out of operators' cards (`peewit node init` makes them). Prints it.

    \b
    peewit charter new --name example */card.json > charter.toml
    """
    found = [Card.parse(read_text(path), str(path)) for path in cards]
    unknown = set(mirrors) - {card.name for card in found}
    if unknown:
        raise OperatorError(f"--mirror: no card is of {min(unknown)}")
    if threshold is not None and threshold > len(found):
        raise OperatorError(f"--threshold {threshold}: there are only {len(found)} operators")
    quorum = usual_quorum(len(found) - len(set(mirrors))) if quorum is None else quorum
    voters = [card.name for card in found if card.name not in mirrors]
    if (committee or 0) > len(voters):
        raise OperatorError(f"--committee {committee}: only {len(voters)} operators vote")
    if collude is not None and collude > (len(voters) if committee is None else committee):
        raise OperatorError(f"--collude {collude}: the committee has fewer members")
    draw = None if committee == 0 else usual_draw(voters, committee, collude, round(round_days * 86_400))
    text = compose_charter(name, found, quorum, threshold=threshold, mirrors=mirrors, draw=draw)
    if not dry_run:
        click.echo(text, nl=False)
        return
    made = parse_charter(text.encode())
    drawn = "a draw" if made.schedule else "no draw"
    click.echo(
        f"a charter of {made.name}: {len(made.operators)} operators, of whom {len(voters)} vote; "
        f"{made.policy.needed()} nodes make a quorum; {made.admission_threshold} operators admit a mediator; {drawn}"
    )


@charter.command("next")
@charter_option
@click.option("--leaves", multiple=True, help="An operator that leaves; stop its node first.")
@click.option("--joins", multiple=True, type=click.Path(path_type=Path), help="The card of an operator that joins.")
@click.option("--mirror", "mirrors", multiple=True, help="Who joins without a vote.")
@click.option("--quorum", type=int, help="How many nodes must cosign; the smallest safe number if left out.")
@node_option
def next_(
    charter_path: Path,
    leaves: tuple[str, ...],
    joins: tuple[Path, ...],
    mirrors: tuple[str, ...],
    quorum: int | None,
    nodes: tuple[str, ...],
) -> None:
    """Make the charter that follows this one when operators leave or join. Prints it, to be signed.

    Whoever goes on with other keys leaves and joins. Of who leaves, the nodes are asked where its log ends; the draw
    gets another committee from the first round on whose keys are not being made yet.

    \b
    peewit charter next --charter charter.toml --leaves south > charter-2.toml
    peewit charter next --charter charter.toml --joins new/card.json > charter-2.toml
    """
    old, cards = read_charter(charter_path), [Card.parse(read_text(path), str(path)) for path in joins]
    if not leaves and not cards:
        raise OperatorError("nobody leaves or joins: say who with --leaves NAME or --joins CARD")
    if unknown := set(mirrors) - {card.name for card in cards}:
        raise OperatorError(f"--mirror: no card is of {min(unknown)}")
    leaving = [old.operator(name) for name in dict.fromkeys(leaves)]

    async def ends(pool: BackendPool) -> list[Retired]:
        return [await ended(pool, operator) for operator in leaving]

    gone = with_pool(old, nodes, ends) if leaving else []
    text = following(old, gone, cards, time.time(), mirrors=mirrors, quorum=quorum)
    click.echo(text, nl=False)
    made = parse_charter(text.encode())
    for operator, log in zip(leaving, gone, strict=True):
        click.echo(f"{operator.name} leaves: what its log says stays in force, up to {log.size} entries", err=True)
    if made.schedule and old.schedule and len(made.schedule.seats) > len(old.schedule.seats):
        seats = made.schedule.seats[-1]
        begins = local_time(made.schedule.begins_s(seats.from_round))
        click.echo(
            f"from round {seats.from_round} on, which begins at {begins}, {', '.join(seats.committee.members)} draw; "
            f"{seats.committee.threshold} of them must collude to cheat",
            err=True,
        )
    click.echo(
        f"{made.policy.needed()} of {len(made.policy.witnesses)} nodes make a quorum; as many operators of the old "
        "charter and of this one must sign it: peewit charter sign",
        err=True,
    )


@charter.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--operator", required=True, help="Whose signature it is.")
@click.option("--key", "key_path", type=click.Path(path_type=Path), required=True, help="That operator's charter.key.")
def sign(path: Path, operator: str, key_path: Path) -> None:
    """Sign a charter that follows another one (its number is one higher). Prints it with the signature.

    \b
    peewit charter sign charter-2.toml --operator north --key offline/charter.key > signed.toml
    peewit charter show --charter signed.toml --follows charter.toml
    """
    found, key = read_charter(path), SigningKey(read_secret(key_path))
    expected = found.operator(operator).charter_key
    if key.public != expected.public.raw:
        raise OperatorError(f"{key_path} is not the charter key of {operator} in {path}")
    click.echo(sign_charter(found, operator, key).encode().decode(), nl=False)


@charter.command()
@charter_option
@click.option("--follows", type=click.Path(path_type=Path), help="Check that it lawfully follows this one.")
@json_option
def show(charter_path: Path, follows: Path | None, as_json: bool) -> None:
    """Check a charter and show what it says."""
    found = read_charter(charter_path)
    if follows is not None:
        read_charter(follows).require_successor(found)
    policy = found.policy
    if as_json:
        emit(
            {
                "name": found.name,
                "number": found.number,
                "digest": found.digest.hex(),
                "signed_by": sorted(found.signed_by(found.operators)),
                "admission_threshold": found.admission_threshold,
                "quorum": policy.needed(),
                "draw": draw_facts(found.schedule),
                "freshness": {"warn_s": found.warn_s, "refuse_s": found.refuse_s},
                "operators": [
                    {"name": o.name, "votes": o.votes, "url": o.url, "region": o.region} for o in found.operators
                ],
            }
        )
        return
    console = Console()
    console.print(f"[bold]{found.name}[/], charter {found.number}, digest {found.digest.hex()}")
    if found.signatures:
        console.print(f"signed by {', '.join(sorted(found.signed_by(found.operators)))}")
    console.print(
        f"{policy.needed()} of {len(policy.witnesses)} nodes make a quorum: two quorums share at least "
        f"{policy.overlap()} nodes, and {policy.blocking()} nodes must fail to stop it."
    )
    console.print(f"{found.admission_threshold} operators admit a mediator; one is enough in its own region.")
    if found.schedule:
        committee = found.schedule.seats[-1].committee
        console.print(
            f"The draw has rounds of {found.schedule.round_s / 86_400:g} days. {', '.join(committee.members)} are its "
            f"committee; {committee.threshold} operators admit a request, and so many must collude to cheat."
        )
    else:
        console.print("There is no draw, so no appointments are given.")
    table = Table("operator", "votes", "node", "region", "log")
    for operator in found.operators:
        table.add_row(
            operator.name,
            "yes" if operator.votes else "no",
            operator.url,
            " ".join(operator.region),
            operator.log.name[:23] + "…",
        )
    show_table(table)


def draw_facts(schedule: Schedule | None) -> dict[str, Any] | None:
    """The draw of a charter, for programs."""
    if schedule is None:
        return None
    seats = [
        {"from_round": s.from_round, "members": s.committee.members, "threshold": s.committee.threshold}
        for s in schedule.seats
    ]
    return {"round_s": schedule.round_s, "starts_s": schedule.starts_s, "committees": seats}
