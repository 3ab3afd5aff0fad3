"""`peewit trust`: whom a verifier believes, and what was revoked."""

from __future__ import annotations

import base64
import json
import re
import time
import tomllib
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from peewit_clients.cli.common import charter_option, complain, emit, json_option, node_option, read_charter, with_pool
from peewit_clients.cli.publishing import device_option, folder_option, open_device
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_clients.trusted import gather, load, save
from peewit_federation.errors import MalformedError, OperatorError, UnknownError
from peewit_federation.passports.rules import Rules, sign_rules
from peewit_federation.passports.signer import MEDIATOR_BYTES
from peewit_federation.passports.trust import Trust, import_certificates

trust_option = click.option(
    "--trust", "trust_path", type=click.Path(path_type=Path, dir_okay=False), default="peewit-trust", show_default=True,
    envvar="PEEWIT_TRUST", help="The file of whom to trust.",
)  # fmt: skip
list_option = click.option(
    "--list", "name", default="national", show_default=True, callback=lambda _context, _option, name: _named(name),
    help="What the list is called here: letters, digits and hyphens.",
)  # fmt: skip
SIGNER: Final = "DSC"
"Of a signer of documents, among the certificate types of national lists."
IMPORT_BYTES_MAX: Final = 64 << 20
RULES: Final = ("doses", "days_from", "days_to", "booster_days_to", "recovery_days", "test_hours")


def _named(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,31}", name, re.ASCII):
        raise click.BadParameter("1 to 31 letters, digits and hyphens")
    return name


@click.group()
def trust() -> None:
    """Issuers of passports, and what was revoked: fetched while there is a network, used without one.

    \b
    1. peewit trust refresh               from the federation's nodes, several times a day
    2. peewit trust import LIST.json      certificates of other countries, if you check those too
    3. peewit verify …
    """


@trust.command()
@trust_option
@node_option
@charter_option
@json_option
def refresh(trust_path: Path, nodes: tuple[str, ...], charter_path: Path, as_json: bool) -> None:
    """Fetch issuers and revocations from the nodes of a federation, and check them."""
    charter = read_charter(charter_path)
    known = load(trust_path, missing_ok=True)

    async def fetch(pool: BackendPool) -> tuple[Trust, RegistryView]:
        view = RegistryView(charter, pool)
        with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
            task = progress.add_task("following the mediators' logs", total=None)
            found = await gather(view, known, lambda done, all_: progress.update(task, completed=done, total=all_))
        return found, view

    found, view = with_pool(charter, nodes, fetch)
    save(trust_path, found)
    if as_json:
        emit(_facts(found))
    else:
        complain(view)
        _tell(found, trust_path)


@trust.command()
@trust_option
@json_option
def show(trust_path: Path, as_json: bool) -> None:
    """How many issuers are known, and how old that is."""
    found = load(trust_path)
    if as_json:
        emit(_facts(found))
    else:
        _tell(found, trust_path)


@trust.command(name="import")
@click.argument("table", type=click.Path(path_type=Path, dir_okay=False))
@trust_option
@list_option
@json_option
def import_(table: Path, trust_path: Path, name: str, as_json: bool) -> None:
    """Take over certificates of other issuers, from a JSON list of {"rawData": base64 of DER} as nations publish it.

    It takes the place of the list of that name: what is not on it any more is not trusted any more. You vouch for
    where it came from: check its signature before you import it. What other countries revoke is not read.
    """
    known = load(trust_path, missing_ok=True)
    ders, refused = _certificates(table)
    signers, more = import_certificates(ders)
    refused += more
    if not signers:
        raise MalformedError(f"{table}: no certificate in it that can be used; {'; '.join(refused[:3])}")
    save(trust_path, known.with_list(name, signers, int(time.time())))
    if as_json:
        emit({"imported": len(signers), "list": name, "refused": refused})
        return
    click.echo(f"{len(signers)} certificates are in {trust_path}, as the list {name!r}")
    for line in refused:
        click.echo(f"left out: {line}", err=True)


@trust.command()
@trust_option
@list_option
def forget(trust_path: Path, name: str) -> None:
    """Trust a list no more that was imported."""
    known = load(trust_path)
    if name.encode() not in known.as_of:
        lists = ", ".join(_lists(known)) or "none"
        raise UnknownError(f"there is no list {name!r} in {trust_path}; there are: {lists}")
    save(trust_path, known.without_list(name))
    click.echo(f"the list {name!r} is not in {trust_path} any more")


