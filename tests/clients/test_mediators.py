"""A mediator's device: publishing, collisions, crashes, backups, theft, tables and keys."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from peewit_clients.desk import Desk
from peewit_clients.device_file import DeviceFile
from peewit_clients.device_log import DeviceLog, ForkedDeviceError
from peewit_clients.device_state import DeviceState
from peewit_clients.identity import add_device, init_mediator
from peewit_clients.mediator import Mediator
from peewit_clients.office import Office as PracticeOffice
from peewit_clients.plans import Plan
from peewit_clients.pool import BackendPool
from peewit_clients.practice_state import PracticeState
from peewit_clients.registry_view import RegistryView
from peewit_clients.secret_file import is_sealed, read_secret, write_secret
from peewit_clients.tables import read_catchments, read_providers
from peewit_federation.appointment.applications import Decision
from peewit_federation.appointment.request import area_name
from peewit_federation.errors import MalformedError, OperatorError, RefusedError
from peewit_federation.keys import SigningKey
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment, Provider
from tests.clients.office import AREAS, Office, charter_of, practices, set_up
from tests.federation_kit import Federation, TestMediator, catchment, encode_all, seed
from tests.federation_kit_http import Device, admit, no_lies
from tests.node.test_liars import Liar


async def test_a_mediator_admits_suspends_lifts_revokes_and_readmits(federation: Federation) -> None:
    office = await Office.open(federation, "desk")
    charter = charter_of(federation)
    async with BackendPool(charter) as pool:
        with office.state("desk") as state:
            role = Mediator(office.folder, state, charter, pool)
            await set_up(role, "p", "q")
            subject, grant = role.provider("p")

            async def verdict() -> Verdict:
                await role.view.refresh([role.identity.id])
                return role.view.finder.look(role.identity.id, Provider.KIND, subject, int(time.time())).verdict

            async def admit_again(*, readmit: bool) -> None:
                planner = await role.prepare()
                rows = read_providers(practices("p"))
                plan = planner.providers(rows, lambda n: state.subject(Catchment.KIND, n), readmit=readmit)
                await role.publish(plan, wait_s=10)

            assert await verdict() is Verdict.ACTIVE
            planner = await role.prepare()
            await role.publish(planner.suspend("p", Provider.KIND, subject, grant), wait_s=10)
            assert await verdict() is Verdict.SUSPENDED
            await admit_again(readmit=False)
            assert await verdict() is Verdict.ACTIVE
            planner = await role.prepare()
            await role.publish(planner.revoke("p", Provider.KIND, subject, 1), wait_s=10)
            assert await verdict() is Verdict.REVOKED
            with pytest.raises(RefusedError, match="--readmit"):
                await admit_again(readmit=False)
            await admit_again(readmit=True)
            assert await verdict() is Verdict.ACTIVE
    no_lies(federation)


async def test_who_is_admitted_today_reads_what_was_sealed_to_the_keys_of_before(federation: Federation) -> None:
    """Wishes of who waits longest are sealed to the key of the week in which they came."""
    office = await Office.open(federation, "desk")
    async with BackendPool(charter_of(federation)) as pool:
        with office.state("desk") as state:
            role = Mediator(office.folder, state, charter_of(federation), pool)
            await set_up(role, "clinic-a")
            desk, real, area = Desk(role), role.clock, state.subject(Catchment.KIND, "mitte")
            assert area is not None
            for week in range(1, 5):
                planner = await role.prepare()
                role.clock = lambda week=week: real() + (7 * week - 5.9) * 86_400  # type: ignore[misc]
                plan = desk.rotate(planner)
                role.clock = real
                assert len(plan.statements) == 1
                await role.publish(plan, wait_s=10)
            await role.prepare()
            keys = desk._keys([area])
            assert len(keys) == 5
            found = role.view.finder.look(role.identity.id, Catchment.KIND, area, int(real()))
            statement = read_entry(role.view.standing_entry(found) or b"", MEDIATOR_KINDS)
            assert isinstance(statement, Catchment)
            assert {xwing_public(key) for _, key in keys[:2]} == {public for _, public in statement.keys}
    practice = PracticeState(role.identity.id, seed("clinic-a"), seed("clinic-a"), b"", b"x", seed("salt"))
    reader = PracticeOffice(RegistryView(charter_of(federation), pool), practice, os.urandom)
    reader._learn(Decision(seed("clinic-a"), 1, "", b"", b"", keys))
    assert practice.area_seeds[area_name(role.identity.id, area)] == [key for _, key in keys]


async def test_when_two_clerks_edits_collide_the_losing_device_is_told(federation: Federation) -> None:
    office = await Office.open(federation, "desk", "door")
    charter = charter_of(federation)
    async with BackendPool(charter) as pool:
        with office.state("desk") as first, office.state("door") as second:
            one = Mediator(office.folder, first, charter, pool)
            await set_up(one, "p")
            two = Mediator(office.folder, second, charter, pool)
            subject, grant = one.provider("p")
            plan_one, plan_two = await one.prepare(), await two.prepare()
            await one.publish(plan_one.suspend("p", Provider.KIND, subject, grant), wait_s=10)
            rows = read_providers(practices("p"))
            area = first.subject(Catchment.KIND, "mitte")
            await two.publish(plan_two.providers(rows, lambda _: area, readmit=False), wait_s=10)
            await one.prepare()
            await two.prepare()
            assert one.lost() == []
            assert [(lost.subject, lost.winner) for lost in two.lost()] == [(subject, one.log.origin)]


async def test_publishing_in_a_minority_says_how_far_it_is_and_goes_on_later(federation: Federation) -> None:
    office = await Office.open(federation, "desk")
    charter = charter_of(federation)
    await federation.stop("south", "east")
    async with BackendPool(charter) as pool:
        with office.state("desk") as state:
            role = Mediator(office.folder, state, charter, pool)
            planner = await role.prepare()
            plan = planner.catchments(read_catchments(AREAS), lambda _: None)
            progress = await role.publish(plan, wait_s=1)
            assert str(progress.words()) == "not yet effective: 2 of 3 nodes"
            many = AREAS + f"b,{' '.join(str(code) for code in range(10_000, 12_001))},flu,,north,400\n"
            with pytest.raises(MalformedError, match="line 3: postcodes"):
                planner.catchments(read_catchments(many), lambda _: None)
            await federation.start("south")
            progress = await role.log.publish(wait_s=10)
            assert progress.effective


async def test_a_crash_between_storing_and_sending_loses_nothing_and_repeating_is_harmless(
    federation: Federation,
) -> None:
    office = await Office.open(federation, "desk")
    charter = charter_of(federation)
    entries = encode_all(catchment("a", "10115"), catchment("b", "10117"))
    async with BackendPool(charter) as pool:
        with office.state("desk") as state:
            await DeviceLog(state, charter, pool).commit(entries)
        with office.state("desk") as state:
            assert state.entries() == entries
            log = DeviceLog(state, charter, pool)
            await log.catch_up()
            assert (await log.publish(wait_s=10)).effective
            assert (await log.publish(write=4, wait_s=10)).effective
    await federation.agree()
    assert federation.nodes["east"].logs.get(log.origin).size == 2  # type: ignore[union-attr]


async def test_a_device_cannot_be_used_from_two_terminals_at_once(federation: Federation) -> None:
    office = await Office.open(federation, "desk")
    with office.state("desk"), pytest.raises(OperatorError, match="in use by another command"):
        office.state("desk")


async def test_a_device_restored_from_a_backup_takes_back_what_it_forgot_instead_of_forking(
    federation: Federation,
) -> None:
    office = await Office.open(federation, "desk")
    charter = charter_of(federation)
    folder = office.folder / "devices" / "desk"
    async with BackendPool(charter) as pool:
        with office.state("desk") as state:
            log = DeviceLog(state, charter, pool)
            await log.commit(encode_all(catchment("a", "10115")))
            await log.publish(wait_s=10)
        backup = (folder / "device.sqlite").read_bytes()
        with office.state("desk") as state:
            log = DeviceLog(state, charter, pool)
            await log.commit(encode_all(catchment("b", "10117")))
            await log.publish(wait_s=10)
        for path in folder.glob("device.sqlite*"):
            path.unlink()
        (folder / "device.sqlite").write_bytes(backup)
        with office.state("desk") as state:
            assert state.restored
            log = DeviceLog(state, charter, pool)
            await log.catch_up()
            assert state.size == 2
            assert not state.restored
            await log.commit(encode_all(catchment("c", "10119")))
            assert (await log.publish(wait_s=10)).effective
        with office.state("desk") as state:
            assert not state.restored
    assert not any(log.forked for node in federation.nodes.values() for log in node.logs.all())


async def test_a_device_whose_key_was_stolen_learns_it_before_it_signs(federation: Federation) -> None:
    office = await Office.open(federation, "desk")
    charter = charter_of(federation)
    async with BackendPool(charter) as pool:
        with office.state("desk") as state:
            log = DeviceLog(state, charter, pool)
            await log.commit(encode_all(catchment("a", "10115")))
            await log.publish(wait_s=10)
            await log.commit(encode_all(catchment("b", "10117")))
            thief = Device(TestMediator("x"), SigningKey(seed("office", 0)))
            thief.entries = [*state.entries(0, 1), catchment("evil", "10999").encode()]
            status, body = await thief.publish(federation.url("east"), 1)
            assert status in (200, 409), body
            if status == 200:
                with pytest.raises(ForkedDeviceError, match="mediator close"):
                    await log.catch_up()


async def test_a_bad_postcode_on_line_4711_is_named_and_nothing_is_published(tmp_path: Path) -> None:
    rows = [f"area-{n},1{n % 10}115,flu,,north,400" for n in range(5000)]
    rows[4709] = "area-4709,1011x,flu,,north,400"
    text = "\n".join(["name,postcodes,services,groups,nodes,days", *rows])
    with pytest.raises(MalformedError, match="line 4711: postcodes: '1011x' is not a postcode"):
        read_catchments(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "line 1"),
        ("name,postcodes\n", "line 1: the column 'services'"),
        (AREAS + "mitte,10119,flu,,north,400\n", "line 3: the name 'mitte' stands in line 2"),
        (AREAS + "b,10119,flu,,north\n", "line 3"),
        (AREAS + "b,10119,flu,,north,401\n", "line 3: days"),
        (AREAS + "b,10119,Flu,,north,400\n", "line 3: services: 'Flu'"),
        (AREAS + "b,,flu,,north,400\n", "line 3: postcodes"),
        (AREAS + ",10119,flu,,north,400\n", "line 3: name"),
        (AREAS + 'b,"10119,flu,,north,400\n', "after line 2"),
        (AREAS + "\n\nb,10119,flu,,north,401\n", "line 5: days"),
        (AREAS + "b,1067,flu,,north,400\n", "line 3: postcodes: 1067 has four digits and others have five"),
        (AREAS + "b,10119,flu,,north north,400\n", "line 3: nodes: one is named twice"),
        (AREAS + "b,10119,flu,over80 over80,north,400\n", "line 3: groups: one is named twice"),
        ('name,"postcodes"x,services\n', "line 1: "),
        ("name,postcodes,services,groups,nodes,days,name\n", "line 1: two columns have the same name"),
        (AREAS.split("\n")[0], "the table has no rows"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(text: str, what: str) -> None:
    with pytest.raises(MalformedError, match=what):
        read_catchments(text)


def test_a_table_of_practices_is_refused_with_one_key_twice_or_what_is_no_key() -> None:
    table = practices("p", "q")
    with pytest.raises(MalformedError, match="line 3: the signing_key '[0-9a-f]{64}' stands in line 2"):
        read_providers(table.replace(SigningKey(seed("q")).public.hex(), SigningKey(seed("p")).public.hex()))
    with pytest.raises(MalformedError, match="line 2: signing_key: not an Ed25519 public key"):
        read_providers(table.replace(SigningKey(seed("p")).public.hex(), "00" * 32))


async def test_the_same_tables_again_change_nothing_until_they_would_last_a_day_longer(federation: Federation) -> None:
    """Nobody's request is sealed to a key that a repeated import has thrown away."""
    office = await Office.open(federation, "desk")
    later_s = 0.0
    async with BackendPool(charter_of(federation)) as pool:
        with office.state("desk") as state:
            role = Mediator(office.folder, state, charter_of(federation), pool, clock=lambda: time.time() + later_s)
            await set_up(role, "p")
            before = [read_entry(entry, MEDIATOR_KINDS) for entry in state.entries()]

            async def again() -> Plan:
                planner = await role.prepare()

                def known(name: str) -> bytes | None:
                    return state.subject(Catchment.KIND, name)

                plan = planner.catchments(read_catchments(AREAS), known)
                return plan + planner.providers(read_providers(practices("p")), known, readmit=False)

            plan = await again()
            assert plan.statements == []
            assert [str(line).split(" ", 4)[:4] for line in plan.consequences] == [["leaves", "as", "it", "is"]] * 2
            later_s = 90_000.0
            plan = await again()
            assert [str(line).split(" ")[0] for line in plan.consequences] == ["renews", "renews"]
            after = [read_entry(entry, MEDIATOR_KINDS) for entry in plan.statements]
            assert isinstance(before[0], Catchment)
            assert isinstance(after[0], Catchment)
            assert (after[0].keys, after[0].salt, after[0].version) == (before[0].keys, before[0].salt, 2)
            assert isinstance(before[1], Provider)
            assert isinstance(after[1], Provider)
            assert after[1].commitment == before[1].commitment


