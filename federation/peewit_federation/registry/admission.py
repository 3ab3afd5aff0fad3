"""Which mediators count, and where: the operators' latest words (design 4.2, Scope).

Rules kept here: a root key stands for its mediator at a postcode while at least `threshold` operators'
latest word lists both; the mediator's first root key also while the operator lists it in whose own region the
postcode lies. A withdrawal counts from where it is seen, an admission from where it is believed; of one
operator's words the later position wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from peewit_federation.keys import key_id
from peewit_federation.statements.operator import Admission, Quotas

Spoken = tuple[bytes, Admission]
"An operator and its word."


@dataclass(frozen=True)
class Constitution:
    """What the fold takes from the charter."""

    threshold: int
    regions: dict[bytes, tuple[str, ...]]
    "Postcode prefixes of each operator's own region, by the origin hash of its log."
    retired: dict[bytes, int] = field(default_factory=dict)
    "Logs of operators that left, by origin hash, with the size at which they end; their words stand."

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

    def current(self) -> list[Spoken]:
        """The operators that admit, with their words."""
        return [(operator, word) for operator, (_, word) in sorted(self.words.items()) if word is not None]

    def covers(
        self, roots: Iterable[bytes], postcodes: Iterable[str], services: Iterable[str], rules: Constitution
    ) -> bool:
        """Whether one of `roots` stands at all of these postcodes, by words that each allow all of the services."""
        wanted, postcodes = set(services), tuple(postcodes)
        for root in roots:
            behind = [
                (operator, word)
                for operator, word in self.current()
                if root in word.roots and (not word.services or wanted <= set(word.services))
            ]
            if all(self._covers_one(root, postcode, behind, rules) for postcode in postcodes):
                return True
        return False

    @staticmethod
    def _covers_one(root: bytes, postcode: str, behind: list[Spoken], rules: Constitution) -> bool:
        there = [operator for operator, word in behind if postcode.startswith(word.postcodes)]
        if len(there) >= rules.threshold:
            return True
        return any(
            _is_first(root, word) and postcode.startswith(word.postcodes) and rules.own(operator, postcode)
            for operator, word in behind
        )

    def standing_roots(self, rules: Constitution) -> frozenset[bytes]:
        """The root keys that stand anywhere at all."""
        return frozenset(root for root, words in self._listed().items() if self._stands(root, words, rules))

    def widely_standing(self, rules: Constitution) -> frozenset[bytes]:
        """The root keys that at least `threshold` operators list: for what has no place, such as passports."""
        return frozenset(root for root, words in self._listed().items() if len(words) >= rules.threshold)

    def _listed(self) -> dict[bytes, list[Spoken]]:
        listed: dict[bytes, list[Spoken]] = {}
        for operator, word in self.current():
            for root in word.roots:
                listed.setdefault(root, []).append((operator, word))
        return listed

    def _stands(self, root: bytes, words: list[Spoken], rules: Constitution) -> bool:
        return len(words) >= rules.threshold or any(
            _is_first(root, word) and _touches(word.postcodes, rules.regions.get(operator, ()))
            for operator, word in words
        )

    def quotas(self, rules: Constitution) -> Quotas:
        """What `threshold` operators grant to a standing root, or one operator to its own region, if that is more."""
        roots = self.standing_roots(rules)
        words = [(operator, word) for operator, word in self.current() if roots & set(word.roots)]
        alone = [word.quotas for operator, word in words if _touches(word.postcodes, rules.regions.get(operator, ()))]
        together = [word.quotas for _, word in words] if len(words) >= rules.threshold else []
        found = []
        for column in range(3):
            best = max((quotas[column] for quotas in alone), default=0)
            if together:
                ranked = sorted((quotas[column] for quotas in together), reverse=True)
                best = max(best, ranked[rules.threshold - 1])
            found.append(best)
        return found[0], found[1], found[2]


def _is_first(root: bytes, word: Admission) -> bool:
    """Whether this is the root key that the mediator is named after.

    One operator alone may vouch for a mediator in its own region, but only for this key: otherwise any operator
    could list a key of its own and speak for a mediator that others admit.
    """
    return key_id(root) == word.mediator


def _touches(prefixes: Iterable[str], region: Iterable[str]) -> bool:
    region = tuple(region)
    return any(a.startswith(b) or b.startswith(a) for a in prefixes for b in region)
