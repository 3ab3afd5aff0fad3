"""A practice's journal, as its device writes it: what was decided is at two of three nodes before anybody is told.

    journal = Journal(letters, state, randomness, save)
    await journal.ready()         take over what was written elsewhere; then `flush` before every letter
    await journal.flush()

Rules kept here: what changed stands among what is to be written, on the device's disk, from the moment it changed. A
process claims a term of its own before it writes, so that no copy of a disk ever writes in another one's; then it reads
what counts, and unless that is its own, puts it in the place of its own state; new times of its calendar are all that
it keeps. A write counts whole or not at all. A node that was left behind gets all anew, beside what it has.

Nodes are trusted to be there, two of three: they cannot read or forge a row or a head, and what is older than what the
device knows counts for nothing; but who lost the device could be shown old rows by a node that has the newest head.
Keys that sign passports stay on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from peewit_clients.journal_rows import Sealer, in_parts
from peewit_clients.letters import Letters, Randomness
from peewit_clients.pool import Backend, BackendError, UnreachableError
from peewit_clients.practice_state import JOURNAL, JOURNALED, SLOT, Item, Name, PracticeState
from peewit_clients.together import together
from peewit_federation import cbor
from peewit_federation.appointment.journal import (
    DEVICE_BYTES,
    NODES,
    READ_BYTES_MAX,
    Change,
    Claim,
    Header,
    Rows,
    decode_page,
    encode_read,
)
from peewit_federation.errors import PeewitError, SenderError, UnknownError
from peewit_federation.keys import key_id, sha256

TRIES: Final = 3
WAIT_S: Final = 0.5
"For the others, once there are enough; who is later is brought up to date some time."
TERMS_MAX: Final = 1 << 32
"A term that is so much higher than ours was not reached by claiming."


class BehindError(PeewitError):
    """This device did not know what was written last; it does now, and nothing was said to anybody."""


@dataclass(frozen=True)
class Flight:
    """A write that was begun."""

    number: int
    head: bytes
    rows: Rows
    whole: bool


class Journal:
    """Writes one practice's journal, and reads it. One caller at a time."""

    def __init__(
        self, letters: Letters, state: PracticeState, randomness: Randomness, save: Callable[[Sequence[Item]], None]
    ) -> None:
        self._letters = letters
        self._state = state
        self._randomness = randomness
        self._save = save
        self._sealer = Sealer(state.key_seed, randomness)
        self._device = b""
        "That this process claimed its term with."
        self._flight: Flight | None = None
        self._held: dict[bytes, Header] = {}
        "By operator: what its node said last."
        self._lagging: set[bytes] = set()
        "Nodes that were left behind."
        self._top = 0
        "The highest number that was begun: none is used for two writes."

    # What the practice does

    async def ready(self) -> None:
        """Take over what was written elsewhere, if anything was. Raises `UnreachableError`, or `BehindError` if so."""
        if self._device:
            headers = await self._ask_headers(self._answering(self._state.journal.origins))
            if not any(map(self._is_taken, headers)):
                return
        await self._recover()

    async def flush(self) -> None:
        """Write what changed. Raises `UnreachableError`, or `BehindError`: then nothing that changed counts."""
        if not self._device:
            await self._recover()
        while self.waiting:
            await self._write()

    @property
    def waiting(self) -> bool:
        """Whether something is to be written, be it only that this process has the term."""
        mine = self._state.journal
        return bool(self._flight or mine.pending or mine.flying or mine.whole or not self._settled)

    @property
    def _settled(self) -> bool:
        """Whether what counts was written in our own term."""
        mine = self._state.journal
        return bool(self._device) and mine.written == mine.term

    async def restore(self) -> None:
        """Take over everything, on a device that has nothing but the keys. Raises `UnknownError` if no node has it."""
        self._state.journal.origins = await self._find()
        if not self._state.journal.origins:
            raise UnknownError("no node that answers keeps a journal of this practice")
        with suppress(BehindError):
            await self._recover(empty=True)

    async def mend(self) -> None:
        """Bring nodes up to date that were left behind, if there is nothing newer to write."""
        mine = self._state.journal
        if self.waiting or not self._lagging:
            return
        flight = Flight(mine.number, mine.head, self._rows(self._all()), whole=True)
        for backend in self._nodes(mine.origins):
            if backend.operator.origin_hash in self._lagging:
                with suppress(BackendError, UnreachableError):  # it is mended when it is there again
                    (header,) = await self._ask_headers([backend])
                    if not self._is_taken(header):
                        await self._claim(backend, Claim(mine.term, self._device, mine.origins))
                        await self._bring(backend, flight)
                        self._lagging.discard(backend.operator.origin_hash)

    # Writing

    def _begin(self) -> Flight:
        """Seal what changed, or everything."""
        mine = self._state.journal
        whole, names = mine.whole, self._all() if mine.whole else list(mine.pending)
        rows = self._rows(names)
        self._top = max(self._top, mine.number) + 1
        flight = Flight(self._top, self._sealer.head(mine.term, self._top), rows, whole)
        mine.begun, mine.flying, mine.pending = flight.head, mine.pending, {}
        self._save([self._state.item(JOURNAL)])
        return flight

    async def _write(self, *, recovering: bool = False) -> None:
        """One write at all nodes; when it counts, it is done. Raises `UnreachableError` or `BehindError`."""
        mine = self._state.journal
        flight = self._flight = self._flight or self._begin()
        asked = self._answering(mine.origins)
        errors = await self._bring_to(asked, flight)
        taken, rest = len(asked) - len(errors), [b for b in self._nodes(mine.origins) if b not in asked]
        self._lagging |= {backend.operator.origin_hash for backend in rest}
        if taken < _quorum(mine.origins) and rest:
            more = await self._bring_to(rest, flight)
            taken, errors = taken + len(rest) - len(more), [*errors, *more]
        if taken >= _quorum(mine.origins):
            mine.written, mine.number, mine.head = mine.term, flight.number, flight.head
            mine.begun, mine.flying, self._flight = b"", {}, None
            mine.whole = mine.whole and not flight.whole
            self._save([self._state.item(JOURNAL)])
            return
        await self._refused(flight, errors, recovering=recovering)

    async def _refused(
        self, flight: Flight, errors: Sequence[tuple[Backend, BackendError]], *, recovering: bool
    ) -> None:
        """A write that does not count: we lost our term, or nodes were left behind, or cannot be reached."""
        mine = self._state.journal
        if all(error.status == 0 or error.status >= 500 for _, error in errors):
            reasons = "; ".join(f"{backend.name}: {error}" for backend, error in errors)
            raise UnreachableError(f"too few nodes took the practice's journal: {reasons}")  # the same again, later
        self._undo(flight)
        stale = [backend for backend, error in errors if error.status == 409]
        for header in await self._ask_headers(stale) if stale else ():
            if self._is_taken(header):
                self._device = b""
                if recovering:
                    raise UnreachableError("another device of this practice took its journal at the same time")
                await self._recover()
                return
        for backend in stale:
            with suppress(BackendError):
                await self._claim(backend, Claim(mine.term, self._device, mine.origins))
        if not stale or flight.whole:
            raise UnreachableError("the nodes refuse the practice's journal: " + "; ".join(str(e) for _, e in errors))
        mine.whole = True  # next, everything, wherever they are

    def _undo(self, flight: Flight) -> None:
        """What was in a write is still to be written."""
        mine = self._state.journal
        mine.pending, mine.flying = {**mine.flying, **mine.pending}, {}
        mine.whole = mine.whole or flight.whole
        self._flight = None

    async def _bring_to(self, backends: Sequence[Backend], flight: Flight) -> list[tuple[Backend, BackendError]]:
        """Bring a write to several nodes; those that did not take it."""
        enough = min(len(backends), _quorum(self._state.journal.origins))
        results = await together((self._bring(backend, flight) for backend in backends), WAIT_S, enough)
        errors = []
        for backend, result in zip(backends, results, strict=True):
            self._lagging.discard(backend.operator.origin_hash)
            if isinstance(result, BackendError):
                errors.append((backend, result))
        self._lagging |= {backend.operator.origin_hash for backend, _ in errors}
        return errors

    async def _bring(self, backend: Backend, flight: Flight) -> None:
        """Bring a write to one node, in parts. Raises `BackendError`."""
        mine, origin = self._state.journal, backend.operator.origin_hash
        held = self._held.get(origin, Header())
        at, head = (held.number, held.head) if flight.whole else (mine.number, mine.head)
        parts = in_parts(flight.rows)
        for number, rows in enumerate(parts):
            last = number == len(parts) - 1
            change = Change(
                mine.term, self._device, at, head, flight.number, flight.head, rows, flight.whole, number, last
            )
            await self._call(backend, "write", change.encode())
        self._held[origin] = Header(mine.term, self._device, mine.term, flight.number, flight.head, mine.origins)

    def _is_taken(self, header: Header) -> bool:
        """Whether somebody else has the term, or a higher one."""
        mine = self._state.journal
        return (header.term, header.device) != (mine.term, self._device) and header.term >= mine.term

    # Taking over

    async def _claim(self, backend: Backend, claim: Claim) -> Header:
        """Raises `BackendError`."""
        answer = await self._call(backend, "claim", claim.encode())
        try:
            header = self._sealer.genuine(Header.of(cbor.decode(answer)))
        except SenderError as error:
            raise BackendError(f"{backend.name}: a journal: {error}") from None
        self._held[backend.operator.origin_hash] = header
        return header

    async def _recover(self, *, empty: bool = False) -> None:
        """Become the one that writes, with what counts. Raises `UnreachableError`; `BehindError` if that was news.

        `empty`: if nothing is there, nothing is to be written either (`UnknownError`).
        """
        mine, self._device = self._state.journal, b""  # until what counts is known, nothing is written
        origins = mine.origins or await self._find() or self._choose()
        held: list[tuple[Backend, Header]] = []
        for _ in range(TRIES):
            backends = self._nodes(origins)
            terms = [header.term for header in await self._ask_headers(backends)]
            known = [term for term in terms if term < mine.term + TERMS_MAX]
            claim = Claim(max([mine.term, *known]) + 1, self._randomness(DEVICE_BYTES), origins)
            calls = (self._claim(backend, claim) for backend in backends)
            results = await together(calls, WAIT_S, _quorum(origins))
            held = [(b, r) for b, r in zip(backends, results, strict=True) if isinstance(r, Header)]
            mine.term = claim.term
            if len(held) >= _quorum(origins):
                break
        else:
            raise UnreachableError(f"{len(held)} of the {len(origins)} nodes that keep the practice's journal answer")
        mine.origins = origins
        self._undo(self._flight or Flight(0, b"", (), whole=False))
        best = max((header for _, header in held), key=lambda header: (header.written, header.number))
        if empty and not best.number:
            raise UnknownError("the nodes that answer have nothing of this practice; try again when more of them do")
        older = (best.written, best.number) < (mine.written, mine.number)
        rows = None
        if not older and best.number and best.head not in (mine.head, mine.begun):
            rows = await self._read_best(held, best)
        kept = self._replace(rows) if rows is not None else ""
        if not older:
            mine.written, mine.number, mine.head = best.written, best.number, best.head
        self._top = max(header.number for _, header in held)
        same = sum((h.written, h.number, h.head) == (best.written, best.number, best.head) for _, h in held)
        mine.whole = mine.whole or older or not best.number or same < _quorum(origins)
        self._save([self._state.item(JOURNAL)])
        self._device = claim.device
        try:
            # Only what was written in this term counts for whoever reads next, so something is, be it nothing.
            await self._write(recovering=True)
        except PeewitError:
            if rows is None:
                raise
        if rows is not None:  # also if it could not be written yet: whoever called knows a state that is gone
            raise BehindError(
                "this device was behind (it was put back from a backup, or another one of this practice was at work): "
                f"it took over {len(rows)} entries of the practice's journal{kept}"
            )

    async def _find(self) -> tuple[bytes, ...]:
        """The nodes that keep the journal, as one of them says; none if there is none. Raises `UnreachableError`."""
        pool = self._letters.pool
        headers = await self._ask_headers(pool.order())
        known = [header for header in headers if header.origins and header.number]
        if known:
            return max(known, key=lambda header: (header.written, header.number)).origins
        claimed = [header for header in headers if header.origins]
        if claimed:
            return max(claimed, key=lambda header: header.term).origins
        if len(headers) < len(pool.charter.operators) - 1:
            raise UnreachableError(
                f"only {len(headers)} of {len(pool.charter.operators)} nodes answer: too few to know that none of them "
                "keeps a journal of this practice"
            )
        return ()

    def _choose(self) -> tuple[bytes, ...]:
        """Nodes for a journal that begins now."""
        subject = key_id(self._state.key.public)
        known = (operator.origin_hash for operator in self._letters.pool.charter.operators)
        return tuple(sorted(known, key=lambda origin: sha256(subject, origin))[:NODES])

    def _replace(self, rows: Sequence[Item]) -> str:
        """Put what was written in the place of what the device has; what it kept of its own, in words."""
        state = self._state
        there = {(kind, name) for kind, name, _ in rows}
        own: list[Item] = [state.item(*name) for name in state.journal.pending if name[0] == SLOT and name not in there]
        own = [item for item in own if item[2] is not None]
        gone: list[Item] = [(*name, None) for name in self._all() if name not in there]
        state.take_over([*rows, *own])
        state.journal.pending = dict.fromkeys((kind, name) for kind, name, _ in own)
        self._save([*gone, *rows, *own])
        if not own:
            return ""
        days = sorted({datetime.fromtimestamp(state.calendar[name].begins_s).date() for _, name, _ in own})
        return (
            f", and keeps {len(own)} new times of its own, from {days[0]} to {days[-1]}; look whether you had taken "
            "some of them out already"
        )

    async def _read_best(self, held: Sequence[tuple[Backend, Header]], best: Header) -> list[Item]:
        """All rows, from a node that has what counts. Raises `UnreachableError`."""
        errors = []
        for backend, header in held:
            if (header.written, header.number, header.head) == (best.written, best.number, best.head):
                try:
                    rows = await self._read_all(backend, header)
                    self._state.require_mine(rows)
                except (BackendError, SenderError) as error:
                    errors.append(f"{backend.name}: {error}")
                else:
                    return rows
        raise UnreachableError("the practice's journal cannot be read: " + "; ".join(errors))

    async def _read_all(self, backend: Backend, claimed: Header) -> list[Item]:
        """All rows that a node has. Raises `BackendError` or `MalformedError`."""
        found: list[Item] = []
        after = b""
        while True:
            header, rows = decode_page(await self._call(backend, "read", encode_read(after, READ_BYTES_MAX)))
            if header != claimed or (rows and rows[0][0] <= after):
                raise BackendError("somebody else writes this practice's journal")
            if not rows:
                return found
            found += [self._sealer.open(*row) for row in rows]
            after = rows[-1][0]

    # Asking nodes

    async def _ask_headers(self, backends: Iterable[Backend]) -> list[Header]:
        """Of all nodes that answer. Raises `UnreachableError` if none does."""
        asked = list(backends)
        calls = (self._call(backend, "read", encode_read(b"", 0)) for backend in asked)
        results = await together(calls, WAIT_S, len(asked) // 2 + 1)
        found = []
        for backend, result in zip(asked, results, strict=True):
            if isinstance(result, bytes):
                try:
                    found.append(self._sealer.genuine(decode_page(result)[0]))
                except SenderError as error:
                    self._letters.pool.complain(backend.name, f"a journal: {error}")
                else:
                    self._held[backend.operator.origin_hash] = found[-1]
        if not found:
            raise UnreachableError("no node of the practice's journal answered: " + "; ".join(map(str, results)))
        return found

    async def _call(self, backend: Backend, what: str, body: bytes) -> bytes:
        subject = key_id(self._state.key.public).hex()
        return await self._letters.call(backend, self._state.key, f"/v1/journals/{subject}/{what}", body)

    def _nodes(self, origins: Sequence[bytes]) -> list[Backend]:
        found = self._letters.nodes(origins)
        if len(found) < _quorum(origins):
            names = [o.name for o in self._letters.pool.charter.operators if o.origin_hash in origins]
            raise UnreachableError(
                f"the practice's journal is kept by {', '.join(names)}; two of three have to be asked (not only --node)"
            )
        return found

    def _answering(self, origins: Sequence[bytes]) -> list[Backend]:
        """Without those that just failed, if there are enough others."""
        found = self._nodes(origins)
        good = [backend for backend in found if not self._letters.pool.broken(backend)]
        return good if len(good) >= _quorum(origins) else found

    def _all(self) -> list[Name]:
        return [name for name in self._state.names() if name[0] in JOURNALED]

    def _rows(self, names: Iterable[Name]) -> Rows:
        return tuple(self._sealer.row(self._state.item(*name)) for name in names)


def _quorum(origins: Sequence[bytes]) -> int:
    return len(origins) // 2 + 1
