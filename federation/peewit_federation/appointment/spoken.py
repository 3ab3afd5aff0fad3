"""What a practice said of a request to one node, which anybody may be shown: its envelope is the proof.

    offered    the envelope of POST /v1/queue/offered     an offer was made, or (until 0) is over
    claim      the envelope of POST /v1/queue/claim       the user has chosen this practice

    shown      [1, envelope] or [2, signed request]       why a node cannot do as it is told

Rules kept here: a node's word alone holds no request back, ends none and parks none. What nodes tell each other, and
with what they refuse a claim or an older version, is what a practice or the request's own key has signed. Whether the
practice was admitted is for whoever has the registry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from peewit_federation import cbor
from peewit_federation.appointment.envelope import ENVELOPE_BYTES_MAX, Envelope, open_envelope
from peewit_federation.appointment.queue_api import Place, decode_claim, decode_offered, encode_states, read_states
from peewit_federation.appointment.request import REQUEST_BYTES_MAX, Request, open_request
from peewit_federation.errors import ForgeryError, MalformedError

OFFERED_PATH: Final = "/v1/queue/offered"
CLAIM_PATH: Final = "/v1/queue/claim"
SHOWN_BYTES_MAX: Final = max(ENVELOPE_BYTES_MAX, REQUEST_BYTES_MAX) + 1024
SAID, VERSION = 1, 2
Shown = tuple[int, bytes]
"(SAID, envelope of a practice) or (VERSION, signed request)."


@dataclass(frozen=True)
class Spoken:
    """Something that a practice said."""

    place: Place
    "The area, as a practice of which it spoke."
    request: bytes
    "H."
    practice: bytes
    "Its key id."
    node: bytes
    "To which node: its operator's origin hash."
    time_ms: int
    proof: bytes = field(repr=False)


@dataclass(frozen=True)
class SaidOffered(Spoken):
    """That an offer was made, which may be answered until then; 0: it is over."""

    until_s: int = 0


@dataclass(frozen=True)
class SaidClaimed(Spoken):
    """That the user has chosen it, with the secret that only the user knew."""

    secret: bytes = field(default=b"", repr=False)

    def ends(self, request: Request) -> bool:
        """Whether it claims this request, as it is opened now, as a practice of one of its areas."""
        at_home = (self.place.mediator, self.place.area) in request.areas
        return at_home and self.request == request.name and request.claimed_by(self.secret)


def read_offered(envelope: Envelope, proof: bytes) -> SaidOffered:
    """What an envelope to `OFFERED_PATH` says; `proof` are its bytes. Raises `MalformedError`."""
    place, request, until_s = decode_offered(envelope.body)
    return SaidOffered(place, request, envelope.signer, envelope.node, envelope.time_ms, proof, until_s)


def read_claimed(envelope: Envelope, proof: bytes) -> SaidClaimed:
    """What an envelope to `CLAIM_PATH` says; `proof` are its bytes. Raises `MalformedError`."""
    place, request, secret = decode_claim(envelope.body)
    return SaidClaimed(place, request, envelope.signer, envelope.node, envelope.time_ms, proof, secret)


def read_spoken(envelope: Envelope, proof: bytes) -> SaidOffered | SaidClaimed:
    """What an envelope that was verified says of a request. Raises `MalformedError` if nothing."""
    if (envelope.method, envelope.path) == ("POST", OFFERED_PATH):
        return read_offered(envelope, proof)
    if (envelope.method, envelope.path) == ("POST", CLAIM_PATH):
        return read_claimed(envelope, proof)
    raise MalformedError("an envelope that says nothing of a request")


def shown_claim(data: bytes, request: Request) -> SaidClaimed:
    """A practice's claim of this request, verified but for its admission. Raises `SenderError`s."""
    spoken = read_spoken(open_envelope(data), data)
    if not isinstance(spoken, SaidClaimed) or not spoken.ends(request):
        raise ForgeryError("shown for a claim was what claims another request, or none")
    return spoken


def shown_version(data: bytes, request: Request) -> Request:
    """Another version of this request, by its own key. Raises `SenderError`s."""
    found = open_request(data)
    if (found.name, found.key) != (request.name, request.key):
        raise ForgeryError("shown for a later version was another request")
    return found


def encode_shown(shown: Shown | None) -> list[object]:
    """As a part of an answer; empty if nothing stands in the way."""
    return list(shown) if shown else []


def read_shown(value: object) -> Shown | None:
    """The other way round. Raises `MalformedError`."""
    match value:
        case []:
            return None
        case [int(kind), bytes(data)] if kind in (SAID, VERSION):
            return kind, data
    raise MalformedError("what a node shows is [1, envelope] or [2, signed request], or nothing")


def encode_standing(states: Iterable[tuple[bytes, int, int]], shown: Shown | None) -> bytes:
    """The answer to a request that was brought: how it stands, and what this node has instead, if it has."""
    return cbor.encode([encode_states(states), encode_shown(shown)])


def decode_standing(data: bytes) -> tuple[dict[bytes, int], Shown | None]:
    """States by area, and what is shown. Raises `MalformedError`."""
    match cbor.decode(data, size_bytes_max=SHOWN_BYTES_MAX):
        case [list(rows), shown]:
            return read_states(rows), read_shown(shown)
    raise MalformedError("how a request stands is [[[area's name, state, offers not answered], …], shown]")


def decode_claimed(data: bytes) -> Shown | None:
    """The answer to a claim: nothing, or why the request is not this practice's. Raises `MalformedError`."""
    return read_shown(cbor.decode(data, size_bytes_max=SHOWN_BYTES_MAX))
