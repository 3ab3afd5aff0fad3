"""The people's side: pools, views of the registry, mediators, and the command line end to end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from peewit_clients.device_log import DeviceLog, ForkedDeviceError
from peewit_clients.device_state import DeviceState
from peewit_clients.mediator import Mediator, add_device, init_mediator
from peewit_clients.pool import BackendPool, UnreachableError
from peewit_clients.registry_view import RegistryView
from peewit_clients.secret_file import is_sealed, read_secret, write_secret
from peewit_clients.tables import read_catchments, read_providers
from peewit_federation.charter import Charter
from peewit_federation.errors import ForgeryError, MalformedError, OperatorError, RefusedError
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.log.note import b64encode
from peewit_federation.registry.subjects import Verdict
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.mediator import Catchment, Provider, Revocation
from peewit_federation.statements.operator import Admission
from tests.federation_kit import Federation, TestMediator, catchment, encode_all, provider, seed
from tests.federation_kit_http import Device, admit, no_lies, start_with_area, until
from tests.node.test_liars import Liar


def charter_of(federation: Federation) -> Charter:
    return next(iter(federation.nodes.values())).state.charter


# Pool


async def test_a_dead_node_costs_nothing_and_a_hanging_one_only_the_hedge_delay(federation: Federation) -> None:
    await federation.stop("east")
    liar = Liar(federation, "east")
    await liar.start()

    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(20)
        return web.Response()

    liar.answers = {"/": hang}
    async with BackendPool(charter_of(federation)) as pool:
        for backend in pool.backends:
            backend.latency_s = 0.001 if backend.name == "east" else 0.05
        start = time.monotonic()
        reply = await pool.get("/healthz", bytes)
        assert reply.backend.name != "east"
        assert time.monotonic() - start < 15, "the hanging node was waited for"
    await liar.stop()


async def test_a_node_that_fails_the_check_is_named_and_another_is_asked(federation: Federation) -> None:
    async with BackendPool(charter_of(federation)) as pool:
        first = pool.order()[0].name
        seen: list[int] = []

        def check(data: bytes) -> bytes:
            seen.append(1)
            if len(seen) == 1:
                raise ForgeryError("it does not hold")
            return data

        for backend in pool.backends:
            backend.latency_s = 10 if backend.name != first else 0.01
        reply = await pool.get("/healthz", check)
        assert reply.value == b"ok\n"
        assert list(pool.complaints) == [first]
        assert pool.order()[-1].name == first, "its circuit is open"


async def test_when_no_node_can_be_used_the_error_says_what_each_did(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    from peewit_federation.charter import parse_charter

    charter = parse_charter((tmp_path / "charter.toml").read_bytes())
    async with BackendPool(charter) as pool:
        with pytest.raises(UnreachableError) as caught:
            await pool.get("/healthz", bytes)
    for name in federation.names:
        assert f"{name}: " in str(caught.value)


async def test_several_nodes_are_asked_at_once_and_failing_ones_replaced(federation: Federation) -> None:
    await federation.stop("north")
    async with BackendPool(charter_of(federation)) as pool:
        replies = await pool.get_several("/healthz", bytes, 3)
        assert len({reply.backend.name for reply in replies}) == 3


# The view of the registry


async def test_a_client_sees_what_the_nodes_see_and_how_fresh_it_is(federation: Federation) -> None:
    mediator, _ = await start_with_area(federation)
    digest = await federation.agree()
    await asyncio.sleep(0.8)
    async with BackendPool(charter_of(federation)) as pool:
        view = RegistryView(charter_of(federation), pool)
        await view.refresh([mediator.id])
        found = view.finder.look(mediator.id, Provider.KIND, provider("p0").subject, int(time.time()))
        assert found.verdict is Verdict.ACTIVE
        assert view.registry.digest() == digest
        freshness = view.freshness[mediator.id]
        assert freshness.may_book
        assert freshness.as_of_s is not None
        assert view.complaints == {}
        areas = await view.catchments()
        assert [(area.area, owner) for area, owner in areas] == [(catchment("area").area, mediator.id)]
        again = RegistryView(charter_of(federation), pool)
        again.follower.load(view.follower.encode())
        assert again.follower.copies.keys() == view.follower.copies.keys()


async def test_a_node_that_withholds_a_revocation_is_found_out(federation: Federation) -> None:
    """East serves what it had before the revocation; one honest node is enough to know."""
    mediator, device = await start_with_area(federation)
    subject = provider("p0").subject
    await federation.stop("east")
    device.entries.append(Revocation(Provider.KIND, subject, 1, bytes(16)).encode())
    status, body = await device.publish(federation.url("north"), 3)
    assert status == 200, body
    await federation.agree()
    charter = charter_of(federation)
    await federation.stop()
    await federation.start("east")
    async with BackendPool(charter, only=("east",)) as pool:
        alone = RegistryView(charter, pool)
        await alone.refresh([mediator.id])
        assert alone.finder.look(mediator.id, Provider.KIND, subject, int(time.time())).verdict is Verdict.ACTIVE
        assert alone.freshness[mediator.id].age_s is None, "one node alone is nobody's quorum"
        assert not alone.freshness[mediator.id].may_book
    await federation.start("north", "west", "south")
    async with BackendPool(charter, only=("east", "north")) as pool:
        view = RegistryView(charter, pool)
        await view.refresh([mediator.id])
        assert view.finder.look(mediator.id, Provider.KIND, subject, int(time.time())).verdict is Verdict.REVOKED


async def test_a_node_that_rolls_back_its_views_is_named(federation: Federation) -> None:
    from peewit_clients.freshness import Seen, ViewBook
    from peewit_federation.gossip.views import Line, View

    charter = charter_of(federation)
    book = ViewBook(charter)

    def seen(time_s: int, size: int) -> Seen:
        line = Line(b"", seed("log"), size, seed("root", size))
        return Seen("west", View(bytes(8), time_s, time_s, 1, seed(time_s)), {b"": (line,)})

    book.add(seen(100, 9), 200)
    book.add(seen(101, 5), 200)
    assert "rolled log" in book.complaints["west"][0]
    book.add(seen(10_000, 9), 200)
    assert "future" in book.complaints["west"][1]


async def test_a_client_whose_clock_is_a_day_off_is_told_so(federation: Federation) -> None:
    charter = charter_of(federation)
    async with BackendPool(charter) as pool:
        with pytest.raises(OperatorError, match="clock is 86[0-9]+ s behind"):
            await RegistryView(charter, pool, clock=lambda: time.time() - 86_400).refresh()
        ahead = RegistryView(charter, pool, clock=lambda: time.time() + 2 * 86_400)
        mediator = TestMediator("nobody")
        await ahead.refresh([mediator.id])
        assert not ahead.freshness[mediator.id].may_book, "everything looks two days old"


# Mediators


@dataclass
class Office:
    """A mediator's folder with devices."""

    folder: Path
    root: SigningKey

    @classmethod
    async def open(cls, federation: Federation, *devices: str) -> Office:
        folder = federation.folder / "office"
        init_mediator(folder, seed("office root"), None)
        office = cls(folder, SigningKey(seed("office root")))
        for number, name in enumerate(devices):
            add_device(folder, name, office.root, (seed("office", number), seed("office enc", number)))
        for name in federation.names[:2]:
            admission = Admission(key_id(office.root.public), (office.root.public,), ("1", "2"), ())
            await federation.nodes[name].own.append(admission.encode())
        await federation.agree()
        return office

    def state(self, name: str) -> DeviceState:
        return DeviceState(self.folder / "devices" / name)


