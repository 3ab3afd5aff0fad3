"""What a mediator is about to say, with its consequences in words: shown before it is signed.

Rules kept here: a new version is one above the highest that is known; updates carry over `after`, and only
a deliberate re-admission extends it; suspension is proposed before revocation. Nothing here signs or sends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from peewit_clients.tables import CatchmentRow, ProviderRow
from peewit_federation import cbor
from peewit_federation.charter import Charter
from peewit_federation.errors import MalformedError, RefusedError
from peewit_federation.keys import key_id, sha256
from peewit_federation.registry.mediator import MediatorFold
from peewit_federation.registry.subjects import Subject
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.mediator import (
    ACTIVE,
    REASONS,
    SUSPENDED,
    VERSION_MAX,
    Catchment,
    Grant,
    Provider,
    Revocation,
)

DAY_S: Final = 86_400
GrantKind = TypeVar("GrantKind", bound=Grant)
Name = tuple[int, str, bytes, bytes]
"(kind, name, subject, secret): what stays on the device."


@dataclass
class Plan:
    """Entries to sign, and what they come to."""

    statements: list[bytes] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    consequences: list[str] = field(default_factory=list)

    def __add__(self, other: Plan) -> Plan:
        """Both, the other one after this."""
        return Plan(
            self.statements + other.statements, self.names + other.names, self.consequences + other.consequences
        )


class Planner:
    """Makes plans from what the registry says of a mediator."""

    def __init__(
        self,
        charter: Charter,
        fold: MediatorFold,
        now_s: int,
        random_bytes: Callable[[int], bytes],
        in_scope: Callable[[Sequence[str], Sequence[str]], bool] = lambda _postcodes, _services: True,
    ) -> None:
        self.in_scope = in_scope
        self.charter = charter
        self.fold = fold
        self.now_s = now_s
        self.random_bytes = random_bytes

    def _state(self, kind: int, subject: bytes) -> Subject:
        return self.fold.subjects.get((kind, subject), Subject())

    def _version(self, state: Subject) -> int:
        version = state.standing.version + 1 if state.standing else 1
        if version > VERSION_MAX:
            raise RefusedError(
                "this subject is at the highest version there is, which no honest device reaches: "
                "close the device that wrote it (peewit mediator close), and try again"
            )
        return version

    def catchments(self, rows: Sequence[CatchmentRow], known: Callable[[str], bytes | None]) -> Plan:
        """New or changed catchment areas; `known` gives the area behind a name."""
        plan = Plan()
        for number, row in enumerate(rows, start=2):
            nodes = []
            for name in row.nodes:
                operator = next((o for o in self.charter.operators if o.name == name), None)
                if operator is None:
                    names = ", ".join(o.name for o in self.charter.operators)
                    raise MalformedError(f"line {number}: nodes: {name!r} is not an operator; there are {names}")
                nodes.append(operator.origin_hash)
            area = known(row.name) or self.random_bytes(16)
            state = self._state(Catchment.KIND, area)
            key_seed = self.random_bytes(32)
            statement = Catchment(
                version=self._version(state),
                status=ACTIVE,
                not_before=self.now_s,
                not_after=self.now_s + row.days * DAY_S,
                after=_carried_over(state),
                area=area,
                salt=self.random_bytes(16),
                keys=((self.now_s, xwing_public(key_seed)),),
                postcodes=row.postcodes,
                services=row.services,
                nodes=tuple(dict.fromkeys(nodes)),
                groups=row.groups,
            )
            plan.statements.append(statement.encode())
            plan.names.append((Catchment.KIND, row.name, area, key_seed))
            word = "changes" if state.standing else "opens"
            if not self.in_scope(row.postcodes, row.services):
                plan.consequences.append(
                    f"WARNING: line {number}: {row.name} is outside what operators admit this mediator for; "
                    f"it will not count"
                )
            plan.consequences.append(
                f"{word} catchment area {row.name}: {len(row.postcodes)} postcodes, {', '.join(row.services)}, "
                f"queue at {', '.join(row.nodes)}, for {row.days} days"
            )
        return plan

    def providers(self, rows: Sequence[ProviderRow], area: Callable[[str], bytes | None], *, readmit: bool) -> Plan:
        """Admit practices, or change what is said of them. With `readmit`, revoked ones too."""
        plan = Plan()
        for number, row in enumerate(rows, start=2):
            areas = []
            for name in row.areas:
                found = area(name)
                if found is None:
                    raise MalformedError(f"line {number}: areas: there is no catchment area {name!r} on this device")
                areas.append(found)
            state = self._state(Provider.KIND, key_id(row.signing_key))
            after = _carried_over(state)
            if state.revocations - set(after):
                if not readmit:
                    raise RefusedError(f"line {number}: {row.name} is revoked; to admit it again, use --readmit")
                after = tuple(sorted(state.revocations))
            nonce = self.random_bytes(32)
            statement = Provider(
                version=self._version(state),
                status=ACTIVE,
                not_before=self.now_s,
                not_after=self.now_s + row.days * DAY_S,
                after=after,
                signing_key=row.signing_key,
                encryption_key=row.encryption_key,
                areas=tuple(sorted(set(areas))),
                services=row.services,
                commitment=sha256(nonce, cbor.encode(row.data)),
            )
            plan.statements.append(_located(statement.encode, number))
            secret = cbor.encode([nonce, row.data])
            plan.names.append((Provider.KIND, row.name, statement.subject, secret))
            word = "admits again" if readmit and state.revocations else "changes" if state.standing else "admits"
            plan.consequences.append(f"{word} {row.name} in {', '.join(row.areas)} for {row.days} days")
        return plan

    def next_version(self, grant: GrantKind) -> GrantKind:
        """A grant as its next version."""
        state = self._state(grant.KIND, grant.subject)
        return replace(grant, version=self._version(state), after=_carried_over(state))

    def suspend(self, name: str, kind: int, subject: bytes, last: Grant) -> Plan:
        """Suspend what `last`, the standing grant, permits."""
        state = self._state(kind, subject)
        statement = replace(last, version=self._version(state), status=SUSPENDED, after=_carried_over(state))
        text = (
            f"suspends {name}: it can make no new bookings as soon as clients see this (no quorum is needed); "
            f"its patients are told. Lift it with: provider admit"
        )
        return Plan([statement.encode()], [], [text])

    def revoke(self, name: str, kind: int, subject: bytes, reason: int) -> Plan:
        """End all grants of a subject."""
        if reason not in REASONS:
            known = ", ".join(f"{code} {text}" for code, text in REASONS.items())
            raise MalformedError(f"reason {reason} is not known; there are {known}")
        revocation = Revocation(kind, subject, reason, self.random_bytes(16))
        text = (
            f"revokes {name} for the reason {REASONS[reason]!r}: every grant of it ends as soon as clients "
            f"see this. Only admitting it again deliberately (--readmit) undoes it. "
            f"Would suspending be enough?"
        )
        return Plan([revocation.encode()], [], [text])


def _carried_over(state: Subject) -> tuple[bytes, ...]:
    return tuple(sorted(state.standing.after)) if state.standing else ()


def _located(encode: Callable[[], bytes], line: int) -> bytes:
    try:
        return encode()
    except MalformedError as error:
        raise MalformedError(f"line {line}: {error}") from None
