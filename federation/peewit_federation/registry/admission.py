"""Which mediators count, and where: the operators' latest words (design 4.2, Scope).

Rules kept here: a root key stands for its mediator at a postcode while at least `threshold` operators'
latest word lists both, or the operator in whose own region the postcode lies does. A withdrawal counts
from where it is seen, an admission from where it is believed; per operator the later position wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from peewit_federation.statements.operator import QUOTAS_DEFAULT, Admission, Quotas


@dataclass(frozen=True)
class Constitution:
    """What the fold takes from the charter."""

    threshold: int
    regions: dict[bytes, tuple[str, ...]]
    "Postcode prefixes of each operator's own region, by the origin hash of its log."

    def own(self, operator: bytes, postcode: str) -> bool:
        """Whether a postcode lies in the operator's own region."""
        return postcode.startswith(self.regions.get(operator, ()))


@dataclass
class Admissions:
    """The words of all operators on one mediator."""

    words: dict[bytes, tuple[int, Admission | None]] = field(default_factory=dict)
    "By operator: the position of its latest word, and the word (None: withdrawn)."

    def say(self, operator: bytes, index: int, word: Admission | None) -> bool:
        """Join one word; True if it changed what this operator says."""
        held = self.words.get(operator)
        if held is not None and held[0] >= index:
            return False
        self.words[operator] = (index, word)
        return held is None or held[1] != word

    def current(self) -> list[tuple[bytes, Admission]]:
        """The operators that admit, with their words."""
        return [(operator, word) for operator, (_, word) in sorted(self.words.items()) if word is not None]

    def counts_at(self, roots: Iterable[bytes], postcode: str, service: str, rules: Constitution) -> bool:
        """Whether one of `roots` stands at this postcode for this service."""
        for root in roots:
            behind = [
                operator
                for operator, word in self.current()
                if root in word.roots
                and postcode.startswith(word.postcodes)
                and (not word.services or service in word.services)
            ]
            if len(behind) >= rules.threshold or any(rules.own(operator, postcode) for operator in behind):
                return True
        return False

    def standing_roots(self, rules: Constitution) -> frozenset[bytes]:
        """The root keys that stand anywhere at all."""
        listed: dict[bytes, list[tuple[bytes, Admission]]] = {}
        for operator, word in self.current():
            for root in word.roots:
                listed.setdefault(root, []).append((operator, word))
        return frozenset(root for root, words in listed.items() if self._stand(words, rules))

    def _stand(self, words: list[tuple[bytes, Admission]], rules: Constitution) -> bool:
        if len(words) >= rules.threshold:
            return True
        for operator, word in words:
            region = rules.regions.get(operator, ())
            if any(a.startswith(b) or b.startswith(a) for a in word.postcodes for b in region):
                return True
        return False

    def quotas(self, rules: Constitution) -> Quotas:
        """What at least `threshold` operators grant; of fewer words, the least."""
        words = [word.quotas for _, word in self.current()]
        if not words:
            return (0, 0, 0)
        place = min(rules.threshold, len(words)) - 1
        devices, entries, statements = (sorted(column, reverse=True)[place] for column in zip(*words, strict=True))
        return devices, entries, statements


__all__ = ["QUOTAS_DEFAULT", "Admissions", "Constitution"]