async def test_a_practice_stands_with_one_key_and_the_older_one_goes_with_the_same_step(federation: Federation) -> None:
    """Whoever stole the older key does not live on behind a name that means another one now."""
    office = await Office.open(federation, "desk")
    async with BackendPool(charter_of(federation)) as pool:
        with office.state("desk") as state:
            role = Mediator(office.folder, state, charter_of(federation), pool)
            await set_up(role, "p")
            older, _ = role.provider("p")
            table = practices("p").replace(SigningKey(seed("p")).public.hex(), SigningKey(seed("new")).public.hex())

            def known(name: str) -> bytes | None:
                return state.subject(Catchment.KIND, name)

            planner = await role.prepare()
            with pytest.raises(RefusedError, match="line 2: p stands with another signing key; .* --replace"):
                planner.providers(read_providers(table), known, readmit=False)
            plan = planner.providers(read_providers(table), known, readmit=False, replace=True)
            await role.publish(plan, wait_s=10)
            await role.view.refresh([role.identity.id])

            def verdict(subject: bytes) -> Verdict:
                return role.view.finder.look(role.identity.id, Provider.KIND, subject, int(time.time())).verdict

            assert verdict(older) is Verdict.REVOKED
            assert verdict(role.provider("p")[0]) is Verdict.ACTIVE
            planner = await role.prepare()
            assert planner.providers(read_providers(table), known, readmit=False).statements == []


