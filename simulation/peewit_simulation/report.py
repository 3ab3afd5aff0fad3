"""What came of a run or a hunt, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from peewit_simulation.check import liars_max
from peewit_simulation.scenario import Outcome, Sample, Scenario
from peewit_simulation.words import in_words


def facts(outcome: Outcome) -> dict[str, Any]:
    """For programs."""
    broken = outcome.broken
    return {
        "scenario": scenario_facts(outcome.scenario),
        "broken": {"promise": broken.promise, "what": broken.what} if broken else None,
        "digest": outcome.digest,
        "simulated_s": round(outcome.simulated_s, 3),
        "converged_s": outcome.converged_s,
        "events": [[round(at_s, 3), what] for at_s, what in outcome.events],
        "phases": phases(outcome),
        "bytes_sent": outcome.bytes_sent,
        "published": outcome.said,
        "requests": {"served": outcome.served, "failed": outcome.failed},
        "bookings": {"possible": outcome.accepted, "refused": outcome.refused},
    }


def scenario_facts(scenario: Scenario) -> dict[str, Any]:
    """A scenario, with the keys that it has as a file."""
    theft = scenario.theft
    return {
        "seed": scenario.seed,
        "nodes": scenario.nodes,
        "faulty_s": scenario.faulty_s,
        "replays": scenario.replays,
        "fault": [{"at_s": fault.at_s, "do": fault.do, "with": fault.with_} for fault in scenario.faults],
        "liar": [{"node": node, "lie": lie} for node, lie in scenario.liars],
        "theft": theft and {"at_s": theft[0], "first": theft[1], "second": theft[2], "closes": scenario.closes},
    }


def phases(outcome: Outcome) -> list[dict[str, Any]]:
    """How the run went before, during and after its faults."""
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


def show(outcome: Outcome) -> None:
    """The timeline, a table of the phases, and whether every promise held."""
    console = Console()
    scenario, broken = outcome.scenario, outcome.broken
    console.print(f"[bold]{scenario.nodes} nodes, seed {scenario.seed}, {outcome.simulated_s:.0f} simulated seconds[/]")
    for at_s, what in outcome.events:
        style = "red" if what.startswith("BROKEN") else "bold" if what.startswith("faults") else ""
        console.print(f"  {at_s:8.1f} s  {what}", style=style, markup=False, highlight=False)
    if not (scenario.faults or scenario.liars or scenario.theft or scenario.replays):
        console.print("  (nothing goes wrong in this scenario)")
    console.print(_table(outcome))
    console.print(f"things that the district published: {outcome.said}")
    if broken:
        console.print(f"[red]a promise is broken:[/] {broken.promise}: {broken.what}", highlight=False)
        if len(scenario.liars) > liars_max(scenario.nodes):
            console.print(
                f"That is no surprise: {len(scenario.liars)} of {scenario.nodes} nodes lie, and promises are made "
                f"for at most {liars_max(scenario.nodes)}."
            )
    else:
        console.print(f"[green]every promise held[/]; all agreed {outcome.converged_s:.0f} s after faults stopped")
    console.print(f"digest {outcome.digest}", highlight=False)


def _table(outcome: Outcome) -> Table:
    found = phases(outcome)
    table = Table("", *(phase["phase"] for phase in found))
    agreed = "" if outcome.converged_s is None else f"after {outcome.converged_s:.0f} s"
    for words, cells in (
        ("seconds", [f"{p['seconds']:.0f}" for p in found]),
        ("all nodes agree", ["", "", agreed]),
        ("longest that a node was behind", [f"{p['nodes_behind_s_max']:.0f} s" for p in found]),
        ("node time behind", [f"{100 * p['nodes_behind_share']:.0f} %" for p in found]),
        ("oldest view of the client", [f"{p['client_age_s_max']:.0f} s" for p in found]),
        ("sent by a node", [f"{p['bytes_per_node'] / 1000:.0f} kB" for p in found]),
        ("requests of clients served", [str(p["requests"]["served"]) for p in found]),
        ("requests of clients failed", [str(p["requests"]["failed"]) for p in found]),
        ("times a client could book", [str(p["bookings"]["possible"]) for p in found]),
        ("times it could not tell", [str(p["bookings"]["refused"]) for p in found]),
    ):
        table.add_row(words, *cells)
    return table


def show_shortened(short: Scenario, path: Path) -> None:
    """What is enough to break a promise, and how to repeat it."""
    console = Console(highlight=False)
    console.print("what is enough to break it:")
    if not (short.faults or short.liars or short.theft):
        console.print("       nothing has to go wrong")
    for fault in short.faults:
        console.print(f"  {fault.at_s:8.2f} s  {in_words(fault)}", markup=False)
    for node, lie in short.liars:
        console.print(f"              {node} lies: {lie}", markup=False)
    if short.theft:
        at_s, first, second = short.theft
        console.print(f"  {at_s:8.2f} s  a thief shows {first} and {second} two histories", markup=False)
    console.print(f"repeat it: peewit simulate {path}", soft_wrap=True, markup=False)
