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

from peewit_clients.backend import Backend, BackendError, UnreachableError
from peewit_clients.journal_nodes import WAIT_S, JournalNodes, quorum
from peewit_clients.journal_rows import Sealer, in_parts
from peewit_clients.journal_state import Name
from peewit_clients.letters import Letters, Randomness
from peewit_clients.practice_state import JOURNAL, JOURNALED, SLOT, Item, PracticeState
from peewit_clients.together import together
from peewit_federation.appointment.journal import (
    DEVICE_BYTES,
    READ_BYTES_MAX,
    Change,
    Claim,
    Header,
    Rows,
    decode_page,
    encode_read,
)
from peewit_federation.errors import PeewitError, SenderError, UnknownError

TRIES: Final = 3


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
        self._state = state
        self._randomness = randomness
        self._save = save
        self._sealer = Sealer(state.key_seed, randomness)
        self.nodes = JournalNodes(letters, state.key, self._sealer)
        self._claim: Claim | None = None
        "By which this process has the term."
        self._flight: Flight | None = None
        self._lagging: set[bytes] = set()
        "Nodes that were left behind."
        self._top = 0
        "The highest number that was begun: none is used for two writes."

    # What the practice does

    async def ready(self) -> None:
        """Take over what was written elsewhere, if anything was. Raises `UnreachableError`, or `BehindError` if so."""
        if self._claim is not None:
            asked = self.nodes.answering(self._claim.keepers[0])
            headers = await self.nodes.headers(asked)
            if not any(map(self._is_taken, headers.values())):
                if len(headers) < quorum(self._claim.keepers[0]):
                    raise UnreachableError(f"{len(headers)} of the nodes that keep the practice's journal answer")
                return
        await self._recover()

    async def go_on(self) -> None:
        """Go on with what this device knows, though most nodes that could tell left. Raises what `ready` does."""
        await self._recover(alone=True)

    async def flush(self) -> None:
        """Write what changed. Raises `UnreachableError`, or `BehindError`: then nothing that changed counts."""
        while self._claim is None or self.waiting:
            if self._claim is None:
                await self._recover()
            else:
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
        return self._claim is not None and mine.written == mine.term

    async def restore(self) -> None:
        """Take over everything, on a device that has nothing but the keys. Raises `UnknownError` if no node has it."""
        if not await self.nodes.find():
            raise UnknownError("no node that answers keeps a journal of this practice")
        with suppress(BehindError):
            await self._recover(empty=True)

    async def mend(self) -> None:
        """Bring nodes up to date that were left behind, if there is nothing newer to write."""
        mine = self._state.journal
        if self.waiting or not self._lagging or self._claim is None:
            return
        flight = Flight(mine.number, mine.head, self._rows(self._all()), whole=True)
        for backend in self.nodes.of(mine.origins):
            if backend.operator.origin_hash in self._lagging:
                with suppress(BackendError, UnreachableError):  # it is mended when it is there again
                    (header,) = (await self.nodes.headers([backend])).values()
                    if not self._is_taken(header):
                        await self.nodes.claim_at(backend, self._claim)
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
        assert self._claim is not None
        keepers = self._claim.keepers
        asked = self.nodes.answering(keepers[0])
        errors = await self._bring_to(asked, flight)
        taken, rest = len(asked) - len(errors), [b for b in self.nodes.of(keepers[0]) if b not in asked]
        self._lagging |= {backend.operator.origin_hash for backend in rest}
        if taken < quorum(keepers[0]) and rest:
            more = await self._bring_to(rest, flight)
            taken, errors = taken + len(rest) - len(more), [*errors, *more]
        if taken >= quorum(keepers[0]):
            mine.written, mine.number, mine.head = mine.term, flight.number, flight.head
            mine.settled, mine.origins = mine.term, keepers[0]
            mine.begun, mine.flying, self._flight = b"", {}, None
            mine.whole = mine.whole and not flight.whole
            self._save([self._state.item(JOURNAL)])
            if len(keepers) > 1:
                # The move is done: the next claim says so, and names the new keepers alone.
                with suppress(UnreachableError):
                    await self._recover()
            return
        await self._refused(flight, errors, recovering=recovering)

    async def _refused(
        self, flight: Flight, errors: Sequence[tuple[Backend, BackendError]], *, recovering: bool
    ) -> None:
        """A write that does not count: we lost our term, or nodes were left behind, or cannot be reached."""
        mine, claim = self._state.journal, self._claim
        assert claim is not None
        if all(error.status == 0 or error.status >= 500 for _, error in errors):
            reasons = "; ".join(f"{backend.name}: {error}" for backend, error in errors)
            raise UnreachableError(f"too few nodes took the practice's journal: {reasons}")  # the same again, later
        self._undo(flight)
        stale = [backend for backend, error in errors if error.status == 409]
        for header in (await self.nodes.headers(stale)).values() if stale else ():
            if self._is_taken(header):
                self._claim = None
                if recovering:
                    raise UnreachableError("another device of this practice took its journal at the same time")
                await self._recover()
                return
        for backend in stale:
            with suppress(BackendError):
                await self.nodes.claim_at(backend, claim)
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
        assert self._claim is not None
        enough = min(len(backends), quorum(self._claim.keepers[0]))
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
        mine, claim, origin = self._state.journal, self._claim, backend.operator.origin_hash
        assert claim is not None
        held = self.nodes.held.get(origin, Header())
        at, head = (held.number, held.head) if flight.whole else (mine.number, mine.head)
        parts = in_parts(flight.rows)
        for number, rows in enumerate(parts):
            last = number == len(parts) - 1
            change = Change(
                claim.term, claim.device, at, head, flight.number, flight.head, rows, flight.whole, number, last
            )
            await self.nodes.call(backend, "write", change.encode())
        written = claim.term, flight.number, flight.head
        self.nodes.held[origin] = Header(claim.term, claim.device, *written, claim.keepers, claim.known, claim.seal)

    def _is_taken(self, header: Header) -> bool:
        """Whether somebody else has the term, or a higher one."""
        mine, device = self._state.journal, self._claim.device if self._claim else b""
        return (header.term, header.device) != (mine.term, device) and header.term >= mine.term

    # Taking over

    async def _recover(self, *, empty: bool = False, alone: bool = False) -> None:
        """Become the one that writes, with what counts. Raises `UnreachableError`; `BehindError` if that was news.

        `empty`: if nothing is there, nothing is to be written either (`UnknownError`). `alone`: nodes that left are not
        counted on.
        """
        mine, self._claim = self._state.journal, None  # until what counts is known, nothing is written
        known = ((mine.origins,) if mine.origins else await self.nodes.find()) or (self.nodes.choose(),)
        for _ in range(TRIES):
            standing = await self.nodes.standing(known, mine.settled, alone=alone)
            term, device = max([mine.term, *standing.terms]) + 1, self._randomness(DEVICE_BYTES)
            claim = self._sealer.claim(term, device, standing.keepers, standing.floor)
            held, missing = await self.nodes.claim(claim, first=not standing.floor, alone=alone)
            mine.term = claim.term
            if not missing:
                break
        else:
            raise UnreachableError(missing)
        origins = claim.keepers[0]
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
        same = sum(
            (h.written, h.number, h.head) == (best.written, best.number, best.head)
            for backend, h in held
            if backend.operator.origin_hash in origins
        )
        mine.whole = mine.whole or older or not best.number or same < quorum(origins)
        self._save([self._state.item(JOURNAL)])
        self._claim = claim
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

    def _replace(self, rows: Sequence[Item]) -> str:
        """Put what was written in the place of what the device has; what it kept of its own, in words."""
        state = self._state
        there, found = {(kind, name) for kind, name, _ in rows}, state.require_mine(rows)
        new = [name for name in state.journal.pending if name[0] == SLOT and name not in there]
        own: list[Item] = [
            state.item(*name) for name in new
            if name[1] in state.calendar and not found.was_taken_out(state.calendar[name[1]])
        ]  # fmt: skip
        gone: list[Item] = [(*name, None) for name in self._all() if name not in there]
        state.take_over([*rows, *own])
        state.journal.pending = dict.fromkeys((kind, name) for kind, name, _ in own)
        self._save([*gone, *rows, *own])
        if not own:
            return ""
        days = sorted({datetime.fromtimestamp(state.calendar[name].begins_s).date() for _, name, _ in own})
        return f", and keeps {len(own)} new times of its own, from {days[0]} to {days[-1]}"

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
            header, rows = decode_page(await self.nodes.call(backend, "read", encode_read(after, READ_BYTES_MAX)))
            if header != claimed or (rows and rows[0][0] <= after):
                raise BackendError("somebody else writes this practice's journal")
            if not rows:
                return found
            found += [self._sealer.open(*row) for row in rows]
            after = rows[-1][0]

    def _all(self) -> list[Name]:
        return [name for name in self._state.names() if name[0] in JOURNALED]

    def _rows(self, names: Iterable[Name]) -> Rows:
        return tuple(self._sealer.row(self._state.item(*name)) for name in names)
