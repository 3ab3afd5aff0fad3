"""A mediator: an offline root, devices with logs, and what they publish.

    folder/mediator.json           id and root key (public)
    folder/root.key                to be kept offline; only `device` and `close` need it
    folder/devices/<name>/         one folder per device, on whichever machine it is used

Rules kept here: what is published was planned from the newest registry that can be reached, shown, stored and
only then sent; every command may be repeated after a crash; when two devices collide, the one that lost is told.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from peewit_clients.device_log import USED_ELSEWHERE, DeviceLog, ForkedDeviceError, Progress
from peewit_clients.device_state import DeviceState, log_of
from peewit_clients.follower import Copy
from peewit_clients.plans import Knowledge, Plan, Planner
from peewit_clients.pool import BackendError, BackendPool, UnreachableError
from peewit_clients.registry_view import RegistryView
from peewit_clients.secret_file import read_secret, write_secret
from peewit_federation.api import Append
from peewit_federation.charter import Charter
from peewit_federation.errors import MalformedError, OperatorError, RefusedError, UnknownError
from peewit_federation.keys import SigningKey, key_id, sha256
from peewit_federation.log.checkpoint import Head, log_key, origin_hash, origin_of
from peewit_federation.log.merkle import CompactRange, leaf_hash
from peewit_federation.log.tiles import encode_bundle
from peewit_federation.registry.mediator import LogState, MediatorFold
from peewit_federation.registry.subjects import Subject
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.carried import Close, Device, sign_close, sign_device
from peewit_federation.statements.kinds import MEDIATOR_KINDS, OPERATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Grant, Provider
from peewit_federation.statements.operator import Carried

DEVICE_NAME = r"[a-z0-9][a-z0-9-]{0,63}"


@dataclass(frozen=True)
class Identity:
    """A mediator's public facts."""

    id: bytes
    root: bytes
    two_persons: bool = False
    "Whether it takes the yes of two devices to admit a practice, or to vouch for its key."

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises `OperatorError`."""
        path = folder / "mediator.json"
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            two = fields.get("two_persons", False) is True
            return cls(bytes.fromhex(fields["id"]), bytes.fromhex(fields["root"]), two)
        except FileNotFoundError:
            raise OperatorError(f"{folder} holds no mediator; make one with `peewit mediator init`") from None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise OperatorError(f"{path} is damaged: {error}") from None

    def save(self, folder: Path) -> None:
        """Write them down."""
        fields = {"id": self.id.hex(), "root": self.root.hex(), "two_persons": self.two_persons}
        (folder / "mediator.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def init_mediator(folder: Path, seed: bytes, passphrase: str | None, *, two_persons: bool = False) -> Identity:
    """Make a mediator's folder with a new root key."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    write_secret(folder / "root.key", seed, passphrase)
    root = SigningKey(seed).public
    identity = Identity(key_id(root), root, two_persons)
    identity.save(folder)
    return identity


def add_device(
    folder: Path, name: str, root: SigningKey, seeds: tuple[bytes, bytes], passphrase: str | None = None
) -> Path:
    """Make a device (`seeds`: log key, encryption key), vouched for by the root; its folder."""
    if not re.fullmatch(DEVICE_NAME, name, re.ASCII):
        raise MalformedError(f"{name!r} is not a device's name: small letters, digits and hyphens, at most 64")
    identity = Identity.load(folder)
    log = SigningKey(seeds[0])
    statement = sign_device(Device(identity.id, root.public, log.public, xwing_public(seeds[1])), root, log)
    path = folder / "devices" / name
    DeviceState.create(path, seeds[0], seeds[1], statement, passphrase).close()
    return path


def root_key(path: Path, passphrase: str | None) -> SigningKey:
    """The root key from its file."""
    return SigningKey(read_secret(path, passphrase))


@dataclass(frozen=True)
class Lost:
    """An edit of this device that another device's edit has overtaken."""

    kind: int
    subject: bytes
    version: int
    winner: bytes
    "Origin hash of the log whose grant stands."


