"""A copy of a person's request at nodes, that only the recovery code finds and opens.

    code       16 random bytes and 3 of their SHA-256, in base 32 (RFC 4648), in groups of five letters
    mailbox    of the Ed25519 key with the seed SHA-256("peewit recovery mailbox v1" || secret), at two nodes
    message    nonce || XChaCha20-Poly1305 under SHA-256("peewit recovery key v1" || secret), over
               [number, state] padded to 48 KiB

Rules kept here: nodes see a mailbox like any other, written and read by its owner; the copy with the highest number
counts; older ones are deleted, also where copies were before; who finds one that another device made makes none over
it. A mistyped code is refused before anybody is asked.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import nacl.exceptions
import nacl.secret

from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.letters import Letters
from peewit_clients.words import said
from peewit_federation import cbor
from peewit_federation.appointment.mailbox import give_leave
from peewit_federation.errors import LimitError, MalformedError, RefusedError, SenderError, UnknownError
from peewit_federation.keys import SigningKey, key_id, sha256

SECRET_BYTES: Final = 16
CHECK_BYTES: Final = 3
PADDED_BYTES: Final = 48 * 1024
COPY_S: Final = 200 * 86_400
NODES: Final = 2
BEFORE_MAX: Final = 6


def write_code(secret: bytes) -> str:
    """The code of a secret, as people write it down."""
    check = sha256(b"peewit recovery code v1", secret)[:CHECK_BYTES]
    text = base64.b32encode(secret + check).decode().rstrip("=")
    return "-".join(text[start : start + 5] for start in range(0, len(text), 5))


def read_code(code: str) -> bytes:
    """The secret behind a code. Raises `MalformedError`."""
    text = "".join(c for c in code.upper() if c.isalnum()).replace("0", "O").replace("1", "I").replace("8", "B")
    try:
        data = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        data = b""
    secret = data[:SECRET_BYTES]
    if len(data) != SECRET_BYTES + CHECK_BYTES:
        raise MalformedError(said("error_recovery_code"))
    # Also the bits of the last letter that mean nothing have to be as they were written.
    if write_code(secret).replace("-", "") != text:
        raise MalformedError(said("error_recovery_letter"))
    return secret


@dataclass(frozen=True)
class Copy:
    """What was found at nodes."""

    number: int
    state: bytes = field(repr=False)
    origins: tuple[bytes, ...]
    "Operators at whose nodes copies are."
    silent: tuple[str, ...]
    "Why others could not be asked: one of them may have a newer one."


class OtherDeviceError(RefusedError):
    """Another device goes on with this request."""


class Recovery:
    """The copies of one request."""

    def __init__(self, letters: Letters, secret: bytes) -> None:
        self._letters = letters
        self._key = SigningKey(sha256(b"peewit recovery mailbox v1", secret))
        self._box = nacl.secret.Aead(sha256(b"peewit recovery key v1", secret))

    async def save(self, number: int, states: Iterable[bytes], before: Sequence[bytes] = ()) -> tuple[bytes, ...]:
        """Bring a copy to nodes, of the first state that has room, and delete older ones; where copies are now.

        `before`: where they were. Raises `UnreachableError`, `LimitError`, or `OtherDeviceError` if there is a copy
        with this number or a later one.
        """
        plain = next((p for p in (cbor.encode([number, state]) for state in states) if len(p) + 4 <= PADDED_BYTES), b"")
        if not plain:
            raise LimitError(f"a state of more than {PADDED_BYTES} bytes has no room in a recovery copy")
        padded = (len(plain).to_bytes(4, "big") + plain).ljust(PADDED_BYTES, b"\0")
        message = bytes(self._box.encrypt(padded))
        until_s = int(self._letters.clock()) + COPY_S
        origins = await self._letters.open_mailbox(self._key, NODES, until_s, practices=False, near=before)
        older = await self._letters.read(self._key, tuple(dict.fromkeys((*origins, *before))))
        if any(self._number(message) >= number for message in older):
            raise OtherDeviceError(said("error_other_device"))
        leave = give_leave(self._key, key_id(self._key.public), until_s)
        taken = [origin for origin in origins if await self._put(origin, leave, message)]
        if len(taken) < NODES:
            with suppress(UnreachableError):
                lacking = NODES - len(taken)
                more = await self._letters.open_mailbox(self._key, lacking, until_s, practices=False, besides=origins)
                taken += [origin for origin in more if await self._put(origin, leave, message)]
        if not taken:
            taken += [origin for origin in await self._freed(origins) if await self._put(origin, leave, message)]
        if not taken:
            raise UnreachableError(said("error_no_room"))
        if older:
            await self._letters.delete(self._key, taken, older)
        others = [origin for origin in dict.fromkeys((*origins, *before)) if origin not in taken]
        left = [origin for origin in others if not await self._gone(origin, number)]
        return tuple(dict.fromkeys((*taken, *left)))[:BEFORE_MAX]

    async def _put(self, origin: bytes, leave: bytes, message: bytes) -> bool:
        try:
            await self._letters.put(key_id(self._key.public), [origin], self._key, leave, message)
        except UnreachableError:
            return False
        return True

    async def _freed(self, origins: Sequence[bytes]) -> list[bytes]:
        """Delete the copy at one node, if another has one as new: where there is room for one only, the next fits."""
        held: list[tuple[int, bytes, list[bytes]]] = []
        for backend in self._letters.nodes(origins):
            with suppress(BackendError, SenderError):
                copies = await self._letters.peek(backend, self._key)
                number = max(map(self._number, copies), default=-1)
                held += [(number, backend.operator.origin_hash, copies)] if number >= 0 else []
        if len(held) < 2:
            return []
        _, origin, copies = min(held)
        await self._letters.delete(self._key, [origin], copies)
        return [origin]

    def _number(self, message: bytes) -> int:
        try:
            return self._open(message)[0]
        except SenderError:
            return -1

    async def _gone(self, origin: bytes, number: int) -> bool:
        """Delete what is at a node; whether there is nothing (any more). A later copy than this one stays."""
        backends = self._letters.nodes([origin])
        if not backends:
            return not self._letters.stay([origin])
        try:
            copies = await self._letters.peek(backends[0], self._key)
            if any(self._number(message) > number for message in copies):
                raise OtherDeviceError(said("error_other_device"))
            if copies:
                await self._letters.delete(self._key, [origin], copies)
                copies = await self._letters.peek(backends[0], self._key)
        except OtherDeviceError:
            raise
        except (BackendError, SenderError):
            return False
        return not copies

    async def forget(self) -> None:
        """Delete all copies, at all nodes that answer."""
        for backend in self._letters.pool.order():
            with suppress(BackendError, SenderError):
                copies = await self._letters.peek(backend, self._key)
                if copies:
                    await self._letters.delete(self._key, [backend.operator.origin_hash], copies)

    async def overtaken(self, number: int, origins: Sequence[bytes]) -> bool:
        """Whether a node that answers has a copy with a higher number: another device goes on with this request."""
        for backend in self._letters.nodes(origins):
            with suppress(BackendError, SenderError):
                copies = await self._letters.peek(backend, self._key)
                if any(self._number(message) > number for message in copies):
                    return True
        return False

    def is_due(self, copied_s: int, origins: Sequence[bytes]) -> bool:
        """Whether copies that say all they should have to be made anew: half their time is over, or a node left."""
        enough = min(NODES, len(self._letters.pool.charter.operators))
        return self._letters.clock() > copied_s + COPY_S / 2 or self._letters.stay(origins) < enough

    async def load(self) -> Copy:
        """The newest copy of any node. Raises `UnknownError`."""
        found: list[tuple[int, bytes, bytes]] = []
        failures = []
        for backend in self._letters.pool.order():
            try:
                messages = await self._letters.peek(backend, self._key)
            except (BackendError, SenderError) as error:
                failures.append(f"{backend.name}: {error}")
                continue
            for message in messages:
                try:
                    found.append((*self._open(message), backend.operator.origin_hash))
                except SenderError as error:
                    self._letters.pool.complain(backend.name, f"a recovery copy: {error}")
        if not found:
            reasons = "; ".join(failures) or "their mailboxes are empty"
            raise UnknownError(said("error_no_copy", why=reasons))
        number, state, _ = max(found)
        return Copy(number, state, tuple(origin for *_, origin in found), tuple(failures))

    def _open(self, message: bytes) -> tuple[int, bytes]:
        try:
            padded = bytes(self._box.decrypt(message))
        except (nacl.exceptions.CryptoError, ValueError):
            raise MalformedError("not sealed with this code") from None
        size = int.from_bytes(padded[:4], "big")
        match cbor.decode(padded[4 : 4 + size], size_bytes_max=PADDED_BYTES):
            case [int(number), bytes(state)]:
                return number, state
        raise MalformedError("a recovery copy is [number, state]")
