"""What all commands share that publish for a mediator: their options, showing what would happen, and sending it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from peewit_clients.cli.common import (
    charter_option,
    dry_run_option,
    emit,
    json_option,
    node_option,
    read_charter,
    show_progress,
    with_pool,
)
from peewit_clients.cli.passphrases import passphrase_for
from peewit_clients.device_log import Progress
from peewit_clients.device_state import KEY, DeviceState
from peewit_clients.identity import Identity
from peewit_clients.mediator import Mediator
from peewit_clients.plans import Plan, Planner
from peewit_federation.charter import Charter
from peewit_federation.errors import OperatorError, RefusedError

WAIT_S = 30.0
folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default="mediator",
    show_default=True,
    envvar="PEEWIT_MEDIATOR",
    help="The mediator's folder.",
)
device_option = click.option("--device", "device", default="", help="Which device to use; the only one if left out.")
wait_option = click.option(
    "--wait", "wait_s", default=WAIT_S, show_default=True, help="Seconds to wait for it to be effective."
)
root_option = click.option(
    "--root",
    "root_path",
    type=click.Path(path_type=Path),
    help="The offline root key's file; FOLDER/root.key if left out.",
)


@dataclass(frozen=True)
class Work:
    """What every command that publishes is told."""

    folder: Path
    device: str
    charter_path: Path
    nodes: tuple[str, ...]
    wait_s: float
    dry_run: bool
    as_json: bool


def publishing(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that publishes, handed over as one `work`."""

    @wraps(command)
    def run(**options: Any) -> None:
        work = Work(**{field.name: options.pop(field.name) for field in fields(Work)})
        command(work=work, **options)

    for option in (json_option, dry_run_option, wait_option, node_option, charter_option, device_option, folder_option):
        run = option(run)
    return run


def would(consequence: str, *, as_json: bool) -> None:
    """What a command would do, said instead of doing it."""
    if as_json:
        emit({"dry_run": True, "consequences": [consequence]})
    else:
        click.echo(consequence)
        click.echo("Nothing was signed or sent (--dry-run).", err=True)


T = TypeVar("T")
PlanMaker = Callable[[Planner, Mediator], Plan]


def act_on(make: PlanMaker, work: Work) -> None:
    """Make a plan, show it, publish it, and say how far it is."""
    charter = read_charter(work.charter_path)

    async def act(role: Mediator) -> Progress | None:
        with Console(stderr=True).status("asking the nodes what they hold …"):
            planner = await role.prepare()
        require_open(role)
        plan = make(planner, role)
        if work.dry_run and work.as_json:
            emit({"dry_run": True, "consequences": plan.consequences, "statements": len(plan.statements)})
            return None
        for line in plan.consequences:
            click.echo(line, err=work.as_json)
        if work.dry_run:
            click.echo("Nothing was signed or sent (--dry-run).", err=True)
            return None
        with Console(stderr=True).status(f"publishing {len(plan.statements)} statements …"):
            progress = await role.publish(plan, wait_s=work.wait_s)
        for edit in role.lost():
            click.echo(
                f"Your edit of {edit.subject.hex()[:16]}… was overtaken by another device; see `status`.", err=True
            )
        return progress

    progress = with_device(work.folder, work.device, charter, work.nodes, act)
    if progress is not None:
        show_progress(progress, as_json=work.as_json)


def with_device(
    folder: Path, device: str, charter: Charter, nodes: tuple[str, ...], work: Callable[[Mediator], Awaitable[T]]
) -> T:
    """Do something with a mediator's device."""
    with open_device(folder, device) as state:
        return with_pool(charter, nodes, lambda pool: work(Mediator(folder, state, charter, pool)))


def open_device(folder: Path, device: str) -> DeviceState:
    """The device of this name, or the only one. Raises `OperatorError`."""
    Identity.load(folder)
    found = sorted(path.parent.name for path in (folder / "devices").glob("*/device.sqlite"))
    if not device:
        if len(found) != 1:
            raise OperatorError(f"{folder} has the devices {', '.join(found) or '(none)'}; choose one with --device")
        device = found[0]
    return open_state(folder / "devices" / device)


def open_state(path: Path) -> DeviceState:
    """A device by its folder; asks for its passphrase if it has one."""
    if not (path / KEY).exists():
        raise OperatorError(f"{path} holds no device; make one with `peewit mediator device`")
    return DeviceState(path, passphrase_for(path / KEY, f"of the device {path.name}"))


def require_open(role: Mediator) -> None:
    """Raise `RefusedError` if the root has closed this device."""
    closed = role.closed_at()
    if closed is not None:
        raise RefusedError(f"this device was closed at {closed} entries: what it says counts no more; use another")
