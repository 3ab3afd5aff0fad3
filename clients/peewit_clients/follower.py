"""Following logs over HTTP: verified copies of the logs that a client cares about.

Rules kept here: an entry is kept only when a head signed by its log covers it; what was seen once is
remembered, so that a node that rolls back is noticed; a log that forks is kept as it was, with the evidence.
Copies live in memory; `save` and `load` keep them in a file between runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from peewit_clients.backend import Backend, BackendError
from peewit_clients.pool import BackendPool
from peewit_federation import cbor
from peewit_federation.api import HEADS_MAX, open_heads
from peewit_federation.charter import Charter
from peewit_federation.errors import ForgeryError, MalformedError, SenderError
from peewit_federation.gossip.heads import Relation, relate, same_size_evidence, shorter_evidence
from peewit_federation.log.checkpoint import Checkpoint, Head, open_head
from peewit_federation.log.follow import SIZE_MAX, Bundle, Follow, HistoryError, MismatchError
from peewit_federation.log.merkle import HASH_BYTES, CompactRange, leaf_hash
from peewit_federation.log.note import VerifierKey
from peewit_federation.log.proofs import leaf_source
from peewit_federation.log.tiles import ENTRIES, WIDTH, Tile, encode_bundle, split_bundle
from peewit_federation.statements.carried import Evidence, evidence_of

PARALLEL: Final = 8
OPENED_MAX: Final = 16


@dataclass
class Copy:
    """A verified copy of a log."""

    key: VerifierKey
    origin: bytes
    entries: list[bytes] = field(default_factory=list)
    head: Head | None = None
    quorum: Head | None = None
    limit: int = SIZE_MAX
    "Entries beyond this are not fetched: a signed head costs its author nothing."
    opened: dict[bytes, Head] = field(default_factory=dict, repr=False, compare=False)
    "By note: what was opened lately, so that its signatures are verified once."
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False, compare=False)

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def believed(self) -> int:
        """Entries that a quorum has cosigned."""
        return self.quorum.size if self.quorum else 0

    def range(self) -> CompactRange:
        """Over all entries."""
        tree = CompactRange()
        tree.extend(map(leaf_hash, self.entries))
        return tree


class Follower:
    """Fetches logs from whichever node has them."""

    def __init__(self, charter: Charter, pool: BackendPool) -> None:
        self.charter = charter
        self.pool = pool
        self._keys = charter.policy.witness_keys
        self.copies: dict[bytes, Copy] = {}
        self.branches: dict[tuple[bytes, bytes], list[bytes]] = {}
        "Entries of closed branches, by origin hash and root hash."
        self.evidence: dict[bytes, Evidence] = {}

    def copy(self, key: VerifierKey, origin: bytes) -> Copy:
        """The copy of a log, empty if it is new."""
        return self.copies.setdefault(origin, Copy(key, origin))

    async def heads_at(self, copies: Sequence[Copy], backend: Backend) -> list[list[Head] | SenderError]:
        """Of each log, the heads that one node has: its newest, and its newest with a quorum; or what is wrong there.

        Raises `BackendError`, or `SenderError` if the answer as a whole is none.
        """
        found: list[list[Head] | SenderError] = []
        for start in range(0, len(copies), HEADS_MAX):
            part = copies[start : start + HEADS_MAX]
            query = "&".join(f"log={copy.origin.hex()}" for copy in part)
            pairs = open_heads(await self.pool.fetch(backend, f"/v1/heads?{query}"), len(part))
            found += [self._open(copy, notes) for copy, notes in zip(part, pairs, strict=True)]
        return found

    def _open(self, copy: Copy, notes: Iterable[bytes]) -> list[Head] | SenderError:
        heads = []
        for note in filter(None, notes):
            if note not in copy.opened:
                try:
                    opened = open_head(note, copy.key, self._keys)
                except SenderError as error:
                    return error
                if len(copy.opened) >= OPENED_MAX:
                    copy.opened.clear()
                copy.opened[note] = opened
            heads.append(copy.opened[note])
        return sorted(heads, key=lambda head: head.size)

    async def update(self, copies: Sequence[Copy], backends: Iterable[Backend]) -> None:
        """Bring copies to the newest heads that any of these nodes has."""
        backends = list(backends)
        answers = await asyncio.gather(*(self.heads_at(copies, b) for b in backends), return_exceptions=True)
        told: list[tuple[Backend, list[list[Head] | SenderError]]] = []
        for backend, answer in zip(backends, answers, strict=True):
            if isinstance(answer, SenderError):
                self.pool.complain(backend.name, f"heads: {answer}")
            elif isinstance(answer, BackendError):
                continue
            elif isinstance(answer, BaseException):
                raise answer
            else:
                told.append((backend, answer))
        places = asyncio.Semaphore(PARALLEL)

        async def follow(copy: Copy, heads: Iterable[tuple[Backend, list[Head] | SenderError]]) -> None:
            async with places, copy.lock:  # two callers may refresh one view at once
                for backend, several in heads:
                    if isinstance(several, SenderError):
                        self.pool.complain(backend.name, f"heads of {copy.origin.hex()[:16]}: {several}")
                        continue
                    for head in several:
                        await self.take(copy, head, backend)

        await asyncio.gather(*(follow(copy, [(b, a[n]) for b, a in told]) for n, copy in enumerate(copies)))

    async def take(self, copy: Copy, head: Head, backend: Backend) -> None:
        """Judge a head that a node has; fetch what it covers."""
        if copy.origin in self.evidence:
            self._learn(copy, head)
            return
        match relate(copy.head, head):
            case Relation.FORK:
                assert copy.head is not None
                self.evidence[copy.origin] = same_size_evidence(copy.key.public.raw, copy.head, head)
            case Relation.SHORTER:
                assert copy.head is not None
                source = leaf_source([leaf_hash(entry) for entry in copy.entries])
                evidence = shorter_evidence(copy.key.public.raw, head, copy.head, source)
                if evidence is not None:
                    self.evidence[copy.origin] = evidence
                    return
            case Relation.LONGER if head.size > copy.limit:
                return  # closed below, or beyond its quota: what counts comes as the closed branch
            case Relation.LONGER:
                await self._extend(copy, head, backend)
            case Relation.SAME:
                pass
        self._learn(copy, head)

    def _learn(self, copy: Copy, head: Head) -> None:
        if copy.head is not None and copy.head.checkpoint == head.checkpoint:
            copy.head = head = copy.head.merged(head)
        if copy.quorum is not None and copy.quorum.checkpoint == head.checkpoint:
            return
        if not self.charter.policy.satisfied(head.witnesses) or head.size > copy.size:
            return
        tree = CompactRange()
        tree.extend(map(leaf_hash, copy.entries[: head.size]))
        if tree.root() == head.root and head.size >= copy.believed:
            copy.quorum = head

    async def _extend(self, copy: Copy, head: Head, backend: Backend) -> None:
        prefix = f"/log/{copy.origin.hex()}/"
        try:
            bundles = await self._fetch(copy.range(), copy.entries, head.checkpoint, prefix, backend)
        except HistoryError as error:
            assert copy.head is not None
            self.evidence[copy.origin] = evidence_of(copy.key.public.raw, copy.head, head, error.other_root, error.path)
            return
        except BackendError:
            return  # it went away; another may have it
        except SenderError as error:
            self.pool.complain(
                backend.name, f"announced a head of {copy.origin.hex()[:16]} that it did not serve: {error}"
            )
            return
        start = copy.size // WIDTH * WIDTH
        entries = [entry for bundle in bundles for entry in bundle.entries]
        copy.entries += entries[copy.size - start :]
        copy.head = head

    async def _fetch(
        self, have: CompactRange, entries: list[bytes], target: Checkpoint, prefix: str, backend: Backend
    ) -> list[Bundle]:
        tail = encode_bundle(entries[have.size // WIDTH * WIDTH :])
        try:
            return await self._fetch_all(Follow(target, have, tail), prefix, backend)
        except MismatchError:
            return await self._fetch_all(Follow(target, have, tail, thorough=True), prefix, backend)

    async def _fetch_all(self, follow: Follow, prefix: str, backend: Backend) -> list[Bundle]:
        places = asyncio.Semaphore(PARALLEL)

        async def fetch(tile: Tile) -> bytes:
            async with places:
                return await self._tile(tile, prefix, backend)

        tiles = await asyncio.gather(*map(fetch, follow.hash_tiles))
        follow.accept_hashes(dict(zip(follow.hash_tiles, tiles, strict=True)))
        data = await asyncio.gather(*map(fetch, follow.bundles))
        return [follow.accept_bundle(tile, body) for tile, body in zip(follow.bundles, data, strict=True)]

    async def _tile(self, tile: Tile, prefix: str, backend: Backend) -> bytes:
        try:
            return await self.pool.fetch(backend, prefix + tile.path, tile.size_bytes_max)
        except BackendError as error:
            if tile.width == WIDTH or error.status != 404:
                raise
        body = await self.pool.fetch(backend, prefix + tile.full.path, tile.full.size_bytes_max)
        if tile.level == ENTRIES:
            return encode_bundle(split_bundle(body, WIDTH)[: tile.width])
        return body[: tile.width * HASH_BYTES]

    async def branch(self, copy: Copy, size: int, root: bytes) -> list[bytes] | None:
        """The entries of the branch that a close picks, from the copy itself or from nodes; None if not to be had."""
        tree = CompactRange()
        tree.extend(map(leaf_hash, copy.entries[:size]))
        if tree.size == size and tree.root() == root:
            return copy.entries[:size]
        if (copy.origin, root) not in self.branches:
            prefix = f"/log/{copy.origin.hex()}/closed/{root.hex()}/"
            target = Checkpoint(copy.key.name, size, root)
            for backend in self.pool.order():
                try:
                    bundles = await self._fetch(CompactRange(), [], target, prefix, backend)
                except (BackendError, SenderError):
                    continue
                self.branches[copy.origin, root] = [entry for bundle in bundles for entry in bundle.entries]
                break
        return self.branches.get((copy.origin, root))

    # Between runs

    def encode(self) -> bytes:
        """All copies, to be kept in a file."""
        logs = []
        for copy in self.copies.values():
            if copy.head is None:
                continue
            notes = [head.encode() if head else b"" for head in (copy.head, copy.quorum)]
            bundles = [encode_bundle(copy.entries[i : i + WIDTH]) for i in range(0, copy.size, WIDTH)]
            logs.append([str(copy.key), copy.origin, *notes, bundles])
        evidence = [[origin, found.encode()] for origin, found in self.evidence.items()]
        return cbor.encode([1, logs, evidence])

    def load(self, data: bytes) -> None:
        """Take over what `encode` kept. Everything is verified again. Raises `SenderError`."""
        match cbor.decode(data, size_bytes_max=1 << 30):
            case [1, list(logs), list(evidence)]:
                for key, origin, newest, quorum, bundles in logs:
                    copy = Copy(VerifierKey.parse(key), origin)
                    copy.entries = [entry for bundle in bundles for entry in split_bundle(bundle)]
                    keys = self.charter.policy.witness_keys
                    copy.head, copy.quorum = (open_head(n, copy.key, keys) if n else None for n in (newest, quorum))
                    tree = copy.range()
                    if copy.head is None or (tree.size, tree.root()) != (copy.head.size, copy.head.root):
                        raise ForgeryError("the stored copy of a log does not match its head; remove the cache")
                    self.copies[origin] = copy
                self.evidence = {origin: Evidence.decode(found) for origin, found in evidence}
                return
        raise MalformedError("not a cache of this program; remove it")
