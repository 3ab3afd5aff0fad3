"""What the parts of a person's client share: the registry, what is kept, and how to send and save.

Rules kept here: what a step needs is saved before it is sent, by whoever takes the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peewit_clients.letters import Letters, Randomness
from peewit_clients.registry_view import RegistryView
from peewit_clients.user_state import UserState
from peewit_clients.words import said
from peewit_federation.appointment.request import Request
from peewit_federation.errors import UnknownError
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment, Provider


@dataclass(frozen=True)
class UserSide:
    """One person's client."""

    view: RegistryView
    state: UserState
    letters: Letters
    randomness: Randomness
    keep: Callable[[UserState], None]

    def save(self) -> None:
        """Make what is in the state durable."""
        self.keep(self.state)

    def practice_verdict(self) -> Verdict | None:
        """Whether the practice that was chosen may still act, as far as the registry says; None without one."""
        chosen = self.state.chosen
        if chosen is None:
            return None
        now_s = int(self.view.clock())
        return self.view.finder.look(chosen.offer.mediator, Provider.KIND, chosen.practice.subject, now_s).verdict

    def ends(self) -> set[bytes]:
        """Whose nodes see `H`: those that hold the queues of our areas, and those of our mailbox.

        One of them that also carried what we ask would see by its clock whose `H` it is.
        """
        found = set(self.state.request.mailbox_nodes if self.state.request else ())
        for mediator, area in self.state.areas:
            looked = self.view.finder.look(mediator, Catchment.KIND, area, int(self.view.clock()))
            statement = read_entry(self.view.standing_entry(looked) or b"", MEDIATOR_KINDS)
            found |= set(statement.nodes) if isinstance(statement, Catchment) else set()
        return found

    def asked(self) -> Request:
        """The request as it stands. Raises `UnknownError` if there is none."""
        if self.state.request is None:
            raise UnknownError(said("error_nothing_asked"))
        return self.state.request
