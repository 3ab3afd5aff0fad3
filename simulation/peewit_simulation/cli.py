"""`peewit simulate` and `peewit hunt`: what would faults do to a federation?"""

from __future__ import annotations

import gc
import json
import os
import re
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from peewit_clients.cli.common import emit
from peewit_federation.errors import OperatorError
from peewit_simulation import check, files
from peewit_simulation.faults import Fault
from peewit_simulation.generate import draw
from peewit_simulation.hunt import Result, run_bookings, run_seed, shrink
from peewit_simulation.hunt import hunt as hunt_seeds
from peewit_simulation.report import facts, scenario_facts, show, show_shortened
from peewit_simulation.scenario import Scenario, simulate

BROKEN = 7
SCENARIOS = Path(__file__).parent / "scenarios"
PICTURES = (".svg", ".png", ".pdf")
HUNT = Path(".hunt")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """A time such as 60s, 10m or 2h."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h)?", str(value), re.ASCII)
        if not match:
            self.fail(f"{value!r} is not a time such as 60s, 10m or 2h", param, ctx)
        found = float(match[1]) * UNITS[match[2] or "s"]
        if not 0 < found <= check.FAULTY_S_MAX - 25:
            self.fail(f"{value!r}: more than nothing, and less than a day", param, ctx)
        return found


class Picture(click.Path):
    """A file whose ending says in which format it is drawn."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # type: ignore[override]
        if Path(value).suffix not in PICTURES:
            self.fail(f"{value!r} does not end in {', '.join(PICTURES)}", param, ctx)
        return Path(str(super().convert(value, param, ctx)))


@click.command(
    name="simulate",
    epilog="Exit codes: 0 if every promise held, 7 if one is broken; others as in `peewit --help`.",
)
@click.argument("scenario", required=False)
@click.option("--nodes", type=click.IntRange(*check.NODES), default=None, help="How many nodes; 4 if left out.")
@click.option("--seed", type=int, default=None, help="The same seed gives the same run; 0 if left out.")
@click.option("--partition", type=Seconds(), help="Cut the nodes into two halves for so long (60s, 10m, 2h), and heal.")
@click.option("--random", "random", is_flag=True, help="Draw a random scenario from the seed, as the hunt does.")
@click.option("--plot", type=Picture(), help="Draw how far each node was behind (SVG, PNG or PDF).")
@click.option(
    "--log", "log", type=click.Path(path_type=Path, dir_okay=False), help="Write what the nodes log to a file."
)
@click.option("--shorten/--no-shorten", default=True, help="If a promise breaks, look for what is enough to break it.")
@click.option("--json", "as_json", is_flag=True, help="For programs, with the run's digest.")
def simulate_(
    scenario: str | None,
    nodes: int | None,
    seed: int | None,
    partition: float | None,
    random: bool,
    plot: Path | None,
    log: Path | None,
    shorten: bool,
    as_json: bool,
) -> None:
    """Show what faults would do to a federation: real nodes and clients, in a simulated world.

    SCENARIO is a TOML or Python file, or one that comes with Peewit: partition, theft, liars, rolling_crashes.

    \b
    peewit simulate --nodes 16 --seed 7 --partition 60s --plot out.svg
    peewit simulate theft
    peewit simulate my-scenario.toml --json
    """
    chosen = _choose(scenario, nodes, seed, partition, random=random)
    for target in filter(None, (plot, log)):
        _writable(target)
    if plot:
        from peewit_simulation.plot import draw_staleness
    lines: list[str] | None = [] if log else None
    gc.disable()
    short = None
    with Progress(
        TextColumn("{task.description}"), TextColumn("{task.fields[now]}"),
        console=Console(stderr=True), transient=True, disable=as_json,
    ) as bar:  # fmt: skip
        task = bar.add_task("founding", total=None, now="")
        outcome = simulate(
            chosen, progress=lambda phase, at_s: bar.update(task, description=phase, now=f"{at_s:.0f} simulated s"),
            log_lines=lines,
        )  # fmt: skip
        if outcome.broken and shorten:
            short = shrink(chosen, outcome.broken.promise, lambda text: bar.update(task, description=text, now=""))
    if log and lines is not None:
        log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if plot:
        draw_staleness(outcome, plot)
    path = _keep(short, HUNT) if short else None
    if as_json:
        emit(facts(outcome) | ({"shortened": scenario_facts(short)} if short else {}))
    else:
        show(outcome)
        if short and path:
            show_shortened(short, path)
        if plot:
            click.echo(f"drawn: {plot}")
    if outcome.broken:
        raise SystemExit(BROKEN)


