"""A practice's journal, as its device writes it: what was decided is at two of three nodes before anybody is told.

    journal = Journal(letters, state, randomness, save)
    await journal.ready()         take over what was written elsewhere; then `flush` before every letter
    await journal.flush()

    key       SHA-256("peewit journal key v1" || signing seed)
    tag       BLAKE2b-128 of [kind, name] under the key
    sealed    nonce || XChaCha20-Poly1305 under the key, with the tag, over the size (4 bytes) and [kind, name, body],
              filled up to the next of 128, 256, 512, … bytes

Rules kept here: what changed stands among what is to be written, on the device's disk, from the moment it changed; a
write that was begun is said again in the same bytes until it counts. A device that is refused because it does not know
what was written last takes a term of its own, reads what counts, and puts that in the place of its own state; new times
of its calendar are all that it keeps. A node that was left behind gets all anew. Nodes are trusted to be there, two of
three, not to be silent about what is in it: they cannot read or forge a row, but who lost the device could be shown old
ones. Keys that sign passports stay on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import nacl.encoding
import nacl.exceptions
import nacl.hash
import nacl.secret

from peewit_clients.letters import Letters, Randomness
from peewit_clients.pool import Backend, BackendError, UnreachableError
from peewit_clients.practice_state import FLIGHT, JOURNAL, JOURNALED, SLOT, Item, PracticeState
from peewit_clients.together import together
from peewit_federation import cbor
from peewit_federation.appointment.journal import (
    DEVICE_BYTES,
    HEAD_BYTES,
    NODES,
    READ_BYTES_MAX,
    ROW_BYTES_MAX,
    TAG_BYTES,
    WRITE_BYTES_MAX,
    Change,
    Claim,
    Header,
    Rows,
    decode_page,
    encode_read,
)
from peewit_federation.errors import MalformedError, PeewitError, SenderError, UnknownError
from peewit_federation.keys import key_id, sha256

ROWS_BYTES_MAX: Final = WRITE_BYTES_MAX - ROW_BYTES_MAX - 1024
"So that one more row always fits."
LEAST_BYTES: Final = 128
TRIES: Final = 3


class BehindError(PeewitError):
    """This device did not know what was written last; it does now, and nothing was said to anybody."""


class Journal:
    """Writes one practice's journal, and reads it."""

    def __init__(
        self, letters: Letters, state: PracticeState, randomness: Randomness, save: Callable[[Sequence[Item]], None]
    ) -> None:
        self._letters = letters
        self._state = state
        self._randomness = randomness
        self._save = save
        self._key = sha256(b"peewit journal key v1", state.key_seed)
        self._box = nacl.secret.Aead(self._key)
        self._lagging: set[bytes] = set()
        "Nodes that were left behind."

    # What the practice does

    async def ready(self) -> None:
        """Take over what was written elsewhere, if anything was. Raises `UnreachableError`, or `BehindError` if so."""
        mine = self._state.journal
        if mine.term:
            headers = await self._headers(self._nodes(mine.origins))
            if not any(self._is_news(header) for _, header in headers):
                return
        await self._recover()

    async def flush(self) -> None:
        """Write what changed. Raises `UnreachableError`, or `BehindError`: then nothing that changed counts."""
        mine = self._state.journal
        if not mine.term:
            await self._recover()
        while mine.flight or mine.pending:
            if not mine.flight:
                self._begin()
            await self._write(Change.decode(mine.flight))

    async def restore(self) -> None:
        """Take over everything, on a device that has nothing but the keys. Raises `UnknownError` if no node has it."""
        if not await self._find():
            raise UnknownError("no node that answers keeps a journal of this practice")
        with suppress(BehindError):
            await self._recover()
            raise UnknownError("the nodes that answer have nothing of this practice; try again when more of them do")

    async def mend(self) -> None:
        """Bring nodes up to date that were left behind."""
        mine = self._state.journal
        for backend in self._nodes(mine.origins):
            if backend.operator.origin_hash in self._lagging:
                try:
                    await self._renew(backend, mine.number, mine.head)
                except BackendError:
                    continue  # it is mended when it is there again

    # Writing

    def _begin(self) -> None:
        """Seal what changed first, as much as one write takes."""
        mine = self._state.journal
        rows, taken, size = [], [], 0
        for name in mine.pending:
            row = self._row(self._state.item(*name))
            size += len(row[1]) + TAG_BYTES + 8
            rows.append(row)
            taken.append(name)
            if size > ROWS_BYTES_MAX:
                break
        head = self._randomness(HEAD_BYTES)
        change = Change(mine.term, mine.device, mine.number, mine.head, mine.number + 1, head, False, tuple(rows))
        mine.flight = change.encode()
        mine.flying = tuple(taken)
        for name in taken:
            del mine.pending[name]
        self._keep(flight=True)

    async def _write(self, change: Change) -> None:
        """One write at all nodes; when it counts, it is done. Raises `UnreachableError` or `BehindError`."""
        mine, body = self._state.journal, change.encode()
        backends = self._nodes(mine.origins)
        results = await together(self._call(backend, "write", body) for backend in backends)
        taken, errors = 0, []
        for backend, result in zip(backends, results, strict=True):
            if not isinstance(result, BackendError):
                taken += 1
                self._lagging.discard(backend.operator.origin_hash)
                continue
            self._lagging.add(backend.operator.origin_hash)
            errors.append((backend, result))
        for backend, error in errors:
            if taken < _quorum(mine.origins) and error.status == 409:
                taken += await self._reconcile(backend, change)
        if taken < _quorum(mine.origins):
            reasons = "; ".join(f"{backend.name}: {error}" for backend, error in errors)
            raise UnreachableError(f"{taken} of {len(mine.origins)} nodes took the practice's journal: {reasons}")
        mine.number, mine.head, mine.flight, mine.flying = change.next, change.next_head, b"", ()
        self._keep(flight=True)

    async def _reconcile(self, backend: Backend, change: Change) -> bool:
        """A node refused a write: it was left behind, and is brought up to date; or we were. Raises `BehindError`."""
        try:
            ((_, header),) = await self._headers([backend])
            if not self._is_news(header):
                await self._renew(backend, change.next, change.next_head)
                return True
        except (BackendError, UnreachableError):
            return False
        await self._recover()
        raise BehindError("this device did not know who wrote the practice's journal last; it does now: do it again")

    def _is_news(self, header: Header) -> bool:
        """Whether somebody else wrote, or wants to."""
        mine = self._state.journal
        if (header.term, header.device) != (mine.term, mine.device):
            return header.term >= mine.term
        known = (header.number, header.head) in [(mine.number, mine.head), _next_of(mine.flight)]
        return header.written == mine.term and header.number >= mine.number and not known

    async def _renew(self, backend: Backend, number: int, head: bytes) -> None:
        """Bring everything to one node, in place of what it has. Raises `BackendError`."""
        mine = self._state.journal
        await self._call(backend, "claim", Claim(mine.term, mine.device, mine.origins).encode())
        at, drop, rows, size = b"", True, [], 0
        names = [name for name in self._state.names() if name[0] in JOURNALED]
        for place, name in enumerate(names, start=1):
            row = self._row(self._state.item(*name))
            size += len(row[1]) + TAG_BYTES + 8
            rows.append(row)
            if size > ROWS_BYTES_MAX and place < len(names):
                step = self._randomness(HEAD_BYTES)
                change = Change(mine.term, mine.device, 0, at, 0, step, drop, tuple(rows))
                await self._call(backend, "write", change.encode())
                at, drop, rows, size = step, False, [], 0
        change = Change(mine.term, mine.device, 0, at, number, head, drop, tuple(rows))
        await self._call(backend, "write", change.encode())
        self._lagging.discard(backend.operator.origin_hash)

    # Taking over

    async def _recover(self) -> None:
        """Become the one that writes, with what counts. Raises `UnreachableError`; `BehindError` if that was news."""
        mine = self._state.journal
        origins = mine.origins or await self._find() or self._choose()
        for _ in range(TRIES):
            backends = self._nodes(origins)
            terms = [header.term for _, header in await self._headers(backends)]
            claim = Claim(max([mine.term, *terms]) + 1, mine.device or self._randomness(DEVICE_BYTES), origins)
            results = await together(self._call(backend, "claim", claim.encode()) for backend in backends)
            held = [
                (backend, Header.of(cbor.decode(result)))
                for backend, result in zip(backends, results, strict=True)
                if isinstance(result, bytes)
            ]
            if len(held) >= _quorum(origins):
                break
        else:
            raise UnreachableError(f"{len(held)} of the {len(origins)} nodes that keep the practice's journal answer")
        best, header = max(held, key=lambda pair: (pair[1].number > 0, pair[1].written, pair[1].number))
        was_known = (header.number, header.head) in [(mine.number, mine.head), _next_of(mine.flight)]
        rows = [] if was_known or not header.number else await self._read_all(best)
        mine.term, mine.device, mine.origins = claim.term, claim.device, claim.origins
        mine.number, mine.head = header.number, header.head
        if rows:
            kept = self._replace(rows)
        elif not header.number:
            mine.pending = dict.fromkeys(name for name in self._state.names() if name[0] in JOURNALED)
        else:
            mine.pending = {**dict.fromkeys(mine.flying), **mine.pending}
        mine.flight, mine.flying = b"", ()
        self._keep(flight=True)
        # Only what was written in this term counts for whoever reads next, so something is, be it nothing.
        self._begin()
        try:
            await self._write(Change.decode(mine.flight))
        except PeewitError:
            if not rows:
                raise
        if rows:  # also if it could not be written yet: whoever called knows a state that is gone
            raise BehindError(
                "this device was behind (it was put back from a backup, or another one of this practice was at work): "
                f"it took over {len(rows)} entries of the practice's journal{kept}"
            )

    async def _find(self) -> tuple[bytes, ...]:
        """The nodes that a journal names which some node has; none if nobody knows of one."""
        headers = await self._headers(self._letters.pool.order())
        if not headers:
            raise UnreachableError("no node answered")
        newest = max((header for _, header in headers), key=lambda header: header.term)
        return newest.origins

    def _choose(self) -> tuple[bytes, ...]:
        """Nodes for a journal that begins now."""
        subject = key_id(self._state.key.public)
        known = (backend.operator.origin_hash for backend in self._letters.pool.backends)
        return tuple(sorted(known, key=lambda origin: sha256(subject, origin))[:NODES])

    def _replace(self, rows: Sequence[Item]) -> str:
        """Put what was written in the place of what the device has; what it kept of its own, in words."""
        state = self._state
        fresh = [
            (kind, name, body)
            for kind, name, body in (state.item(*name) for name in state.journal.pending)
            if kind == SLOT and body is not None
        ]
        there = {(kind, name) for kind, name, _ in rows}
        gone: list[Item] = [(*name, None) for name in state.names() if name[0] in JOURNALED and name not in there]
        own = [item for item in fresh if item[:2] not in there]
        state.take_over([*rows, *own])
        state.journal.pending = dict.fromkeys((kind, name) for kind, name, _ in own)
        self._save([*gone, *rows, *own, state.item(JOURNAL)])
        return f", and keeps {len(own)} new times of its own" if own else ""

    async def _read_all(self, backend: Backend) -> list[Item]:
        """All rows that a node has. Raises `BackendError` or `MalformedError`."""
        for _ in range(TRIES):
            found: list[Item] = []
            after, first = b"", None
            while True:
                header, rows = await self._page(backend, after)
                first = first or header
                if header != first or not rows:
                    break
                found += [self._open(*row) for row in rows]
                after = rows[-1][0]
            if header == first:
                return found
        raise BackendError(f"{backend.name}: somebody else keeps writing this practice's journal")

    # Asking nodes

    async def _headers(self, backends: Iterable[Backend]) -> list[tuple[Backend, Header]]:
        """Of all nodes that answer. Raises `UnreachableError` if none does."""
        asked = list(backends)
        results = await together(self._call(backend, "read", encode_read(b"", 0)) for backend in asked)
        found = []
        for backend, result in zip(asked, results, strict=True):
            if isinstance(result, bytes):
                try:
                    found.append((backend, decode_page(result)[0]))
                except SenderError as error:
                    self._letters.pool.complain(backend.name, f"a journal: {error}")
        if not found:
            raise UnreachableError("no node of the practice's journal answered: " + "; ".join(map(str, results)))
        return found

    async def _page(self, backend: Backend, after: bytes) -> tuple[Header, Rows]:
        return decode_page(await self._call(backend, "read", encode_read(after, READ_BYTES_MAX)))

    async def _call(self, backend: Backend, what: str, body: bytes) -> bytes:
        subject = key_id(self._state.key.public).hex()
        return await self._letters.call(backend, self._state.key, f"/v1/journals/{subject}/{what}", body)

    def _nodes(self, origins: Sequence[bytes]) -> list[Backend]:
        found = self._letters.nodes(origins)
        if len(found) < _quorum(origins):
            raise UnknownError("the nodes that keep this practice's journal are no longer in the charter")
        return found

    # Sealing

    def _row(self, item: Item) -> tuple[bytes, bytes]:
        kind, name, body = item
        raw = nacl.encoding.RawEncoder
        tag = nacl.hash.blake2b(cbor.encode([kind, name]), digest_size=TAG_BYTES, key=self._key, encoder=raw)
        if body is None:
            return tag, b""
        plain = cbor.encode([kind, name, body])
        size = LEAST_BYTES
        while size < len(plain) + 4:
            size *= 2
        padded = (len(plain).to_bytes(4, "big") + plain).ljust(size, b"\0")
        return tag, bytes(self._box.encrypt(padded, tag, self._randomness(nacl.secret.Aead.NONCE_SIZE)))

    def _open(self, tag: bytes, sealed: bytes) -> Item:
        try:
            padded = bytes(self._box.decrypt(sealed, tag))
        except (nacl.exceptions.CryptoError, ValueError):
            raise MalformedError("a row of the practice's journal that the practice did not write") from None
        match cbor.decode(padded[4 : 4 + int.from_bytes(padded[:4], "big")]):
            case [int(kind), bytes(name), bytes(body)]:
                return kind, name, body
        raise MalformedError("a row of a journal is [kind, name, body]")

    def _keep(self, *, flight: bool) -> None:
        items = [self._state.item(JOURNAL)]
        self._save([*items, self._state.item(JOURNAL, FLIGHT)] if flight else items)


def _quorum(origins: Sequence[bytes]) -> int:
    return len(origins) // 2 + 1


def _next_of(flight: bytes) -> tuple[int, bytes]:
    if not flight:
        return -1, b""
    change = Change.decode(flight)
    return change.next, change.next_head
