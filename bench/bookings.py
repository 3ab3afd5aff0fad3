"""Whole bookings: how many per second over real nodes, and how long one takes when a node is dead.

python -m bench.bookings
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import date
from pathlib import Path
from statistics import median

from tests.clients.surgery import Surgery, slot

from bench.kit import cpu_s, node_process
from peewit_clients.charters import usual_draw
from peewit_clients.office import Office
from peewit_clients.place import with_work
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.registry_view import RegistryView
from peewit_clients.serve import Server, ServeSettings
from peewit_clients.user import User
from peewit_clients.user_state import Standing, UserState
from peewit_federation.draw.hashes import Person
from peewit_federation.errors import PeewitError
from peewit_simulation.actors import pool_of
from peewit_simulation.federation import Simulation
from peewit_simulation.kernel.network import Conditions
from peewit_simulation.residents import Clinic, Patient
from peewit_simulation.town import Town

NODES = tuple(f"n{number:03}" for number in range(4))
PEOPLE = 25
LINK = Conditions(latency_s=0.03, jitter_s=0.003)
ALIVE, KILLED, SILENT = "all alive", "one killed", "one that swallows what is sent to it"


async def serve(clinic: Clinic) -> None:
    """A practice that is always at work."""
    async with pool_of(clinic.sim, clinic.host) as pool:
        view = RegistryView(clinic.sim.charter, pool, clinic.host.wall)
        while True:
            with suppress(PeewitError):  # its area may not be effective yet
                await view.refresh([clinic.town.place.mediator])
                await clinic.step(view)
            await asyncio.sleep(0.1)


async def book(person: Patient) -> list[tuple[str, float]]:
    """From an empty device to a confirmed appointment; when each step was done."""
    loop, steps = asyncio.get_running_loop(), []
    start_s = loop.time()
    async with pool_of(person.sim, person.host) as pool:
        view = RegistryView(person.sim.charter, pool, person.host.wall)
        await view.refresh([person.town.place.mediator])
        steps.append(("registry", loop.time() - start_s))
        while not person.booked:
            await person.step(view)
            saved = person.saved
            if len(steps) == 1 and saved and saved.request:
                steps.append(("request", loop.time() - start_s))
            if len(steps) == 2 and saved and saved.chosen:
                steps.append(("choice", loop.time() - start_s))
            await asyncio.sleep(0.1)
    steps.append(("booked", loop.time() - start_s))
    return steps


def bookings(seed: int, what: str) -> list[list[tuple[str, float]]]:
    """Some people, one after the other; with each seed another node is dead all the time."""
    gc.disable()
    with Simulation(seed, 4, conditions=LINK, freshness_s=(300, 3600), draw=usual_draw(NODES)) as sim:
        town = Town(sim, clinics=1, people=PEOPLE, slots_each=PEOPLE)
        town.open(live=False)
        (clinic,) = town.clinics
        clinic.host.boot()
        clinic.host.spawn(serve(clinic))
        sim.run(5)
        dead = NODES[seed % len(NODES)]
        if what == KILLED:
            sim.hosts[dead].crash()
        if what == SILENT:
            sim.network.cut(pair for name in sim.hosts for pair in ((name, dead), (dead, name)))
        sim.run(20)
        found = []
        for person in town.people:
            person.host.boot()
            found.append(sim.on(person.host.name, book(person), 600))
            sim.run(1)
        return found


def measured(what: str) -> list[list[tuple[str, float]]]:
    """A hundred bookings; each of the nodes is the dead one for a quarter."""
    tasks = [(seed, what) for seed in range(4)]
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        return [steps for found in pool.starmap(bookings, tasks, chunksize=1) for steps in found]


async def whole(folder: Path, people: int, at_once: int) -> tuple[str, str, str]:
    """Real processes: people, eight at once, each with a device of its own, and two practices, over four nodes."""
    surgery = await Surgery.open(folder)
    configs, charter = surgery.federation.configs, surgery.federation.nodes["north"].state.charter
    await surgery.federation.stop()
    env = {"PEEWIT_NODE_ADMISSION__KIND": "open", "PEEWIT_NODE_ADMISSION__PER_MINUTE": "100000"}
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(node_process(folder / name / "node.toml", config.listen, env))
            for name, config in configs.items()
        ]
        booked: dict[str, bytes] = {}
        gate, done = asyncio.Semaphore(at_once), asyncio.Event()

        @asynccontextmanager
        async def view() -> AsyncIterator[RegistryView]:
            async with BackendPool(charter) as pool:
                yield RegistryView(charter, pool)

        async def practice(name: str) -> Practice:
            async with view() as found:
                works = surgery.practice(found, name)
                works.state.places = [surgery.place]
                works.state.calendar = {slot(n, name).name: slot(n, name) for n in range(people)}
                server = Server(works, Office(found, works.state, os.urandom), ServeSettings(slots_per_offer=1))
                while not done.is_set():
                    await server.turn()
                    await asyncio.sleep(0.05)
            return works

        async def person(number: int) -> None:
            async with gate, view() as found:
                await found.refresh([surgery.mediator.id])
                areas = ((surgery.place.mediator, surgery.place.area),)
                who = Person("Muster", str(number), date(1940, 8, 12))
                state = UserState.new(who, "", areas, ("flu",), os.urandom)
                found.go_through_others(state.recovery)
                user = User(found, state, os.urandom, lambda _: None)
                await user.ask(with_work)
                while not (offers := await user.offers()):
                    await asyncio.sleep(0.1)
                await user.accept(offers[0], offers[0].offer.slots[0][0])
                while state.chosen is None or state.chosen.state is not Standing.BOOKED:
                    await asyncio.sleep(0.05)
                    await user.check()
                booked[str(number)] = state.chosen.slot

        practices = [asyncio.create_task(practice(name)) for name in ("clinic-a", "clinic-b")]
        begin_s, own_s, before_s = time.monotonic(), time.process_time(), sum(map(cpu_s, nodes))
        await asyncio.gather(*(person(number) for number in range(people)))
        took_s, own_s = time.monotonic() - begin_s, time.process_time() - own_s
        nodes_s = sum(map(cpu_s, nodes)) - before_s
        done.set()
        held = {name: b.person.given_name for p in practices for name, b in (await p).state.booked.items()}
    assert len(held) == people
    assert {who: name for name, who in held.items()} == booked, "what people know is not what practices hold"
    shown = (
        f"{people / took_s:.1f}/s; processor per booking: {1000 * own_s / people:.0f} ms person and practice, "
        f"{1000 * nodes_s / people:.0f} ms all nodes"
    )
    return f"whole bookings over four nodes, {at_once} people at once (each exact)", shown, "stated"


def run() -> list[tuple[str, str, str]]:
    rows, usual_s = [], 0.0
    for at_once in (1, 8):
        with tempfile.TemporaryDirectory() as name:
            rows.append(asyncio.run(whole(Path(name), 10 * at_once, at_once)))
    for what in (ALIVE, KILLED, SILENT):
        found = measured(what)
        for step, (name, _) in enumerate(found[0]):
            times = [steps[step][1] for steps in found]
            print(f"{what}: {name} after {median(times):.1f} s, at most {max(times):.1f}", file=sys.stderr)
        usual_s = usual_s or median(times)
        shown, goal = f"{median(times):.1f} s, {median(times) / usual_s:.2f} times", "≤ 1.5" if what == KILLED else ""
        rows.append((f"a booking over four nodes, {what} (median of {len(found)}, 30 ms each way)", shown, goal))
    return rows


if __name__ == "__main__":
    for row in run():
        print(*row, sep=" | ")
