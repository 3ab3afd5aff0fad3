"""The people of a simulated federation: a health district that publishes, and clients that look.

Rules kept here: they use the real clients, on hosts of their own, and try again when something fails, as people do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from peewit_clients.backend import Backend, BackendError
from peewit_clients.closes import bring_branch, close_device, hand_in
from peewit_clients.device_log import ForkedDeviceError
from peewit_clients.device_state import DeviceState
from peewit_clients.identity import Identity, add_device, init_mediator
from peewit_clients.mediator import Mediator
from peewit_clients.plans import Plan
from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_clients.tables import CatchmentRow, ProviderRow
from peewit_clients.transport import Body
from peewit_federation.charter import Charter
from peewit_federation.errors import PeewitError
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.mediator import Catchment, Provider
from peewit_federation.statements.operator import Admission
from peewit_simulation.federation import Simulation
from peewit_simulation.history import Accepted, Said
from peewit_simulation.kernel.host import Host

POSTCODES: Final = ("10115", "10117", "10119")
WAIT_S: Final = 5.0


class WatchedPool(BackendPool):
    """A pool that also writes down what was acknowledged."""

    history: Any

    async def post(self, backend: Backend, path: str, body: Body) -> bytes:
        sent = b""

        def made() -> bytes:
            nonlocal sent
            sent = body() if callable(body) else body
            return sent

        try:
            receipt = await super().post(backend, path, made)
        except BackendError:
            self.history.failed += 1
            raise
        self.history.served += 1
        self.history.posts.append((path, sent))
        if path.endswith("/append"):
            self.history.receipt(backend.name, sent)
        return receipt

    async def fetch(self, backend: Backend, path: str, size_bytes_max: int = 16 << 20) -> bytes:
        try:
            found = await super().fetch(backend, path, size_bytes_max)
        except BackendError as error:
            self.history.failed += error.status != 404
            raise
        self.history.served += 1
        return found


def pool_of(sim: Simulation, host: Host, charter: Charter | None = None) -> WatchedPool:
    """A client's pool on a simulated host, which has this charter."""
    random = sim.world.stream("pool", host.name, host.life)
    pool = WatchedPool(charter or sim.charter, host.connector, host.monotonic, random)
    pool.history = sim.history
    return pool


class District:
    """A mediator with one device, that says something every few seconds."""

    def __init__(self, sim: Simulation, name: str = "district", pause_s: float = 6.0, *, closes: bool = True) -> None:
        self.sim = sim
        self.closes = closes
        self.pause_s = pause_s
        self.host = sim.add_host(name, f"127.2.0.{len(sim.hosts) % 200 + 1}")
        self.random = sim.world.stream("district", name)
        self.root = SigningKey(sim.seed_of(name, "root"))
        self.identity: Identity = init_mediator(self.host.folder, sim.seed_of(name, "root"), None)
        self.devices = 0
        self.device = ""
        self.subjects: dict[str, bytes] = {}
        "By name, those that were ever admitted."
        self.closing: bytes | None = None
        "The origin of a device that must be closed, because its key was stolen."
        self.done = False
        self.finished = False
        sim.people[name] = self.start
        self.new_device()

    def new_device(self) -> None:
        """A new device, vouched for by the root."""
        self.devices += 1
        self.device = f"desk-{self.devices}"
        seeds = tuple(self.sim.seed_of(self.host.name, self.device, part) for part in ("log", "encryption"))
        add_device(self.host.folder, self.device, self.root, (seeds[0], seeds[1]))

    @property
    def key(self) -> SigningKey:
        """The device's log key: what a thief would take."""
        return SigningKey(self.sim.seed_of(self.host.name, self.device, "log"))

    def admission(self) -> bytes:
        """What operators say to admit it."""
        return Admission(self.identity.id, (self.identity.root,), ("1",), ()).encode()

    def start(self) -> None:
        """Begin to work."""
        self.host.boot()
        self.host.spawn(self._work())

    def finish(self) -> None:
        """Say nothing new, and bring what was said to the nodes."""
        self.done = True

    async def _work(self) -> None:
        async with pool_of(self.sim, self.host) as pool:
            while not self.finished:
                try:
                    await self._day(pool)
                except PeewitError as error:
                    self.sim.world.note("district", type(error).__name__)
                await asyncio.sleep(self.pause_s * (0.5 + self.random.random()))

    async def _day(self, pool: BackendPool) -> None:
        if self.closing is not None:
            await self._close(pool, self.closing)
            return
        with self._state() as state:
            role = Mediator(
                self.host.folder, state, self.sim.charter, pool,
                clock=self.host.wall, random_bytes=self.random.randbytes,
            )  # fmt: skip
            try:
                await self._say(role)
            except ForkedDeviceError:
                self.sim.history.tell(f"{self.host.name} learns that its device's key was stolen")
                self.closing = role.log.origin if self.closes else None
                self.finished = not self.closes

    @contextmanager
    def _state(self) -> Iterator[DeviceState]:
        """The device's state, which a crash lets go of as the operating system would."""
        with DeviceState(self.host.folder / "devices" / self.device) as state:
            self.host.at_crash.append(state.close)
            try:
                yield state
            finally:
                self.host.at_crash.remove(state.close)

    async def _say(self, role: Mediator) -> None:
        planner = await role.prepare()
        plan, what, name = Plan(), "", ""
        area = role.state.subject(Catchment.KIND, "mitte")
        active = [n for n, s in self.subjects.items() if self._last(s) in ("admit", "suspend")]
        if self.done:
            pass
        elif area is None:
            row = CatchmentRow("mitte", POSTCODES, ("flu",), (), self.sim.names[:2], 400)
            plan = planner.catchments([row], lambda _: None)
        elif len(active) < 3 or self.random.random() < 0.4:
            name, what = f"practice-{len(self.subjects)}", "admit"
            key = SigningKey(self.sim.seed_of(name, "provider")).public
            sealed = xwing_public(self.sim.seed_of("any practice"))
            practice = ProviderRow(name, ("mitte",), ("flu",), key, sealed, 400, {})
            plan = planner.providers([practice], lambda _: area, readmit=False)
            self.subjects[name] = key_id(key)
        else:
            name = self.random.choice(active)
            subject, grant = role.provider(name)
            if self.random.random() < 0.6:
                what, plan = "revoke", planner.revoke(name, Provider.KIND, subject, 1)
            else:
                what, plan = "suspend", planner.suspend(name, Provider.KIND, subject, grant)
        if plan.statements:
            size = await role.log.commit(plan.statements, plan.names)
            if what:
                head = role.state.head()
                assert head is not None
                now_s, subject = self.sim.world.now_s, self.subjects[name]
                self.sim.history.said.append(Said(now_s, role.log.origin, size - 1, head.root, subject, what))
        progress = await role.log.publish(wait_s=WAIT_S)
        self.finished = self.done and progress.effective

    def _last(self, subject: bytes) -> str:
        return next((said.what for said in reversed(self.sim.history.said) if said.subject == subject), "")

    async def _close(self, pool: BackendPool, origin: bytes) -> None:
        view = RegistryView(self.sim.charter, pool, self.host.wall)
        await view.refresh([self.identity.id])
        with self._state() as state:
            entries = state.entries()
            statement, close = await close_device(view, self.identity, self.root, origin, entries=entries)
            taken, _ = await hand_in(pool, statement, 3)
            if close.size and not await bring_branch(pool, state, close, taken):
                return  # again, until somebody has it
        self.sim.history.tell(f"{self.host.name} closes the stolen device at {close.size} entries")
        self.sim.closed[origin] = entries
        self.closing = None
        self.new_device()


