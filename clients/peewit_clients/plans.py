"""What a mediator is about to say, with its consequences in words: shown before it is signed.

Rules kept here: a new version is one above the highest that is known; updates carry over `after`, and only
a deliberate re-admission extends it; suspension is proposed before revocation. Saying the same again keeps keys and
salts, and is nothing at all until it would last a day longer; a practice stands with one key. Nothing here signs or
sends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from peewit_clients.log_words import reason_word
from peewit_clients.tables import CatchmentRow, ProviderRow
from peewit_clients.words import Said, said
from peewit_federation import cbor
from peewit_federation.charter import Charter
from peewit_federation.errors import MalformedError, RefusedError
from peewit_federation.keys import key_id, sha256
from peewit_federation.registry.mediator import MediatorFold
from peewit_federation.registry.subjects import Subject, Verdict
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
REPLACED: Final = 5
Name = tuple[int, str, bytes, bytes]
"(kind, name, subject, secret): what stays on the device."


@dataclass
class Plan:
    """Entries to sign, and what they come to."""

    statements: list[bytes] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    consequences: list[Said] = field(default_factory=list)

    def __add__(self, other: Plan) -> Plan:
        """Both, the other one after this."""
        return Plan(
            self.statements + other.statements, self.names + other.names, self.consequences + other.consequences
        )


@dataclass(frozen=True)
class Knowledge:
    """What the planner asks the device."""

    in_scope: Callable[[Sequence[str], Sequence[str]], bool] = lambda _postcodes, _services: True
    standing: Callable[[int, bytes], Grant | None] = lambda _kind, _subject: None
    "The grant that stands, by kind and subject."
    named: Callable[[int, str], bytes | None] = lambda _kind, _name: None
    "The subject behind a name."
    secrets: Callable[[int, bytes], Sequence[bytes]] = lambda _kind, _subject: ()
    "What was kept with a subject."


class Planner:
    """Makes plans from what the registry says of a mediator."""

    def __init__(
        self,
        charter: Charter,
        fold: MediatorFold,
        now_s: int,
        random_bytes: Callable[[int], bytes],
        knowledge: Knowledge | None = None,
    ) -> None:
        self.knowledge = knowledge or Knowledge()
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
        for row in rows:
            nodes = tuple(self._node(row, name) for name in row.nodes)
            area = known(row.name) or self.random_bytes(16)
            state = self._state(Catchment.KIND, area)
            held = self.knowledge.standing(Catchment.KIND, area)
            last = held if isinstance(held, Catchment) else None
            key_seed = self.random_bytes(32)
            statement = Catchment(
                version=self._version(state),
                status=ACTIVE,
                not_before=self.now_s,
                not_after=self.now_s + row.days * DAY_S,
                after=_carried_over(state),
                area=area,
                salt=last.salt if last else self.random_bytes(16),
                keys=last.keys if last else ((self.now_s, xwing_public(key_seed)),),
                postcodes=row.postcodes,
                services=row.services,
                nodes=nodes,
                groups=row.groups,
            )
            entry = _located(statement.encode, row.line)
            word = self._word(state, last, statement, "office_opens")
            if word is not None:
                plan.statements.append(entry)
                if last is None:
                    plan.names.append((Catchment.KIND, row.name, area, key_seed))
            if not self.knowledge.in_scope(row.postcodes, row.services):
                plan.consequences.append(said("office_outside", number=row.line, name=row.name))
            if len(nodes) == 1 and len(self.charter.operators) > 1:
                plan.consequences.append(said("office_one_node", number=row.line, name=row.name))
            count, services, queue = len(row.postcodes), ", ".join(row.services), ", ".join(row.nodes)
            plan.consequences.append(
                said(
                    "office_area",
                    what=said(word or "office_leaves"),
                    name=row.name,
                    count=count,
                    services=services,
                    nodes=queue,
                    days=row.days,
                )
            )
        return plan

    def _node(self, row: CatchmentRow, name: str) -> bytes:
        operator = next((o for o in self.charter.operators if o.name == name), None)
        if operator is None:
            names = ", ".join(o.name for o in self.charter.operators)
            raise MalformedError(f"line {row.line}: nodes: {name!r} is not an operator; there are {names}")
        return operator.origin_hash

    def _word(self, state: Subject, last: Grant | None, grant: Grant, first: str) -> str | None:
        """The word for what saying this does; None if it stands already and would not last a day longer."""
        if last is None:
            return "office_changes" if state.standing else first
        if replace(grant, version=last.version, not_before=last.not_before, not_after=last.not_after) != last:
            return "office_changes"
        return "office_renews" if abs(grant.not_after - last.not_after) >= DAY_S else None

    def providers(
        self, rows: Sequence[ProviderRow], area: Callable[[str], bytes | None], *, readmit: bool, replace: bool = False
    ) -> Plan:
        """Admit practices, or change what is said of them.

        With `readmit`, revoked ones too; with `replace`, a practice that stands with another key loses that one.
        """
        plan = Plan()
        for row in rows:
            areas = []
            for name in row.areas:
                found = area(name)
                if found is None:
                    raise MalformedError(f"line {row.line}: areas: there is no catchment area {name!r} on this device")
                areas.append(found)
            subject = key_id(row.signing_key)
            state = self._state(Provider.KIND, subject)
            after = _carried_over(state)
            if self.revoked(Provider.KIND, subject):
                if not readmit:
                    raise RefusedError(f"line {row.line}: {row.name} is revoked; to admit it again, use --readmit")
                after = tuple(sorted(state.revocations))
            older = self.knowledge.named(Provider.KIND, row.name)
            if older not in (None, subject) and self._stands(Provider.KIND, older or b""):
                if not replace:
                    raise RefusedError(
                        f"line {row.line}: {row.name} stands with another signing key; to end that one and admit this, "
                        f"use --replace"
                    )
                plan += self.revoke(said("office_older_key", name=row.name), Provider.KIND, older or b"", REPLACED)
            nonce = self._nonce(subject, row.data)
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
            entry = _located(statement.encode, row.line)
            last = self.knowledge.standing(Provider.KIND, subject)
            word = self._word(state, last, statement, "office_admits")
            if word is not None:
                plan.statements.append(entry)
                plan.names.append((Provider.KIND, row.name, subject, cbor.encode([nonce, row.data])))
            if after != _carried_over(state):
                word = "office_admits_again"
            what, where = said(word or "office_leaves"), ", ".join(row.areas)
            plan.consequences.append(said("office_practice", what=what, name=row.name, areas=where, days=row.days))
        return plan

    def revoked(self, kind: int, subject: bytes) -> bool:
        """Whether a grant of this subject would count only as a deliberate re-admission."""
        state = self._state(kind, subject)
        return bool(state.revocations - set(_carried_over(state)))

    def _stands(self, kind: int, subject: bytes) -> bool:
        return self._state(kind, subject).verdict(self.now_s) not in (Verdict.REVOKED, Verdict.UNKNOWN)

    def _nonce(self, subject: bytes, data: dict[str, str]) -> bytes:
        """That of the same data if it was committed to before, so that saying it again says the same."""
        for secret in self.knowledge.secrets(Provider.KIND, subject):
            match cbor.decode(secret, size_bytes_max=len(secret)):
                case [bytes(nonce), held] if held == data:
                    return nonce
        return self.random_bytes(32)

    def next_version(self, grant: GrantKind) -> GrantKind:
        """A grant as its next version."""
        state = self._state(grant.KIND, grant.subject)
        return replace(grant, version=self._version(state), after=_carried_over(state))

    def suspend(self, name: str, kind: int, subject: bytes, last: Grant) -> Plan:
        """Suspend what `last`, the standing grant, permits."""
        state = self._state(kind, subject)
        statement = replace(last, version=self._version(state), status=SUSPENDED, after=_carried_over(state))
        return Plan([statement.encode()], [], [said("office_suspends", name=name)])

    def revoke(self, name: str | Said, kind: int, subject: bytes, reason: int) -> Plan:
        """End all grants of a subject."""
        if reason not in REASONS:
            known = ", ".join(f"{code} {text}" for code, text in REASONS.items())
            raise MalformedError(f"reason {reason} is not known; there are {known}")
        revocation = Revocation(kind, subject, reason, self.random_bytes(16))
        text = said("office_revokes", name=name, reason=reason_word(reason))
        return Plan([revocation.encode()], [], [text])


def _carried_over(state: Subject) -> tuple[bytes, ...]:
    return tuple(sorted(state.standing.after)) if state.standing else ()


def _located(encode: Callable[[], bytes], line: int) -> bytes:
    try:
        return encode()
    except MalformedError as error:
        raise MalformedError(f"line {line}: {error}") from None
