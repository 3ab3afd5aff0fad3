"""`peewit node`: make, run and look at a node."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import logging
import secrets
import signal
import socket
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click
import structlog
from rich.console import Console
from rich.table import Table

from peewit_federation.errors import NotRunningError, OperatorError
from peewit_node.config import load_config

STATUS_TIMEOUT_S = 60.0
STATUS_BYTES_MAX = 16 << 20


@click.group()
def node() -> None:
    """Run one region's backend of a federation.

    \b
    1. peewit node init north --operator north --url https://north.example
    2. send north/card.json to the other operators; together make a charter: peewit charter new
    3. peewit node run north/node.toml
    """


@node.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--operator", required=True, help="The operator's name in the charter, for example north.")
@click.option("--url", required=True, help="Where other nodes and clients reach it, for example https://north.example.")
@click.option("--listen", default="127.0.0.1:8100", show_default=True, help="Address and port to listen on.")
@click.option("--region", default="", help="Postcode prefixes of its own region, separated by commas.")
@click.option("--charter", default="charter.toml", show_default=True, help="Where the charter will be.")
@click.option("--dry-run", is_flag=True, help="Only show what would happen.")
@click.option("--json", "as_json", is_flag=True, help="For programs: the card.")
def init(
    folder: Path, operator: str, url: str, listen: str, region: str, charter: str, dry_run: bool, as_json: bool
) -> None:  # fmt: skip
    """Make keys (readable by you only), a commented configuration, an empty database, and a card."""
    from peewit_node.setup import check_new, init_node

    prefixes = tuple(sorted(filter(None, region.split(","))))
    if dry_run:
        check_new(folder, operator, url.rstrip("/"), listen, prefixes)
        line = f"makes {folder}: three new keys, node.toml, an empty database, and card.json for the other operators"
        click.echo(json.dumps({"dry_run": True, "consequences": [line]}) if as_json else line)
        return
    seeds = tuple(secrets.token_bytes(32) for _ in range(3))
    init_node(folder, operator, url.rstrip("/"), listen, prefixes, charter, seeds)
    if as_json:
        click.echo(json.dumps(json.loads((folder / "card.json").read_text(encoding="utf-8"))))
        return
    click.echo(
        f"Made {folder}/node.toml, three keys, an empty database, and {folder}/card.json.\n"
        f"Next: move {folder}/charter.key to a place that is offline (it signs charters, the node does not need it),\n"
        f"make a charter out of all operators' cards (peewit charter new --name NAME */card.json > charter.toml),\n"
        f"and put it where node.toml says: {folder / charter}"
    )


@node.command()
@click.argument("config", type=click.Path(path_type=Path), default="node.toml")
@click.option("--verbose", is_flag=True, help="Log what is usually not worth it.")
def run(config: Path, verbose: bool) -> None:
    """Run a node until it is told to stop (SIGTERM or Ctrl-C). Logs are JSON lines on standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    settings = load_config(config)
    gc.freeze()
    # Reference counts free nearly all; looking for cycles every 700 objects cost a tenth of the time of an append.
    gc.set_threshold(20_000, 20, 20)
    sys.setswitchinterval(0.001)  # the database's threads should not wait long for a busy event loop
    failed = asyncio.run(_serve(settings))
    if failed:
        raise SystemExit(70)


async def _serve(settings: Any) -> bool:
    from peewit_node.node import Node

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = await Node.start(settings)
    loop.add_signal_handler(signal.SIGHUP, lambda: running.state.spawn(running.charters.try_reload()))
    waits = [asyncio.create_task(stop.wait()), asyncio.create_task(running.wait_failed())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    failed = not stop.is_set()
    for task in waits:
        task.cancel()
    await running.stop()
    return failed


@node.command()
@click.argument("config", type=click.Path(path_type=Path), default="node.toml")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(config: Path, as_json: bool) -> None:
    """Show what a running node says of itself and of its peers."""
    facts = _admin_status(load_config(config).data)
    if as_json:
        click.echo(json.dumps(facts))
        return
    console = Console()
    console.print(f"[bold]{facts['operator']}[/] in {facts['federation']}, charter {facts['charter']}")
    console.print(
        f"{facts['logs']} logs, {facts['entries']} entries, {facts['mediators']} mediators, "
        f"{facts['heads_without_quorum']} heads without a quorum, {len(facts['forks'])} forks, "
        f"{facts['expiring_grants']} grants that end within 60 days"
    )
    console.print(f"registry digest {facts['digest']}")
    if facts["refused_charter"]:
        console.print(f"[red]a new charter lies there and is refused:[/] {facts['refused_charter']}")
    table = Table("peer", "last heard", "age of its view", "failures", "last error", "caught lying")
    for peer in facts["peers"]:
        heard = "never" if peer["silence_s"] is None else f"{peer['silence_s']} s ago"
        age = "none" if peer["view_age_s"] is None else f"{peer['view_age_s']} s"
        lies = "; ".join(peer["lies"]) or "–"
        table.add_row(peer["name"], heard, age, str(peer["failures"]), peer["last_error"] or "–", lies)
    console.print(table)


def _admin_status(data: Path) -> dict[str, Any]:
    from peewit_node.listener import ADMIN_SOCKET

    path = data / ADMIN_SOCKET
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(STATUS_TIMEOUT_S)
            connection.connect(str(path))
            client = http.client.HTTPConnection("localhost")
            client.sock = connection
            client.request("GET", "/admin/status")
            response = client.getresponse()
            body = response.read(STATUS_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NotRunningError(f"{path}: {reason}; is the node running? Start it with `peewit node run`") from None
    if response.status != HTTPStatus.OK:
        raise OperatorError(f"{path}: the node answers with HTTP status {response.status}; look into its log")
    facts: dict[str, Any] = json.loads(body)
    return facts
