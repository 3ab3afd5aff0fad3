"""Who cheats in the draw: operators who pool their keys to choose an `H` for a friend, and somebody with old tokens.

    colluders.grind(state)     of many `H`, the one that they expect to come first

Rules kept here: they are real operators and a real client; they know what their own nodes hold, and nothing else. For
keys that they lack they can only leave the outputs out. What must hold is judged in `checkers.draws`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from peewit_clients.place import Admitter, with_work
from peewit_clients.registry_view import RegistryView
from peewit_clients.user_state import UserState
from peewit_federation.appointment.request import area_name, claim_hash
from peewit_federation.draw.hashes import NONCE_BYTES, data_hash, request_hash
from peewit_federation.draw.schedule import Schedule
from peewit_federation.draw.vrf import VrfKey, output
from peewit_federation.errors import PeewitError
from peewit_federation.keys import key_id, sha256
from peewit_simulation.federation import Simulation
from peewit_simulation.residents import Actor

if TYPE_CHECKING:
    from peewit_simulation.town import Town

TRIES: Final = 48
"`H` that colluders look at."
FAILURES: Final = 3
"So often somebody with old tokens asks."
MARGIN_S: Final = 15.0
"Clocks of nodes are off by so much at most."


class Colluders:
    """Operators who show each other their nodes' databases."""

    def __init__(self, sim: Simulation, names: tuple[str, ...]) -> None:
        self._sim = sim
        self.names = names
        self._keys: dict[tuple[int, bytes, int], VrfKey] = {}
        "By round, committee and place."
        self.friend = b""
        "The `H` that they chose."
        self.forecast = b""
        "Of what they hope for: its priority."

    def learn(self) -> None:
        """Read what their nodes have stored."""
        for name in self.names:
            engine = self._sim.nodes[name].engine
            for number, committee, place, _, seed in self._sim.on(name, engine.fetch("SELECT * FROM draw_keys")):
                self._keys[number, committee, place] = VrfKey(seed)

    def rounds(self) -> set[int]:
        """Those of which they hold every key."""
        schedule = self._sim.charter.schedule
        assert schedule is not None
        return {number for number, _, _ in self._keys if None not in self._held(number)}

    def _held(self, number: int) -> list[VrfKey | None]:
        schedule = self._sim.charter.schedule
        assert schedule is not None
        seats = schedule.seats_of(number)
        return [self._keys.get((number, seats.digest, place)) for place in range(len(seats.committee.sets))]

    def grind(self, state: UserState) -> None:
        """Choose the nonce with which a friend comes first in the open round, as far as they can see."""
        self.learn()
        node, schedule = self._sim.nodes[self.names[0]], self._sim.charter.schedule
        assert schedule is not None
        number = node.keeper.registry.rounds.open_round(schedule, node.state.now())
        assert number is not None, "no round is open"
        areas, random = [area_name(*area) for area in state.areas], self._sim.world.stream("colluders")
        keys, found = self._held(number), []
        for _ in range(TRIES):
            nonce = random.randbytes(NONCE_BYTES)
            data = data_hash(state.person, nonce)
            name = request_hash(areas, key_id(state.key.public), claim_hash(state.claim), data)
            outputs = [output(key.prove(name)) for key in keys if key is not None]
            found.append((sha256(b"peewit priority v1", *outputs), nonce, name))
        self.forecast, state.nonce, self.friend = min(found)


class Hoarder(Actor):
    """Has itself admitted in a round, and asks for a place when that round is closed."""

    def __init__(self, town: Town) -> None:
        super().__init__(town, "hoarder", "127.8.0.1")
        self._request = self.sim.seed_of("hoarder", "H")
        self._tokens: tuple[tuple[bytes, bytes], ...] = ()
        self.round = -1
        self._closed_s: float | None = None
        "Since when every node has seen a later one open."
        self.refused = 0
        "So often, after that and the grace."
        self.drawn = False

    @property
    def done(self) -> bool:
        """Whether it has been told often enough."""
        return self.refused >= FAILURES or self.drawn

    async def step(self, view: RegistryView) -> None:
        schedule, rounds = view.charter.schedule, view.registry.rounds
        assert schedule is not None
        admitter = Admitter(view, self.random.randbytes)
        if not self._tokens:
            number = rounds.open_round(schedule, view.clock())
            if number is not None:
                self._tokens = await admitter.tokens(self._request, number, "", with_work)
                self.round = number
        elif not self.done and self._closed(schedule):
            try:
                await admitter.draw(self._request, self.round, "", self._tokens)
            except PeewitError:
                self.refused += 1
            else:
                self.drawn = True

    def _closed(self, schedule: Schedule) -> bool:
        """Whether every node has had its grace since it saw a later round open."""
        seen = [
            node.keeper.registry.rounds.open_round(schedule, node.state.now()) or 0 for node in self.sim.nodes.values()
        ]
        if self._closed_s is None and len(seen) == len(self.sim.names) and min(seen) > self.round:
            self._closed_s = self.sim.world.now_s
        # A node that starts in the grace of a round draws it for as long from then on.
        grace_s = 2 * schedule.grace_s + MARGIN_S
        return self._closed_s is not None and self.sim.world.now_s > self._closed_s + grace_s
