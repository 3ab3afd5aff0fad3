"""Questions to the registry at a time: may this subject act, and who serves a postcode?

Rules kept here: a subject acts only within the scope of its mediator, and a provider only in areas that
themselves count. A passport issuer has no place, so its root must stand with several operators.
Distances and the entries behind the answers are left to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from peewit_federation.registry.fold import Registry
from peewit_federation.registry.subjects import Standing, Subject, Verdict
from peewit_federation.statements.mediator import Catchment, Issuer, Provider


@dataclass(frozen=True)
class Found:
    """A subject that was asked for: whose it is, whether it may act, and where its entry stands."""

    mediator: bytes
    kind: int
    subject: bytes
    verdict: Verdict
    standing: Standing | None
    revocations: frozenset[bytes]


class Finder:
    """Answers from a registry; remembers what scopes allow until they change."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._scopes: dict[bytes, tuple[int, bool]] = {}

    def look(self, mediator: bytes, kind: int, subject: bytes, now_s: int) -> Found:
        """What is known of one subject."""
        fold = self.registry.folds.get(mediator)
        state = fold.subjects.get((kind, subject), Subject()) if fold else Subject()
        verdict = state.verdict(now_s)
        if verdict is Verdict.ACTIVE and state.standing and not self._counts(mediator, kind, state.standing, now_s):
            verdict = Verdict.OUT_OF_SCOPE
        return Found(mediator, kind, subject, verdict, state.standing, state.revocations)

    def in_scope(self, found: Found, now_s: int) -> bool:
        """Whether its mediator may speak for it at all, whatever its time, suspension or revocation."""
        return found.standing is not None and self._counts(found.mediator, found.kind, found.standing, now_s)

    def everywhere(self, kind: int, subject: bytes, now_s: int, after: bytes = b"") -> list[Found]:
        """What every mediator says of a subject, those that know nothing left out, those behind `after`."""
        name = kind, subject
        knowing = sorted(mediator for mediator, fold in self.registry.folds.items() if name in fold.subjects)
        found = [self.look(mediator, kind, subject, now_s) for mediator in knowing if mediator + subject > after]
        return [item for item in found if item.verdict is not Verdict.UNKNOWN]

    def catchments(
        self, now_s: int, postcodes: Set[str] | None = None, service: str | None = None, after: bytes = b""
    ) -> Iterator[Found]:
        """Catchment areas that count, of all mediators (or of any of some postcodes), in order.

        Those behind `after` (a mediator and an area).
        """
        for mediator, fold in sorted(self.registry.folds.items()):
            if mediator < after[: len(mediator)]:
                continue
            areas = (
                {area for kind, area in fold.subjects if kind == Catchment.KIND}
                if postcodes is None
                else {area for at in fold.catchments_at.keys() & postcodes for area in fold.catchments_at[at]}
            )
            for area in sorted(area for area in areas if mediator + area > after):
                found = self.look(mediator, Catchment.KIND, area, now_s)
                if found.verdict is Verdict.ACTIVE and found.standing:
                    if service is None or service in found.standing.services:
                        yield found

    def providers(
        self, mediator: bytes, area: bytes, now_s: int, service: str | None = None, after: bytes = b""
    ) -> Iterator[Found]:
        """Providers that count in a catchment area, in order, those behind `after` (a mediator and a provider)."""
        fold = self.registry.folds.get(mediator)
        held = fold.providers_in.get(area, ()) if fold else ()
        for subject in sorted(subject for subject in held if mediator + subject > after):
            found = self.look(mediator, Provider.KIND, subject, now_s)
            if found.verdict is Verdict.ACTIVE and found.standing:
                if self._serves(mediator, area, found.standing, now_s, service):
                    yield found

    def _counts(self, mediator: bytes, kind: int, standing: Standing, now_s: int) -> bool:
        if kind == Provider.KIND:
            return any(self._serves(mediator, area, standing, now_s) for area in standing.areas)
        key = mediator + standing.digest + standing.origin
        version = self.registry.scopes.get(mediator, 0)
        if self._scopes.get(key, (-1, False))[0] != version:
            self._scopes[key] = version, self._in_scope(mediator, kind, standing)
        return self._scopes[key][1]

    def _serves(self, mediator: bytes, area: bytes, standing: Standing, now_s: int, service: str | None = None) -> bool:
        found = self.look(mediator, Catchment.KIND, area, now_s)
        if found.verdict is not Verdict.ACTIVE or found.standing is None:
            return False
        common = set(found.standing.services) & set(standing.services)
        return bool(common) if service is None else service in common

    def _in_scope(self, mediator: bytes, kind: int, standing: Standing) -> bool:
        registry = self.registry
        roots = registry.vouched.devices_of(mediator, registry.standing_roots(mediator)).get(standing.origin)
        if not roots:
            return False
        admissions, rules = registry.admissions[mediator], registry.constitution
        if kind == Issuer.KIND:
            return bool(roots & admissions.widely_standing(rules))
        if not standing.postcodes or not standing.services:
            return False
        return admissions.covers(roots, standing.postcodes, standing.services, rules)
