"""Real nodes over real sockets: agreement, forks, closes, restarts (design 9)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from peewit_clients.log_check import check_log
from peewit_federation import cbor
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Checkpoint, log_key, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.statements.carried import Close, Evidence, evidence_of, open_carried, sign_close
from peewit_federation.statements.mediator import Provider, Revocation
from tests.federation_kit import Federation, TestMediator, catchment, encode_all, provider, seed
from tests.federation_kit_http import Device, admit, get, no_lies, post, quorums, start_with_area, until


async def test_what_is_published_at_one_node_is_agreed_on_by_all_with_a_quorum(federation: Federation) -> None:
    mediator, _ = await start_with_area(federation)
    await until(lambda: quorums(federation))
    await federation.agree()
    for node in federation.nodes.values():
        assert len(node.keeper.registry.folds[mediator.id].subjects) == 3
    no_lies(federation)


async def test_a_stock_client_mirrors_and_verifies_any_log_from_any_node(federation: Federation) -> None:
    _, device = await start_with_area(federation, 700)
    await until(lambda: quorums(federation))
    async with aiohttp.ClientSession() as session:
        for name in federation.names:
            for log in federation.nodes[name].logs.all():
                url = f"{federation.url(name)}/log/{log.origin.hex()}"
                found = await check_log(session, url, [log.key], log.key.name, None, lambda *_: None)
                assert found.checkpoint.size == log.size
    status, body = await get(f"{federation.url('east')}/log/{device.origin.hex()}/tile/entries/000")
    assert status == 200
    assert body == b"".join(len(e).to_bytes(2, "big") + e for e in device.entries[:256])


async def test_immutable_files_may_be_cached_for_ever_and_bundles_are_compressed(federation: Federation) -> None:
    _, device = await start_with_area(federation, 40)
    prefix = f"{federation.url('north')}/log/{device.origin.hex()}"
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.get(f"{prefix}/tile/entries/000.p/41") as response:
            assert "immutable" in response.headers["Cache-Control"]
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["Content-Type"] == "application/octet-stream"
        async with session.get(f"{prefix}/tile/entries/000.p/41", headers={"Accept-Encoding": "gzip;q=0"}) as response:
            assert "Content-Encoding" not in response.headers
        async with session.get(f"{prefix}/tile/entries/000") as response:
            assert (response.status, response.headers["Cache-Control"]) == (404, "no-store"), "it may be full soon"
        async with session.get(f"{prefix}/checkpoint") as response:
            assert "max-age=1" in response.headers["Cache-Control"]
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("tile/0/000.p/3", 200),
        ("tile/0/000.p/2", 200),
        ("tile/0/000.p/4", 404),
        ("tile/0/000", 404),
        ("tile/0/x000/000.p/3", 400),
        ("tile/0/..%2f000", 400),
        ("tile/9/000", 400),
        ("tile/entries/000.p/03", 400),
        ("tile/0/999999999999", 400),
        ("tile/7/x999/x999/x999/x999/x999/999", 404),
    ],
)
async def test_tile_paths_have_one_spelling(federation: Federation, path: str, status: int) -> None:
    _, device = await start_with_area(federation)
    url = f"{federation.url('north')}/log/{device.origin.hex()}/{path}"
    async with aiohttp.ClientSession() as session:
        from yarl import URL

        async with session.get(URL(url, encoded=True)) as response:
            assert response.status == status, await response.text()


async def test_appends_are_checked_and_repeating_one_is_harmless(federation: Federation) -> None:
    mediator, device = await start_with_area(federation)
    url = federation.url("north")
    path = f"{url}/v1/log/{device.origin.hex()}/append"
    more = [*device.entries, provider("q", catchment("area", "10115")).encode()]

    async def refused(body: bytes, status: int, word: str) -> None:
        found, answer = await post(path, body)
        assert found == status, answer
        assert word in json.loads(answer)["title"], answer

    head = device.head(more)
    await refused(b"\xff", 400, "CBOR")
    await refused(device.append(9, more + [b"\xa0"] * 7), 409, "this node has 3")
    await refused(device.append(3, more, note=device.head([*more, b"x"]).encode()), 400, "do not make")
    await refused(device.append(3, more, note=replace_root(device, more)), 422, "root")
    stranger = Device(mediator, SigningKey(seed("stranger")), more)
    await refused(device.append(3, more, note=stranger.head().encode()), 422, "another log's origin")
    await refused(device.append(3, [*device.entries, b"\xa2\x00\x10\x01\x01"]), 400, "entry 3")
    await refused(device.append(3, [*device.entries, mediator.admission("1").encode()]), 400, "does not belong")
    for _ in range(2):
        status, receipt = await post(path, device.append(3, more))
        assert status == 200
        assert receipt.startswith(head.checkpoint.text.encode())
    status, _ = await post(path, device.append(0, device.entries))
    assert status == 200
    status, answer = await post(f"{url}/v1/log/{stranger.origin.hex()}/append", stranger.append(device=False))
    assert status == 404, answer


def replace_root(device: Device, entries: list[bytes]) -> bytes:
    return device.head([*entries[:-1], b"other"]).encode()


async def test_a_log_of_a_mediator_that_nobody_admits_is_refused(federation: Federation) -> None:
    device = Device.of(TestMediator("nobody"))
    device.entries = encode_all(catchment("area", "10115"))
    status, body = await device.publish(federation.url("north"))
    assert status == 403
    assert b"no operator admits" in body


async def test_an_operators_log_is_written_by_its_own_node_only(federation: Federation) -> None:
    origin = federation.nodes["north"].own.log.origin
    device = Device.of(TestMediator("m"))
    device.entries = encode_all(catchment("area", "10115"))
    status, _ = await post(f"{federation.url('north')}/v1/log/{origin.hex()}/append", device.append())
    assert status == 403


async def test_entries_of_65535_bytes_are_kept_and_huge_bodies_refused(federation: Federation) -> None:
    _, device = await start_with_area(federation)
    big = cbor.encode({0: 19, 1: 1, 2: 17, 3: bytes(32), 4: 0, 5: bytes(16), 99: bytes(65_535 - 68)})
    pad = 65_535 - len(big)
    big = cbor.encode({0: 19, 1: 1, 2: 17, 3: bytes(32), 4: 0, 5: bytes(16), 99: bytes(65_535 - 68 + pad)})
    assert len(big) == 65_535
    device.entries.append(big)
    status, body = await device.publish(federation.url("north"), 3)
    assert status == 200, body
    await federation.agree()
    log = federation.nodes["east"].logs.get(device.origin)
    assert log is not None
    assert await federation.nodes["east"].logs.entries(log, 3, 4) == [big]
    status, _ = await post(f"{federation.url('north')}/v1/log/{device.origin.hex()}/append", b"x" * ((8 << 20) + 1))
    assert status == 413


async def test_entries_beyond_the_quota_are_refused(federation: Federation) -> None:
    mediator = TestMediator("small")
    for name in ("north", "west"):
        admission = replace(mediator.admission("1"), quotas=(1, 2, 10))
        await federation.nodes[name].own.append(admission.encode())
    await federation.agree()
    device = Device.of(mediator)
    device.entries = encode_all(catchment("a", "10115"), catchment("b", "10117"), catchment("c", "10119"))
    status, body = await device.publish(federation.url("north"))
    assert status == 429, body
    status, body = await device.publish(federation.url("north"), 0, device.entries[:2])
    assert status == 200, body
    second = Device(mediator, SigningKey(seed("second")), device.entries[:1])
    status, body = await second.publish(federation.url("north"))
    assert status == 429, body
    assert b"1 devices" in body


# Forks


async def fork_in_two(
    federation: Federation, mediator: TestMediator, device: Device
) -> tuple[list[bytes], list[bytes]]:
    """The thief shows one history to north and west, another to south and east, while they cannot talk."""
    honest = list(device.entries)
    a = honest + [Revocation(Provider.KIND, provider(f"p{n}").subject, 4, seed("a", n)[:16]).encode() for n in range(2)]
    b = [*honest, provider("fake", catchment("area", "10115"), version=7).encode()]
    for name, entries in (("north", a), ("east", b)):
        status, body = await device.publish(federation.url(name), len(honest), entries)
        assert status in (200, 409), body
    return a, b


async def test_a_thief_is_caught_flagged_closed_and_the_registry_is_what_it_was(federation: Federation) -> None:
    mediator, device = await start_with_area(federation)
    await until(lambda: quorums(federation))
    before = await federation.agree()
    honest = list(device.entries)
    await fork_in_two(federation, mediator, device)
    await until(lambda: all(n.logs.get(device.origin).forked for n in federation.nodes.values()))  # type: ignore[union-attr]
    for name in federation.names:
        status, body = await get(f"{federation.url(name)}/v1/evidence/{device.origin.hex()}")
        assert status == 200
        found = open_carried(body)
        assert isinstance(found, Evidence)
        assert found.origin_hash == device.origin
    status, _ = await device.publish(federation.url("west"), 3, [*honest, provider("late").encode()])
    assert status == 409
    root = root_of(map(leaf_hash, honest))
    close = sign_close(Close(mediator.id, mediator.root.public, device.origin, len(honest), root), mediator.root)
    status, body = await post(f"{federation.url('south')}/v1/statements", close)
    assert status == 200, body
    await until(lambda: all(n.keeper.registry.digest() == before for n in federation.nodes.values()))
    # What the close vouches for can be proven to clients, whatever branch a node holds.
    for name in federation.names:
        status, body = await get(f"{federation.url(name)}/v1/subjects/provider/{provider('p0').subject.hex()}")
        assert status == 200
        assert len(cbor.decode(body)[2]) == 1


async def test_a_fork_at_entry_one_is_settled_and_the_picked_branch_is_served(federation: Federation) -> None:
    mediator = TestMediator("mitte")
    await admit(federation, mediator)
    device = Device.of(mediator)
    a = encode_all(catchment("a", "10115"), provider("p", catchment("a", "10115")))
    b = encode_all(catchment("b", "10117"))
    await device.publish(federation.url("north"), 0, a)
    await device.publish(federation.url("east"), 0, b)
    await until(lambda: all((log := n.logs.get(device.origin)) and log.forked for n in federation.nodes.values()))
    root = root_of(map(leaf_hash, a))
    held = {n: federation.nodes[n].logs.get(device.origin).head.root for n in federation.names}  # type: ignore[union-attr]
    path = f"/log/{device.origin.hex()}/closed/{root.hex()}/tile/entries/000.p/2"
    for name in federation.names:
        status, _ = await get(federation.url(name) + path)
        assert status == 404, "before it is settled, nothing is served as the closed branch"
    close = sign_close(Close(mediator.id, mediator.root.public, device.origin, 2, root), mediator.root)
    status, body = await post(f"{federation.url('west')}/v1/statements", close)
    assert status == 200, body
    await until(lambda: all(not n.keeper.registry.unsettled() for n in federation.nodes.values()))
    await federation.agree()
    for name in federation.names:
        status, body = await get(federation.url(name) + path)
        assert (status, body) == (200, b"".join(len(e).to_bytes(2, "big") + e for e in a)), (name, held)
        fold = federation.nodes[name].keeper.registry.folds[mediator.id]
        assert {subject for _, subject in fold.subjects} == {catchment("a").area, provider("p").subject}


async def test_a_flood_of_statements_does_not_block_a_close(federation: Federation) -> None:
    mediator, device = await start_with_area(federation)
    url = f"{federation.url('north')}/v1/statements"
    root = root_of(map(leaf_hash, device.entries))
    accepted = 0
    for number in range(40):
        status, _ = await post(url, mediator.device(SigningKey(seed("flood", number))))
        accepted += status == 200
    assert accepted <= 16
    stranger = TestMediator("stranger")
    status, _ = await post(
        url, sign_close(Close(mediator.id, stranger.root.public, device.origin, 0, root), stranger.root)
    )
    assert status == 403
    close = Close(mediator.id, mediator.root.public, device.origin, 3, root)
    for _ in range(2):
        status, body = await post(url, sign_close(close, mediator.root))
        assert status == 200, body
    status, body = await post(url, sign_close(replace(close, size=4), mediator.root))
    assert status == 403, "only ever smaller closes"
    for size in (2, 1):
        smaller = replace(close, size=size, root_hash=root_of(map(leaf_hash, device.entries[:size])))
        status, body = await post(url, sign_close(smaller, mediator.root))
        assert status == 200, body
    status, _ = await post(url, sign_close(replace(close, size=1 << 40), mediator.root))
    assert status == 403


async def test_what_comes_at_the_same_time_is_counted_one_after_another(federation: Federation) -> None:
    """Quotas hold for a hundred posts at once, and closes are counted across restarts."""
    mediator, device = await start_with_area(federation, 10)
    url = f"{federation.url('north')}/v1/statements"
    name = log_key(device.key.public).name

    def evidence(number: int) -> bytes:
        leaves = [leaf_hash(b"%d" % number), leaf_hash(b"other")]
        heads = [sign_checkpoint(Checkpoint(name, 1, root_of([leaf])), device.key) for leaf in leaves]
        return evidence_of(device.key.public, heads[0], heads[1], root_of(leaves[1:]), []).encode()

    roots = [root_of(map(leaf_hash, device.entries[:size])) for size in range(10)]
    closes = [
        sign_close(Close(mediator.id, mediator.root.public, device.origin, size, root), mediator.root)
        for size, root in enumerate(roots)
    ]
    answers = await asyncio.gather(*(post(url, close) for close in closes[::-1] * 3))
    assert 1 <= sum(status == 200 for status, _ in answers) <= 8 + 2 * 8, "the same again is harmless"
    carried = federation.nodes["north"].own.log.size
    await asyncio.gather(*(post(url, evidence(number)) for number in range(20)))
    assert federation.nodes["north"].own.log.size == carried + 1, "one is enough"
    await federation.stop("north")
    await federation.start("north")
    held = federation.nodes["north"].keeper.registry.vouched
    assert len(held.close_bytes) <= 8


# Restarts


async def test_a_node_that_was_away_catches_up_and_does_not_fold_from_scratch(federation: Federation) -> None:
    mediator, device = await start_with_area(federation, 300)
    await until(lambda: quorums(federation))
    await federation.agree()
    await federation.stop("east")
    device.entries += encode_all(provider("new", catchment("area", "10115")))
    status, body = await device.publish(federation.url("north"), 301)
    assert status == 200, body
    await federation.agree()
    read: list[int] = []
    await federation.start("east")
    node = federation.nodes["east"]
    fold = node.keeper.registry.folds[mediator.id]
    assert len(fold.subjects) >= 301, "the subjects come from the database"
    original = fold.read

    def counting(origin: bytes, start: int, entries: list[bytes], state: object) -> None:
        read.append(len(entries))
        original(origin, start, entries, state)  # type: ignore[arg-type]

    fold.read = counting  # type: ignore[method-assign, assignment]
    await federation.agree()
    assert sum(read) <= 4


async def test_all_nodes_restart_while_one_lacks_a_quorum_and_still_agree(federation: Federation) -> None:
    _, device = await start_with_area(federation)
    await until(lambda: quorums(federation))
    await federation.stop("west")
    device.entries.append(provider("late", catchment("area", "10115")).encode())
    await device.publish(federation.url("north"), 3)
    await until(lambda: quorums(federation))
    await federation.stop()
    await federation.start()
    await federation.agree()
    await until(lambda: quorums(federation))
    await federation.agree()


async def test_a_node_restored_from_a_backup_does_not_fork_its_own_log(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    await federation.start()
    mediator = TestMediator("first")
    await admit(federation, mediator)
    await federation.stop("north")
    folder = tmp_path / "north"
    backup = {p.name: p.read_bytes() for p in folder.glob("node.sqlite*") if p.suffix != ".lock"}
    await federation.start("north")
    await federation.nodes["north"].own.append(TestMediator("second").admission("1").encode())
    await until(lambda: quorums(federation))
    await federation.agree()
    await federation.stop("north")
    for path in folder.glob("node.sqlite*"):
        path.unlink()
    for name, data in backup.items():
        (folder / name).write_bytes(data)
    await federation.start("north")
    await federation.nodes["north"].own.append(TestMediator("third").admission("1").encode())
    await until(lambda: quorums(federation))
    await federation.agree()
    assert not any(log.forked for node in federation.nodes.values() for log in node.logs.all())
    await federation.stop()


async def test_a_node_put_back_from_a_copy_of_the_running_database_does_not_fork_its_own_log(tmp_path: Path) -> None:
    """Such a copy knows of the same start as the folder: that entries are missing stands beside the keys."""
    federation = Federation.make(tmp_path)
    await federation.start()
    await admit(federation, TestMediator("first"))
    folder = tmp_path / "north"
    with closing(sqlite3.connect(folder / "node.sqlite")) as live, closing(sqlite3.connect(tmp_path / "copy")) as copy:
        live.backup(copy)
    for name in ("second", "third"):
        await federation.nodes["north"].own.append(TestMediator(name).admission("1").encode())
    await until(lambda: quorums(federation))
    await federation.agree()
    size = federation.nodes["north"].own.log.size
    await federation.stop("north")
    for path in folder.glob("node.sqlite*"):
        path.unlink()
    (tmp_path / "copy").rename(folder / "node.sqlite")
    await federation.start("north")
    own = federation.nodes["north"].own
    assert own.log.size < size
    assert not own.confirmed.is_set()
    await own.append(TestMediator("fourth").admission("1").encode())
    assert own.log.size == size + 1
    await until(lambda: quorums(federation))
    await federation.agree()
    assert not any(log.forked for node in federation.nodes.values() for log in node.logs.all())
    await federation.stop()


async def test_a_second_node_on_the_same_database_is_refused(federation: Federation) -> None:
    from peewit_node.engine import StorageError
    from peewit_node.node import Node

    with pytest.raises(StorageError, match="another process"):
        await Node.start(federation.configs["north"])
