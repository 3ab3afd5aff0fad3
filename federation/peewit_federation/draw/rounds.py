"""What the operators' logs say of rounds: whose token keys count, and which rounds are open (design 4.5).

Rules kept here: only what a quorum has cosigned is handed in, each operator's words in the order of its log. Per
operator, round and group the first token key counts, and a modulus counts once. For each set of a committee a member
that holds its key says so, once; the key that all but one of its holders name (and more than half) is the one, so
that there are never two, and one dead or lying member neither makes nor prevents any. A round is open when all of its
keys are decided; one that is not leaves the last one open. An operator's words are kept for 64 rounds behind its own
newest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Final

from peewit_federation.draw.blind_rsa import TokenPublicKey
from peewit_federation.draw.schedule import LATE_ROUNDS_MAX, Schedule, Seats
from peewit_federation.errors import ForgeryError, SenderError, UnknownError
from peewit_federation.statements.draw import PLACES_MAX, DrawKey, DrawStatement, TokenCount, TokenKey

ROUNDS_KEPT: Final = 64
GROUPS_MAX: Final = 32
"Token keys that count per operator and round."
COMMITTEES_MAX: Final = 2
"Whose draw keys are kept per operator and round."


@dataclass
class Said:
    """What one operator said of one round. Everything is bounded, because a log is as long as its author likes."""

    tokens: dict[str, TokenPublicKey] = field(default_factory=dict)
    "By group."
    keys: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    "Public draw keys by committee and place."
    counts: dict[str, int] = field(default_factory=dict)
    "Signatures by group."


@dataclass
class Words:
    """What one operator said, by round."""

    newest: int = 0
    rounds: dict[int, Said] = field(default_factory=dict)


class Rounds:
    """All operators' words on rounds."""

    def __init__(self) -> None:
        self.words: dict[bytes, Words] = {}
        "By origin hash."
        self.changes = 0
        "Grows with every word."

    def say(self, operator: bytes, word: DrawStatement) -> None:
        """Join the next word of an operator."""
        self.changes += 1
        words = self.words.setdefault(operator, Words())
        if word.round <= words.newest - ROUNDS_KEPT:
            return
        if word.round > words.newest:
            words.newest = word.round
            kept = word.round - ROUNDS_KEPT
            words.rounds = {number: said for number, said in words.rounds.items() if number > kept}
        said = words.rounds.setdefault(word.round, Said())
        match word:
            case TokenKey():
                _token_key(words, said, word)
            case DrawKey() if len(said.keys) < COMMITTEES_MAX * PLACES_MAX:
                said.keys.setdefault((word.committee, word.place), word.public)
            case TokenCount() if word.group in said.tokens:
                said.counts[word.group] = max(said.counts.get(word.group, 0), word.signatures)
            case _:
                pass

    def keep(self, operators: Container[bytes]) -> None:
        """Forget everybody else's words."""
        self.words = {operator: words for operator, words in self.words.items() if operator in operators}

    def forget(self, operator: bytes) -> None:
        """Forget an operator's words, which are read again."""
        self.words.pop(operator, None)

    # Admission

    def token_key(self, operator: bytes, number: int, group: str) -> TokenPublicKey | None:
        """The key that counts, if there is one."""
        said = self._said(operator, number)
        return said.tokens.get(group) if said else None

    def require_tokens(
        self, request: bytes, number: int, group: str, tokens: Sequence[tuple[bytes, bytes]], seats: Seats,
        operators: Container[bytes],
    ) -> None:  # fmt: skip
        """Raise `ForgeryError` unless as many different operators signed `request` as the threshold says.

        `tokens` are (origin hash, signature). Raises `UnknownError` if too many of their keys are not known here (yet).
        """
        signed = {
            operator
            for operator, token in tokens[:GROUPS_MAX]
            if operator in operators
            and (key := self.token_key(operator, number, group)) is not None
            and key.verifies(request, token)
        }
        lacking = {o for o, _ in tokens if o in operators and self.token_key(o, number, group) is None}
        if len(signed) < seats.committee.threshold <= len(signed | lacking):
            raise UnknownError(f"keys of round {number} by which this request was admitted are not known here (yet)")
        if len(signed) < seats.committee.threshold:
            raise ForgeryError(
                f"{len(signed)} operators admitted this request to round {number}; it takes {seats.committee.threshold}"
            )

    def signatures(self, number: int, group: str, operators: int) -> int:
        """How many signatures at least so many operators have published for a round and group."""
        counts = (words.rounds[number].counts.get(group, 0) for words in self.words.values() if number in words.rounds)
        return ([*sorted(counts, reverse=True), *[0] * operators])[operators - 1]

    # The draw

    def held(self, seats: Seats, number: int, place: int) -> list[tuple[str, bytes]]:
        """Who says that it holds a key for a place, and which, in the order of the committee."""
        found = []
        for name in seats.committee.holders(place):
            said = self._said(seats.origin(name), number)
            public = said.keys.get((seats.digest, place)) if said else None
            if public is not None:
                found.append((name, public))
        return found

    def keys(self, seats: Seats, number: int) -> tuple[bytes, ...] | None:
        """The public keys of a round, if all are decided."""
        found = []
        for place in range(len(seats.committee.sets)):
            told = Counter(public for _, public in self.held(seats, number, place))
            decided = [public for public, count in told.items() if count >= seats.words]
            if not decided:
                return None
            found += decided
        return tuple(found)

    def open_round(self, schedule: Schedule, now_s: float) -> int | None:
        """The round that is open: the present one, or the last that opened if that did not. None if there is none."""
        present = schedule.round_at(now_s)
        for number in range(present, max(-1, present - LATE_ROUNDS_MAX), -1):
            if self.keys(schedule.seats_of(number), number) is not None:
                return number
        return None

    def _said(self, operator: bytes, number: int) -> Said | None:
        words = self.words.get(operator)
        return words.rounds.get(number) if words else None


def _token_key(words: Words, said: Said, word: TokenKey) -> None:
    try:
        key = TokenPublicKey.decode(word.modulus)
    except SenderError:
        return
    if len(said.tokens) < GROUPS_MAX and not any(key in other.tokens.values() for other in words.rounds.values()):
        said.tokens.setdefault(word.group, key)
