"""The steps of the demonstration, each checked while it is told; the last ones are in `appointments`."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from examples.demo.appointments import Appointments
from examples.demo.cluster import POSTCODES, QUORUM, Cluster
from examples.demo.country import District, admit_all, make_districts, publish_all
from peewit_clients.closes import close_device, hand_in, statement_effective
from peewit_clients.device_log import DeviceLog
from peewit_clients.device_state import DeviceState
from peewit_clients.identity import Identity
from peewit_clients.mediator import Mediator
from peewit_clients.plans import Plan
from peewit_clients.pool import HEDGE_S, BackendPool
from peewit_clients.registry_view import MEANING, RegistryView
from peewit_federation.keys import key_id
from peewit_federation.log.checkpoint import Checkpoint, Head, log_key, origin_hash, origin_of, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.places import Places
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Provider, Revocation

HOME = "10115"


@dataclass
class Story:
    """Tells and checks."""

    cluster: Cluster
    console: Console
    rows: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.console.print(f"   {text}")

    def head(self, number: int, text: str) -> None:
        self.console.print(f"\n[bold cyan]{number}[/] [bold]{text}[/]")

    def row(self, what: str, value: str) -> None:
        self.rows.append((what, value))

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            raise AssertionError(what)
        self.say(f"[green]✓[/] {what}")

    async def tell(self, start: float) -> None:
        self.console.print("[bold]Peewit: a federation of four nodes, each a process of its own on this machine[/]")
        self.console.print(f"   A statement counts when {QUORUM} of the 4 nodes have cosigned a log that contains it.")
        await self.cluster.start()
        places = Places.parse(POSTCODES.read_text(encoding="utf-8"))
        districts = await self.publish(places)
        await self.find()
        await self.lose_a_node()
        await self.cut_in_two(districts)
        await self.catch_a_thief(districts)
        await self.come_back()
        await Appointments(self, districts).tell()
        table = Table("what was measured", "value", title="\nIn numbers", title_justify="left")
        for what, value in self.rows:
            table.add_row(what, value)
        table.add_row("the whole demonstration", f"{time.monotonic() - start:.0f} s")
        self.console.print(table)

    # 1 and 2

    async def publish(self, places: Places) -> list[District]:
        cluster = self.cluster
        districts = await asyncio.to_thread(make_districts, places, cluster.folder / "mediators")
        self.head(1, f"{len(districts)} health districts publish, each at one node of its region")
        await asyncio.to_thread(admit_all, cluster, districts)
        await cluster.until(lambda: cluster.agree(), "the operators' logs have arrived everywhere")
        begin = time.monotonic()
        entries = await publish_all(cluster, districts)
        took = time.monotonic() - begin
        covered = sum(len(d.postcodes) for d in districts)
        self.check(covered == len(places.by_postcode), f"their catchment areas cover all {covered} postcodes")
        self.say(
            f"{entries} entries ({len(districts) * 8} practices) were signed, stored and acknowledged in {took:.1f} s."
        )
        self.row("districts, entries published", f"{len(districts)}, {entries}")
        self.row("publishing", f"{took:.1f} s")
        self.head(2, "All nodes agree")
        logs = len(districts) + len(cluster.names)
        took = await cluster.until(lambda: cluster.agree(logs=logs), "all nodes have equal registries")
        facts = [await cluster.status(name) for name in cluster.names]
        for fact in facts:
            self.say(
                f"{fact['operator']:6} {fact['logs']} logs, {fact['entries']} entries, registry {fact['digest'][:24]}…"
            )
        self.check(
            len({fact["digest"] for fact in facts}) == 1, f"four equal digests, {took:.1f} s after the last publication"
        )
        self.row("until all four registries were equal, every head with a quorum", f"{took:.1f} s")
        return districts

    # 3

    async def find(self) -> None:
        self.head(3, f"Somebody looks for an appointment near {HOME}; the whole list is searched on their own device")
        output = await self.peewit(
            "registry", "find", "--postcode", HOME, "--service", "flu", "--within", "20km", "--places", str(POSTCODES)
        )
        for line in output.splitlines()[:9]:
            self.console.print("   " + line, markup=False)

    # 4

    async def lose_a_node(self) -> None:
        cluster = self.cluster
        self.head(4, "Node south is killed (kill -9); a client that liked it best still gets its answer")
        async with BackendPool(cluster.charter) as pool:
            for backend in pool.backends:
                backend.latency_s = 0.001 if backend.name == "south" else 0.05
            cluster.kill("south")
            await cluster.processes["south"].wait()
            begin = time.monotonic()
            reply = await pool.get("/v1/views", bytes)
            took = time.monotonic() - begin
            self.check(reply.backend.name != "south", f"node {reply.backend.name} answered after {1000 * took:.0f} ms")
            self.check(took < HEDGE_S + 0.25, f"within the hedge delay of {1000 * HEDGE_S:.0f} ms and a little")
        self.row("an answer after a node was killed", f"{1000 * took:.0f} ms")

    # 5

    async def cut_in_two(self, districts: list[District]) -> None:
        cluster = self.cluster
        self.head(5, "North and west are cut from the rest; a practice is revoked on their side")
        cluster.cables.partition({"north", "west"}, {"south", "east"})
        await asyncio.sleep(1)
        district = next(d for d in districts if d.region == "north")
        subject = key_id(district.practices[0].public)
        async with BackendPool(cluster.charter, only=("north", "west"), timeout_s=3) as pool:
            with DeviceState(district.device) as state:
                role = Mediator(district.folder, state, cluster.charter, pool)
                planner = await role.prepare()
                plan = planner.revoke("practice-0", Provider.KIND, subject, 1)
                progress = await role.publish(plan, wait_s=2)
                self.say(f"The command says: [bold]{progress.words()}[/]")
                self.check(
                    not progress.effective and len(progress.cosigned_by) == 2, "2 of the 3 nodes it needs have it"
                )
                verdict, words = await self.look(("north", "west"), district, subject)
                self.check(verdict is Verdict.REVOKED, "clients on this side refuse the practice at once")
                self.say(f"They read: {MEANING[verdict]}")
                await asyncio.sleep(3)
                verdict, words = await self.look(("east",), district, subject)
                self.check(
                    verdict is Verdict.ACTIVE, f"clients of node east do not know yet, but see how old it is: {words}"
                )
                cluster.cables.heal()
                begin = time.monotonic()
                progress = await role.publish(Plan(), wait_s=20)
                self.check(progress.effective, f"healed: {progress.words()}, after {time.monotonic() - begin:.1f} s")
        self.row("from healing to effective", f"{time.monotonic() - begin:.1f} s")
        await cluster.until(lambda: self.revoked_at("east", district, subject), "east refuses the practice too")
        self.check(True, "clients of node east refuse it too")

    async def look(self, nodes: tuple[str, ...], district: District, subject: bytes) -> tuple[Verdict, str]:
        async with BackendPool(self.cluster.charter, only=nodes, timeout_s=3) as pool:
            view = RegistryView(self.cluster.charter, pool)
            await view.refresh([district.id])
            found = view.finder.look(district.id, Provider.KIND, subject, int(time.time()))
            return found.verdict, str(view.freshness[district.id].words())

    async def revoked_at(self, node: str, district: District, subject: bytes) -> bool:
        return (await self.look((node,), district, subject))[0] is Verdict.REVOKED

    # 6

    async def catch_a_thief(self, districts: list[District]) -> None:
        cluster, alive = self.cluster, ("north", "west", "east")
        self.head(6, "A device is stolen: the thief shows two registries to two nodes, and revokes a whole district")
        district = next(d for d in districts if d.region == "west")
        await cluster.until(lambda: cluster.agree(*alive), "the three nodes agree")
        before = (await cluster.status("north"))["digest"]
        await asyncio.gather(*(self.thief(district, node, number) for number, node in enumerate(("north", "east"))))
        with DeviceState(district.device) as state:
            origin = origin_hash(origin_of(state.key.public))
            entries = state.entries()

        async def flagged() -> bool:
            return all([origin.hex() in (await cluster.status(name))["forks"] for name in alive])

        took = await cluster.until(flagged, "all nodes have the evidence")
        self.check(True, f"all nodes have the evidence and flag the log as forked, {took:.1f} s later")
        self.row("from the two histories to evidence everywhere", f"{took:.1f} s")
        path = cluster.folder / "evidence.cbor"
        async with cluster.session.get(f"{cluster.url('east')}/v1/evidence/{origin.hex()}") as response:
            path.write_bytes(await response.read())
        output = await self.peewit("fork", "show", str(path), expect=7)
        self.say("A stranger checks the evidence file, without any network: peewit fork show evidence.cbor")
        for line in output.splitlines():
            self.console.print("      " + line[:110], markup=False)
        verdict, _ = await self.look(alive, district, key_id(district.practices[0].public))
        self.check(verdict is Verdict.REVOKED, "until the root has spoken, the thief's revocations count: better safe")
        await self.close(district, origin, entries)

        async def restored() -> bool:
            return await cluster.agree(*alive) and (await cluster.status("north"))["digest"] == before

        took = await cluster.until(restored, "the registry is what it was")
        self.check(True, f"the registry is exactly what it was before the theft ({before[:16]}…), {took:.1f} s later")
        self.row("from the root's close to the registry as it was", f"{took:.1f} s")

    async def thief(self, district: District, node: str, number: int) -> None:
        folder = self.cluster.folder / f"thief-{number}"
        await asyncio.to_thread(shutil.copytree, district.device, folder)
        async with BackendPool(self.cluster.charter, only=(node,)) as pool:
            with DeviceState(folder) as state:
                subjects = [key_id(key.public) for key in district.practices]
                evil = [Revocation(Provider.KIND, s, 4, bytes([number]) * 16).encode() for s in subjects[number:]]
                log = DeviceLog(state, self.cluster.charter, pool)
                self.say(f"To {node} it says: {len(evil)} practices of {district.name} are revoked.")
                state.append(evil, _sign(state, evil))
                await log.publish(write=1)

    async def close(self, district: District, origin: bytes, entries: list[bytes]) -> None:
        cluster = self.cluster
        async with BackendPool(cluster.charter, timeout_s=3) as pool:
            view = RegistryView(cluster.charter, pool)
            await view.refresh([district.id])
            identity = Identity.load(district.folder)
            statement, made = await close_device(view, identity, district.root, origin, entries=entries)
            await hand_in(pool, statement)
            self.say(
                f"The district takes its root key out of the safe and closes the device's log at {made.size} entries."
            )

            async def effective() -> bool:
                await view.refresh([district.id])
                return statement_effective(view, statement) >= QUORUM

            took = await cluster.until(effective, "the close is effective")
            self.check(True, f"the close is effective after {took:.1f} s")

    # 7

    async def come_back(self) -> None:
        cluster = self.cluster
        self.head(7, "Node south comes back, with everything it had, and catches up")
        begin = time.monotonic()
        await cluster.run("south")
        await cluster.until(lambda: cluster.agree(), "south has caught up")
        took = time.monotonic() - begin
        self.check(True, f"four equal digests again, {took:.1f} s after its start")
        self.row("from a cold start to agreement", f"{took:.1f} s")

    async def peewit(self, *words: str, expect: int = 0) -> str:
        """Run the command line as a person would."""
        environment = {"PEEWIT_CHARTER": str(self.cluster.folder / "charter.toml"), "COLUMNS": "118"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "peewit_clients.cli", *words,
            stdout=asyncio.subprocess.PIPE, env={"XDG_CACHE_HOME": str(self.cluster.folder), **environment},
        )  # fmt: skip
        output, _ = await process.communicate()
        if process.returncode != expect:
            raise RuntimeError(f"peewit {' '.join(words[:2])} ended with {process.returncode}")
        return output.decode()


def _sign(state: DeviceState, entries: list[bytes]) -> Head:
    everything = [*state.entries(), *entries]
    name = log_key(state.key.public).name
    return sign_checkpoint(Checkpoint(name, len(everything), root_of(map(leaf_hash, everything))), state.key)
