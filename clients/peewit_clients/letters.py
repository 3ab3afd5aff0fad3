"""Signed requests to nodes, and mailboxes on several of them.

Rules kept here: a message goes to all nodes that keep the mailbox, and one of them is enough; what is read is merged,
and the same message counts once. A node that is rather full is given the work that it asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from peewit_clients.backend import Backend, BackendError, UnreachableError
from peewit_clients.pool import BackendPool
from peewit_clients.together import together
from peewit_clients.words import said
from peewit_federation import cbor
from peewit_federation.appointment.envelope import NONCE_BYTES, Envelope
from peewit_federation.appointment.mailbox import WORK_BYTES, Put, Terms, bits_done, decode_bits, read_messages
from peewit_federation.errors import MalformedError, SenderError, UnknownError
from peewit_federation.keys import SigningKey, key_id, sha256

TEXT_MAX: Final = 1000
Randomness = Callable[[int], bytes]
MAILBOX_NODES: Final = 2
"That keep a mailbox."
BOXES_MAX: Final = 4
"That a request or a note names."
FULL: Final = 429
GONE: Final = 404
TRIES_PER_TURN: Final = 4096
WORK_WAIT_S: Final = 60.0
"For the work that a second node asks for, too."


class NobodyThereError(UnreachableError):
    """No node that an address names has such a mailbox, and each of them says so."""


def readable(text: str) -> str:
    """What a person wrote, if it can be sent. Raises `MalformedError` before anything is kept of it."""
    if len(text) > TEXT_MAX or any(c < " " and c != "\n" for c in text) or "\x7f" in text:
        raise MalformedError(said("error_text", count=TEXT_MAX))
    return text


@dataclass
class Letters:
    """Writes to nodes, signed."""

    pool: BackendPool
    clock: Callable[[], float]
    randomness: Randomness
    silent: list[str] = field(default_factory=list)
    "Nodes of the mailbox that was read last which did not answer: more may lie there."

    def node(self, origin: bytes) -> Backend:
        """The node of an operator. Raises `UnknownError` if the charter has none."""
        for backend in self.pool.backends:
            if backend.operator.origin_hash == origin:
                return backend
        raise UnknownError("a mailbox or queue at a node that the charter does not have")

    def stay(self, origins: Sequence[bytes]) -> int:
        """How many of these operators the charter has; those who are not asked now (`only`) as well."""
        return len({operator.origin_hash for operator in self.pool.charter.operators} & set(origins))

    def nodes(self, origins: Sequence[bytes]) -> list[Backend]:
        """Those of several operators that the charter has."""
        known = {backend.operator.origin_hash: backend for backend in self.pool.backends}
        return [known[origin] for origin in origins if origin in known]

    async def call(self, backend: Backend, key: SigningKey, path: str, body: bytes) -> bytes:
        """Ask one node something, signed. Raises `BackendError`.

        Signed anew for each node that may carry it: one that swallows the answer would else have it refused as seen.
        """

        def signed() -> bytes:
            envelope = Envelope(
                "POST", path, backend.operator.origin_hash, int(self.clock() * 1000), self.randomness(NONCE_BYTES),
                key.public, body,
            )  # fmt: skip
            return envelope.sign(key)

        return await self.pool.post(backend, path, signed)

    async def open_mailbox(
        self, key: SigningKey, count: int, until_s: int, *, practices: bool, besides: Sequence[bytes] = (),
        near: Container[bytes] = (),
    ) -> tuple[bytes, ...]:  # fmt: skip
        """Open a mailbox at so many nodes (at least one) `besides` others, `near` ones first; their operators.

        Raises `UnreachableError`.
        """
        terms = Terms(until_s, practices)
        found: list[bytes] = []
        refusals: dict[str, BackendError] = {}
        order = sorted(self.pool.order(), key=lambda b: (self.pool.broken(b), b.operator.origin_hash not in near))
        order = [backend for backend in order if backend.operator.origin_hash not in besides]
        for working in (False, True):  # who opens it for nothing comes first
            for backend in order:
                refusal = refusals.get(backend.name)
                if len(found) == count or backend.operator.origin_hash in found:
                    continue
                if working and (refusal is None or refusal.status != FULL):
                    continue
                try:
                    await self._open(backend, key, terms, working=working)
                    found.append(backend.operator.origin_hash)
                except BackendError as error:
                    refusals[backend.name] = error
        if not found:
            why = "; ".join(f"{name}: {error}" for name, error in refusals.items())
            raise UnreachableError(f"no node opened a mailbox: {why}")
        return tuple(found)

    async def open_mailbox_at(
        self, key: SigningKey, origins: Sequence[bytes], until_s: int, *, practices: bool
    ) -> None:
        """Open a mailbox at these nodes, or prolong it. Raises `UnreachableError` if none did."""
        terms = Terms(until_s, practices)
        backends = self.nodes(origins)
        results = await together(self._open(backend, key, terms, working=False) for backend in backends)
        full = [n for n, result in enumerate(results) if isinstance(result, BackendError) and result.status == FULL]
        worked = await together((self._open(backends[n], key, terms, working=True) for n in full), WORK_WAIT_S)
        for n, result in zip(full, worked, strict=True):
            results[n] = result
        refusals = [f"{b.name}: {r}" for b, r in zip(backends, results, strict=True) if isinstance(r, BackendError)]
        if len(refusals) == len(backends):
            raise UnreachableError("no node opened a mailbox: " + "; ".join(refusals))

    async def _open(self, backend: Backend, key: SigningKey, terms: Terms, *, working: bool) -> bytes:
        """Open a mailbox at a node, `working` if it asks for that. Raises `BackendError`."""
        address = key_id(key.public)
        path = f"/v1/mailboxes/{address.hex()}"
        try:
            return await self.call(backend, key, path, terms.encode())
        except BackendError as error:
            if error.status != FULL or not working:
                raise
        try:
            bits = decode_bits(await self.pool.fetch(backend, "/v1/mailboxes/work"))
        except SenderError as error:
            raise BackendError(str(error)) from None
        for attempt in range(1 << 63):
            work = attempt.to_bytes(WORK_BYTES, "big")
            if bits_done(backend.operator.origin_hash, address, work) >= bits:
                return await self.call(backend, key, path, replace(terms, work=work).encode())
            if attempt % TRIES_PER_TURN == 0:
                await asyncio.sleep(0)
        raise AssertionError("unreachable")

    async def put(
        self, address: bytes, origins: Sequence[bytes], key: SigningKey, leave: bytes, message: bytes
    ) -> list[bytes]:
        """Leave a message; operators whose nodes may take it later.

        Raises `UnreachableError` if none took it now, `NobodyThereError` if all of them say that nobody is there.
        """
        path, body = f"/v1/mailboxes/{address.hex()}/messages", Put(leave, message).encode()
        backends = self.nodes(origins)
        results = await together(self.call(backend, key, path, body) for backend in backends)
        if not any(isinstance(result, bytes) for result in results):
            gone = all(isinstance(result, BackendError) and result.status == GONE for result in results)
            all_asked = 0 < len(backends) == len(set(origins))  # else those whom we do not know may have it
            kind = NobodyThereError if gone and all_asked else UnreachableError
            raise kind("no node took the message: " + "; ".join(map(str, results)))
        return [
            backend.operator.origin_hash
            for backend, result in zip(backends, results, strict=True)
            if isinstance(result, BackendError) and not 400 <= result.status < 500
        ]

    async def delete(self, key: SigningKey, origins: Sequence[bytes], messages: Sequence[bytes]) -> None:
        """Delete messages that were dealt with; where a node does not answer they end with the mailbox."""
        path = f"/v1/mailboxes/{key_id(key.public).hex()}/delete"
        body = cbor.encode([sha256(message) for message in messages])
        await together(self.call(backend, key, path, body) for backend in self.nodes(origins))

    async def read(self, key: SigningKey, origins: Sequence[bytes], terms: Terms | None = None) -> list[bytes]:
        """All messages in a mailbox, from all of its nodes. Raises `UnreachableError` if none answers.

        A node that does not have it (any more) is asked to open it again, on these terms.
        """
        found: dict[bytes, None] = {}
        errors: list[str] = []
        self.silent = []
        backends = self.nodes(origins)
        results = await together(self.call(backend, key, _reading(key), cbor.encode([])) for backend in backends)
        for backend, result in zip(backends, results, strict=True):
            if isinstance(result, BackendError):
                if not await self._opened_again(backend, key, result, terms):
                    errors.append(f"{backend.name}: {result}")
                    self.silent.append(backend.name)
                continue
            try:
                found.update(dict.fromkeys(read_messages(result)))
            except SenderError as error:
                self.pool.complain(backend.name, f"a mailbox: {error}")
        if len(errors) == len(backends):
            raise UnreachableError("no node of the mailbox answered: " + "; ".join(errors))
        return list(found)

    async def peek(self, backend: Backend, key: SigningKey) -> list[bytes]:
        """What one node has; nothing if it has no such mailbox. Raises `BackendError` or `MalformedError`."""
        try:
            return read_messages(await self.call(backend, key, _reading(key), cbor.encode([])))
        except BackendError as error:
            if error.status == GONE:
                return []
            raise

    async def _opened_again(self, backend: Backend, key: SigningKey, why: BackendError, terms: Terms | None) -> bool:
        """Whether a node that lost a mailbox has opened it again."""
        if why.status != GONE or terms is None or terms.until_s <= self.clock():
            return False
        try:
            await self._open(backend, key, terms, working=False)
        except BackendError as error:
            self.pool.complain(backend.name, f"a mailbox that it does not have: {error}")
            return False
        return True


def _reading(key: SigningKey) -> str:
    return f"/v1/mailboxes/{key_id(key.public).hex()}/read"
