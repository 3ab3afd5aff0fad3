"""Getting a place in the queue: admission by several nodes, and the ticket of the draw (design 4.5).

    place = await Admitter(view, os.urandom).get(request, "over80", with_code("ABCDE-…"))
    place.priority                     the same, whoever answered

Rules kept here: token keys and draw keys come from operators' logs that a quorum cosigned, never from whom is asked;
salts and factors are fresh for every signer. Nodes that admit see no `H`, those that draw no signup code; the draw goes
over connections of its own, first to members that will see `H` anyway, then to those that did not admit. Who sees
both ends of an address can still link the two, as long as nodes are not asked through one another. Who does not answer
is passed over, as long as enough do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from peewit_clients.backend import Backend, BackendError
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_clients.words import Said, said, told
from peewit_federation import cbor
from peewit_federation.charter import Operator
from peewit_federation.draw.api import (
    CODE,
    OPEN,
    UNKNOWN,
    UNSPENT,
    WORK,
    Conditions,
    DrawAnswer,
    DrawAsk,
    TokenAsk,
    code_at,
    decode_look,
    work_done,
)
from peewit_federation.draw.blind_rsa import SALT_BYTES, Blinded, TokenPublicKey
from peewit_federation.draw.schedule import Schedule
from peewit_federation.draw.tickets import Ticket, join
from peewit_federation.errors import ForgeryError, MalformedError, RefusedError, SenderError, UnknownError

Randomness = Callable[[int], bytes]
Prove = Callable[[Operator, TokenAsk, Conditions], Awaitable[TokenAsk]]
"Adds the proof of admission that a node asks for."
TRIES_PER_TURN: Final = 4096
Asked = tuple[bytes, bytes, int, str]
"Request, node, round and group."


@dataclass(frozen=True)
class Place:
    """A place in the queue, with all that proves it to anybody."""

    request: bytes
    "H."
    round: int
    group: str
    tokens: tuple[tuple[bytes, bytes], ...]
    "(origin hash, signature) of the operators that admitted."
    ticket: Ticket
    priority: bytes


class Admitter:
    """Asks nodes for admission and for the draw."""

    def __init__(
        self,
        view: RegistryView,
        randomness: Randomness,
        asked: dict[Asked, tuple[Blinded, TokenAsk]] | None = None,
        save: Callable[[], None] = lambda: None,
        near: Container[bytes] = (),
        found: dict[Asked, bytes] | None = None,
    ) -> None:
        """`asked` is what was asked before, and `found` the tokens that came of it; `save` is called whenever they
        change, before anything is sent.

        `near`: operators whose nodes will see `H` anyway; they are asked to draw before others.
        """
        self._view = view
        self._pool: BackendPool = view.pool
        self._rounds = view.registry.rounds
        self._randomness = randomness
        self.asked = {} if asked is None else asked
        """What nodes were asked, for a code counts again only for the same bytes."""
        self.found = {} if found is None else found
        self._unanswered = set(self.asked)
        self._offers: dict[str, Conditions] = {}
        self._save = save
        self._near = near

    @property
    def _schedule(self) -> Schedule:
        schedule = self._view.charter.schedule
        if schedule is None:
            raise UnknownError("the charter of this federation has no draw")
        return schedule

    async def get(self, request: bytes, group: str, prove: Prove) -> Place:
        """A place for a request hash. Refresh the view before.

        Raises `UnreachableError` or `RefusedError` saying what each node did.
        """
        now_s = self._view.clock()
        number = self._rounds.open_round(self._schedule, now_s)
        if number is None:
            raise RefusedError(said("error_no_round"))
        for before in sorted({n for h, _, n, g in self.found if (h, g) == (request, group) and n < number}):
            # Admitted at the end of a round, and cut short: for a while it is still drawn.
            held = tuple(
                (o, token) for (h, o, n, g), token in self.found.items() if (h, n, g) == (request, before, group)
            )
            with suppress(RefusedError):
                return await self.draw(request, before, group, held)
        tokens = await self.tokens(request, number, group, prove)
        return await self.draw(request, number, group, tokens)

    async def tokens(self, request: bytes, number: int, group: str, prove: Prove) -> tuple[tuple[bytes, bytes], ...]:
        """Signatures of as many operators as the threshold says."""
        wanted = self._schedule.seats_of(number).committee.threshold
        await self._look(request, number, group, prove, wanted)
        found: list[tuple[bytes, bytes]] = []
        refusals: list[Said | str] = []
        later = False
        for backend in self._strangers():
            operator = backend.operator
            key = self._rounds.token_key(operator.origin_hash, number, group)
            if not operator.votes or key is None:
                continue
            try:
                found.append((operator.origin_hash, await self._token(backend, key, request, number, group, prove)))
            except BackendError as error:
                later = later or not 400 <= error.status < 500
                refusals.append(f"{operator.name}: {error}")
            except RefusedError as error:
                refusals.append(told(error))
            except (ForgeryError, MalformedError) as error:
                self._pool.complain(operator.name, f"a token: {error}")
                refusals.append(f"{operator.name}: {error}")
            if len(found) == wanted:
                return tuple(found)
        others = refusals or said("error_no_key", group=group, round=number)
        line = "error_admitted_later" if later else "error_admitted"
        raise RefusedError(said(line, count=len(found), wanted=wanted, why=others))

    def _strangers(self) -> list[Backend]:
        """Nodes in the order in which they are asked to admit: those first that will not see `H` anyway."""
        return sorted(self._pool.order(), key=lambda b: (self._pool.broken(b), b.operator.origin_hash in self._near))

    async def _look(self, request: bytes, number: int, group: str, prove: Prove, wanted: int) -> None:
        """Before a code is spent anywhere: raise `RefusedError` if too few of its nodes can be reached now.

        A round may end before they are back, and a code that is spent in one admits to no other.
        """
        if not isinstance(prove, Code):
            return
        asked, reached, unspent = False, True, 0
        others: list[Said | str] = []
        for backend in self._strangers():
            operator = backend.operator
            name = request, operator.origin_hash, number, group
            if not operator.votes or self._rounds.token_key(operator.origin_hash, number, group) is None:
                continue
            asked = asked or name in self.asked
            try:
                stands = await self._stands(backend, name, prove)
            except BackendError as error:
                reached = reached and 400 <= error.status < 500
                others.append(f"{operator.name}: {error}")
                continue
            except SenderError as error:
                self._pool.complain(operator.name, f"a look at a code: {error}")
                continue
            unspent += stands == UNSPENT
            others += [said("error_code_unknown", node=operator.name)] if stands == UNKNOWN else []
            if unspent == wanted:
                return
        if not asked and (unspent or not reached):
            raise RefusedError(said("error_code_later", count=unspent, wanted=wanted, why=others))

    async def _stands(self, backend: Backend, name: Asked, prove: Code) -> int:
        """How a code stands at a node; one that asks for none admits anyway."""
        _, _, number, group = name
        if name in self.asked or name in self.found:
            return UNSPENT  # by us, for this
        offer = await self._offer(backend)
        if offer.kind != CODE:
            return UNSPENT
        ask = await prove(backend.operator, TokenAsk(number, group, b""), offer)
        return decode_look(await self._pool.post(backend, "/v1/tokens/look", ask.encode()))

    async def _offer(self, backend: Backend) -> Conditions:
        """What a node asks for."""
        if backend.name not in self._offers:
            self._offers[backend.name] = Conditions.decode(await self._pool.fetch(backend, "/v1/admission"))
        return self._offers[backend.name]

    async def _token(
        self, backend: Backend, key: TokenPublicKey, request: bytes, number: int, group: str, prove: Prove
    ) -> bytes:
        name = request, backend.operator.origin_hash, number, group
        if name in self.found:
            return self.found[name]
        if name not in self.asked:
            blinded = key.blind(request, self._randomness(SALT_BYTES), self._randomness(key.size_bytes))
            await self._prove(backend, name, blinded, prove)
        blinded, ask = self.asked[name]
        try:
            answer = await self._ask(backend, name)
        except BackendError as error:
            if not 400 <= error.status < 500 or name not in self._unanswered:
                raise
            # Perhaps another code was typed when it was asked first.
            await self._prove(backend, name, blinded, prove)
            if self.asked[name] == (blinded, ask):
                raise
            self._unanswered.discard(name)
            answer = await self._ask(backend, name)
        match cbor.decode(answer, size_bytes_max=1024):
            case [bytes(signature)]:
                self.found[name] = key.finalize(request, signature, blinded)
                self._save()
                return self.found[name]
        raise MalformedError("not an answer with a blind signature")

    async def _prove(self, backend: Backend, name: Asked, blinded: Blinded, prove: Prove) -> None:
        _, _, number, group = name
        offer = await self._offer(backend)
        self.asked[name] = blinded, await prove(backend.operator, TokenAsk(number, group, blinded.data), offer)
        self._save()

    async def _ask(self, backend: Backend, name: Asked) -> bytes:
        try:
            return await self._pool.post(backend, "/v1/tokens", self.asked[name][1].encode())
        except BackendError as error:
            if not 400 <= error.status < 500:
                self._unanswered.add(name)
            elif name not in self._unanswered:
                del self.asked[name]  # a plain refusal: nothing was spent on it
                self._save()
            raise

    async def draw(self, request: bytes, number: int, group: str, tokens: Sequence[tuple[bytes, bytes]]) -> Place:
        """The ticket of an admitted request: proofs of several members, each asked until there is one for every key."""
        seats = self._schedule.seats_of(number)
        publics = self._rounds.keys(seats, number)
        if publics is None:
            raise RefusedError(f"round {number} is not open")
        await self._pool.reconnect()
        admitted = {origin for origin, _ in tokens}
        body = DrawAsk(request, number, group, tuple(tokens)).encode()
        parts: list[Mapping[int, bytes]] = []
        refusals: list[str] = []
        order = sorted(
            self._pool.order(),
            key=lambda b: (b.operator.origin_hash not in self._near, b.operator.origin_hash in admitted),
        )
        for backend in order:
            if backend.name not in seats.committee.members:
                continue
            try:
                answer = DrawAnswer.decode(await self._pool.post(backend, "/v1/draw", body))
            except BackendError as error:
                refusals.append(f"{backend.name}: {error}")
                continue
            except SenderError as error:
                self._pool.complain(backend.name, f"the draw: {error}")
                continue
            parts.append(dict(answer.proofs))
            try:
                ticket = join(request, publics, parts)
            except SenderError:
                continue
            return Place(request, number, group, tuple(tokens), ticket, ticket.priority(request, publics))
        raise RefusedError(said("error_no_draw", why="; ".join(refusals or ["none answered"])))


@dataclass(frozen=True)
class Code:
    """A signup code, as what nodes are given that ask for one; work is done where it is asked for."""

    code: str = field(repr=False)

    async def __call__(self, operator: Operator, ask: TokenAsk, offer: Conditions) -> TokenAsk:
        if offer.kind != CODE:
            return await with_work(operator, ask, offer)
        return TokenAsk(ask.round, ask.group, ask.blinded, CODE, code_at(self.code, operator.origin_hash))


def with_code(code: str) -> Prove:
    """For nodes that ask for a signup code. Raises `MalformedError`."""
    try:
        code_at(code, bytes(32))  # a mistyped code is refused before anybody is asked
    except MalformedError:
        raise MalformedError(said("error_code_letters")) from None
    return Code(code)


async def with_work(operator: Operator, ask: TokenAsk, offer: Conditions) -> TokenAsk:
    """For nodes that ask for nothing, or for a proof of work."""
    if offer.kind == CODE:
        raise RefusedError(said("error_code_needed", node=operator.name))
    if offer.kind == OPEN:
        return ask
    for attempt in range(1 << 63):
        nonce = attempt.to_bytes(8, "big")
        if work_done(operator.origin_hash, ask.round, ask.group, ask.blinded, nonce) >= offer.work_bits:
            return TokenAsk(ask.round, ask.group, ask.blinded, WORK, nonce)
        if attempt % TRIES_PER_TURN == 0:
            await asyncio.sleep(0)
    raise AssertionError("unreachable")
