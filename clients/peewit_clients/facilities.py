"""What a practice has beside times: a way in without steps, and languages. They stand in the data that is verified.

Rules kept here: who needs a way in without steps is offered only what says that it has one; of languages one must be
common, where both say some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from peewit_federation.appointment.request import LANGUAGE, Wishes

STEP_FREE: Final = "step_free"
LANGUAGES: Final = "languages"
YES: Final = "yes"


@dataclass(frozen=True)
class Facilities:
    """Of one practice."""

    step_free: bool = False
    languages: frozenset[str] = frozenset()

    @classmethod
    def of(cls, data: Mapping[str, str]) -> Self:
        """As its data says."""
        return cls(data.get(STEP_FREE) == YES, frozenset(data.get(LANGUAGES, "").split()))

    def suit(self, wishes: Wishes) -> bool:
        """Whether somebody with these wishes can come here."""
        understood = not self.languages or not wishes.languages or bool(self.languages & set(wishes.languages))
        return understood and (self.step_free or not wishes.step_free)


def fields(*, step_free: bool, languages: Sequence[str]) -> dict[str, str]:
    """As they stand in a practice's data. Raises `MalformedError`."""
    for language in languages:
        LANGUAGE.check(language)
    stated = {STEP_FREE: YES} if step_free else {}
    return stated | ({LANGUAGES: " ".join(dict.fromkeys(languages))} if languages else {})
