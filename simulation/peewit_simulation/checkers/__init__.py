"""What must hold in every world. One small class for each promise; the promise is its docstring.

`watch` is called every simulated second, `end` once everything has had time to come right.
"""

from __future__ import annotations

from peewit_simulation.federation import Simulation


class BrokenPromiseError(Exception):
    """A promise does not hold. `promise` is the name of its checker."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise
        self.what = what


class Checker:
    """Base of all."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    def watch(self) -> None:
        """Look while things go wrong."""

    def end(self) -> None:
        """Look when all is calm."""

    def broken(self, what: str) -> BrokenPromiseError:
        """The error to raise."""
        return BrokenPromiseError(type(self).__name__, f"{what} (at {self.sim.world.now_s:.1f} s)")
