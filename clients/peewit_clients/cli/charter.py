"""`peewit charter`: the federation's founding file."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from peewit_clients.charters import Card, compose_charter, usual_quorum
from peewit_clients.cli.common import charter_option, emit, json_option, read_charter, read_text
from peewit_federation.errors import OperatorError


@click.group()
def charter() -> None:
    """The federation's charter: who its operators are and whose cosignatures suffice."""


@charter.command()
@click.argument("cards", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The federation's name.")
@click.option("--quorum", type=int, help="How many nodes must cosign; the smallest safe number if left out.")
@click.option("--threshold", type=int, help="How many operators admit a mediator; 2 if left out.")
@click.option("--mirror", "mirrors", multiple=True, help="A node without a vote; more than 16 cannot vote.")
def new(
    cards: tuple[Path, ...], name: str, quorum: int | None, threshold: int | None, mirrors: tuple[str, ...]
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
    click.echo(compose_charter(name, found, quorum, threshold=threshold, mirrors=mirrors), nl=False)


@charter.command()
@charter_option
@json_option
def show(charter_path: Path, as_json: bool) -> None:
    """Check a charter and show what it says."""
    found = read_charter(charter_path)
    policy = found.policy
    if as_json:
        emit(
            {
                "name": found.name,
                "number": found.number,
                "digest": found.digest.hex(),
                "admission_threshold": found.admission_threshold,
                "quorum": policy.needed(),
                "freshness": {"warn_s": found.warn_s, "refuse_s": found.refuse_s},
                "operators": [
                    {"name": o.name, "votes": o.votes, "url": o.url, "region": o.region} for o in found.operators
                ],
            }
        )
        return
    console = Console()
    console.print(f"[bold]{found.name}[/], charter {found.number}, digest {found.digest.hex()}")
    console.print(
        f"{policy.needed()} of {len(policy.witnesses)} nodes make a quorum: two quorums share at least "
        f"{policy.overlap()} nodes, and {policy.blocking()} nodes must fail to stop it."
    )
    console.print(f"{found.admission_threshold} operators admit a mediator; one is enough in its own region.")
    table = Table("operator", "votes", "node", "region", "log")
    for operator in found.operators:
        table.add_row(
            operator.name,
            "yes" if operator.votes else "no",
            operator.url,
            " ".join(operator.region),
            operator.log.name[:23] + "…",
        )
    console.print(table)
