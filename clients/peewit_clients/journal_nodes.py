"""The nodes that keep a practice's journal: which they are, what they have of it, and when enough of them agreed.

    nodes = JournalNodes(letters, key, sealer)
    standing = await nodes.standing(known, settled)      who has a say, first those who are to keep it from now on
    await nodes.claim(sealer.claim(term, device, standing.keepers, standing.floor))

Rules kept here: three operators keep a journal, and two of three decide. Who they are is what the practice named, under
its seal, in claims of terms above the last in which a write is known to be taken by enough (`known`): all whom those
claims name have a say, two of each three, so that no two devices ever go on from different ones. Who has left the
federation is not asked, and the next claim names somebody else in that place. If two of three left at once, nodes
cannot tell any more what was written last: then only a person can, who knows which device was at work (`alone`).

What is written, and what counts, is left to `journal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from peewit_clients.backend import Backend, BackendError, UnreachableError
from peewit_clients.journal_rows import Sealer
from peewit_clients.letters import Letters
from peewit_clients.together import together
from peewit_federation import cbor
from peewit_federation.appointment.journal import (
    KEEPERS_MAX,
    NODES,
    Claim,
    Header,
    Keepers,
    decode_page,
    encode_read,
)
from peewit_federation.errors import RefusedError, SenderError
from peewit_federation.keys import SigningKey, key_id, sha256

WAIT_S: Final = 0.5
"For the others, once there are enough; who is later is brought up to date some time."


@dataclass(frozen=True)
class Standing:
    """Who has a say in a journal."""

    keepers: Keepers
    "First those who are to keep it from now on."
    floor: int
    "The last term in which a write is known to be taken by enough."
    terms: tuple[int, ...]
    "Of all nodes that answered."


class JournalNodes:
    """Asks nodes about one practice's journal."""

    def __init__(self, letters: Letters, key: SigningKey, sealer: Sealer) -> None:
        self._letters = letters
        self._key = key
        self._sealer = sealer
        self._subject = key_id(key.public)
        self.held: dict[bytes, Header] = {}
        "By operator: what its node said last."

    # Asking

    async def call(self, backend: Backend, what: str, body: bytes) -> bytes:
        """`claim`, `write` or `read`. Raises `BackendError`."""
        return await self._letters.call(backend, self._key, f"/v1/journals/{self._subject.hex()}/{what}", body)

    async def headers(self, backends: Iterable[Backend]) -> dict[bytes, Header]:
        """By operator, of those whose nodes answer. Raises `UnreachableError` if none does."""
        asked = list(backends)
        calls = (self.call(backend, "read", encode_read(b"", 0)) for backend in asked)
        results = await together(calls, WAIT_S, len(asked) // 2 + 1)
        found = {}
        for backend, result in zip(asked, results, strict=True):
            if isinstance(result, bytes):
                try:
                    found[backend.operator.origin_hash] = self._sealer.genuine(decode_page(result)[0])
                except SenderError as error:
                    self._letters.pool.complain(backend.name, f"a journal: {error}")
        if not found:
            raise UnreachableError("no node of the practice's journal answered: " + "; ".join(map(str, results)))
        self.held |= found
        return found

    async def claim_at(self, backend: Backend, claim: Claim) -> Header:
        """Raises `BackendError`."""
        answer = await self.call(backend, "claim", claim.encode())
        try:
            header = self._sealer.genuine(Header.of(cbor.decode(answer)))
        except SenderError as error:
            raise BackendError(f"{backend.name}: a journal: {error}") from None
        self.held[backend.operator.origin_hash] = header
        return header

    async def claim(
        self, claim: Claim, *, first: bool = False, alone: bool = False
    ) -> tuple[list[tuple[Backend, Header]], str]:
        """Have a claim at all keepers: who agreed, and of which there were too few, in words.

        The `first`, as long as no write is known to be settled, goes to every node, and more than half have to agree: a
        copy of the device that knows of no journal, and has another charter, would choose other keepers.
        """
        pool = self._letters.pool
        backends = pool.order() if first else self._letters.nodes(_union(claim.keepers))
        enough = quorum(claim.keepers[0]) if len(claim.keepers) == 1 and not first else len(backends)
        results = await together((self.claim_at(backend, claim) for backend in backends), WAIT_S, enough)
        held = [(b, r) for b, r in zip(backends, results, strict=True) if isinstance(r, Header)]
        agreed = {backend.operator.origin_hash for backend, _ in held}
        if first and 2 * len(agreed) <= len(pool.charter.operators):
            return held, f"{len(agreed)} of {len(pool.charter.operators)} nodes answer: too few to begin a journal"
        for origins in claim.keepers:
            count = len(agreed & set(origins))
            if count < quorum(origins) and not (alone and self.lost(origins)):
                return held, f"{count} of the {len(origins)} nodes that keep the practice's journal answer"
        return held, ""

    # Who they are

    async def standing(self, known: Keepers, settled: int, *, alone: bool = False) -> Standing:
        """Who has a say, as far as nodes that answer tell, to a device that knows of these keepers in a settled term.

        Raises `UnreachableError`, or `RefusedError` if too many of them left.
        """
        heard: dict[bytes, Header] = {}
        keepers, floor = await self._hear(known, settled, self._letters.nodes(_union(self._targeted(known))), heard)
        answering = len(heard.keys() & set(known[0])) >= quorum(known[0])
        behind = answering and max((header.term for header in heard.values()), default=0) < settled
        if behind or any(map(self.lost, keepers)):
            # They have forgotten it, or it was moved away from them: somebody else knows.
            keepers, floor = await self._hear(known, settled, self._letters.pool.order(), heard)
            behind = behind and max((header.term for header in heard.values()), default=0) < settled
        if not heard:
            self.of(known[0])  # says why
        if len(keepers) > KEEPERS_MAX:
            raise UnreachableError("the practice's journal is being moved by several devices; use one of them")
        if (behind or any(map(self.lost, keepers))) and not alone:
            raise RefusedError(
                "nobody who kept this practice's journal has it any more, or two of the three left the federation at "
                "once. If this is the device that was at work last, say `peewit provider journal --go-on`: then what "
                "it knows counts"
            )
        for origins in keepers:
            if not self.lost(origins):
                self.of(origins)
        return Standing(keepers, floor, tuple(header.term for header in heard.values()))

    async def _hear(
        self, known: Keepers, settled: int, asked: Sequence[Backend], heard: dict[bytes, Header]
    ) -> tuple[Keepers, int]:
        """Ask nodes, and whomever they name; who has a say, and the last term that is settled."""
        done: set[bytes] = set()
        keepers, floor = self._targeted(known), settled
        while fresh := [b for b in asked if b.operator.origin_hash not in done]:
            done |= {backend.operator.origin_hash for backend in fresh}
            with suppress(UnreachableError):
                heard |= await self.headers(fresh)
            floor = max([settled, *(header.known for header in heard.values())])
            named = _named(heard.values(), floor)
            keepers = self._targeted([*named, *known] if floor == settled or not named else named)
            asked = self._letters.nodes(_union(keepers))
        return keepers, floor

    def _targeted(self, named: Sequence[tuple[bytes, ...]]) -> Keepers:
        """First who is to keep it: whom a claim named and who are all there, or others in the place of who left."""
        there = {operator.origin_hash for operator in self._letters.pool.charter.operators}
        target = next((origins for origins in named if there >= set(origins)), None)
        if target is None:
            stay = [origin for origin in named[0] if origin in there]
            target = (*stay, *[origin for origin in self._ranked() if origin not in stay])[:NODES]
        return tuple(dict.fromkeys((target, *named)))

    def _ranked(self) -> list[bytes]:
        known = (operator.origin_hash for operator in self._letters.pool.charter.operators)
        return sorted(known, key=lambda origin: sha256(self._subject, origin))

    def choose(self) -> tuple[bytes, ...]:
        """Keepers of a journal that begins now."""
        return tuple(self._ranked()[:NODES])

    async def find(self) -> Keepers:
        """Who has a say, as all nodes tell that answer; nobody if there is no journal. Raises `UnreachableError`."""
        pool = self._letters.pool
        headers = list((await self.headers(pool.order())).values())
        if any(header.keepers for header in headers):
            return _named(headers, max(header.known for header in headers))
        if len(headers) < len(pool.charter.operators) - 1:
            raise UnreachableError(
                f"only {len(headers)} of {len(pool.charter.operators)} nodes answer: too few to know that none of them "
                "keeps a journal of this practice"
            )
        return ()

    def lost(self, origins: Sequence[bytes]) -> bool:
        """Whether too few of them are in the federation to decide."""
        there = {operator.origin_hash for operator in self._letters.pool.charter.operators}
        return len(there & set(origins)) < quorum(origins)

    def of(self, origins: Sequence[bytes]) -> list[Backend]:
        """The nodes of these keepers. Raises `UnreachableError` if there are too few to decide."""
        found = self._letters.nodes(origins)
        if len(found) < quorum(origins):
            names = [o.name for o in self._letters.pool.charter.operators if o.origin_hash in origins]
            raise UnreachableError(
                f"the practice's journal is kept by {', '.join(names)}; two of three have to be asked (not only --node)"
            )
        return found

    def answering(self, origins: Sequence[bytes]) -> list[Backend]:
        """Without those that just failed, if there are enough others."""
        found = self.of(origins)
        good = [backend for backend in found if not self._letters.pool.broken(backend)]
        return good if len(good) >= quorum(origins) else found


def quorum(origins: Sequence[bytes]) -> int:
    """How many of them decide."""
    return len(origins) // 2 + 1


def _named(headers: Iterable[Header], floor: int) -> Keepers:
    """Whom claims above a settled term name, those of the newest first."""
    told = sorted((header for header in headers if header.term > floor), key=lambda h: h.term, reverse=True)
    return tuple(dict.fromkeys(origins for header in told for origins in header.keepers))


def _union(keepers: Keepers) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(origin for origins in keepers for origin in origins))