class Replayer:
    """A client that has recorded what others sent, and sends it again, to anybody, at any time."""

    def __init__(self, sim: Simulation, name: str = "replayer", pause_s: float = 1.0) -> None:
        self.sim = sim
        self.pause_s = pause_s
        self.host = sim.add_host(name, "127.5.0.1")
        self.random = sim.world.stream("replayer", name)

    def start(self) -> None:
        """Begin to replay."""
        self.host.boot()
        self.host.spawn(self._work())

    async def _work(self) -> None:
        async with BackendPool(self.sim.charter, self.host.connector, self.host.monotonic, self.random) as pool:
            while True:
                await asyncio.sleep(self.pause_s * self.random.random())
                posts = self.sim.history.posts
                if not posts:
                    continue
                path, body = self.random.choice(posts)
                try:
                    receipt = await pool.post(self.random.choice(pool.backends), path, body)
                    self.sim.world.note("replayed", path, len(receipt))
                except BackendError as error:
                    self.sim.world.note("replay refused", path, error.status)


class Patient:
    """A client that looks whether it may book, again and again."""

    def __init__(self, sim: Simulation, district: District, name: str = "patient", pause_s: float = 4.0) -> None:
        self.sim = sim
        self.district = district
        self.pause_s = pause_s
        self.host = sim.add_host(name, f"127.3.0.{len(sim.hosts) % 200 + 1}")
        self.random = sim.world.stream("patient", name)
        self.view: RegistryView | None = None
        self.host.folder.mkdir(exist_ok=True)
        sim.people[name] = self.start

    def start(self) -> None:
        """Begin to look."""
        self.host.boot()
        self.host.spawn(self._work())

    async def _work(self) -> None:
        async with pool_of(self.sim, self.host) as pool:
            self.view = RegistryView(self.sim.charter, pool, self.host.wall)
            while True:
                try:
                    await self._look(self.view)
                except PeewitError as error:
                    self.sim.history.refused += 1
                    self.sim.world.note("patient", type(error).__name__)
                await asyncio.sleep(self.pause_s * (0.5 + self.random.random()))

    async def _look(self, view: RegistryView) -> None:
        mediator = self.district.identity.id
        await view.refresh([mediator])
        fresh = view.freshness[mediator]
        for subject in self.district.subjects.values():
            found = view.finder.look(mediator, Provider.KIND, subject, int(self.host.wall()))
            if found.verdict is Verdict.ACTIVE:
                if fresh.may_book:
                    self.sim.history.accepted.append(Accepted(self.sim.world.now_s, self.host.name, subject))
                else:
                    self.sim.history.refused += 1
