"""Between a practice and its mediator, on the practice's side: it applies, and hears what was decided.

    office = Office(view, state, os.urandom, save)
    await office.apply({"name": "clinic-a", …}, [place], ["flu"])
    await office.receive()             "admitted", or a reason; also later, for new keys of its areas

Rules kept here: what the practice says of itself is sealed to every device of the mediator, and nobody else sees it; a
decision counts if a device signed it that the mediator's root vouches for; an application is sent again unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peewit_clients.backend import BackendError, UnreachableError
from peewit_clients.letters import Letters, Randomness
from peewit_clients.practice_state import FACTS, Item, PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_federation.appointment.applications import (
    WORK_BITS,
    WORK_BYTES,
    Application,
    Decision,
    Posted,
    decision_context,
    letter_context,
    read_decision,
    sign_for,
    signer_of,
)
from peewit_federation.appointment.mailbox import Terms
from peewit_federation.appointment.messages import practice_data
from peewit_federation.appointment.queue_api import Place
from peewit_federation.appointment.request import area_name
from peewit_federation.errors import ForgeryError, RefusedError, SenderError, UnknownError
from peewit_federation.keys import SigningKey, key_id, sha256
from peewit_federation.sealed import open_sealed, seal, xwing_public
from peewit_federation.statements.carried import Device
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment

LETTER_NODES = 2
KEYS_KEPT = 32
"Of one area: more weeks than anybody waits in rounds of a fortnight."
MAILBOX_S = 399 * 86_400


def devices(view: RegistryView, mediator: bytes) -> list[Device]:
    """The devices that may speak for a mediator now. Refresh the view before."""
    found = []
    for origin in sorted(view.registry.cuts.get(mediator, {})):
        device = view.registry.vouched.device(origin)
        if device is not None and view.registry.close_of(mediator, origin) is None:
            found.append(device)
    return found


def device_key(view: RegistryView, mediator: bytes, kid: bytes) -> bytes:
    """The log key of a device, by its id. Raises `ForgeryError`."""
    for device in devices(view, mediator):
        if key_id(device.log_key) == kid:
            return device.log_key
    raise ForgeryError("signed by a device that does not speak for this mediator")


def letter_nodes(view: RegistryView, mediator: bytes, areas: Sequence[bytes]) -> tuple[bytes, ...]:
    """Where a mediator writes to a practice of these areas: both sides find it from the log."""
    found: dict[bytes, None] = {}
    for area in areas:
        looked = view.finder.look(mediator, Catchment.KIND, area, int(view.clock()))
        statement = read_entry(view.standing_entry(looked) or b"", MEDIATOR_KINDS)
        if isinstance(statement, Catchment):
            found |= dict.fromkeys(statement.nodes[:LETTER_NODES])
    return tuple(found)[:4]


def work(letter: Posted, mediator: bytes) -> Posted:
    """The same letter, with the work that it costs done."""
    begun = letter.work_begun(mediator)
    for attempt in range(1 << 63):
        tried = begun.copy()
        tried.update(attempt.to_bytes(WORK_BYTES, "big"))
        if not int.from_bytes(tried.digest(), "big") >> (256 - WORK_BITS):
            return Posted(letter.copies, attempt.to_bytes(WORK_BYTES, "big"))
    raise AssertionError("unreachable")


async def post_letter(view: RegistryView, mediator: bytes, plain: bytes, but: bytes = b"") -> list[str]:
    """Seal a letter to all devices of a mediator (but one), and bring it to nodes; who took it.

    Raises `UnknownError` or `UnreachableError`.
    """
    keys = [device.encryption_key for device in devices(view, mediator) if device.log_key != but]
    if not keys:
        raise UnknownError("this mediator has no device that could open a letter; ask it, or refresh the view")
    copies = tuple((key_id(key), seal(key, plain, letter_context(mediator, key))) for key in keys)
    body = work(Posted(copies), mediator).encode()
    taken: list[str] = []
    refusals: list[str] = []
    for backend in view.pool.order():
        try:
            await view.pool.post(backend, f"/v1/letterboxes/{mediator.hex()}", body)
            taken.append(backend.name)
        except BackendError as error:
            refusals.append(f"{backend.name}: {error}")
        if len(taken) == LETTER_NODES:
            break
    if not taken:
        raise UnreachableError("no node took the letter: " + "; ".join(refusals))
    return taken


class Office:
    """One practice's correspondence with its mediator."""

    def __init__(
        self,
        view: RegistryView,
        state: PracticeState,
        randomness: Randomness,
        save: Callable[[Sequence[Item]], None] = lambda _: None,
        deal_with: Callable[[SigningKey, tuple[bytes, ...], list[bytes]], None] = lambda _key, _nodes, _messages: None,
    ) -> None:
        """`deal_with` has messages deleted when it is safe (`Practice.deal_with`); else they end by themselves."""
        self._deal_with = deal_with
        self._view = view
        self._state = state
        self._letters = Letters(view.pool, view.clock, randomness)
        self._save = save

    async def apply(
        self, data: dict[str, str], places: Sequence[Place], services: Sequence[str], code: str = ""
    ) -> list[str]:
        """Ask to be admitted; the nodes that took the application. May be repeated, also with other data."""
        state, view = self._state, self._view
        application = Application(
            state.mediator, state.key.public, xwing_public(state.encryption_seed),
            tuple(sorted({place.area for place in places})), tuple(sorted(set(services))), practice_data(data), code,
            int(view.clock()),
        )  # fmt: skip
        state.places, state.rejected = list(places), ""
        state.application = sign_for(application, state.key)
        self._save(state.changed((FACTS, b"")))
        await view.refresh([state.mediator])
        await self.open()
        return await post_letter(view, state.mediator, state.application)

    async def open(self) -> None:
        """Open the mailbox to which decisions come, or prolong it."""
        state = self._state
        origins = letter_nodes(self._view, state.mediator, [place.area for place in state.places])
        if not origins:
            raise UnknownError("these catchment areas are not known; look for them with `peewit user find`")
        until_s = int(self._view.clock()) + MAILBOX_S
        await self._letters.open_mailbox_at(state.key, origins, until_s, practices=True)

    async def receive(self) -> str:
        """Read the mediator's letters: "" if there were none, "admitted", "keys", or the reason of a rejection."""
        state, found = self._state, ""
        if not state.places:
            return ""  # nothing was applied for yet
        origins = letter_nodes(self._view, state.mediator, [place.area for place in state.places])
        terms = Terms(int(self._view.clock()) + MAILBOX_S, practices=True)
        messages = await self._letters.read(state.key, origins, terms)
        context = decision_context(key_id(state.key.public), xwing_public(state.encryption_seed))
        fresh = [message for message in messages if sha256(message) not in state.read]
        if fresh:
            # Whichever device wrote: it was vouched for before it did.
            await self._view.refresh([state.mediator])
        for message in fresh:
            state.read.append(sha256(message))
            try:
                found = self._take(open_sealed(state.encryption_seed, message, context)) or found
            except SenderError as error:
                self._view.pool.complain("the mediator's mailbox", str(error))
        if messages:
            self._save(state.changed((FACTS, b"")))
            self._deal_with(state.key, origins, messages)
        return found

    def _take(self, plain: bytes) -> str:
        state = self._state
        decision = read_decision(plain, device_key(self._view, state.mediator, signer_of(plain)))
        if decision.practice != key_id(state.key.public):
            raise ForgeryError("a decision on another practice")
        if not decision.admitted:
            state.rejected = decision.reason or "rejected without a reason"
            return state.rejected
        state.rejected = ""
        news = bool(decision.data) and decision.data != state.data
        self._learn(decision)
        return "admitted" if news else "keys"

    def _learn(self, decision: Decision) -> None:
        state = self._state
        if decision.data:
            if len(decision.salt) != 32:
                raise RefusedError("a decision without the salt of its commitment")
            state.data, state.salt = decision.data, decision.salt
        for area in dict.fromkeys(area for area, _ in decision.keys):
            name, current = area_name(state.mediator, area), self._current(area)
            told, held = [seed for of, seed in decision.keys if of == area], state.area_seeds.get(name, [])
            # Letters come in any order: one whose newest key we have is older than what we have.
            seeds = list(dict.fromkeys([*held, *told] if told[0] in held else [*told, *held]))
            state.area_seeds[name] = sorted(seeds, key=lambda seed: xwing_public(seed) not in current)[:KEYS_KEPT]

    def _current(self, area: bytes) -> set[bytes]:
        """The keys that the mediator names for an area now: whatever else we were told, theirs are kept."""
        found = self._view.finder.look(self._state.mediator, Catchment.KIND, area, int(self._view.clock()))
        statement = read_entry(self._view.standing_entry(found) or b"", MEDIATOR_KINDS)
        return {public for _, public in statement.keys} if isinstance(statement, Catchment) else set()
