"""Where a mediator's device decides on applications, and gives practices the keys of their areas.

    desk = Desk(mediator)
    for filed in await desk.applications():
        plan = desk.approve(planner, [filed], days=400)
        …                              shown, then published: `Mediator.publish`
        await desk.tell([filed])

Rules kept here: where it takes two persons, nothing is approved that another device has not said yes to
(`require_two`), which is a rule of the office and not of the log: whoever takes over a device can break it, and the log
shows which one signed. Everything can be said again; a decision is sent to the practice alone, and only once the grant
is signed; a letter is deleted at the nodes when it is decided on. What was decided, by which device, stands in the
device's own trail, never in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from peewit_clients.backend import Backend, BackendError
from peewit_clients.letters import Letters
from peewit_clients.mediator import Mediator
from peewit_clients.office import KEYS_KEPT, device_key, letter_nodes, post_letter
from peewit_clients.plans import DAY_S, Plan, Planner
from peewit_clients.tables import ProviderRow
from peewit_clients.vouching import Asked
from peewit_clients.words import said
from peewit_federation import cbor
from peewit_federation.appointment.applications import (
    KEYS_MAX,
    LETTERS_MAX,
    Application,
    Decision,
    FirstYes,
    Posted,
    SharedKeys,
    decision_context,
    letter_context,
    read_application,
    read_first_yes,
    read_shared,
    sign_for,
    signer_of,
)
from peewit_federation.appointment.messages import practice_data
from peewit_federation.errors import ForgeryError, MalformedError, RefusedError, SenderError, UnknownError
from peewit_federation.keys import key_id
from peewit_federation.passports.messages import CERTIFY, read_ask
from peewit_federation.passports.revocation import PASSPORT_KIND
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import open_sealed, seal, xwing_public
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment, Issuer, Provider

ROTATION_S = 7 * DAY_S
SHARED_AT_ONCE = 64
"Keys in one letter, of which each device gets a copy."
DECISION_S = 30 * DAY_S
DROPPED_AT_ONCE = 50
"Letters that one request may name."

PAGES_MAX: Final = 20
"Of letters at one node."


@dataclass(frozen=True)
class Filed:
    """An application that waits for a decision."""

    number: str
    "What people call it: the beginning of its hash."
    digest: bytes
    application: Application
    data: dict[str, str]
    older: tuple[bytes, ...] = ()
    "Hashes of earlier applications of the same practice, which this one replaces."

    @property
    def subject(self) -> bytes:
        """Of the grant that it asks for."""
        return key_id(self.application.signing_key)


class Desk:
    """One device at work on applications and keys. `Mediator.prepare` comes first."""

    def __init__(self, role: Mediator) -> None:
        self.role = role
        self.letters = Letters(role.pool, role.clock, role.random_bytes)
        self.complaints: list[str] = []
        self.asked: list[Asked] = []
        "About passports; `applications` reads them too."
        self.yes: dict[bytes, set[bytes]] = {}
        "By what is wished: the letters in which other devices said yes; `applications` reads them too."

    @property
    def _path(self) -> str:
        return f"/v1/letterboxes/{self.role.identity.id.hex()}"

    async def applications(self) -> list[Filed]:
        """Those that wait at any node, newest last. Keys that other devices share are taken over."""
        found: dict[bytes, Filed] = {}
        asked: dict[bytes, list[Asked]] = {}
        for backend in self.role.pool.order():
            for letter in await self._letters_at(backend):
                try:
                    filed = self._open(letter)
                except SenderError as error:
                    self.complaints.append(f"a letter at {backend.name}: {error}")
                    continue
                if isinstance(filed, Filed):
                    found[filed.digest] = filed
                elif filed is not None:
                    asked.setdefault(filed.wish, []).append(filed)
        for _, letters in sorted(asked.items()):
            last = max(letters, key=lambda one: one.ask.time)
            digests = tuple(sorted({digest for one in letters for digest in one.digests}))
            if not self._is_done(last):
                self.asked.append(replace(last, digests=digests))
        newest: dict[bytes, Filed] = {}
        for filed in sorted(found.values(), key=lambda filed: filed.application.time):
            before = newest.get(filed.subject)
            # Who decides on the newest has decided on those that it replaced.
            older = (*before.older, before.digest) if before else ()
            newest[filed.subject] = replace(filed, older=older)
        return list(newest.values())

    async def _letters_at(self, backend: Backend) -> list[Posted]:
        """All letters at a node, page by page, as far as it answers."""
        found: dict[bytes, Posted] = {}
        after = b""
        for _ in range(PAGES_MAX):
            try:
                answer = await self.letters.call(backend, self.role.state.key, self._path + "/read", after)
                items = cbor.decode(answer, size_bytes_max=16 << 20)
                letters = map(Posted.decode, items if isinstance(items, list) else [])
                page = {letter.digest: letter for letter in letters}
            except (BackendError, SenderError, TypeError) as error:
                self.complaints.append(f"{backend.name}: {error}")
                break
            if page.keys() <= found.keys():
                break
            found |= page
            after = cbor.encode([list(page)[-1]])
            if len(page) < LETTERS_MAX:
                break
        return list(found.values())

    def _open(self, letter: Posted) -> Filed | Asked | None:
        state, mediator = self.role.state, self.role.identity.id
        public = xwing_public(state.encryption_seed)
        sealed = dict(letter.copies).get(key_id(public))
        if sealed is None:
            return None  # it was written before this device was made
        plain = open_sealed(state.encryption_seed, sealed, letter_context(mediator, public))
        with suppress(SenderError):
            ask = read_ask(plain)
            return Asked((letter.digest,), ask) if ask.mediator == mediator else None
        try:
            application = read_application(plain)
        except SenderError:
            key = device_key(self.role.view, mediator, signer_of(plain))
            with suppress(MalformedError, ForgeryError):
                for wish in read_first_yes(plain, key).wishes if key != state.key.public else ():
                    self.yes.setdefault(wish, set()).add(letter.digest)
                return None
            shared = read_shared(plain, key)
            for area, seed in reversed(shared.keys):
                state.learn(Catchment.KIND, area, seed)
            return None
        if application.mediator != mediator:
            raise RefusedError("an application to another mediator")
        fields = cbor.decode(application.data)
        if not isinstance(fields, dict) or not all(isinstance(x, str) for item in fields.items() for x in item):
            raise MalformedError("a practice's data is a map of texts")
        return Filed(letter.digest.hex()[:10], letter.digest, application, fields)

    def _is_done(self, one: Asked) -> bool:
        """Whether the log says already what is asked for, or nobody can say it any more."""
        view, mine, now_s = self.role.view, self.role.identity.id, int(self.role.clock())
        if one.ask.what != CERTIFY:
            return bool(view.finder.look(mine, PASSPORT_KIND, one.ask.subject, now_s).revocations)
        found = view.finder.look(mine, Issuer.KIND, key_id(one.ask.subject), now_s)
        if found.verdict in (Verdict.REVOKED, Verdict.EXPIRED):
            return True
        standing = read_entry(view.standing_entry(found) or b"", MEDIATOR_KINDS)
        held = standing.certificate if isinstance(standing, Issuer) else b""
        return found.verdict is Verdict.ACTIVE and one.ask.certificate in (b"", held)

    def approve(self, planner: Planner, filed: Sequence[Filed], days: int, *, readmit: bool = False) -> Plan:
        """What is to be signed to admit these practices, with `readmit` also revoked ones.

        Raises `RefusedError` or `UnknownError`.
        """
        names = self.role.state.names(Catchment.KIND)
        rows = []
        for one in filed:
            for area in one.application.areas:
                looked = self.role.view.finder.look(self.role.identity.id, Catchment.KIND, area, int(self.role.clock()))
                if looked.verdict is not Verdict.ACTIVE:
                    raise UnknownError(f"{one.number}: an area of the application is {looked.verdict.value}")
            name = one.data.get("name", "").strip() or one.number
            if self.role.state.subject(Provider.KIND, name) not in (None, one.subject):
                name = f"{name} ({one.number})"  # two practices of one name are two
            areas = tuple(names.get(area, area.hex()) for area in one.application.areas)
            application = one.application
            rows.append(
                ProviderRow(
                    name, areas, application.services, application.signing_key, application.encryption_key, days,
                    one.data,
                )
            )  # fmt: skip
        by_name = {name: subject for subject, name in names.items()}
        return planner.providers(rows, lambda name: by_name.get(name) or bytes.fromhex(name), readmit=readmit)

    async def require_two(self, wishes: Sequence[bytes]) -> list[bytes]:
        """Say yes to these; those to which another device has said yes too, and which may be approved now.

        Raises `UnknownError` if there is no other device.
        """
        if not self.role.identity.two_persons:
            return list(wishes)
        first = sorted({wish for wish in wishes if wish not in self.yes})
        for start in range(0, len(first), 64):
            plain = sign_for(FirstYes(tuple(first[start : start + 64])), self.role.state.key)
            await post_letter(self.role.view, self.role.identity.id, plain, self.role.state.key.public)
        for wish in first:
            self.role.state.note_down(int(self.role.clock()), "first yes", wish.hex()[:10], "")
        return [wish for wish in wishes if wish in self.yes]

    async def drop_yes(self, wishes: Sequence[bytes]) -> None:
        """Delete what other devices said of what is done now, as far as it speaks of nothing else."""
        done = set(wishes)
        open_ = {letter for wish, letters in self.yes.items() if wish not in done for letter in letters}
        letters = {letter for wish in done for letter in self.yes.get(wish, ())} - open_
        if letters:
            await self.drop(*sorted(letters))

    async def tell(self, filed: Sequence[Filed]) -> list[str]:
        """Send admitted practices their data and keys, and delete their letters; whom it could not be sent to."""
        return await self._send([(one.subject, one) for one in filed])

    async def deliver(self) -> list[str]:
        """Send all practices that stand the keys of their areas; whom it could not be sent to. Harmless to repeat."""
        now_s, mine = int(self.role.clock()), self.role.identity.id
        fold = self.role.view.registry.folds.get(mine)
        subjects = [subject for kind, subject in sorted(fold.subjects if fold else ()) if kind == Provider.KIND]
        standing = [s for s in subjects if self.role.view.finder.look(mine, Provider.KIND, s, now_s).verdict
                    is Verdict.ACTIVE]  # fmt: skip
        failed = await self._send([(subject, None) for subject in standing])
        keys = self._keys([area for area, _ in self._areas()])
        if len(self.role.view.registry.cuts.get(mine, {})) > 1:
            for start in reversed(range(0, len(keys), SHARED_AT_ONCE)):  # the newest last, as they are learnt
                plain = sign_for(SharedKeys(keys[start : start + SHARED_AT_ONCE]), self.role.state.key)
                await post_letter(self.role.view, mine, plain, self.role.state.key.public)
        return failed

    async def _send(self, practices: Sequence[tuple[bytes, Filed | None]]) -> list[str]:
        failed = []
        for subject, filed in practices:
            try:
                await self._send_one(subject)
            except (BackendError, SenderError) as error:
                failed.append(f"{subject.hex()[:16]}…: {error}")
                continue
            if filed is not None:
                self.role.state.note_down(int(self.role.clock()), "admitted", filed.number, filed.data.get("name", ""))
                await self.drop(filed.digest, *filed.older)
        return failed

    async def _send_one(self, subject: bytes) -> None:
        grant = self.role.provider(subject.hex())[1]
        assert isinstance(grant, Provider)
        secret = self.role.state.secret(Provider.KIND, subject)
        salt, fields = cbor.decode(secret) if secret else (b"", None)
        keys = self._keys(grant.areas)
        data = practice_data(fields) if fields is not None else b""
        await self._decide(Decision(subject, 1, "", data, salt, keys), grant.encryption_key, grant.areas)

    async def reject(self, filed: Filed, reason: str) -> None:
        """Tell a practice why it is not admitted, and delete its letter."""
        application = filed.application
        await self._decide(Decision(filed.subject, 0, reason), application.encryption_key, application.areas)
        self.role.state.note_down(int(self.role.clock()), "rejected", filed.number, reason)
        await self.drop(filed.digest, *filed.older)

    async def _decide(self, decision: Decision, public: bytes, areas: Sequence[bytes]) -> None:
        plain = sign_for(decision, self.role.state.key)
        message = seal(public, plain, decision_context(decision.practice, public))
        origins = letter_nodes(self.role.view, self.role.identity.id, areas)
        await self.letters.put(decision.practice, origins, self.role.state.key, b"", message)

    async def drop(self, *digests: bytes) -> None:
        """Delete letters that were decided on."""
        for backend in self.role.pool.order():
            try:
                for start in range(0, len(digests), DROPPED_AT_ONCE):
                    body = cbor.encode(list(digests[start : start + DROPPED_AT_ONCE]))
                    await self.letters.call(backend, self.role.state.key, self._path + "/delete", body)
            except BackendError as error:
                self.complaints.append(f"{backend.name}: {error}")

    # Keys of areas

    def _areas(self) -> list[tuple[bytes, Catchment]]:
        now_s, view, mine = int(self.role.clock()), self.role.view, self.role.identity.id
        fold, found = view.registry.folds.get(mine), []
        for kind, area in sorted(fold.subjects if fold else ()):
            if kind == Catchment.KIND:
                looked = view.finder.look(mine, kind, area, now_s)
                statement = read_entry(view.standing_entry(looked) or b"", MEDIATOR_KINDS)
                if looked.verdict is Verdict.ACTIVE and isinstance(statement, Catchment):
                    found.append((area, statement))
        return found

    def _keys(self, areas: Sequence[bytes]) -> tuple[tuple[bytes, bytes], ...]:
        """The keys of areas, the newest of each first, as many as there is room for."""
        seeds = {area: self._seeds(area) for area in areas}
        turns = range(max(map(len, seeds.values()), default=0))
        found = ((area, mine[turn]) for turn in turns for area, mine in seeds.items() if turn < len(mine))
        return tuple(islice(found, KEYS_MAX))

    def _seeds(self, area: bytes) -> list[bytes]:
        """Of the keys that the area has and had, as far as this device knows them, the newest first.

        Whoever waits has sealed wishes to the key of then; a practice that is admitted today reads them, too.
        """
        if not any(known == area for known, _ in self._areas()):
            return []
        return self.role.state.secrets(Catchment.KIND, area)[::-1][:KEYS_KEPT]

    def rotate(self, planner: Planner) -> Plan:
        """The next key for every area whose last one has begun, to be used a week after that."""
        plan, now_s = Plan(), int(self.role.clock())
        names = self.role.state.names(Catchment.KIND)
        for area, statement in self._areas():
            begins, public = max(statement.keys, default=(0, b""))
            if begins > now_s or not public:
                continue
            seed = self.role.random_bytes(32)
            due = max(now_s + DAY_S, begins + ROTATION_S)
            fresh = replace(statement, keys=((begins, public), (due, xwing_public(seed))))
            plan.statements.append(planner.next_version(fresh).encode())
            name = names.get(area, area.hex())
            plan.names.append((Catchment.KIND, name, area, seed))
            plan.consequences.append(said("office_next_key", name=name, hours=(due - now_s) // 3600))
        return plan
