"""Admission and the draw: `/v1/admission`, `/v1/tokens`, `/v1/draw`, and keys for members of the committee.

GET  /v1/admission                                        what this node asks for, and the open round
POST /v1/tokens                                           a blind signature for an admission
POST /v1/tokens/look                                      how a signup code stands, before it is spent anywhere
POST /v1/draw                                             a member's proofs for a request that was admitted
GET  /federation/v1/draw-keys/<round>/<place>/<public>/<origin>    a key, sealed to a member (design 4.5)

Nothing here stores or logs who asked, or `H`.
"""

from __future__ import annotations

import re
from random import Random

from aiohttp import web

from peewit_federation import cbor
from peewit_federation.api import CONTENT_TYPE
from peewit_federation.draw.api import ASK_BYTES_MAX, Conditions, DrawAnswer, DrawAsk, TokenAsk
from peewit_federation.draw.blind_rsa import TokenKey
from peewit_federation.draw.hours import Hours
from peewit_federation.draw.schedule import Schedule
from peewit_federation.errors import MalformedError, RefusedError, UnknownError
from peewit_federation.registry.fold import Registry
from peewit_node.draw.admission import Admission
from peewit_node.draw.draw_keys import DrawKeys
from peewit_node.draw.token_keys import TokenKeys
from peewit_node.http_server import read_body
from peewit_node.node_state import NodeState
from peewit_node.routes_log import parse_hash


class DrawRoutes:
    """Answers clients that want a place in the queue, and members of the committee."""

    def __init__(
        self, state: NodeState, registry: Registry, hours: Hours, tokens: TokenKeys, keys: DrawKeys,
        admission: Admission, random: Random,
    ) -> None:  # fmt: skip
        self._state = state
        self._registry = registry
        self._hours = hours
        self._tokens = tokens
        self._keys = keys
        self._admission = admission
        self._random = random

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/admission", self.offer),
            web.post("/v1/tokens", self.token),
            web.post("/v1/tokens/look", self.look),
            web.post("/v1/draw", self.draw),
            web.get("/federation/v1/draw-keys/{round}/{place}/{public}/{origin}", self.hand_over),
        ]

    def _schedule(self) -> Schedule:
        schedule = self._state.charter.schedule
        if schedule is None:
            raise UnknownError("the charter of this federation has no draw")
        return schedule

    async def offer(self, _: web.Request) -> web.Response:
        number = self._hours.look(self._schedule(), self._state.now())
        settings = self._state.config.admission
        groups = [group for group in ("", *settings.groups) if number is not None and self._tokens.get(number, group)]
        return _cbor(
            Conditions(
                self._admission.kind, settings.work_bits, -1 if number is None else number, tuple(groups)
            ).encode()
        )

    async def token(self, request: web.Request) -> web.Response:
        ask = TokenAsk.decode(await read_body(request, ASK_BYTES_MAX, self._state.config.limits.request_timeout_s))
        key = self._key(ask)
        key.public.number(ask.blinded)
        await self._admission.admit(ask)
        return _cbor(cbor.encode([key.blind_sign(ask.blinded, self._random.randbytes(key.public.size_bytes))]))

    async def look(self, request: web.Request) -> web.Response:
        ask = TokenAsk.decode(await read_body(request, ASK_BYTES_MAX, self._state.config.limits.request_timeout_s))
        self._key(ask)  # who is told that a code is good spends it
        return _cbor(cbor.encode(await self._admission.look(ask)))

    def _key(self, ask: TokenAsk) -> TokenKey:
        """Of the round and group that somebody asks for. Raises `RefusedError` if this node does not admit to it."""
        self._hours.require(self._schedule(), ask.round, self._state.now(), admitting=True)
        key = self._tokens.get(ask.round, ask.group)
        if key is None:
            raise RefusedError(f"this node has no key for group {ask.group!r} in round {ask.round}")
        return key

    async def draw(self, request: web.Request) -> web.Response:
        ask = DrawAsk.decode(await read_body(request, ASK_BYTES_MAX, self._state.config.limits.request_timeout_s))
        schedule = self._schedule()
        publics = self._hours.require(schedule, ask.round, self._state.now())
        seats = schedule.seats_of(ask.round)
        self._registry.rounds.require_tokens(
            ask.request, ask.round, ask.group, ask.tokens, seats, self._state.charter.admitters
        )
        found = self._keys.prove(seats, ask.round, publics, ask.request)
        if not found:
            raise UnknownError(f"this node is no member of round {ask.round}'s committee, or has lost its keys")
        return _cbor(DrawAnswer(tuple(found)).encode())

    async def hand_over(self, request: web.Request) -> web.Response:
        number, place = (_number(request.match_info[name]) for name in ("round", "place"))
        public, asker = (parse_hash(request.match_info[name]) for name in ("public", "origin"))
        return _cbor(self._keys.hand_over(self._schedule(), number, place, public, asker))


def _number(text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,9}", text, re.ASCII):
        raise MalformedError("rounds and places are numbers")
    return int(text)


def _cbor(data: bytes) -> web.Response:
    return web.Response(body=data, content_type=CONTENT_TYPE)
