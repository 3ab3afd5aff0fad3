"""Signed requests at a node: opened, checked against what was seen, and who their signer is to the registry."""

from __future__ import annotations

from aiohttp import web

from peewit_federation.appointment.envelope import ENVELOPE_BYTES_MAX, Envelope, Guard
from peewit_federation.appointment.queue_api import Place
from peewit_federation.errors import RefusedError
from peewit_federation.log.checkpoint import origin_hash, origin_of
from peewit_federation.registry.find import Finder, Found
from peewit_federation.registry.fold import Registry
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Provider
from peewit_node.checking.jobs import ENVELOPE
from peewit_node.http_server import read_body
from peewit_node.node_state import NodeState


class SignedDoor:
    """Where signed requests come in."""

    def __init__(self, state: NodeState, registry: Registry) -> None:
        self._state = state
        self._guard = Guard(state.operator.origin_hash, state.now())
        self._registry = registry
        self._finder = Finder(registry)

    async def open(self, request: web.Request) -> Envelope:
        """The envelope in a request's body. Raises `SenderError`s."""
        return (await self.open_signed(request))[0]

    async def open_signed(self, request: web.Request) -> tuple[Envelope, bytes]:
        """The envelope in a request's body, and its bytes, which prove to others what was said."""
        data = await self.read(request)
        envelope = await self._state.machine.check(ENVELOPE, data)
        self.admit(request, envelope)
        return envelope, data

    async def read(self, request: web.Request) -> bytes:
        """The bytes of an envelope, of which nothing is known yet."""
        return await read_body(request, ENVELOPE_BYTES_MAX, self._state.config.limits.request_timeout_s)

    def admit(self, request: web.Request, envelope: Envelope) -> None:
        """Raise unless an envelope that was checked is meant for this, and new."""
        self._guard.admit(envelope, request.method, request.path, self._state.now())

    def known(self, key: bytes) -> bool:
        """Whether a mediator has ever vouched for the practice with this key (its id)."""
        return bool(self._finder.everywhere(Provider.KIND, key, int(self._state.now())))

    def practices(self, key: bytes) -> list[Found]:
        """The grants by which the holder of a key (its id) may act as a practice now."""
        found = self._finder.everywhere(Provider.KIND, key, int(self._state.now()))
        return [item for item in found if item.verdict is Verdict.ACTIVE]

    def require_practice(self, place: Place, practice: bytes) -> None:
        """Raise `RefusedError` unless the holder of a key (its id) is a practice that is admitted to an area."""
        for found in self.practices(practice):
            if found.mediator == place.mediator and found.standing and place.area in found.standing.areas:
                return
        raise RefusedError("only a practice that is admitted to a catchment area speaks in its queue")

    def is_mediator(self, name: bytes) -> bool:
        """Whether there is a mediator with this id."""
        return name in self._registry.cuts

    def mediators(self, key: bytes) -> list[bytes]:
        """The mediators for which the holder of a log key (its public bytes) may speak: its device is not closed."""
        origin = origin_hash(origin_of(key))
        found = []
        for mediator, cuts in self._registry.cuts.items():
            if origin in cuts and self._registry.close_of(mediator, origin) is None:
                found.append(mediator)
        return found
