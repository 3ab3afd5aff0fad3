"""`peewit simulate` and `peewit hunt`: what would faults do to a federation?"""

from __future__ import annotations

import gc
import json
import os
import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from peewit_clients.cli.common import emit
from peewit_federation.errors import MalformedError, OperatorError
from peewit_simulation import files
from peewit_simulation.faults import Fault
from peewit_simulation.generate import draw
from peewit_simulation.hunt import hunt as hunt_seeds
from peewit_simulation.hunt import shrink
from peewit_simulation.scenario import Outcome, Sample, Scenario, simulate

BROKEN = 7
SCENARIOS = Path(__file__).parent / "scenarios"


@click.command(name="simulate")
@click.argument("scenario", required=False)
@click.option("--nodes", type=click.IntRange(2, files.NODES_MAX), default=None, help="How many nodes; 4 if left out.")
@click.option("--seed", type=int, default=None, help="The same seed gives the same run.")
@click.option("--partition", help="Cut the nodes into two halves for so long, for example 60s, and heal.")
@click.option("--random", "random", is_flag=True, help="Draw a random scenario from the seed, as the hunt does.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw how far each node was behind (SVG or PNG).")
@click.option("--log", "log", type=click.Path(path_type=Path), help="Write what the nodes log to a file.")
@click.option("--json", "as_json", is_flag=True, help="For programs, with the run's digest.")
def simulate_(
    scenario: str | None,
    nodes: int | None,
    seed: int | None,
    partition: str | None,
    random: bool,
    plot: Path | None,
    log: Path | None,
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
    for path in filter(None, (plot, log)):
        if not path.parent.is_dir():
            raise OperatorError(f"{path}: there is no directory {path.parent}")
    if plot:
        from peewit_simulation.plot import draw_staleness
    lines: list[str] | None = [] if log else None
    gc.disable()
    with Progress(
        TextColumn("{task.description}"), TextColumn("{task.fields[now]}"),
        console=Console(stderr=True), transient=True, disable=as_json,
    ) as bar:  # fmt: skip
        task = bar.add_task("founding", total=None, now="")
        outcome = simulate(
            chosen, progress=lambda phase, at_s: bar.update(task, description=phase, now=f"{at_s:.0f} simulated s"),
            log_lines=lines,
        )  # fmt: skip
    if log and lines is not None:
        log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if plot:
        draw_staleness(outcome, plot)
    if as_json:
        emit(_facts(outcome))
    else:
        _show(outcome)
        if plot:
            click.echo(f"drawn: {plot}")
    if outcome.broken:
        raise SystemExit(BROKEN)


def _choose(name: str | None, nodes: int | None, seed: int | None, partition: str | None, *, random: bool) -> Scenario:
    if sum((random, bool(name), partition is not None)) > 1 or (name and nodes):
        raise OperatorError("one of: a scenario (which says how many nodes), --random, --partition")
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
    seconds = _seconds(partition)
    half = count // 2
    sides = (*names[:half], "district"), (*names[half:], "patient")
    faults = (Fault(5.0, "partition", sides), Fault(5.0 + seconds, "heal"))
    return Scenario(seed or 0, count, faults, seconds + 20.0)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)?", text, re.ASCII)
    if not match:
        raise MalformedError("--partition: a time such as 60s, 10m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]]


def _facts(outcome: Outcome) -> dict[str, Any]:
    broken = outcome.broken
    return {
        "seed": outcome.scenario.seed,
        "nodes": outcome.scenario.nodes,
        "broken": {"promise": broken.promise, "what": broken.what} if broken else None,
        "digest": outcome.digest,
        "simulated_s": round(outcome.simulated_s, 3),
        "converged_s": outcome.converged_s,
        "events": [[round(at_s, 3), what] for at_s, what in outcome.events],
        "phases": _phases(outcome),
        "bytes_sent": outcome.bytes_sent,
        "requests": {"served": outcome.served, "failed": outcome.failed},
        "bookings": {"possible": outcome.accepted, "refused": outcome.refused},
    }


def _phases(outcome: Outcome) -> list[dict[str, Any]]:
    marks = {what: at_s for at_s, what in outcome.events if what in ("faults begin", "faults stop")}
    begin_s = marks.get("faults begin", outcome.simulated_s)
    stop_s = marks.get("faults stop", outcome.simulated_s)
    found: list[dict[str, Any]] = []
    before = Sample(0.0, {}, None, 0, 0, 0, 0, 0)
    for name, start_s, end_s in (
        ("founding", 0.0, begin_s),
        ("faults", begin_s, stop_s),
        ("calm", stop_s, outcome.simulated_s),
    ):
        inside = [sample for sample in outcome.samples if start_s < sample.time_s <= end_s]
        ages = [age for sample in inside for age in sample.age_s.values()]
        client = [sample.client_age_s for sample in inside if sample.client_age_s is not None]
        last = inside[-1] if inside else before
        grown = {
            name: getattr(last, name) - getattr(before, name)
            for name in ("node_bytes", "served", "failed", "bookable", "refused")
        }
        before = last
        found.append(
            {
                "phase": name,
                "seconds": round(end_s - start_s, 1),
                "nodes_behind_s_max": round(max(ages, default=0.0), 1),
                "nodes_behind_share": round(sum(age > 0 for age in ages) / max(1, len(ages)), 3),
                "client_age_s_max": round(max(client, default=0.0), 1),
                "bytes_per_node": grown["node_bytes"] // outcome.scenario.nodes,
                "requests": {"served": grown["served"], "failed": grown["failed"]},
                "bookings": {"possible": grown["bookable"], "refused": grown["refused"]},
            }
        )
    return found


def _show(outcome: Outcome) -> None:
    console = Console()
    scenario = outcome.scenario
    console.print(f"[bold]{scenario.nodes} nodes, seed {scenario.seed}, {outcome.simulated_s:.0f} simulated seconds[/]")
    for at_s, what in outcome.events:
        style = "red" if what.startswith("BROKEN") else "bold" if what.startswith("faults") else ""
        console.print(f"  {at_s:8.1f} s  {what}", style=style, markup=False, highlight=False)
    phases = _phases(outcome)
    table = Table("", *(phase["phase"] for phase in phases))
    agreed = "" if outcome.converged_s is None else f"after {outcome.converged_s:.0f} s"
    for words, cells in (
        ("seconds", [f"{p['seconds']:.0f}" for p in phases]),
        ("all nodes agree", ["", "", agreed]),
        ("longest that a node was behind", [f"{p['nodes_behind_s_max']:.0f} s" for p in phases]),
        ("node time behind", [f"{100 * p['nodes_behind_share']:.0f} %" for p in phases]),
        ("oldest view of the client", [f"{p['client_age_s_max']:.0f} s" for p in phases]),
        ("sent by a node", [f"{p['bytes_per_node'] / 1000:.0f} kB" for p in phases]),
        ("requests of clients served", [str(p["requests"]["served"]) for p in phases]),
        ("requests of clients failed", [str(p["requests"]["failed"]) for p in phases]),
        ("times a client could book", [str(p["bookings"]["possible"]) for p in phases]),
        ("times it could not tell", [str(p["bookings"]["refused"]) for p in phases]),
    ):
        table.add_row(words, *cells)
    console.print(table)
    console.print(f"{outcome.said} things were published")
    if outcome.broken:
        console.print(f"[red]a promise is broken:[/] {outcome.broken}", highlight=False)
        console.print(f"digest {outcome.digest}")
    else:
        console.print(f"[green]every promise held[/]; all agreed {outcome.converged_s:.0f} s after faults stopped")
        console.print(f"digest {outcome.digest}", highlight=False)


@click.command(name="hunt")
@click.option("--seeds", type=click.IntRange(1), default=1000, show_default=True, help="How many.")
@click.option("--from", "first", type=click.IntRange(0), help="The first; where the last hunt stopped, if left out.")
@click.option(
    "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="How many at once."
)
@click.option("--folder", type=click.Path(path_type=Path), default=".hunt", show_default=True, help="What is kept.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def hunt_(seeds: int, first: int | None, jobs: int, folder: Path, as_json: bool) -> None:
    """Search random scenarios for a broken promise; stop at the first, and shorten it."""
    folder.mkdir(exist_ok=True, parents=True)
    state = folder / "next"
    begin = first if first is not None else int(state.read_text()) if state.exists() else 0
    done, simulated_s = 0, 0.0
    finished: set[int] = set()
    upto = begin
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=as_json,
    ) as bar:  # fmt: skip
        task = bar.add_task(f"seeds from {begin}", total=seeds)
        for result in hunt_seeds(range(begin, begin + seeds), jobs):
            if result.promise:
                bar.update(task, description=f"seed {result.seed} breaks a promise")
                short = shrink(
                    draw(result.seed), result.promise, lambda text: bar.update(task, description=text)
                )  # fmt: skip
                path = folder / f"{result.seed}.toml"
                path.write_text(files.write(short), encoding="utf-8")
                _found(result.promise, result.what, result.seed, short, path, as_json=as_json)
                raise SystemExit(BROKEN)
            done, simulated_s = done + 1, simulated_s + result.simulated_s
            finished.add(result.seed)
            while upto in finished:
                upto += 1
            state.write_text(str(upto))
            bar.update(task, advance=1)
    facts = {"seeds": done, "from": begin, "simulated_hours": round(simulated_s / 3600, 1), "broken": None}
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{done} seeds from {begin} on, {simulated_s / 3600:.1f} simulated hours: every promise held. "
            f"Go on with `peewit hunt`."
        )


def _found(promise: str, what: str, seed: int, short: Scenario, path: Path, *, as_json: bool) -> None:
    if as_json:
        emit({"seed": seed, "broken": {"promise": promise, "what": what}, "scenario": str(path)})
        return
    click.echo(f"seed {seed} breaks {promise}: {what}")
    click.echo("what is enough to break it:")
    for fault in short.faults:
        click.echo(f"  {fault.at_s:8.2f} s  {fault.words()}")
    for node, lie in short.liars:
        click.echo(f"            {node} lies: {lie}")
    if short.theft:
        click.echo(f"  {short.theft[0]:8.2f} s  a thief shows {short.theft[1]} and {short.theft[2]} two histories")
    click.echo(f"repeat it: peewit simulate {path}       or whole: peewit simulate --random --seed {seed}")
