"""Scenarios as files: TOML for operators, Python for those who like sentences.

    nodes = 4
    faulty_s = 90
    replays = true         # a client sends again what others sent
    [[fault]]
    at_s = 5
    do = "partition"
    with = [["n000", "n001"], ["n002", "n003"]]
    [[liar]]
    node = "n003"
    lie = "withhold"
    [theft]
    at_s = 20
    first = "n000"
    second = "n002"
    closes = true          # whether the district closes the stolen device

A Python file has a function `tell(story)`:

    def tell(story):
        story.nodes = 4
        story.at(5).partition(["n000", "n001"], ["n002", "n003"])
        story.at(65).heal()

Rules kept here: a mistake is named with its file and key before anything is simulated.
"""

from __future__ import annotations

import inspect
import json
import runpy
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from peewit_federation.errors import OperatorError
from peewit_simulation.faults import ACTIONS, Fault
from peewit_simulation.liars import LIES
from peewit_simulation.scenario import Scenario

NODES_MAX = 300
KEYS = {"nodes", "seed", "faulty_s", "replays", "fault", "liar", "theft"}
FAULT_KEYS = {"at_s", "do", "with"}
LIAR_KEYS = {"node", "lie"}
THEFT_KEYS = {"at_s", "first", "second", "closes"}


class Story:
    """A scenario that is being told."""

    def __init__(self) -> None:
        self.nodes = 4
        self.faulty_s = 60.0
        self.replays = False
        self._closes = True
        self._faults: list[Fault] = []
        self._liars: list[tuple[str, str]] = []
        self._theft: tuple[float, str, str] | None = None
        self._at_s = 0.0

    def at(self, seconds: float) -> Story:
        """What follows happens so many seconds after the beginning of the faults."""
        self._at_s = float(seconds)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in ("nodes", "faulty_s", "replays"):
            raise AttributeError(f"a story has nodes, faulty_s and replays, not {name!r}")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Callable[..., Story]:
        if name not in ACTIONS:
            raise AttributeError(f"there is no fault {name!r}; there are {', '.join(sorted(ACTIONS))}")

        def happen(*with_: Any) -> Story:
            self._faults.append(Fault(self._at_s, name, tuple(map(_tuples, with_))))
            return self

        return happen

    def lie(self, node: str, lie: str) -> Story:
        """A node lies from the beginning of the faults on."""
        self._liars.append((node, lie))
        return self

    def theft(self, first: str, second: str, *, closes: bool = True) -> Story:
        """A thief with the district's device key shows two nodes different histories (`closes`: for a while)."""
        self._theft, self._closes = (self._at_s, first, second), closes
        return self

    def scenario(self, seed: int) -> Scenario:
        """What was told."""
        faults = tuple(sorted(self._faults, key=lambda fault: fault.at_s))
        liars = tuple(self._liars)
        return check(
            Scenario(seed, self.nodes, faults, self.faulty_s, liars, self._theft, bool(self.replays), self._closes)
        )


def read(path: Path, seed: int | None) -> Scenario:
    """A scenario from a file. Raises `OperatorError`."""
    try:
        if path.suffix == ".py":
            story = Story()
            try:
                runpy.run_path(str(path))["tell"](story)
            except Exception as error:
                raise OperatorError(f"{type(error).__name__}: {error}") from None
            return story.scenario(seed or 0)
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return check(_of(table, seed))
    except KeyError as error:
        raise OperatorError(f"{path}: {error.args[0]} is missing") from None
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, TypeError, ValueError, OperatorError) as error:
        raise OperatorError(f"{path}: {error}") from None


def _of(table: dict[str, Any], seed: int | None) -> Scenario:
    parts = [("fault", part, FAULT_KEYS) for part in table.get("fault", [])]
    parts += [("liar", part, LIAR_KEYS) for part in table.get("liar", [])]
    parts += [("theft", table["theft"], THEFT_KEYS)] if "theft" in table else []
    for where, part, known in (("", table, KEYS), *parts):
        if unknown := sorted(set(part) - known):
            name = f"{where}: {unknown[0]}" if where else unknown[0]
            raise OperatorError(f"{name} is not known; there are {', '.join(sorted(known))}")
    faults = [Fault(float(f["at_s"]), f["do"], tuple(map(_tuples, f.get("with", ())))) for f in table.get("fault", [])]
    theft = table.get("theft")
    return Scenario(
        int(table.get("seed", 0)) if seed is None else seed,
        int(table.get("nodes", 4)),
        tuple(sorted(faults, key=lambda fault: fault.at_s)),
        float(table.get("faulty_s", 60.0)),
        tuple((liar["node"], liar["lie"]) for liar in table.get("liar", [])),
        (float(theft["at_s"]), theft["first"], theft["second"]) if theft else None,
        bool(table.get("replays", False)),
        bool(theft.get("closes", True)) if theft else True,
    )


def write(scenario: Scenario) -> str:
    """A scenario as TOML."""
    lines = [f"seed = {scenario.seed}", f"nodes = {scenario.nodes}", f"faulty_s = {scenario.faulty_s}"]
    if scenario.replays:
        lines.append("replays = true")
    for fault in scenario.faults:
        lines += ["", "[[fault]]", f"at_s = {fault.at_s}", f'do = "{fault.do}"']
        if fault.with_:
            lines.append(f"with = {json.dumps(fault.with_)}")
    for node, lie in scenario.liars:
        lines += ["", "[[liar]]", f'node = "{node}"', f'lie = "{lie}"']
    if scenario.theft:
        at_s, first, second = scenario.theft
        lines += ["", "[theft]", f"at_s = {at_s}", f'first = "{first}"', f'second = "{second}"']
        lines.append(f"closes = {str(scenario.closes).lower()}")
    return "\n".join(lines) + "\n"


def check(scenario: Scenario) -> Scenario:
    """The same scenario. Raises `OperatorError` if it cannot be simulated."""
    if not 1 <= scenario.nodes <= NODES_MAX:
        raise OperatorError(f"nodes: from 1 to {NODES_MAX}")
    if not 0 < scenario.faulty_s <= 86_400:
        raise OperatorError("faulty_s: more than 0 and at most 86400")
    names = {f"n{number:03}" for number in range(scenario.nodes)}
    everybody = names | {"district", "patient"}
    for fault in scenario.faults:
        if fault.do not in ACTIONS:
            raise OperatorError(f"there is no fault {fault.do!r}; there are {', '.join(sorted(ACTIONS))}")
        if not 0 <= fault.at_s < scenario.faulty_s:
            raise OperatorError(
                f"{fault.do}: at_s is {fault.at_s}; faults happen from 0 on and before {scenario.faulty_s}"
            )
        try:
            inspect.signature(ACTIONS[fault.do]).bind(None, *fault.with_)
        except TypeError as error:
            raise OperatorError(f"{fault.do} at {fault.at_s} s: {error}") from None
        for name in _names(fault.with_):
            if name not in everybody:
                raise OperatorError(f"{fault.do} at {fault.at_s} s: there is no host {name!r}; nodes are n000, n001, …")
    for node, lie in scenario.liars:
        if node not in names or lie not in LIES:
            raise OperatorError(f"{node!r} cannot {lie!r}; nodes are n000, n001, …, lies are {', '.join(LIES)}")
    if scenario.theft and not set(scenario.theft[1:]) <= names:
        raise OperatorError("theft: first and second are nodes")
    return replace(scenario)


def _names(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [name for part in value for name in _names(part)]
    return [value] if isinstance(value, str) else []


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