def test_a_root_key_is_sealed_under_its_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    write_secret(path, b"s" * 32, "correct horse")
    assert is_sealed(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path, "correct horse") == b"s" * 32
    for passphrase in (None, "wrong"):
        with pytest.raises(OperatorError):
            read_secret(path, passphrase)
    with pytest.raises(OperatorError, match="never overwritten"):
        write_secret(path, b"t" * 32, None)
    path.write_text('{"kdf": "argon2id", "ops": 1e9, "memory": 1, "salt": "", "box": ""}')
    with pytest.raises(OperatorError):
        read_secret(path, "x")


async def test_a_node_that_knows_more_of_our_log_than_it_serves_keeps_the_device_from_signing(
    federation: Federation,
) -> None:
    office = await Office.open(federation, "desk")
    charter = charter_of(federation)
    async with BackendPool(charter) as pool:
        with office.state("desk") as state:
            log = DeviceLog(state, charter, pool)
            await log.commit(encode_all(catchment("a", "10115")))
            await log.publish(wait_s=10)
            note = state.head().encode()  # type: ignore[union-attr]
    await federation.stop("east")
    liar = Liar(federation, "east")
    await liar.start()
    from peewit_federation import cbor

    liar.answers = {"/v1/heads": cbor.encode([[note, b""]])}
    folder = office.folder / "devices" / "desk"
    for path in folder.glob("device.sqlite*"):
        path.unlink()
    from peewit_clients.device_state import DeviceState as State

    (folder / "starts").unlink()
    State.create(folder, seed("office", 0), seed("office enc", 0), b"").close()
    async with BackendPool(charter, only=("east",)) as pool:
        with office.state("desk") as state:
            # The head is signed with our key, and we know that we did not: its entries are not needed to see that.
            with pytest.raises(ForkedDeviceError, match="key is used elsewhere"):
                await DeviceLog(state, charter, pool).catch_up()
            assert state.size == 0
    await liar.stop()


