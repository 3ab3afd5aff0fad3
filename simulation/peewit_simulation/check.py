"""Whether a scenario can be simulated: the types, names and ranges of everything in it.

Rules kept here: a mistake is named (which fault, which argument, what would be right) before anything runs; numbers are
bounded, so that a slip of the pen neither runs for days nor looks like a broken promise.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Set
from typing import Any, Final

from peewit_federation.errors import OperatorError
from peewit_simulation.faults import ACTIONS, Fault
from peewit_simulation.liars import LIES
from peewit_simulation.scenario import Scenario

NODES: Final = (2, 300)
FAULTY_S_MAX: Final = 86_400.0
PEOPLE: Final = ("district", "patient")
RANGES: Final[dict[tuple[str, str], tuple[float, float]]] = {
    ("skew", "seconds"): (-86_400.0, 86_400.0),
    ("skew", "drift"): (-0.1, 0.1),
    ("slow", "seconds"): (0.0, 60.0),
    ("delay", "seconds"): (0.0, 60.0),
    ("lose", "share"): (0.0, 0.9),
}
"By fault and argument."
GROUPS: Final = ("sides", "source", "target")
"Arguments that are lists of hosts; `name` and `names` are single hosts."


def check(scenario: Scenario) -> Scenario:
    """The same scenario. Raises `OperatorError` if it cannot be simulated."""
    if type(scenario.seed) is not int:
        raise OperatorError(f"seed: a whole number, not {scenario.seed!r}")
    if type(scenario.nodes) is not int or not NODES[0] <= scenario.nodes <= NODES[1]:
        raise OperatorError(f"nodes: a whole number from {NODES[0]} to {NODES[1]}, not {scenario.nodes!r}")
    if not _number(scenario.faulty_s) or not 0 < scenario.faulty_s <= FAULTY_S_MAX:
        raise OperatorError(f"faulty_s: seconds, more than 0 and at most {FAULTY_S_MAX:.0f}, not {scenario.faulty_s!r}")
    for key, value in (("replays", scenario.replays), ("closes", scenario.closes)):
        if type(value) is not bool:
            raise OperatorError(f"{key}: true or false, not {value!r}")
    nodes = {f"n{number:03}" for number in range(scenario.nodes)}
    for fault in scenario.faults:
        _in_time(fault.do, fault.at_s, scenario.faulty_s)
        check_fault(fault, nodes)
    for node, lie in scenario.liars:
        _node("liar", node, nodes)
        if lie not in LIES:
            raise OperatorError(f"liar {node}: there is no lie {lie!r}; there are {', '.join(LIES)}")
    if len(liars := [node for node, _ in scenario.liars]) != len(set(liars)):
        raise OperatorError(f"liar {max(liars, key=liars.count)}: a node tells one lie")
    if scenario.theft:
        at_s, first, second = scenario.theft
        _in_time("theft", at_s, scenario.faulty_s)
        _node("theft", first, nodes)
        _node("theft", second, nodes)
        if first == second:
            raise OperatorError("theft: first and second are two nodes")
    return scenario


def liars_max(nodes: int) -> int:
    """How many of so many nodes may lie without breaking a promise: the charter asks for a quorum of the others."""
    return (nodes - 1) // 3


def check_fault(fault: Fault, nodes: Set[str] | None = None) -> None:
    """Raise `OperatorError` for a fault that nobody knows, or whose arguments make no sense.

    Without `nodes` it is not asked whether its hosts exist.
    """
    if fault.do not in ACTIONS:
        raise OperatorError(f"there is no fault {fault.do!r}; there are {', '.join(sorted(ACTIONS))}")
    signature = inspect.signature(ACTIONS[fault.do])
    try:
        bound = signature.bind(None, *fault.with_).arguments
    except TypeError as error:
        raise OperatorError(f"{_words(fault)}: {error}; {usage(fault.do)}") from None
    groups = []
    for name, value in list(bound.items())[1:]:
        several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        for part in value if several else (value,):
            _argument(fault, name, part, nodes)
            groups += [part] if name in GROUPS else []
    if fault.do == "partition" and len(groups) < 2:
        raise OperatorError(f"{_words(fault)}: at least two sides; {usage(fault.do)}")
    members = [host for group in groups for host in group]
    if len(members) != len(set(members)):
        raise OperatorError(f"{_words(fault)}: {max(members, key=members.count)} is named twice")


def usage(do: str) -> str:
    """How a fault is written: partition(*sides), crash(name, power=False)."""
    parameters = list(inspect.signature(ACTIONS[do], eval_str=False).parameters.values())[1:]
    return f"{do}({', '.join(str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters)})"


def _argument(fault: Fault, name: str, value: Any, nodes: Set[str] | None) -> None:
    what = f"{_words(fault)}: {name}"
    if (fault.do, name) in RANGES:
        low, high = RANGES[fault.do, name]
        if not _number(value) or not low <= value <= high:
            raise OperatorError(f"{what}: a number from {low:g} to {high:g}, not {value!r}")
    elif name == "power":
        if type(value) is not bool:
            raise OperatorError(f"{what}: true or false, not {value!r}")
    elif name in GROUPS:
        if not isinstance(value, tuple) or not value:
            raise OperatorError(f'{what}: a list of hosts such as ["n000", "district"], not {value!r}')
        for host in value:
            _host(what, host, nodes)
    else:
        _host(what, value, nodes)


def _host(what: str, value: Any, nodes: Set[str] | None) -> None:
    if not isinstance(value, str):
        raise OperatorError(f'{what}: a host such as "n000", not {value!r}')
    if nodes is not None and value not in nodes and value not in PEOPLE:
        raise OperatorError(f"{what}: there is no host {value!r}; there are {_range(nodes)}, {', '.join(PEOPLE)}")


def _node(what: str, value: Any, nodes: Set[str]) -> None:
    if not isinstance(value, str) or value not in nodes:
        raise OperatorError(f"{what}: there is no node {value!r}; there are {_range(nodes)}")


def _range(nodes: Set[str]) -> str:
    return f"{min(nodes)} to {max(nodes)}"


def _in_time(what: str, at_s: Any, faulty_s: float) -> None:
    if not _number(at_s) or not 0 <= at_s < faulty_s:
        raise OperatorError(f"{what}: at_s is {at_s!r}; faults happen from 0 on and before {faulty_s:g} s (faulty_s)")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _words(fault: Fault) -> str:
    return f"{fault.do} at {fault.at_s:g} s"
