"""A signed request to one node: who asks what, of whom, and when (design, section 5).

    COSE_Sign1, purpose "peewit envelope v1", over CBOR
    [method, path, origin hash of the node, time in ms, nonce of 16 bytes, public key, body]

Rules kept here: an envelope counts for one method and path of one node, within two minutes of its time, once. A node
that has restarted has forgotten what it saw, so what was signed before its start is refused. Who may do what is left to
others.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from peewit_federation import cbor
from peewit_federation.cose import Sign1, sign1
from peewit_federation.errors import ForgeryError, MalformedError, QuotaError, RefusedError
from peewit_federation.keys import PublicKey, SigningKey, key_id

PURPOSE: Final = "peewit envelope v1"
SKEW_S: Final = 120.0
NONCE_BYTES: Final = 16
NONCES_MAX: Final = 200_000
ENVELOPE_BYTES_MAX: Final = 128 * 1024
PATH_BYTES_MAX: Final = 256


@dataclass(frozen=True)
class Envelope:
    """What was asked, and by which key."""

    method: str
    path: str
    node: bytes
    time_ms: int
    nonce: bytes
    key: bytes
    body: bytes

    def sign(self, key: SigningKey) -> bytes:
        """The signed bytes; `key` is that of the envelope."""
        fields = [self.method, self.path, self.node, self.time_ms, self.nonce, self.key, self.body]
        return sign1(cbor.encode(fields), PURPOSE, key).encode()

    @cached_property
    def signer(self) -> bytes:
        """SHA-256 of the public key."""
        return key_id(self.key)


def open_envelope(data: bytes) -> Envelope:
    """Parse and verify the signature. Raises `MalformedError`, `LimitError` or `ForgeryError`."""
    signed = Sign1.parse(data, size_bytes_max=ENVELOPE_BYTES_MAX)
    signed.refuse_countersignature(PURPOSE)
    match cbor.decode(signed.payload, size_bytes_max=ENVELOPE_BYTES_MAX):
        case [str(method), str(path), bytes(node), int(time_ms), bytes(nonce), bytes(key), bytes(body)]:
            sizes = len(node), len(nonce), len(key)
            if sizes == (32, NONCE_BYTES, 32) and len(path) <= PATH_BYTES_MAX and 0 <= time_ms < 1 << 53:
                signed.verify(PURPOSE, PublicKey(key))
                return Envelope(method, path, node, time_ms, nonce, key, body)
    raise MalformedError("an envelope is [method, path, node, time, nonce, key, body]")


@dataclass
class Guard:
    """What one node has seen, so that nothing counts twice."""

    node: bytes
    started_s: float
    _seen: dict[bytes, None] = field(default_factory=dict)
    _ends: list[tuple[float, bytes]] = field(default_factory=list)

    def admit(self, envelope: Envelope, method: str, path: str, now_s: float) -> None:
        """Raise `ForgeryError` or `RefusedError` unless this is fresh, new, and meant for this."""
        if (envelope.method, envelope.path, envelope.node) != (method, path, self.node):
            raise ForgeryError("an envelope that was signed for another method, path or node")
        if abs(envelope.time_ms / 1000 - now_s) > SKEW_S:
            raise RefusedError(f"an envelope of another time; here it is {now_s:.3f}")
        if envelope.time_ms / 1000 < self.started_s:
            raise RefusedError(f"this node has started since; here it is {now_s:.3f}")
        while self._ends and self._ends[0][0] < now_s:
            del self._seen[heapq.heappop(self._ends)[1]]
        name = envelope.signer + envelope.nonce
        if name in self._seen:
            raise RefusedError("an envelope that was opened before")
        if len(self._seen) >= NONCES_MAX:
            raise QuotaError("too many signed requests at the moment; try again in some minutes")
        self._seen[name] = None
        heapq.heappush(self._ends, (envelope.time_ms / 1000 + SKEW_S, name))
