"""Promises about the draw, where somebody cheats in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peewit_simulation.checkers import Checker

if TYPE_CHECKING:
    from peewit_simulation.town import Town


STARTS_S = 60.0
"Longer than a node needs to start."


class Draws(Checker):
    """Operators fewer than the threshold hold all keys of no round, and do not foresee a priority; tokens of a closed
    round find no drawer.
    """

    def __init__(self, town: Town) -> None:
        super().__init__(town.sim)
        self.town = town

    def watch(self) -> None:
        hoarder = self.town.hoarder
        if hoarder is not None and hoarder.drawn:
            raise self.broken(f"a token of round {hoarder.round}, which was closed, found drawers")
        if self.foreseen and self.too_few:
            raise self.broken("operators fewer than the threshold foresaw a priority")

    @property
    def too_few(self) -> bool:
        """Whether colluders are fewer than the threshold of every committee."""
        colluders, schedule = self.town.colluders, self.sim.charter.schedule
        assert schedule is not None
        thresholds = (seats.committee.threshold for seats in schedule.seats)
        return colluders is not None and len(colluders.names) < min(thresholds)

    @property
    def foreseen(self) -> bool:
        """Whether a friend of colluders got the priority that they hoped for."""
        colluders = self.town.colluders
        return colluders is not None and any(
            colluders.forecast in clinic.priorities.get(colluders.friend, ()) for clinic in self.town.clinics
        )

    @property
    def settled(self) -> bool:
        """Whether somebody with old tokens has been told that they are worth nothing."""
        return self.town.hoarder is None or self.town.hoarder.done

    def end(self) -> None:
        self.watch()
        if not self.settled:
            raise self.broken("somebody with tokens of a closed round has had no answer, long after the faults")
        if self.town.colluders is not None and self.too_few:
            names = self.town.colluders.names
            self.sim.run(STARTS_S, lambda: all(name in self.sim.nodes for name in names))
            self.town.colluders.learn()
            if whole := self.town.colluders.rounds():
                raise self.broken(f"operators fewer than the threshold hold every key of rounds {sorted(whole)}")
