"""The last step: a passport after one of the appointments, checked without a network, and its issuer taken back."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from examples.demo.country import append_own
from peewit_clients.desk import Desk
from peewit_clients.device_state import DeviceState
from peewit_clients.issuing import Issuing
from peewit_clients.mediator import Mediator
from peewit_clients.paper import show_in_terminal
from peewit_clients.plans import Plan
from peewit_clients.pool import BackendPool
from peewit_clients.practice import Practice
from peewit_clients.registry_view import RegistryView
from peewit_clients.trusted import gather, load, save
from peewit_clients.vouching import revoke_keys, vouch
from peewit_federation.passports import pw1
from peewit_federation.passports.issue import Dose
from peewit_federation.passports.messages import Delivery
from peewit_federation.passports.values import product
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.operator import Admission

if TYPE_CHECKING:
    from examples.demo.appointments import Appointments, Somebody

CLINIC = "clinic-a"
ONE_NODE, OTHER_NODE = "north", "south"
NO_NETWORK = """
import sys
def refuse(event, _):
    if event.startswith("socket."):
        raise OSError("the network is cut")
sys.addaudithook(refuse)
from peewit_clients.cli import main
main()
"""


class Passports:
    """Tells and checks."""

    def __init__(self, appointments: Appointments) -> None:
        self.story = appointments.story
        self.cluster = appointments.cluster
        self.district = appointments.district
        self.appointments = appointments
        self.trust = self.cluster.folder / "trust"

    async def tell(self) -> None:
        story, charter = self.story, self.cluster.charter
        story.head(10, "A vaccination passport: signed, shown, checked without a network, and taken back")
        practice, _ = self.appointments.practices[0]
        issuing = Issuing(practice, "DE", charter.name)
        booking = next(iter(practice.state.booked.values()))
        people = self.appointments.people
        person = next(p for p in people if p.state.request and p.state.request.name == booking.request)
        async with BackendPool(charter, timeout_s=5) as pool:
            # Passports have no place, so one region's operator is not enough to let a district vouch for them.
            word = Admission(self.district.id, (self.district.root.public,), self.district.postcodes, ()).encode()
            second = next(name for name in self.cluster.names if name not in ("north", self.district.region))
            await asyncio.to_thread(append_own, self.cluster.folder / second, [word])
            story.say(f"operator {second} vouches for the district too: passports count everywhere")
            await issuing.ask_for_key()
            await self.publish(pool, None)
            await self.until_active(practice, issuing)
            begin = time.monotonic()
            today = datetime.now(UTC).date()
            made = await issuing.issue(booking, Dose(product("Comirnaty"), 2, 2, today))
            delivery = await self.fetch(person)
            story.check(delivery.passport == made.id, "the practice signs on its own device; only its patient gets it")
            story.row("passport signed, sealed, delivered and opened", f"{time.monotonic() - begin:.1f} s")
            await self.refresh(pool)
            await self.show(delivery)
            begin = time.monotonic()
            async with BackendPool(charter, timeout_s=5, only=(ONE_NODE,)) as one:
                await self.publish(one, practice.state.key.public)
            await self.taken_back(delivery, begin)

    async def until_active(self, practice: Practice, issuing: Issuing) -> None:
        """Wait until the practice sees its key stand."""
        (key,) = issuing.signing_keys()
        end = time.monotonic() + 30
        while issuing.verdict(key) is not Verdict.ACTIVE:
            if time.monotonic() > end:
                raise RuntimeError(f"the key is {issuing.verdict(key).value}; {practice.view.complaints}")
            await practice.view.refresh([self.district.id])
            await asyncio.sleep(0.2)

    async def publish(self, pool: BackendPool, revoked: bytes | None) -> None:
        """The district's own device vouches for the key that was asked for, or revokes it."""
        with DeviceState(self.district.device) as device:
            role = Mediator(self.district.folder, device, self.cluster.charter, pool)
            planner = await role.prepare()
            if revoked is None:
                desk = Desk(role)
                await desk.applications()
                plan: Plan = vouch(role, planner, desk.asked, days=400)
                wait_s = 20
            else:
                plan, wait_s = revoke_keys(role, planner, CLINIC), 0
            progress = await role.publish(plan, wait_s=wait_s)
            if revoked is None:
                words = f"the district vouches for a key that names no practice: {progress.words()}"
                self.story.check(progress.effective, words)
            else:
                self.story.say(f"the key is stolen: the district revokes it at node {ONE_NODE} alone")

    async def fetch(self, person: Somebody) -> Delivery:
        async with self.appointments.client(person) as user:
            await user.check()
        return Delivery.decode(person.state.passports[-1])

    async def refresh(self, pool: BackendPool) -> None:
        begin = time.monotonic()
        view = RegistryView(self.cluster.charter, pool)
        trust = await gather(view, load(self.trust, missing_ok=True))
        save(self.trust, trust)
        self.view = view
        took = time.monotonic() - begin
        self.story.row("a verifier follows the logs of all mediators", f"{len(trust.as_of)} in {took:.1f} s")

    async def show(self, delivery: Delivery) -> None:
        """In the terminal, and before a verifier: another process, whose sockets are all refused."""
        text = delivery.hc1.decode()
        self.story.console.print()
        show_in_terminal(text)
        code, said = await self.verify(text)
        self.story.check(code == 0 and "valid" in said, "a second process without a network says: valid")
        some = pw1.unpack(delivery.pw1.decode()).showing({pw1.FAMILY, pw1.BORN}).pack()
        code, said = await self.verify(some)
        self.story.check(code == 0, "of the other form its holder shows family name and birth date, and no vaccine")

    async def taken_back(self, delivery: Delivery, begin: float) -> None:
        charter = self.cluster.charter
        async with BackendPool(charter, timeout_s=5, only=(OTHER_NODE,)) as other:
            self.view.pool = self.view.follower.pool = other
            while True:
                trust = await gather(self.view, load(self.trust))
                save(self.trust, trust)
                if any(signer.revoked for signer in trust.all()):
                    break
                if time.monotonic() - begin > 60:
                    raise RuntimeError(f"node {OTHER_NODE} does not know of the revocation after a minute")
                await asyncio.sleep(0.2)
        took = time.monotonic() - begin
        code, said = await self.verify(delivery.hc1.decode())
        self.story.check(
            code == 3 and "revoked" in said, f"{took:.1f} s later the verifier, who asks node {OTHER_NODE}, refuses it"
        )
        self.story.row("from the revocation at one node to the refusal at another", f"{took:.1f} s")

    async def verify(self, text: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", NO_NETWORK, "verify", text, "--trust", str(Path(self.trust)), "--json",
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()
