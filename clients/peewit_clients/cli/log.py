"""`peewit log`: any transparency log in the format of C2SP tlog-tiles, whoever runs it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import click
from rich.console import Console
from rich.progress import Progress

from peewit_clients.backend import UnreachableError
from peewit_clients.cli.common import emit, json_option
from peewit_clients.log_check import Checked, check_log
from peewit_federation.errors import MalformedError, OperatorError, SenderError, network_words
from peewit_federation.log.note import Note, VerifierKey


@click.group()
def log() -> None:
    """Fetch and verify transparency logs."""


@log.command()
@click.argument("url")
@click.option("--key", "keys", multiple=True, help="A verifier key (vkey) that must have signed the checkpoint.")
@click.option("--origin", help="The origin line that must stand in the checkpoint.")
@click.option(
    "--save", type=click.Path(path_type=Path), help="Write the checkpoint here, and compare with it next time."
)
@json_option
def verify(url: str, keys: tuple[str, ...], origin: str | None, save: Path | None, as_json: bool) -> None:
    """Fetch everything below URL (a tlog-tiles prefix) and check every hash of it.

    \b
    peewit log verify http://127.0.0.1:8101/log/77…0a --key 'peewit/5f…+0a1b2c3d+AQ…'
    """
    if not url.startswith(("http://", "https://")):
        raise MalformedError("URL: must begin with https:// or http://")
    parsed = [VerifierKey.parse(key) for key in keys]
    before = _saved(save) if save and save.exists() else None

    async def run() -> Checked:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            with Progress(console=Console(stderr=True), transient=True, disable=as_json) as bar:
                task = bar.add_task("verifying", total=None)
                return await check_log(
                    session,
                    url.rstrip("/"),
                    parsed,
                    origin,
                    before,
                    lambda n, total: bar.update(task, completed=n, total=total),
                )

    try:
        found = asyncio.run(run())
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise UnreachableError(f"{url} cannot be read: {network_words(error)}") from None
    if save:
        try:
            save.write_bytes(found.note)
        except OSError as error:
            raise OperatorError(f"{save}: {error.strerror}") from None
    if as_json:
        emit(
            {
                "origin": found.checkpoint.origin,
                "size": found.checkpoint.size,
                "root": found.checkpoint.root.hex(),
                "signed_by": found.signed_by,
                "entries_bytes": found.entries_bytes,
                "seconds": round(found.seconds, 3),
            }
        )
        return
    checkpoint = found.checkpoint
    click.echo(f"origin    {checkpoint.origin}\nsize      {checkpoint.size}\nroot      {checkpoint.root.hex()}")
    signed = ", ".join(found.signed_by)
    click.echo(f"signed by {signed or '(not checked: no --key)'}; {found.unknown} signatures of unknown keys")
    rate = found.checkpoint.size / found.seconds if found.seconds else 0
    click.echo(
        f"every hash and entry holds: {found.entries_bytes} bytes in {found.seconds:.2f} s ({rate:,.0f} entries/s)"
    )


def _saved(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        Note.parse(data)
    except (OSError, SenderError) as error:
        raise OperatorError(f"{path} is not a checkpoint that was saved before: {error}") from None
    return data