@trust.command()
@trust_option
@json_option
def export(trust_path: Path, as_json: bool) -> None:  # noqa: ARG001 - it is always for programs
    """Print the federation's keys and certificates as a JSON list, for other verifiers.

    Keys that were revoked or suspended, that have expired, or that were imported are left out.
    """
    found, now_s = load(trust_path), time.time()
    emit([
        {
            "kid": base64.b64encode(signer.kid).decode(), "publicKey": base64.b64encode(signer.public_key).decode(),
            "rawData": base64.b64encode(signer.certificate).decode(), "country": signer.country,
            "notBefore": signer.not_before_s, "notAfter": signer.not_after_s,
            "certificateType": "DSC",
        }
        for signer in found.all()
        if not (signer.revoked or signer.suspended or signer.imported or now_s > signer.not_after_s)
    ])  # fmt: skip


@trust.command()
@click.argument("table", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--days", type=click.IntRange(1, 400), default=30, show_default=True, help="For how long they hold.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where the rules go.")
@device_option
@folder_option
def rules(table: Path, days: int, out: Path, device: str, folder: Path) -> None:
    """Sign rules with a mediator's device, from a TOML file.

    \b
    doses = 0              # as many as the passport's own series has
    days_from = 14         # since the last dose
    days_to = 270          # 0 for no end
    booster_days_to = 0
    recovery_days = 180    # 0: a recovery does not count
    test_hours = 0         # 0: a test does not count
    """
    try:
        fields = tomllib.loads(table.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"{table}: {error}") from None
    wrong = set(fields) - set(RULES) or {name for name in RULES[:3] if name not in fields}
    if wrong:
        raise OperatorError(
            f"{table}: {', '.join(sorted(wrong))}: there are {', '.join(RULES)}; the first three are due"
        )
    now_s = int(time.time())
    try:
        made = Rules(now_s, now_s + days * 86_400, **fields)
        made.encode()
    except MalformedError as error:
        raise OperatorError(f"{table}: {error}") from None
    with open_device(folder, device) as state:
        signed = sign_rules(made, state.key)
    try:
        out.write_bytes(signed)
    except OSError as error:
        raise OperatorError(f"{out}: {error.strerror}") from None
    click.echo(f"{out}: rules for {days} days; give them to verifiers: peewit verify --rules {out.name} …")


def _certificates(table: Path) -> tuple[list[bytes], list[str]]:
    """Those of signers, and why others are left out."""
    try:
        if table.stat().st_size > IMPORT_BYTES_MAX:
            raise OperatorError(f"{table}: more than {IMPORT_BYTES_MAX} bytes")
        value = json.loads(table.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperatorError(f"{table}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise MalformedError(f"{table}: not JSON; of a signed list, cut the signature off first") from None
    listed = value.get("certificates") if isinstance(value, dict) else value
    if not isinstance(listed, list):
        raise MalformedError(f"{table}: a list of certificates is due")
    found, refused = [], []
    for number, item in enumerate(listed, start=1):
        kind = item.get("certificateType", SIGNER) if isinstance(item, dict) else SIGNER
        text = item.get("rawData") if isinstance(item, dict) else item
        try:
            if kind != SIGNER:
                raise MalformedError(f"its certificateType is {kind!r:.40}, and {SIGNER} signs passports")
            if text == "":
                raise MalformedError("a key without a certificate, which only a federation's log can vouch for")
            if not isinstance(text, str):
                raise MalformedError('{"rawData": base64 of DER} is due')
            found.append(base64.b64decode("".join(text.split()), validate=True))
        except (MalformedError, ValueError) as error:
            refused.append(f"entry {number}: {error}")
    return found, refused


def _facts(found: Trust) -> dict[str, object]:
    return {
        "issuers": len(found.all()), "revoked_issuers": sum(signer.revoked for signer in found.all()),
        "revoked_passports": len(found.revoked.prefixes), "list_bytes": len(found.revoked.encode()),
        "as_of": min(found.as_of.values(), default=0), "mediators": len(found.as_of) - len(_lists(found)),
        "lists": _lists(found),
    }  # fmt: skip


def _lists(found: Trust) -> dict[str, int]:
    """Imported lists: when each was imported."""
    return {whose.decode(): at_s for whose, at_s in found.as_of.items() if len(whose) < MEDIATOR_BYTES}


def _tell(found: Trust, path: Path) -> None:
    facts = _facts(found)
    table = Table(title=str(path), show_header=False)
    age_s = time.time() - min(found.as_of.values(), default=0)
    table.add_row("issuer keys", f"{facts['issuers']}, of them {facts['revoked_issuers']} revoked")
    table.add_row("revoked passports", f"{facts['revoked_passports']} ({facts['list_bytes']} bytes)")
    table.add_row("mediators", str(facts["mediators"]))
    for name, at_s in _lists(found).items():
        count = sum(signer.mediator == name.encode() for signer in found.all())
        table.add_row(f"imported list {name!r}", f"{count} keys, {(time.time() - at_s) / 3600:.1f} hours old")
    table.add_row("oldest knowledge", f"{age_s / 3600:.1f} hours" if found.as_of else "nothing was fetched yet")
    Console().print(table)
