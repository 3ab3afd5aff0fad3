"""Nodes that hold a queue and lie about it: what one of them must not be able to do to anybody.

    favour     hands out whoever comes last, and nobody else
    deny       says of every claim that another practice has the request
    swallow    says thank you for requests, and keeps none
    slander    tells the other nodes of claims and offers that no practice made

Rules kept here: as in `liars`; a node lies until it is started again.
"""

from __future__ import annotations

from typing import Any, Final

from peewit_federation.appointment.envelope import NONCE_BYTES, Envelope
from peewit_federation.appointment.queue_api import Place, encode_claim, encode_offered
from peewit_federation.appointment.request import open_request
from peewit_federation.appointment.spoken import CLAIM_PATH, OFFERED_PATH, SAID, Shown
from peewit_node.node import Node
from peewit_simulation.federation import Simulation

QUEUE_LIES: Final = ("favour", "deny", "swallow", "slander")
SLANDER_S: Final = 3600


def corrupt_queue(sim: Simulation, name: str, lie: str) -> None:
    """Make a running node lie about its queues from now on."""
    node = sim.nodes.get(name)
    if node is None:
        return
    sim.history.tell(f"{name} begins to lie about its queue: {lie}")
    {"favour": _favour, "deny": _deny, "swallow": _swallow, "slander": _slander}[lie](node)


def _favour(node: Node) -> None:
    async def draw(area: bytes, *_: object) -> list[bytes]:
        last = "SELECT body FROM requests WHERE area = ? AND state = 0 ORDER BY rank DESC, round DESC, priority DESC"
        return [body for (body,) in await node.engine.fetch(last, area)][:1]

    node.queues.draw = draw  # type: ignore[method-assign, assignment]


def _deny(node: Node) -> None:
    async def claim(_: object) -> Shown:
        return SAID, b"another has it"

    node.queues.claim = claim  # type: ignore[method-assign, assignment]


def _swallow(node: Node) -> None:
    async def take(_: bytes) -> tuple[list[Any], None]:
        return [], None

    node.queues.take = take  # type: ignore[method-assign, assignment]


def _slander(node: Node) -> None:
    """Whatever it tells, it says that somebody claimed it, or made an offer; it has no key but its own."""
    real, key = node.queues.after, node.state.log_key

    def made_up(number: int, body: bytes) -> bytes:
        request, now_s = open_request(body), int(node.state.now())
        place = Place(*request.areas[0])
        told = (CLAIM_PATH, encode_claim(place, request.name, bytes(32)))
        if number % 2:
            told = (OFFERED_PATH, encode_offered(place, request.name, now_s + SLANDER_S))
        nonce, origin = number.to_bytes(NONCE_BYTES, "big"), node.state.operator.origin_hash
        return Envelope("POST", told[0], origin, 1000 * now_s, nonce, key.public, told[1]).sign(key)

    async def after(change: int, count: int) -> list[tuple[int, bytes, bytes]]:
        return [(number, body, made_up(number, body)) for number, body, _ in await real(change, count)]

    node.queues.after = after  # type: ignore[method-assign]