AREAS = "name,postcodes,services,groups,nodes,days\nmitte,10115 10117,flu,over80 all,north west,400\n"


def practices(*names: str) -> str:
    rows = [
        f"{name},mitte,flu,{SigningKey(seed(name)).public.hex()},{b64encode(xwing_public(seed(name)))},400,Example Street 1"
        for name in names
    ]
    return "\n".join(["name,areas,services,signing_key,encryption_key,days,street", *rows]) + "\n"


async def set_up(role: Mediator, *names: str) -> None:
    planner = await role.prepare()
    plan = planner.catchments(read_catchments(AREAS), lambda n: role.state.subject(Catchment.KIND, n))
    await role.publish(plan, wait_s=10)
    planner = await role.prepare()
    plan = planner.providers(
        read_providers(practices(*names)), lambda n: role.state.subject(Catchment.KIND, n), readmit=False
    )
    progress = await role.publish(plan, wait_s=10)
    assert progress.effective, progress


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
            assert progress.words() == "not yet effective: 2 of 3 nodes"
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
    ],
)
def test_a_bad_table_is_refused_with_its_line(text: str, what: str) -> None:
    with pytest.raises(MalformedError, match=what):
        read_catchments(text)


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


# Command line


async def peewit(folder: Path, *words: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "peewit_clients.cli", *words, cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "140", **(env or {})},
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_the_command_line_from_the_first_mediator_to_the_close_of_its_device(federation: Federation) -> None:
    folder = federation.folder
    code, output, errors = await peewit(folder, "charter", "show")
    assert code == 0, errors
    assert "3 of 4 nodes make a quorum" in output
    code, output, _ = await peewit(folder, "mediator", "init", "--json", env={"PEEWIT_PASSPHRASE": "open sesame"})
    identity = json.loads(output)
    secret = {"PEEWIT_PASSPHRASE": "open sesame"}
    code, _, errors = await peewit(folder, "mediator", "device", "desk", env=secret)
    assert code == 3, "not admitted yet"
    assert "no operator admits" in errors
    shutil.rmtree(folder / "mediator" / "devices")
    for name in ("north", "west"):
        words = ("operator", "admit", identity["id"], "--root", identity["root"], "--postcodes", "1", "--data", name)
        code, output, errors = await peewit(folder, *words, "--dry-run")
        assert code == 0, errors
        code, output, errors = await peewit(folder, *words)
        assert code == 0, errors
        assert "entry" in output
    await federation.agree()
    code, output, errors = await peewit(folder, "mediator", "device", "desk", env=secret)
    assert code == 0, errors
    (folder / "areas.csv").write_text(AREAS)
    (folder / "practices.csv").write_text(practices("p", "q"))
    code, output, errors = await peewit(folder, "mediator", "catchments", "import", "areas.csv", "--dry-run")
    assert (code, "opens catchment area mitte" in output) == (0, True), errors
    code, output, errors = await peewit(folder, "mediator", "catchments", "import", "areas.csv")
    assert (code, "effective" in output) == (0, True), errors
    code, output, errors = await peewit(folder, "mediator", "provider", "admit", "practices.csv", "--json")
    assert (code, json.loads(output)["effective"]) == (0, True), errors
    code, output, errors = await peewit(folder, "registry", "find", "--postcode", "10115", "--service", "flu", "--json")
    assert code == 0, errors
    assert [area["providers"] for area in json.loads(output)] == [2]
    places = Path(__file__).parents[2] / "examples" / "data" / "postcodes-de.csv"
    near = ("--postcode", "10119", "--within", "5km", "--places", str(places))
    code, output, errors = await peewit(folder, "registry", "find", *near)
    assert (code, "10115" in output) == (0, True), errors
    code, output, errors = await peewit(folder, "mediator", "provider", "suspend", "p")
    assert code == 0, errors
    subject = key_id(SigningKey(seed("p")).public).hex()
    code, output, errors = await peewit(folder, "registry", "show", subject)
    assert (code, "suspended" in output) == (0, True), errors
    code, output, errors = await peewit(folder, "mediator", "provider", "revoke", "q", "--reason", "1")
    assert code == 0, errors
    code, output, errors = await peewit(folder, "mediator", "status")
    assert code == 0, errors
    assert "revoked" in output
    code, output, errors = await peewit(folder, "mediator", "close", "desk", "--at", "3", env=secret)
    assert (code, "effective" in output) == (0, True), errors
    await until(lambda: not any(n.keeper.registry.unsettled() for n in federation.nodes.values()))
    code, output, errors = await peewit(folder, "registry", "show", subject)
    assert (code, "active" in output) == (0, True), errors
    for _ in range(2):
        again = ("--postcode", "10115", "--json", "--cache", "fresh")
        code, output, errors = await peewit(folder, "registry", "find", *again)
        assert (code, errors) == (0, "")
        assert [area["providers"] for area in json.loads(output)] == [2], (
            "what the close left, also to who never saw more"
        )
        assert "confirmed by a quorum" in json.loads(output)[0]["freshness"]
    code, _, errors = await peewit(folder, "mediator", "provider", "suspend", "p")
    assert (code, "was closed at 3 entries" in errors) == (3, True), errors
    code, _, errors = await peewit(folder, "mediator", "device", "spare", env=secret)
    assert code == 0, errors
    for _ in range(2):
        code, _, errors = await peewit(folder, "registry", "find", "--postcode", "10115", "--cache", "fresh")
        assert (code, errors) == (0, ""), "a device that has said nothing yet is no fault of the cache"
    code, _, errors = await peewit(folder, "mediator", "device", "../evil", env=secret)
    assert (code, "not a device's name" in errors) == (3, True)
    code, output, errors = await peewit(folder, "node", "status", str(folder / "north" / "node.toml"))
    assert (code, "west" in output) == (0, True), errors


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("charter", "show", "--charter", "none.toml"), 4, "none.toml: No such file"),
        (("registry", "find", "--postcode", "10115", "--within", "5km"), 4, "--places"),
        (("registry", "find", "--postcode", "10115", "--within", "far"), 3, "--within"),
        (("registry", "show", "xyz"), 3, "hexadecimal"),
        (("mediator", "status"), 4, "holds no mediator"),
        (("mediator", "status", "--node", "nowhere"), 4, "holds no mediator"),
        (("registry", "find", "--postcode", "10115", "--node", "nowhere"), 4, "no operator 'nowhere'"),
        (("registry", "find", "--postcode", "10115"), 5, "no node could be used"),
        (("fork", "show", "charter.toml"), 3, "error"),
        (("log", "verify", "ftp://x"), 3, "URL"),
        (("node", "run", "nowhere.toml"), 4, "no such file"),
        (("node", "status", "north/node.toml"), 4, "is the node running"),
        (("operator", "withdraw", "00" * 32), 4, "is the node running"),
        (("operator", "withdraw", "zz"), 3, "64 hexadecimal digits"),
        (("frobnicate",), 2, "No such command"),
    ],
)
async def test_errors_say_what_to_do_and_have_documented_exit_codes(
    tmp_path: Path, words: tuple[str, ...], code: int, what: str
) -> None:
    Federation.make(tmp_path)
    found, _, errors = await peewit(tmp_path, *words)
    assert (found, what in errors) == (code, True), errors
    assert "Traceback" not in errors


async def test_log_verify_checks_any_log_and_notices_a_rollback(federation: Federation) -> None:
    _, device = await start_with_area(federation, 300)
    url = f"{federation.url('west')}/log/{device.origin.hex()}"
    log = federation.nodes["west"].logs.get(device.origin)
    assert log is not None
    words = ("log", "verify", url, "--key", str(log.key), "--save", "seen", "--json")
    code, output, errors = await peewit(federation.folder, *words)
    assert (code, json.loads(output)["size"]) == (0, 301), errors
    code, _, errors = await peewit(federation.folder, *words)
    assert code == 0, errors
    longer = device.head([*device.entries, b"\xa0"])
    (federation.folder / "seen").write_bytes(longer.encode())
    code, _, errors = await peewit(federation.folder, *words)
    assert (code, "rolled back" in errors) == (7, True)
    stranger = Device(TestMediator("x"), SigningKey(seed("stranger")))
    from peewit_federation.log.checkpoint import log_key

    code, _, errors = await peewit(federation.folder, "log", "verify", url, "--key", str(log_key(stranger.key.public)))
    assert code == 7


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

    liar.answers = {"/v1/heads/": cbor.encode([note, b""])}
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
