"""Faults in words, for timelines. Each begins with the name by which scenarios call it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from peewit_simulation.faults import Fault


def in_words(fault: Fault) -> str:
    """`crash: n000 loses its power`."""
    words = WORDS[fault.do](*fault.with_)
    return f"{fault.do}: {words}" if words else fault.do


def _partition(*sides: tuple[str, ...]) -> str:
    return " | ".join(map(group, sides))


def _oneway(source: tuple[str, ...], target: tuple[str, ...]) -> str:
    return f"nothing gets from {group(source)} to {group(target)}"


def _crash(name: str, power: bool = False) -> str:
    return f"{name} loses its power" if power else f"{name} is killed"


def _skew(name: str, seconds: float, drift: float = 0.0) -> str:
    ahead = f"{abs(seconds):g} s {'ahead' if seconds >= 0 else 'behind'}"
    runs = f", and runs {abs(drift):.2%} too {'fast' if drift > 0 else 'slow'}" if drift else ""
    return f"the clock of {name} is {ahead}{runs}"


def _slow(name: str, seconds: float) -> str:
    return f"{name} notices everything {seconds:g} s late"


def _lose(share: float, *names: str) -> str:
    return f"{share:.0%} of all segments{_links(names)}"


def _delay(seconds: float, *names: str) -> str:
    return f"{seconds:g} s{_links(names)}"


def _hold(source: tuple[str, ...], target: tuple[str, ...]) -> str:
    return f"what {group(source)} sends to {group(target)} waits"


def _name(name: str) -> str:
    return name


def _nothing() -> str:
    return ""


def _links(names: Collection[str]) -> str:
    return f" on the links of {group(names)}" if names else ""


def group(names: Iterable[str]) -> str:
    """n000, n001, n002, district as `n000…n002, district`."""
    runs: list[list[str]] = []
    for name in sorted(names, key=lambda name: (not name[1:].isdigit(), name)):
        follows = runs and runs[-1][-1][1:].isdigit() and name == f"n{int(runs[-1][-1][1:]) + 1:03}"
        if follows:
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(f"{run[0]}…{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


WORDS: Final[dict[str, Callable[..., Any]]] = {
    "partition": _partition, "partition_oneway": _oneway, "heal": _nothing, "crash": _crash, "restart": _name,
    "backup": _name, "put_back": _name,
    "pause": _name, "resume": _name, "skew": _skew, "slow": _slow, "lose": _lose, "delay": _delay,
    "hold": _hold, "release": _nothing,
}  # fmt: skip