def _choose(
    name: str | None, nodes: int | None, seed: int | None, partition: float | None, *, random: bool
) -> Scenario:
    if sum((random, bool(name), partition is not None)) > 1:
        raise click.UsageError("say one of: a scenario, --random, --partition")
    if name and nodes:
        raise click.UsageError("--nodes: a scenario says itself how many nodes it has")
    if random:
        return draw(seed or 0, nodes)
    if name:
        path = Path(name)
        if not path.exists():
            found = {p.stem: p for p in sorted(SCENARIOS.iterdir()) if p.suffix in (".py", ".toml")}
            if name not in found:
                raise OperatorError(f"{name}: no such file, and no scenario of this name; there are {', '.join(found)}")
            path = found[name]
        return files.read(path, seed)
    count = nodes or 4
    names = tuple(f"n{number:03}" for number in range(count))
    if partition is None:
        return Scenario(seed or 0, count)
    half = count // 2
    sides = (*names[:half], "district"), (*names[half:], "patient")
    faults = (Fault(5.0, "partition", sides), Fault(5.0 + partition, "heal"))
    return check.check(Scenario(seed or 0, count, faults, partition + 20.0))


def _writable(path: Path) -> None:
    """A long run should not end with a file that cannot be written."""
    try:
        path.open("ab").close()
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None


def _keep(scenario: Scenario, folder: Path) -> Path:
    path = folder / f"{scenario.seed}.toml"
    try:
        folder.mkdir(exist_ok=True, parents=True)
        path.write_text(files.write(scenario), encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    return path


@click.command(
    name="hunt",
    epilog="Exit codes: 0 if every promise held, 7 if one is broken; others as in `peewit --help`.",
)
@click.option("--seeds", type=click.IntRange(1, 10_000_000), default=1000, show_default=True, help="How many.")
@click.option("--from", "first", type=click.IntRange(0), help="The first; where the last hunt stopped, if left out.")
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, show_default=True, help="How many at once."
)
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=HUNT, show_default=True, help="What is kept."
)
@click.option("--appointments", is_flag=True, help="People and practices book; otherwise a district publishes.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def hunt_(seeds: int, first: int | None, jobs: int, folder: Path, appointments: bool, as_json: bool) -> None:
    """Search random scenarios for a broken promise; stop at the first, and shorten it.

    The next hunt goes on where this one stopped: with the seed that broke a promise, until it holds. `--from` skips it.
    """
    state = folder / ("next-appointments" if appointments else "next")
    begin = first if first is not None else _resume(state)
    try:
        folder.mkdir(exist_ok=True, parents=True)
        state.write_text(str(begin))
    except OSError as error:
        raise OperatorError(f"{state}: {error.strerror}") from None
    done, simulated_s, upto = 0, 0.0, begin
    finished: set[int] = set()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=as_json,
    ) as bar:  # fmt: skip
        task = bar.add_task(f"seeds from {begin}", total=seeds)
        for result in hunt_seeds(range(begin, begin + seeds), jobs, run_bookings if appointments else run_seed):
            if result.promise and appointments:
                bar.stop()
                _found_booking(result, as_json=as_json)
                raise SystemExit(BROKEN)
            if result.promise:
                bar.update(task, description=f"seed {result.seed} breaks a promise")
                short = shrink(draw(result.seed), result.promise, lambda text: bar.update(task, description=text))
                bar.stop()
                _found(result, short, folder, as_json=as_json)
                raise SystemExit(BROKEN)
            done, simulated_s = done + 1, simulated_s + result.simulated_s
            finished.add(result.seed)
            while upto in finished:
                finished.discard(upto)
                upto += 1
            state.write_text(str(upto))
            bar.update(task, advance=1)
    if as_json:
        hours = round(simulated_s / 3600, 1)
        click.echo(json.dumps({"seeds": done, "from": begin, "simulated_hours": hours, "broken": None}))
    else:
        click.echo(
            f"{done} seeds from {begin} on, {simulated_s / 3600:.1f} simulated hours: every promise held. "
            f"Go on with `peewit hunt{' --appointments' if appointments else ''}`."
        )


def _resume(state: Path) -> int:
    if not state.exists():
        return 0
    try:
        text = state.read_text(encoding="ascii").strip()
        if not re.fullmatch(r"[0-9]{1,12}", text, re.ASCII):
            raise OperatorError(f"{state}: not the number of a seed; delete it, or say where to begin: --from 0")
        return int(text)
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"{state}: {error}; delete it, or say where to begin: --from 0") from None


def _found_booking(result: Result, *, as_json: bool) -> None:
    """There is no file: a town is drawn from its seed alone."""
    if as_json:
        emit({"seed": result.seed, "broken": {"promise": result.promise, "what": result.what}})
        return
    click.echo(f"seed {result.seed} breaks {result.promise}: {result.what}")
    click.echo(f"Repeat it: peewit hunt --appointments --from {result.seed} --seeds 1")


def _found(result: Result, short: Scenario, folder: Path, *, as_json: bool) -> None:
    path = _keep(short, folder)
    if as_json:
        broken = {"promise": result.promise, "what": result.what}
        emit({"seed": result.seed, "broken": broken, "scenario": str(path), "shortened": scenario_facts(short)})
        return
    click.echo(f"seed {result.seed} breaks {result.promise}: {result.what}")
    show_shortened(short, path)
    click.echo(f"or whole:  peewit simulate --random --seed {result.seed}")
    click.echo(f"go on behind it: peewit hunt --from {result.seed + 1}")
