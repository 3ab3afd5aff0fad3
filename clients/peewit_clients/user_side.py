"""What the parts of a person's client share: the registry, what is kept, and how to send and save.

Rules kept here: what a step needs is saved before it is sent, by whoever takes the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from peewit_clients.letters import Letters, Randomness
from peewit_clients.registry_view import RegistryView
from peewit_clients.user_state import UserState
from peewit_clients.words import said
from peewit_federation.appointment.mailbox import LIFETIME_S_MAX
from peewit_federation.appointment.queue_api import ROUNDS_MAX
from peewit_federation.appointment.request import Request
from peewit_federation.errors import UnknownError
from peewit_federation.keys import SigningKey
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment, Provider

MAILBOX_S: Final = 100 * 86_400
"How long mailboxes stay open, at least."
AFTER_S: Final = 7 * 86_400
"After the last round of a request, in which offers may still come."


@dataclass(frozen=True)
class UserSide:
    """One person's client."""

    view: RegistryView
    state: UserState
    letters: Letters
    randomness: Randomness
    keep: Callable[[UserState], None]
    over: list[tuple[SigningKey, tuple[bytes, ...], list[bytes]]] = field(default_factory=list)
    "Letters that were read: (key of the mailbox, where it is, letters)."

    def save(self) -> None:
        """Make what is in the state durable."""
        self.keep(self.state)

    def area(self, mediator: bytes, area: bytes) -> Catchment | None:
        """A catchment area as it was last described, whether or not it may be asked now; None if it is not known."""
        found = self.view.finder.look(mediator, Catchment.KIND, area, int(self.view.clock()))
        statement = read_entry(self.view.standing_entry(found) or b"", MEDIATOR_KINDS)
        return statement if isinstance(statement, Catchment) else None

    def present(self) -> int:
        """The round whose time it is."""
        schedule = self.view.charter.schedule
        return schedule.round_at(self.view.clock()) if schedule else 0

    def mailbox_until_s(self, number: int) -> int:
        """How long the mailbox of a request of a round stays open: as long as that waits, as far as nodes keep it."""
        now_s, schedule = int(self.view.clock()), self.view.charter.schedule
        last_s = schedule.begins_s(number + ROUNDS_MAX + 1) + AFTER_S if schedule else 0
        return min(max(now_s + MAILBOX_S, last_s), now_s + LIFETIME_S_MAX - 60)

    async def tidy(self) -> None:
        """Delete what was read. Not before a recovery copy says what it said: the letter is nowhere else."""
        over = list(self.over)
        self.over.clear()
        for read in over:
            await self.letters.delete(*read)

    def practice_verdict(self) -> Verdict | None:
        """Whether the practice that was chosen may still act, as far as the registry says; None without one."""
        chosen = self.state.chosen
        if chosen is None:
            return None
        now_s = int(self.view.clock())
        return self.view.finder.look(chosen.offer.mediator, Provider.KIND, chosen.practice.subject, now_s).verdict

    def ends(self) -> set[bytes]:
        """Whose nodes see `H`: those that hold the queues of our areas, and those of our mailbox
        and of the practice's.

        One of them that also carried what we ask would see by its clock whose `H` it is.
        """
        found = set(self.state.request.mailbox_nodes if self.state.request else ())
        found |= set(self.state.chosen.origins if self.state.chosen else ())
        for place in self.state.areas:
            known = self.area(*place)
            found |= set(known.nodes) if known else set()
        return found

    def asked(self) -> Request:
        """The request as it stands. Raises `UnknownError` if there is none."""
        if self.state.request is None:
            raise UnknownError(said("error_nothing_asked"))
        return self.state.request
