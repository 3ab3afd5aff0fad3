"""A simulated town: a district that admits practices, an area, people, and who cheats.

Rules kept here: everybody has a host of their own; `open` waits until a round is open. Who lives there is in
`residents`, who cheats in `cheats`; what goes wrong is decided in `bookings`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from peewit_clients.device_state import DeviceState
from peewit_clients.mediator import Mediator
from peewit_clients.practice import Practice
from peewit_clients.tables import CatchmentRow, ProviderRow
from peewit_clients.user_state import UserState
from peewit_federation.appointment.queue_api import Place
from peewit_federation.sealed import xwing_public
from peewit_simulation.actors import POSTCODES, District, pool_of
from peewit_simulation.cheats import Colluders, Hoarder
from peewit_simulation.federation import Simulation
from peewit_simulation.residents import GROUP, Clinic, Patient

CLINICS, PEOPLE = 2, 5
SLOTS_EACH: Final = 3
OPENING_S: Final = 120.0
MakePractice = Callable[..., Practice]


class Town:
    """Everybody."""

    def __init__(
        self, sim: Simulation, practice: MakePractice = Practice,
        clinics: int = CLINICS, people: int = PEOPLE, slots_each: int = SLOTS_EACH, turn_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`turn_s`: when a round ends, in seconds of the world."""
        self.sim = sim
        self.turn_s = turn_s
        self.colluders: Colluders | None = None
        "Operators whose friend is the first of the people."
        self.hoarder: Hoarder | None = None
        self.practice = practice
        self.sizes = clinics, people
        self.slots_each = slots_each
        self.district = District(sim)
        self.place = Place(self.district.identity.id, bytes(16))
        self.leaks: list[str] = []

    def open(self, *, live: bool = True) -> None:
        """Start nodes, admit the district, publish an area and practices, and wait until a round is open.

        People and practices live by themselves, unless somebody else moves them (`live`).
        """
        sim, district = self.sim, self.district
        sim.start()
        sim.run(OPENING_S, lambda: len(sim.nodes) == len(sim.names))
        for name in sim.names[:2]:
            sim.on(name, sim.nodes[name].own.append(district.admission()))
        sim.run(OPENING_S, lambda: all(
            district.identity.id in node.keeper.registry.admissions for node in sim.nodes.values()
        ))  # fmt: skip
        district.host.boot()
        self.clinics = [Clinic(self, number) for number in range(self.sizes[0])]
        secrets, area_seed, area = self._on_district(self._publish())
        self.place = Place(district.identity.id, area)
        self.people = [Patient(self, number) for number in range(self.sizes[1])]
        assert sim.run(OPENING_S, self._round_is_open), "no round was opened"
        for clinic, secret in zip(self.clinics, secrets, strict=True):
            clinic.admitted(secret, area_seed)
        for person in self.people:
            person.prepare(self._grind if person is self.people[0] else None)
        if self.turn_s:
            self.hoarder = Hoarder(self)
        for actor in (*self.clinics, *self.people, *([self.hoarder] if self.hoarder else ())) if live else ():
            actor.start()

    def _grind(self, state: UserState) -> None:
        if self.colluders is not None:
            self.colluders.grind(state)

    @property
    def served(self) -> bool:
        """Whether everybody has an appointment and heard of it, and every practice knows of what it decided."""
        return all(person.greeted for person in self.people) and all(clinic.remembers for clinic in self.clinics)

    def _on_district(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.sim.on(self.district.host.name, work, OPENING_S)

    async def _publish(self) -> tuple[list[bytes], bytes, bytes]:
        district, sim = self.district, self.sim
        async with pool_of(sim, district.host) as pool:
            with DeviceState(district.host.folder / "devices" / district.device) as device:
                role = Mediator(
                    district.host.folder, device, sim.charter, pool,
                    clock=district.host.wall, random_bytes=district.random.randbytes,
                )  # fmt: skip
                planner = await role.prepare()
                row = CatchmentRow("mitte", POSTCODES, ("flu",), (GROUP,), sim.names[:2], 400)
                plan = planner.catchments([row], lambda _: None)
                ((_, _, area, area_seed),) = plan.names
                rows = [
                    ProviderRow(
                        clinic.host.name, ("mitte",), ("flu",), clinic.state.key.public,
                        xwing_public(clinic.state.encryption_seed), 400, {"name": clinic.host.name},
                    )
                    for clinic in self.clinics
                ]  # fmt: skip
                admitted = planner.providers(rows, lambda _: area, readmit=False)
                plan.statements += admitted.statements
                progress = await role.publish(plan, wait_s=60)
                assert progress.effective, progress.words()
                return [secret for _, _, _, secret in admitted.names], area_seed, area

    def _round_is_open(self) -> bool:
        schedule = self.sim.charter.schedule
        assert schedule is not None
        now_s = self.district.host.wall()
        return all(
            (number := node.keeper.registry.rounds.open_round(schedule, now_s)) is not None
            and all(
                node.keeper.registry.rounds.token_key(o.origin_hash, number, group)
                for o in self.sim.charter.operators
                for group in ("", GROUP)
            )
            for node in self.sim.nodes.values()
        )
