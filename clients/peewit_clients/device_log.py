"""Publishing a device's log: signed once, sent as often as needed, effective when a quorum says so.

Rules kept here (design 4.3): before signing, the device asks how long its log is elsewhere, so that it never
forks itself, even from a backup; the next head is signed when the last has a quorum or ten seconds have
passed; what is sent was stored before; sending again is harmless. A head that contradicts ours means that
somebody else has the key: `ForkedDeviceError` says to close the device.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from peewit_clients.backend import Backend, BackendError, UnreachableError
from peewit_clients.device_state import DeviceState
from peewit_clients.follower import Copy, Follower
from peewit_clients.pool import BackendPool
from peewit_clients.words import Said, said
from peewit_federation.api import Append
from peewit_federation.charter import Charter
from peewit_federation.errors import AuthorError, PeewitError, SenderError
from peewit_federation.log.checkpoint import Checkpoint, Head, log_key, open_head, origin_hash, sign_checkpoint
from peewit_federation.log.merkle import CompactRange, leaf_hash
from peewit_federation.log.tiles import encode_bundle
from peewit_federation.statements.kinds import MEDIATOR_KINDS, check_entry

BATCH_ENTRIES: Final = 2_000
BATCH_BYTES: Final = 4 << 20
PAUSE_S: Final = 10.0
POLL_S: Final = 0.1
SEND_TRIES: Final = 1_000
SPREAD_S: Final = 3.0
WRITE: Final = 2
"How many nodes are written to (design section 8)."


USED_ELSEWHERE: Final = (
    "nodes have entries of this device's log that it did not write: its key is used elsewhere. "
    "Close the device: peewit mediator close"
)


class ForkedDeviceError(AuthorError):
    """Somebody else signs with this device's key, or an older copy of it did."""


@dataclass(frozen=True)
class Progress:
    """How far a publication is."""

    size: int
    stored_at: tuple[str, ...]
    "Nodes that acknowledged it."
    cosigned_by: tuple[str, ...]
    "Operators whose nodes cosigned a head that contains it."
    needed: int
    effective: bool
    failures: dict[str, str]
    "By node: why it did not take it."

    def words(self) -> Said:
        """For people."""
        line = "office_effective" if self.effective else "office_not_yet"
        return said(line, count=len(self.cosigned_by), needed=self.needed)


