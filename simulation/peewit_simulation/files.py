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

Rules kept here: a mistake is named with its file, and its key or line, before anything is simulated; what has another
type than it should is refused, not guessed at.
"""

from __future__ import annotations

import json
import runpy
import tomllib
import traceback
from pathlib import Path
from typing import Any, TypeVar

from peewit_federation.errors import OperatorError
from peewit_simulation.check import check
from peewit_simulation.faults import Fault
from peewit_simulation.scenario import Scenario
from peewit_simulation.story import Story, tuples

T = TypeVar("T")
MISSING: Any = object()
TYPES: dict[type, str] = {
    int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false",
    list: "a list in brackets", dict: "a table",
}  # fmt: skip


def read(path: Path, seed: int | None) -> Scenario:
    """A scenario from a file. Raises `OperatorError`."""
    try:
        if path.suffix == ".py":
            return _told(path, seed or 0)
        if path.suffix != ".toml":
            raise OperatorError("a scenario is a .toml or a .py file")
        return check(_of(_Table(tomllib.loads(path.read_text(encoding="utf-8-sig")), ""), seed))
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OperatorError) as error:
        raise OperatorError(f"{path}: {error}") from None


def _told(path: Path, seed: int) -> Scenario:
    story = Story()
    try:
        tell = runpy.run_path(str(path)).get("tell")
        if not callable(tell):
            raise OperatorError("it has no function tell(story)")
        tell(story)
    except OSError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # Whatever a file does, also sys.exit(), is a mistake of that file.
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        lines += [error.lineno] if isinstance(error, SyntaxError) else []
        where = f"line {lines[-1]}: " if lines else ""
        what = str(error) if isinstance(error, OperatorError) else f"{type(error).__name__}: {error}"
        raise OperatorError(where + what) from None
    return story.scenario(seed)


class _Table:
    """A table of TOML from which keys are taken."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, dict):
            raise OperatorError(f"{where}: a table")
        self._left = dict(values)
        self._where = f"{where}: " if where else ""
        self._known: list[str] = []

    def take(self, key: str, kind: type[T], default: Any = MISSING) -> T:
        """The value of a key, which must have this type."""
        self._known.append(key)
        if key not in self._left and default is not MISSING:
            return default  # type: ignore[no-any-return]
        if key not in self._left:
            raise OperatorError(f"{self._where}{key} is missing")
        value = self._left.pop(key)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise OperatorError(f"{self._where}{key}: {TYPES[kind]}, not {json.dumps(value, default=str)}")
        return kind(value)  # type: ignore[call-arg]

    def tables(self, key: str) -> list[_Table]:
        """The tables of [[key]]."""
        if isinstance(self._left.get(key), dict):
            raise OperatorError(f"{key}: several may be there; write [[{key}]]")
        found: list[Any] = self.take(key, list, [])
        return [_Table(values, f"{key} {number}") for number, values in enumerate(found, 1)]

    def done(self) -> None:
        """Raise `OperatorError` for what nobody took."""
        if self._left:
            raise OperatorError(f"{self._where}{min(self._left)} is not known; there are {', '.join(self._known)}")


def _of(table: _Table, seed: int | None) -> Scenario:
    own_seed = table.take("seed", int, 0)
    nodes, faulty_s = table.take("nodes", int, 4), table.take("faulty_s", float, 60.0)
    replays = table.take("replays", bool, False)
    faults = [_fault(part) for part in table.tables("fault")]
    liars = [_liar(part) for part in table.tables("liar")]
    found: dict[str, Any] | None = table.take("theft", dict, None)
    theft, closes = (None, True) if found is None else _theft(_Table(found, "theft"))
    table.done()
    ordered = tuple(sorted(faults, key=lambda fault: fault.at_s))
    seed = own_seed if seed is None else seed
    return Scenario(seed, nodes, ordered, faulty_s, tuple(liars), theft, replays, closes)


def _fault(table: _Table) -> Fault:
    found = Fault(table.take("at_s", float), table.take("do", str), tuples(table.take("with", list, [])))
    table.done()
    return found


def _liar(table: _Table) -> tuple[str, str]:
    found = table.take("node", str), table.take("lie", str)
    table.done()
    return found


def _theft(table: _Table) -> tuple[tuple[float, str, str], bool]:
    found = table.take("at_s", float), table.take("first", str), table.take("second", str)
    closes = table.take("closes", bool, True)
    table.done()
    return found, closes


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
