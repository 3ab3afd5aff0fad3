"""What stands in a practice's journal, sealed: nodes see tags, sizes and heads, and can make up none of them.

    key       SHA-256("peewit journal key v1" || signing seed)
    tag       BLAKE2b-128 of [kind, name] under the key
    sealed    nonce || XChaCha20-Poly1305 under the key, with the tag, over the size (4 bytes) and [kind, name, body],
              filled up to the next of 128, 256, 512, … bytes
    head      16 random bytes, and BLAKE2b-128 of [term, number, these] under the key
    seal      BLAKE2b-128 of [term, device, [[origin hash, …], …], known] under the key: nobody else says who keeps a
              journal

Rules kept here: a row is bounded, and opened only if the practice sealed it under this tag. Which rows and heads count
is left to `journal`.
"""

from __future__ import annotations

from typing import Final

import nacl.encoding
import nacl.exceptions
import nacl.hash
import nacl.secret

from peewit_clients.letters import Randomness
from peewit_clients.practice_state import Item
from peewit_federation import cbor
from peewit_federation.appointment.journal import (
    HEAD_BYTES,
    ROW_BYTES_MAX,
    ROWS_MAX,
    TAG_BYTES,
    WRITE_BYTES_MAX,
    Claim,
    Header,
    Keepers,
    Rows,
)
from peewit_federation.errors import LimitError, MalformedError
from peewit_federation.keys import sha256

PART_BYTES: Final = WRITE_BYTES_MAX - ROW_BYTES_MAX - 1024
"So that one more row always fits."
LEAST_BYTES: Final = 128


class Sealer:
    """Seals and opens for one practice."""

    def __init__(self, signing_seed: bytes, randomness: Randomness) -> None:
        self._key = sha256(b"peewit journal key v1", signing_seed)
        self._box = nacl.secret.Aead(self._key)
        self._randomness = randomness

    def row(self, item: Item) -> tuple[bytes, bytes]:
        """A thing as it stands in the journal; nothing sealed if it goes. Raises `LimitError`."""
        kind, name, body = item
        tag = self._mac([kind, name])
        if body is None:
            return tag, b""
        plain = cbor.encode([kind, name, body])
        size = LEAST_BYTES
        while size < len(plain) + 4:
            size *= 2
        if size > ROW_BYTES_MAX:
            raise LimitError(f"{len(plain)} bytes are more than one entry of a practice's journal may have")
        padded = (len(plain).to_bytes(4, "big") + plain).ljust(size, b"\0")
        return tag, bytes(self._box.encrypt(padded, tag, self._randomness(nacl.secret.Aead.NONCE_SIZE)))

    def open(self, tag: bytes, sealed: bytes) -> Item:
        """What was sealed. Raises `MalformedError`."""
        try:
            padded = bytes(self._box.decrypt(sealed, tag))
        except (nacl.exceptions.CryptoError, ValueError):
            raise MalformedError("a row of the practice's journal that the practice did not write") from None
        match cbor.decode(padded[4 : 4 + int.from_bytes(padded[:4], "big")]):
            case [int(kind), bytes(name), bytes(body)]:
                return kind, name, body
        raise MalformedError("a row of a journal is [kind, name, body]")

    def head(self, term: int, number: int) -> bytes:
        """What names a write."""
        fresh = self._randomness(HEAD_BYTES - TAG_BYTES)
        return fresh + self._mac([term, number, fresh])

    def claim(self, term: int, device: bytes, keepers: Keepers, known: int) -> Claim:
        """A claim that names keepers."""
        return Claim(term, device, keepers, known, self._mac([term, device, [list(o) for o in keepers], known]))

    def genuine(self, header: Header) -> Header:
        """A header whose last write and claim were ours, or none. Raises `MalformedError`."""
        fresh, mac = header.head[: HEAD_BYTES - TAG_BYTES], header.head[HEAD_BYTES - TAG_BYTES :]
        if header.head and mac != self._mac([header.written, header.number, fresh]):
            raise MalformedError("it tells of a write that was none of this practice's")
        if bool(header.head) != bool(header.number):
            raise MalformedError("a header without a head")
        if header.term and header.seal != self.claim(header.term, header.device, header.keepers, header.known).seal:
            raise MalformedError("it tells of a claim that was none of this practice's")
        if header.written > header.term or bool(header.keepers) != bool(header.term):
            raise MalformedError("a header that contradicts itself")
        return header

    def _mac(self, value: object) -> bytes:
        raw = nacl.encoding.RawEncoder
        return nacl.hash.blake2b(cbor.encode(value), digest_size=TAG_BYTES, key=self._key, encoder=raw)


def in_parts(rows: Rows) -> list[Rows]:
    """Rows as they fit into requests; one part at least, be it empty."""
    parts: list[list[tuple[bytes, bytes]]] = [[]]
    size = 0
    for row in rows:
        if size > PART_BYTES or len(parts[-1]) == ROWS_MAX:
            parts.append([])
            size = 0
        parts[-1].append(row)
        size += len(row[1]) + TAG_BYTES + 8
    return [tuple(part) for part in parts]