@pytest.mark.parametrize("name", ["", "..", "a b", "No", "../evil", "x" * 65])
def test_a_devices_name_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    init_mediator(tmp_path, seed("root"), None)
    with pytest.raises(MalformedError, match="not a device's name"):
        add_device(tmp_path, name, SigningKey(seed("root")), (seed("a"), seed("b")))
    assert not (tmp_path / "devices").exists()


def test_a_damaged_device_says_what_to_do(tmp_path: Path) -> None:
    init_mediator(tmp_path, seed("root"), None)
    folder = add_device(tmp_path, "desk", SigningKey(seed("root")), (seed("a"), seed("b")))
    (folder / "device.sqlite").write_bytes(b"junk" * 1000)
    for path in folder.glob("device.sqlite-*"):
        path.unlink()
    with pytest.raises(OperatorError, match="close this device"):
        DeviceState(folder)


def test_what_a_device_keeps_to_itself_is_in_no_file_of_it(tmp_path: Path) -> None:
    """Whoever copies the folder without the key has the log, which anybody may read, and nothing else."""
    init_mediator(tmp_path, seed("root"), None)
    seeds = seed("log seed"), seed("sealing seed")
    folder = add_device(tmp_path, "desk", SigningKey(seed("root")), seeds, "open sesame")
    with pytest.raises(OperatorError, match="a passphrase is needed"):
        DeviceState(folder)
    with DeviceState(folder, "open sesame") as state:
        entry = catchment("area", "10115").encode()
        head = Device(TestMediator("m"), state.key).head([entry])
        names = [(Catchment.KIND, "mitte", seed("subject")[:16], b"salt of mitte")]
        state.append([entry], head, names)
        state.learn(Catchment.KIND, seed("subject")[:16], b"salt of another")
        state.note_down(1, "rejected", "clinic-a", "no licence")
    with DeviceState(folder, "open sesame") as state:
        assert state.key.seed == seeds[0]
        assert state.subject(Catchment.KIND, "mitte") == seed("subject")[:16]
        assert state.names(Catchment.KIND) == {seed("subject")[:16]: "mitte"}
        assert sorted(state.secrets(Catchment.KIND, seed("subject")[:16])) == [b"salt of another", b"salt of mitte"]
        assert state.trail() == [(1, "rejected", "clinic-a", "no licence")]
    stored = b"".join(path.read_bytes() for path in folder.iterdir())
    for secret in (*seeds, b"mitte", b"salt of", b"clinic-a", b"licence", b"rejected"):
        assert secret not in stored, secret
    assert entry in stored
    with DeviceFile.look(folder) as device:
        assert device.log == SigningKey(seeds[0]).public, "a device whose passphrase is forgotten can be closed"
        assert device.entries() == [entry]
        assert device.head() == head


async def test_admission_alone_does_not_reach_further_than_its_scope(federation: Federation) -> None:
    mediator = TestMediator("narrow")
    await admit(federation, mediator, "2")
    device = Device.of(mediator)
    device.entries = encode_all(catchment("area", "10115"))
    await device.publish(federation.url("north"))
    await federation.agree()
    async with BackendPool(charter_of(federation)) as pool:
        view = RegistryView(charter_of(federation), pool)
        await view.refresh([mediator.id])
        found = view.finder.look(mediator.id, Catchment.KIND, catchment("area").area, int(time.time()))
        assert found.verdict is Verdict.OUT_OF_SCOPE
        assert await view.catchments() == []