class Mediator:
    """One device at work."""

    def __init__(
        self,
        folder: Path,
        device: DeviceState,
        charter: Charter,
        pool: BackendPool,
        *,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.identity = Identity.load(folder)
        self.state = device
        self.charter = charter
        self.pool = pool
        self.clock = clock
        self.random_bytes = random_bytes
        self.log = DeviceLog(device, charter, pool, pool.clock)
        self.view = RegistryView(charter, pool, clock)

    async def prepare(self) -> Planner:
        """Catch up with the federation, as far as it can be reached, and be ready to plan.

        Raises `ForkedDeviceError` if anybody has evidence that somebody else signs with this device's key.
        """
        try:
            await self.log.catch_up()
        except ForkedDeviceError:
            await self._refresh()
            if self.closed_at() is None:
                raise
        await self._refresh()
        if self.view.registry.forked(self.log.origin) is not None and self.closed_at() is None:
            raise ForkedDeviceError(USED_ELSEWHERE)
        fold = self._fold()

        def standing(kind: int, subject: bytes) -> Grant | None:
            return self._grant(fold, kind, subject)

        knowledge = Knowledge(self._in_scope, standing, self.state.subject, self.state.secrets)
        return Planner(self.charter, fold, int(self.clock()), self.random_bytes, knowledge)

    def _in_scope(self, postcodes: Sequence[str], services: Sequence[str]) -> bool:
        registry = self.view.registry
        admissions = registry.admissions.get(self.identity.id)
        roots = registry.standing_roots(self.identity.id)
        return admissions is not None and admissions.covers(roots, postcodes, services, registry.constitution)

    async def _refresh(self) -> None:
        head = self.state.head()
        if head is not None:
            copy = Copy(log_key(self.state.key.public), self.log.origin, self.state.entries(), head)
            held = self.view.follower.copies.get(self.log.origin)
            if held is None or held.size < copy.size:
                copy.quorum = held.quorum if held else None
                self.view.follower.copies[self.log.origin] = copy
        await self.view.refresh([self.identity.id])

    def _fold(self) -> MediatorFold:
        """What the registry says of us, with our own entries counted whether or not a quorum has them yet."""
        fold = self.view.registry.folds.get(self.identity.id, MediatorFold())
        mine = MediatorFold(subjects=dict(fold.subjects))
        mine.read(self.log.origin, 0, self.state.entries(), LogState(self.state.size, self.state.size))
        return mine

    async def publish(self, plan: Plan, *, wait_s: float = 0.0) -> Progress:
        """Sign, store and send a plan."""
        if plan.statements:
            await self.log.commit(plan.statements, plan.names)
        return await self.log.publish(wait_s=wait_s)

    # What can be said

    def provider(self, name: str) -> tuple[bytes, Grant]:
        """Subject and standing grant behind a name or a subject in hexadecimal."""
        subject = self.state.subject(Provider.KIND, name)
        if subject is None and len(name) == 64:
            try:
                subject = bytes.fromhex(name)
            except ValueError:
                subject = None
        fold = self._fold()
        found = fold.subjects.get((Provider.KIND, subject), Subject()) if subject else Subject()
        if subject is None or found.standing is None:
            raise UnknownError(f"this mediator has no practice {name!r}; see `peewit mediator status`")
        grant = self._grant(fold, Provider.KIND, subject)
        if grant is None:
            raise UnknownError(f"the entry of practice {name!r} cannot be had at the moment; try again")
        return subject, grant

    def _grant(self, fold: MediatorFold, kind: int, subject: bytes) -> Grant | None:
        """The grant that stands, if there is one and its entry can be had."""
        standing = fold.subjects.get((kind, subject), Subject()).standing
        if standing is None:
            return None
        if standing.origin == self.log.origin:
            entry: bytes | None = self.state.entries(standing.index, standing.index + 1)[0]
        else:
            entry = self.view.standing_entry(self.view.finder.look(self.identity.id, kind, subject, int(self.clock())))
        grant = read_entry(entry or b"", MEDIATOR_KINDS)
        return grant if isinstance(grant, Grant) and grant.subject == subject else None

    def closed_at(self) -> int | None:
        """At how many entries the root closed this device's log, if it did."""
        close = self.view.registry.close_of(self.identity.id, self.log.origin)
        return close.size if close else None

    def lost(self) -> list[Lost]:
        """Our own edits that did not win against those of another device."""
        fold = self.view.registry.folds.get(self.identity.id, MediatorFold())
        latest: dict[tuple[int, bytes], tuple[int, bytes]] = {}
        for entry in self.state.entries():
            statement = read_entry(entry, MEDIATOR_KINDS)
            if isinstance(statement, Grant):
                latest[statement.KIND, statement.subject] = statement.version, sha256(entry)
        found = []
        for key, (version, digest) in latest.items():
            standing = fold.subjects.get(key, Subject()).standing
            if standing is not None and standing.digest != digest and standing.origin != self.log.origin:
                # Written without knowledge of each other: an edit that knew ours would be one above it.
                if standing.version == version:
                    found.append(Lost(*key, version, standing.origin))
        return found


async def close_device(
    view: RegistryView,
    identity: Identity,
    root: SigningKey,
    origin: bytes,
    *,
    entries: list[bytes] | None = None,
    size: int | None = None,
) -> tuple[bytes, Close]:
    """The signed close of a device's log: at `size`, on the branch of `entries` (or of what nodes have)."""
    if entries is None:
        copy = view.follower.copies.get(origin)
        if copy is None:
            raise UnknownError("no node has this log; give the device's own folder")
        entries = copy.entries
    at = len(entries) if size is None else size
    if at > len(entries):
        raise UnknownError(f"the log has {len(entries)} entries here; it cannot be closed at {at}")
    tree = CompactRange()
    tree.extend(map(leaf_hash, entries[:at]))
    close = Close(identity.id, root.public, origin, at, tree.root())
    return sign_close(close, root), close


async def hand_in(pool: BackendPool, statement: bytes, write: int = 2) -> tuple[list[str], dict[str, str]]:
    """Give a carried statement to `write` nodes: who took it, and why others did not."""
    taken: list[str] = []
    failures: dict[str, str] = {}
    refused = False
    for backend in pool.order():
        try:
            await pool.post(backend, "/v1/statements", statement)
            taken.append(backend.name)
        except BackendError as error:
            failures[backend.name] = str(error)
            refused = refused or 400 <= error.status < 500
        if len(taken) >= write:
            break
    if not taken and refused:
        raise RefusedError("every node that answered refused it: " + "; ".join(dict.fromkeys(failures.values())))
    if not taken:
        raise UnreachableError("no node took it: " + "; ".join(f"{n}: {why}" for n, why in failures.items()))
    return taken, failures


async def bring_branch(pool: BackendPool, device: DeviceState, close: Close, names: Sequence[str]) -> list[str]:
    """Give the entries that a close picked to nodes that have the close, for perhaps none has them all; who took it."""
    head = device.head_after(close.size - 1)
    if head is None or (head.size, head.root) != (close.size, close.root_hash):
        return []  # it ends between two heads, so nodes were shown all of it
    body = Append(0, encode_bundle(device.entries(0, close.size)), head.encode(), device.device).encode()
    taken = []
    for backend in (b for b in pool.order() if b.name in names):
        try:
            await pool.post(backend, f"/v1/log/{close.origin_hash.hex()}/append", body)
            taken.append(backend.name)
        except BackendError as error:
            pool.complain(backend.name, f"did not take the closed branch: {error}")
    return taken


def statement_effective(view: RegistryView, statement: bytes) -> int:
    """How many nodes have cosigned an operator's head that carries a statement; a quorum makes it effective."""
    best = 0
    for operator in view.charter.operators:
        copy = view.follower.copies.get(operator.origin_hash)
        for index, entry in enumerate(copy.entries if copy else []):
            carried = read_entry(entry, OPERATOR_KINDS)
            if isinstance(carried, Carried) and carried.statement == statement and copy is not None:
                heads: list[Head] = [head for head in (copy.head, copy.quorum) if head and head.size > index]
                best = max([best, *(len(head.witnesses) for head in heads)])
    return best


def origin_of_device(folder: Path, name: str) -> bytes:
    """The origin hash of a device that is known here, or given in hexadecimal."""
    path = folder / "devices" / name
    if path.is_dir():
        return origin_hash(origin_of(log_of(path)))
    try:
        found = bytes.fromhex(name)
    except ValueError:
        found = b""
    if len(found) != 32:
        raise UnknownError(f"there is no device {name!r} in {folder}; give its name, or its log's origin hash")
    return found
