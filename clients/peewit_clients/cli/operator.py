"""`peewit operator`: what an operator says in its own log, through its running node."""

from __future__ import annotations

from pathlib import Path

import click
from nacl.bindings import crypto_core_ed25519_is_valid_point

from peewit_clients.admin_door import knock
from peewit_clients.cli.common import dry_run_option, emit, json_option
from peewit_federation import cbor
from peewit_federation.errors import MalformedError
from peewit_federation.keys import key_id
from peewit_federation.statements.operator import QUOTAS_DEFAULT, Admission, Withdrawal

data_option = click.option(
    "--data", type=click.Path(path_type=Path), default=".", show_default=True, help="The data directory of your node."
)


@click.group()
def operator() -> None:
    """Vouch for mediators, or stop vouching. The node must be running on this machine."""


@operator.command()
@click.argument("mediator")
@click.option("--root", "roots", multiple=True, required=True, help="A root key of the mediator (hexadecimal).")
@click.option("--postcodes", required=True, help="Postcode prefixes within which it counts, separated by commas.")
@click.option("--services", default="", help="Services, separated by commas; all if left out.")
@click.option(
    "--devices",
    type=click.IntRange(1, 1000),
    default=QUOTAS_DEFAULT[0],
    show_default=True,
    help="Devices that it may have.",
)
@click.option(
    "--entries", type=click.IntRange(1), default=QUOTAS_DEFAULT[1], show_default=True, help="Entries per device's log."
)
@data_option
@dry_run_option
@json_option
def admit(
    mediator: str,
    roots: tuple[str, ...],
    postcodes: str,
    services: str,
    devices: int,
    entries: int,
    data: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Vouch for a mediator within a scope. Counts when enough operators do, or at once in your own region.

    \b
    peewit operator admit 5f…e1 --root 77…0a --postcodes 10,12,13 --services flu,measles
    """
    admission = Admission(
        _hex(mediator, "the mediator's id"),
        tuple(sorted(_hex(root, "--root") for root in roots)),
        tuple(sorted(filter(None, postcodes.split(",")))),
        tuple(sorted(filter(None, services.split(",")))),
        (devices, entries, QUOTAS_DEFAULT[2]),
    )
    if key_id(admission.mediator) in admission.roots:
        raise MalformedError("the mediator's id and its root key are swapped: the id comes first, the key after --root")
    for root in admission.roots:
        if not crypto_core_ed25519_is_valid_point(root):
            raise MalformedError(f"--root {root.hex()[:16]}…: not an Ed25519 public key")
    if not admission.postcodes:
        raise MalformedError("--postcodes: at least one prefix is due")
    consequence = (
        f"admits {mediator[:16]}… at postcodes {', '.join(admission.postcodes)} for "
        f"{', '.join(admission.services) or 'every service'}, with {devices} devices"
    )
    _say(data, admission.encode(), consequence, dry_run=dry_run, as_json=as_json)


@operator.command()
@click.argument("mediator")
@data_option
@dry_run_option
@json_option
def withdraw(mediator: str, data: Path, dry_run: bool, as_json: bool) -> None:
    """Stop vouching for a mediator. Counts as soon as anyone has seen it; no quorum is needed."""
    entry = Withdrawal(_hex(mediator, "the mediator's id")).encode()
    consequence = (
        f"withdraws {mediator[:16]}…: where too few operators still admit it, all its practices and areas end at once; "
        f"admitting it again restores them"
    )
    _say(data, entry, consequence, dry_run=dry_run, as_json=as_json)


def _say(data: Path, entry: bytes, consequence: str, *, dry_run: bool, as_json: bool) -> None:
    """Show what an entry means and, unless this is a dry run, append it."""
    if not as_json:
        click.echo(consequence)
    index = None if dry_run else append_entry(data, entry)
    if as_json:
        emit({"consequences": [consequence], "dry_run": dry_run, "entry": index})
    elif index is not None:
        click.echo(f"entry {index} of your log")


def append_entry(data: Path, *entries: bytes) -> int:
    """Append to the operator's log through the node's own door; the index of the first."""
    return knock(data, "/admin/append", cbor.encode(list(entries)))


def _hex(text: str, what: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise MalformedError(f"{what}: 64 hexadecimal digits are due")
    return found
