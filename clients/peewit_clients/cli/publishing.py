"""What all commands share that publish for a mediator: their options, showing what would happen, and sending it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from peewit_clients.cli.common import (
    NOT_YET,
    charter_option,
    dry_run_option,
    emit,
    json_option,
    node_option,
    plain,
    read_charter,
    with_pool,
)
from peewit_clients.cli.passphrases import passphrase_for
from peewit_clients.cli.speaking import Speaker, language_option
from peewit_clients.device_log import Progress
from peewit_clients.device_state import KEY, DeviceState
from peewit_clients.identity import Identity
from peewit_clients.mediator import Mediator
from peewit_clients.plans import Plan, Planner
from peewit_clients.words import Said, said
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
class Work(Speaker):
    """What every command that publishes is told."""

    folder: Path
    device: str
    charter_path: Path
    nodes: tuple[str, ...]
    wait_s: float
    dry_run: bool

    def proposes(self, plan: Plan) -> bool:
        """Show what a plan comes to; whether to go on with it."""
        return proposes(self, plan.consequences, len(plan.statements), dry_run=self.dry_run)


def proposes(speaker: Speaker, consequences: Sequence[Said], statements: int, *, dry_run: bool) -> bool:
    """Show what a command comes to; whether to go on with it. Programs read it where nothing else is written."""
    if dry_run and speaker.as_json:
        emit({"dry_run": True, "consequences": list(map(str, consequences)), "statements": statements})
        return False
    for line in consequences:
        click.echo(plain(line.text(speaker.language)), err=not dry_run and speaker.as_json)
    if dry_run:
        speaker.tell("office_dry", err=True)
    return not dry_run


def publishing(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that publishes, handed over as one `work`."""

    @wraps(command)
    def run(**options: Any) -> None:
        work = Work(**{field.name: options.pop(field.name) for field in fields(Work)})
        command(work=work, **options)

    shown = json_option, language_option, dry_run_option
    for option in (*shown, wait_option, node_option, charter_option, device_option, folder_option):
        run = option(run)
    return run


T = TypeVar("T")
PlanMaker = Callable[[Planner, Mediator], Plan]


def act_on(make: PlanMaker, work: Work) -> None:
    """Make a plan, show it, publish it, and say how far it is."""
    charter = read_charter(work.charter_path)

    async def act(role: Mediator) -> Progress | None:
        with Console(stderr=True).status(work.say("office_looking")):
            planner = await role.prepare()
        require_open(role)
        plan = make(planner, role)
        if not work.proposes(plan):
            return None
        with Console(stderr=True).status(work.say("office_publishing", count=len(plan.statements))):
            progress = await role.publish(plan, wait_s=work.wait_s)
        for edit in role.lost():
            click.echo(work.say("office_overtaken", subject=edit.subject.hex()[:16]), err=True)
        return progress

    progress = with_device(work.folder, work.device, charter, work.nodes, act)
    if progress is not None:
        show_progress(progress, work)


def show_progress(progress: Progress, speaker: Speaker) -> None:
    """How far a publication is; ends with exit code 6 if it is not yet effective."""
    if speaker.as_json:
        emit(
            {
                "size": progress.size,
                "stored_at": progress.stored_at,
                "cosigned_by": progress.cosigned_by,
                "needed": progress.needed,
                "effective": progress.effective,
                "failures": progress.failures,
            }
        )
    else:
        click.echo(progress.words().text(speaker.language))
        for name, why in progress.failures.items():
            click.echo(speaker.say("office_not_taken", node=name, why=plain(why)), err=True)
    if not progress.effective:
        speaker.tell("office_kept", err=True)
        raise SystemExit(NOT_YET)


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
            raise OperatorError(said("error_devices", folder=folder, names=", ".join(found) or "–"))
        device = found[0]
    return open_state(folder / "devices" / device)


def open_state(path: Path) -> DeviceState:
    """A device by its folder; asks for its passphrase if it has one."""
    if not (path / KEY).exists():
        raise OperatorError(said("error_no_device", path=path))
    return DeviceState(path, passphrase_for(path / KEY, said("of_device", name=path.name)))


def require_open(role: Mediator) -> None:
    """Raise `RefusedError` if the root has closed this device."""
    closed = role.closed_at()
    if closed is not None:
        raise RefusedError(said("error_closed", count=closed))