class DeviceLog:
    """One device's log."""

    def __init__(
        self, state: DeviceState, charter: Charter, pool: BackendPool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.state = state
        self.charter = charter
        self.pool = pool
        self.clock = clock
        self.key = log_key(state.key.public)
        self.origin = origin_hash(self.key.name)
        self._known: dict[str, int] = {}
        self._best: Head | None = None
        self._roots: dict[int, bytes] = {}

    # Signing

    async def catch_up(self) -> None:
        """Learn how long this log is elsewhere, and take over what we lost.

        Raises `ForkedDeviceError`, or `UnreachableError` if we were restored and no quorum answers.
        """
        follower = Follower(self.charter, self.pool)
        copy = Copy(self.key, self.origin, self.state.entries(), self.state.head())
        follower.copies[self.origin] = copy
        answered: list[Backend] = []
        # All at once: those that cannot be reached would each cost a whole timeout.
        asked = (follower.heads_at([copy], backend) for backend in self.pool.backends)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for backend, answer in zip(self.pool.backends, answers, strict=True):
            if isinstance(answer, BackendError):
                continue
            heads = answer[0] if isinstance(answer, list) else answer
            if isinstance(heads, SenderError):
                self.pool.complain(backend.name, f"heads of our own log: {heads}")
                continue
            if isinstance(heads, BaseException):
                raise heads
            answered.append(backend)
            for head in heads:
                await follower.take(copy, head, backend)
                if head.size > copy.size and self.origin not in follower.evidence:
                    if not self.state.restored:
                        raise ForkedDeviceError(USED_ELSEWHERE)
                    raise UnreachableError(
                        f"node {backend.name} knows {head.size} entries of this device's log and {copy.size} are here; "
                        f"the rest could not be fetched, and without it nothing may be signed. Try again"
                    )
        if self.origin in follower.evidence:
            raise ForkedDeviceError(
                "this device's log has another history at some nodes: its key was stolen or copied. "
                "Close the device: peewit mediator close"
            )
        names = {b.operator.witness.name for b in answered}
        quorum = self.charter.policy.satisfied(names)
        if self.state.restored and not quorum:
            raise UnreachableError(
                f"this device was restored from a backup and may have forgotten what it signed; "
                f"{len(names)} of {self.charter.policy.needed()} nodes answered. Try again when more can be reached"
            )
        if copy.head is not None and copy.size > self.state.size:
            if not self.state.restored:
                # What this device sends it has stored before; so somebody else signs with its key.
                raise ForkedDeviceError(USED_ELSEWHERE)
            self.state.append(copy.entries[self.state.size :], copy.head)
        if self.state.restored and quorum:
            self.state.confirm()

    async def commit(self, statements: Sequence[bytes], names: Sequence[tuple[int, str, bytes, bytes]] = ()) -> int:
        """Sign and store entries (not yet sent); the size of the log that contains them."""
        for statement in statements:
            check_entry(statement, MEDIATOR_KINDS)
        for batch in _batches(statements):
            head = self.state.head()
            if head is not None:
                await self._settled(head.size)
            start = self.state.size
            tree = CompactRange()
            tree.extend(map(leaf_hash, self.state.entries()))
            tree.extend(map(leaf_hash, batch))
            signed = sign_checkpoint(Checkpoint(self.key.name, start + len(batch), tree.root()), self.state.key)
            self.state.append(batch, signed, names)
            names = ()
        return self.state.size

    async def _settled(self, size: int) -> None:
        """Wait until the last head has a quorum, or ten seconds."""
        end = self.clock() + PAUSE_S
        progress = await self.publish()
        while not progress.effective and progress.stored_at and self.clock() < end:
            await asyncio.sleep(POLL_S)
            progress = await self._look(size, progress)

    # Sending

    async def publish(self, *, write: int = WRITE, wait_s: float = 0.0) -> Progress:
        """Bring everything that is stored to `write` nodes, and wait up to `wait_s` for it to be effective."""
        head = self.state.head()
        if head is None:
            return Progress(0, (), (), self.charter.policy.needed(), effective=True, failures={})
        stored: list[str] = []
        failures: dict[str, str] = {}
        await self._send_to(self.pool.order(), head, write, stored, failures)
        progress = self._progress(head.size, tuple(stored), failures)
        start = self.clock()
        while stored and not progress.effective and self.clock() < start + wait_s:
            await asyncio.sleep(POLL_S)
            if len(stored) < len(self.pool.backends) and self.clock() > start + min(wait_s / 2, SPREAD_S):
                # Those that have it do not reach a quorum; perhaps they are cut off, and we are not.
                await self._send_to(self.pool.order(), head, len(self.pool.backends), stored, failures)
            progress = await self._look(head.size, self._progress(head.size, tuple(stored), failures))
        return progress

    async def _send_to(
        self, backends: Sequence[Backend], head: Head, write: int, stored: list[str], failures: dict[str, str]
    ) -> None:
        for backend in backends:
            if len(stored) >= write:
                return
            if backend.name in stored:
                continue
            try:
                await self._send(backend, head)
                stored.append(backend.name)
                failures.pop(backend.name, None)
            except ForkedDeviceError:
                raise
            except PeewitError as error:
                failures[backend.name] = str(error)

    async def _send(self, backend: Backend, head: Head) -> None:
        path = f"/v1/log/{self.origin.hex()}/append"
        tries = 0
        at = self._known.get(backend.name)
        if at is None:
            at = await self._size_at(backend)
        while at < head.size:
            following = self.state.head_after(at)
            assert following is not None
            bundle = encode_bundle(self.state.entries(at, following.size))
            body = Append(at, bundle, following.encode(), self.state.device).encode()
            tries += 1
            try:
                receipt = await self.pool.post(backend, path, body)
                cosigned = self._learn(receipt)
                if backend.operator.votes and backend.operator.witness.name not in cosigned:
                    raise BackendError(f"{backend.name} acknowledged without cosigning")
                at = following.size
            except BackendError as error:
                size = _size_in(error.body)
                # A node that has just what we sent from refuses for another reason; asking again changes nothing.
                if error.status != 409 or size is None or not size < head.size or size == at or tries > SEND_TRIES:
                    raise
                at = size
            self._known[backend.name] = at

    async def _size_at(self, backend: Backend) -> int:
        try:
            data = await self.pool.fetch(backend, f"/log/{self.origin.hex()}/checkpoint", 64 * 1024)
        except BackendError as error:
            if error.status == 404:
                return 0
            raise
        self._learn(data)
        return open_head(data, self.key, self.charter.policy.witness_keys).size

    def _learn(self, note: bytes) -> frozenset[str]:
        """Take over cosignatures of our own history; who cosigned. Raises `ForkedDeviceError` for another one."""
        head = open_head(note, self.key, self.charter.policy.witness_keys)
        if head.size > self.state.size or self._root(head.size) != head.root:
            raise ForkedDeviceError(
                "a node has another history of this device's log: its key was stolen or copied. "
                "Close the device: peewit mediator close"
            )
        if self._best is not None and self._best.checkpoint == head.checkpoint:
            head = self._best.merged(head)
        if self._best is None or head.size >= self._best.size:
            self._best = head
        return head.witnesses

    def _root(self, size: int) -> bytes:
        if size not in self._roots:
            tree = CompactRange()
            tree.extend(map(leaf_hash, self.state.entries(0, size)))
            self._roots = {size: tree.root()}
        return self._roots[size]

    async def _look(self, size: int, progress: Progress) -> Progress:
        for backend in self.pool.order():
            try:
                self._learn(await self.pool.fetch(backend, f"/log/{self.origin.hex()}/checkpoint", 64 * 1024))
            except (BackendError, SenderError):
                continue
        return self._progress(size, progress.stored_at, progress.failures)

    def _progress(self, size: int, stored: tuple[str, ...], failures: dict[str, str]) -> Progress:
        best, policy = self._best, self.charter.policy
        witnesses = best.witnesses if best is not None and best.size >= size else frozenset()
        names = tuple(o.name for o in self.charter.operators if o.witness.name in witnesses)
        return Progress(size, stored, names, policy.needed(), policy.satisfied(witnesses), failures)


def _batches(statements: Sequence[bytes]) -> list[list[bytes]]:
    batches: list[list[bytes]] = []
    size = 0
    for statement in statements:
        if not batches or len(batches[-1]) >= BATCH_ENTRIES or size + len(statement) > BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(statement)
        size += len(statement)
    return batches


def _size_in(body: bytes) -> int | None:
    try:
        size = json.loads(body)["size"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return size if isinstance(size, int) and size >= 0 else None
