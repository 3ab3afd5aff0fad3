"""What the operators' logs say of rounds: whose token keys count, and which rounds are open (design 4.5).

Rules kept here: only what a quorum has cosigned is handed in, each operator's words in the order of its log. Per
operator, round and group the first token key counts, and a modulus counts once. A member has one receipt for a round,
its first; a round is open when all but one of its committee's members have receipts for the same keys, so that no two
sets of keys can ever open one round. A round that does not open leaves the last one open. An operator's words are
kept for 64 rounds behind its own newest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Final

from peewit_federation.draw.blind_rsa import TokenPublicKey
from peewit_federation.draw.schedule import LATE_ROUNDS_MAX, Schedule, Seats
from peewit_federation.errors import ForgeryError, RefusedError, SenderError
from peewit_federation.statements.draw import PLACES_MAX, DrawKey, DrawReceipt, DrawStatement, TokenCount, TokenKey

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
    receipts: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    "Public draw keys of all places, by committee."
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

    def say(self, operator: bytes, word: DrawStatement) -> None:
        """Join the next word of an operator."""
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
            case DrawReceipt() if len(said.receipts) < COMMITTEES_MAX:
                said.receipts.setdefault(word.committee, word.publics)
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

        `tokens` are (origin hash, signature).
        """
        signed = {
            operator
            for operator, token in tokens[:GROUPS_MAX]
            if operator in operators
            and (key := self.token_key(operator, number, group)) is not None
            and key.verifies(request, token)
        }
        if len(signed) < seats.committee.threshold:
            raise ForgeryError(
                f"{len(signed)} operators admitted this request to round {number}; it takes {seats.committee.threshold}"
            )

    def signatures(self, number: int, group: str) -> int:
        """How many signatures were published for a round and group, by the operator with the most."""
        counts = (words.rounds[number].counts.get(group, 0) for words in self.words.values() if number in words.rounds)
        return max(counts, default=0)

    # The draw

    def draw_key(self, seats: Seats, number: int, place: int) -> list[tuple[str, bytes]]:
        """Who logged a key for a place, and which, in the order in which they may make it."""
        found = []
        for name in seats.committee.holders(place):
            said = self._said(seats.origin(name), number)
            public = said.keys.get((seats.digest, place)) if said else None
            if public is not None:
                found.append((name, public))
        return found

    def receipt(self, seats: Seats, number: int, name: str) -> tuple[bytes, ...] | None:
        """The public keys that a member says it has."""
        said = self._said(seats.origin(name), number)
        return said.receipts.get(seats.digest) if said else None

    def keys(self, seats: Seats, number: int) -> tuple[bytes, ...] | None:
        """The public keys of a round, if it may open."""
        told: Counter[tuple[bytes, ...]] = Counter()
        for name in seats.committee.members:
            publics = self.receipt(seats, number, name)
            if publics is not None and len(publics) == len(seats.committee.sets):
                told[publics] += 1
        for publics, count in told.items():
            if count >= seats.receipts:
                return publics
        return None

    def open_round(self, schedule: Schedule, now_s: float) -> int | None:
        """The round that is open: the present one, or the last that opened if that did not. None if there is none."""
        present = schedule.round_at(now_s)
        for number in range(present, max(-1, present - LATE_ROUNDS_MAX), -1):
            if self.keys(schedule.seats_of(number), number) is not None:
                return number
        return None

    def require_drawn(self, schedule: Schedule, number: int, now_s: float) -> tuple[bytes, ...]:
        """The public keys of a round that is drawn now. Raises `RefusedError` if it is not."""
        times = now_s, now_s - schedule.grace_s, now_s + schedule.skew_s
        present = [self.open_round(schedule, at_s) for at_s in times]
        keys = self.keys(schedule.seats_of(number), number) if number in present else None
        if keys is None:
            is_open = "none is" if present[0] is None else f"round {present[0]} is"
            raise RefusedError(f"round {number} is not open; {is_open}")
        return keys

    def _said(self, operator: bytes, number: int) -> Said | None:
        words = self.words.get(operator)
        return words.rounds.get(number) if words else None


def _token_key(words: Words, said: Said, word: TokenKey) -> None:
    try:
        key = TokenPublicKey.decode(word.modulus)
    except SenderError:
        return
    known = any(key in other.tokens.values() for other in words.rounds.values())
    if not known and len(said.tokens) < GROUPS_MAX:
        said.tokens.setdefault(word.group, key)
