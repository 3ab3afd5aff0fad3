"""A scenario told in Python, in sentences.

    def tell(story):
        story.nodes = 4
        story.faulty_s = 90
        story.at(5).partition(["n000", "n001", "district"], ["n002", "n003", "patient"])
        story.at(10).theft("n000", "n002", closes=True)
        story.lie("n001", "withhold")
        story.replays = True
        story.at(65).heal()

Rules kept here: a sentence that makes no sense is refused where it stands, so that its line can be named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from peewit_federation.errors import OperatorError
from peewit_simulation.check import check, check_fault, usage
from peewit_simulation.faults import ACTIONS, Fault
from peewit_simulation.scenario import Scenario

SAID: Final = ("nodes", "faulty_s", "replays")


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
        if not isinstance(seconds, int | float):
            raise OperatorError(f"at: seconds, not {seconds!r}")
        self._at_s = float(seconds)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in SAID:
            raise OperatorError(f"a story has {', '.join(SAID)}, not {name!r}")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Callable[..., Story]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in ACTIONS:
            words = ", ".join(sorted([*ACTIONS, "theft", "lie"]))
            raise OperatorError(f"there is no fault {name!r}; there are {words}")

        def happen(*with_: Any, **named: Any) -> Story:
            if named:
                try:
                    with_ = inspect.signature(ACTIONS[name]).bind(None, *with_, **named).args[1:]
                except TypeError as error:
                    raise OperatorError(f"{name}: {error}; {usage(name)}") from None
            fault = Fault(self._at_s, name, tuples(with_))
            check_fault(fault)
            self._faults.append(fault)
            return self

        return happen

    def lie(self, node: str, lie: str) -> Story:
        """A node lies from the beginning of the faults on."""
        self._liars.append((node, lie))
        return self

    def theft(self, first: str, second: str, *, closes: bool = True) -> Story:
        """A thief with the district's device key shows two nodes different histories.

        `closes`: whether the district notices, and closes the stolen device.
        """
        if self._theft is not None:
            raise OperatorError("theft: a story has one")
        self._theft, self._closes = (self._at_s, first, second), closes
        return self

    def scenario(self, seed: int) -> Scenario:
        """What was told. Raises `OperatorError`."""
        faults = tuple(sorted(self._faults, key=lambda fault: fault.at_s))
        liars = tuple(self._liars)
        return check(Scenario(seed, self.nodes, faults, self.faulty_s, liars, self._theft, self.replays, self._closes))


def tuples(value: Any) -> Any:
    """Lists, however deep, as tuples: a scenario is never changed. Sets have no order and stay what they are."""
    return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value
