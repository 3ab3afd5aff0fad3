"""What operators meet: bad configuration, keys, charters that follow, and what a node says of itself."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from peewit_clients.charters import Card, compose_charter
from peewit_federation.charter_file import parse_charter, sign_charter
from peewit_federation.errors import ForgeryError, OperatorError
from peewit_federation.keys import SigningKey
from peewit_node.config import load_config
from peewit_node.engine import StorageError
from peewit_node.keyfile import read_key, write_key
from peewit_node.node import Node
from peewit_node.setup import init_node
from tests.commands import peewit
from tests.federation_kit import NAMES, Federation, TestMediator, catchment, encode_all
from tests.federation_kit_http import Device, admit, get, quorums, start_with_area, until

GOOD = 'operator = "north"\ncharter = "charter.toml"\ndata = "."\nlisten = "127.0.0.1:8100"\n'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("operator = \n", "node.toml"),
        (GOOD.replace('operator = "north"\n', ""), "operator: Field required"),
        (GOOD + "surprise = 1\n", "surprise: Extra inputs are not permitted"),
        (GOOD + "[gossip]\ninterval_s = 0\n", "gossip.interval_s: Input should be greater than 0"),
        (GOOD + "[gossip]\ninterval = 1\n", "gossip.interval: Extra"),
        (GOOD + '[limits]\nconnections = "many"\n', "limits.connections: Input should be a valid integer"),
        (GOOD.replace("127.0.0.1:8100", "0.0.0.0:8100"), "plain HTTP is only allowed on loopback"),
        (GOOD.replace("127.0.0.1:8100", "localhost"), "HOST:PORT"),
        (GOOD.replace("127.0.0.1:8100", "example:80"), "not an IP address"),
        (GOOD + '[tls]\ncertificate = "c.pem"\n', "tls.key: Field required"),
    ],
)
def test_a_bad_configuration_is_refused_with_file_key_and_reason(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(OperatorError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert what in str(caught.value)


def test_the_environment_goes_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.toml"
    path.write_text(GOOD)
    monkeypatch.setenv("PEEWIT_NODE_LISTEN", "127.0.0.1:9999")
    monkeypatch.setenv("PEEWIT_NODE_GOSSIP__INTERVAL_S", "7")
    config = load_config(path)
    assert config.address == ("127.0.0.1", 9999)
    assert config.gossip.interval_s == 7
    monkeypatch.setenv("PEEWIT_NODE_GOSSIP__INTERVAL_S", "0")
    with pytest.raises(OperatorError, match="the environment: PEEWIT_NODE_GOSSIP__INTERVAL_S: Input should be greater"):
        load_config(path)
    monkeypatch.setenv("PEEWIT_NODE_GOSSIP__INTERVAL_S", "7")
    monkeypatch.setenv("PEEWIT_NODE_GOSIP__INTERVAL_S", "7")
    with pytest.raises(OperatorError, match="PEEWIT_NODE_GOSIP__INTERVAL_S is no setting"):
        load_config(path)
    monkeypatch.delenv("PEEWIT_NODE_GOSIP__INTERVAL_S")
    monkeypatch.setenv("PEEWIT_NODE_GOSSIP", "nonsense")
    with pytest.raises(OperatorError, match="environment"):
        load_config(path)


def test_every_node_file_that_is_shipped_is_valid() -> None:
    root = Path(__file__).parents[2]
    found = list((root / "config").glob("**/*.toml"))
    nodes = [path for path in found if "operator =" in path.read_text() and "policy" not in path.read_text()]
    assert len(nodes) >= 4
    for path in nodes:
        load_config(path)


def test_x14_keys_are_made_0600_never_overwritten_and_refused_when_others_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    key = write_key(path, b"s" * 32)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path).public == key.public
    with pytest.raises(OperatorError, match="never overwritten"):
        write_key(path, b"t" * 32)
    path.chmod(0o640)
    with pytest.raises(OperatorError, match="chmod 600"):
        read_key(path)
    path.chmod(0o600)
    path.write_text("zz")
    with pytest.raises(OperatorError, match="hexadecimal"):
        read_key(path)


async def test_the_wrong_keys_or_operator_are_refused_before_anything_starts(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    config = federation.configs["north"]
    with pytest.raises(OperatorError, match="no operator 'nowhere'"):
        await Node.start(config.model_copy(update={"operator": "nowhere"}))
    with pytest.raises(OperatorError, match=r"log\.key is not the log key"):
        await Node.start(config.model_copy(update={"operator": "west"}))
    with pytest.raises(OperatorError, match="No such file"):
        await Node.start(config.model_copy(update={"charter": tmp_path / "none.toml"}))
    with pytest.raises(StorageError, match="no such directory"):
        await Node.start(config.model_copy(update={"data": tmp_path / "nowhere"}))


def test_making_a_node_that_was_cut_short_can_be_said_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seeds = tmp_path / "north", tuple(bytes([number]) * 32 for number in range(3))
    words = (folder, "north", "https://north.example", "127.0.0.1:1", (), "c.toml", seeds)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("peewit_node.setup.SqliteFile", full)
        with pytest.raises(OperatorError, match="No space left"):
            init_node(*words)
    assert not list(tmp_path.glob("**/*.key")), "no half a node"
    init_node(*words)
    with pytest.raises(OperatorError, match="never overwritten"):
        init_node(*words)


async def test_who_asks_a_node_that_hangs_or_is_broken_how_it_is_is_told_so(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(federation.configs["north"].data / "admin.sock"))
    door.listen()

    def answer(said: bytes) -> None:
        connection, _ = door.accept()
        connection.recv(1000)
        connection.sendall(said)
        connection.close()

    words = ("node", "status", "north/node.toml")
    for said, expected, what in (
        (b"", 5, "is the node running"),
        (b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n", 4, "HTTP status 500"),
    ):
        waiting = asyncio.create_task(asyncio.to_thread(answer, said))
        code, _, errors = await peewit(tmp_path, *words)
        await waiting
        assert (code, what in errors, "Traceback" in errors) == (expected, True, False), errors
    door.close()


async def test_a_node_whose_gossip_has_stopped_is_not_ready(federation: Federation) -> None:
    url, node = federation.url("north"), federation.nodes["north"]
    assert (await get(url + "/readyz"))[0] == 200
    real = node.state.clock
    node.views.own = lambda _: None  # type: ignore[method-assign, assignment, return-value]
    node.state.clock = lambda: real() + 3600
    status, body = await get(url + "/readyz")
    assert (status, b"no view was signed lately" in body) == (503, True)


async def test_status_health_and_metrics_tell_what_there_is(federation: Federation) -> None:
    mediator = TestMediator("mitte")
    await admit(federation, mediator)
    url = federation.url("north")
    assert await get(url + "/healthz") == (200, b"ok\n")
    assert await get(url + "/readyz") == (200, b"ready\n")
    status, body = await get(url + "/metrics")
    assert status == 200
    assert b"peewit_logs 4.0" in body
    status, page = await get(url + "/")
    assert status == 200
    assert b"Registry digest" in page
    assert b"caught lying" in page
    await federation.stop("east")
    await until(lambda: "nobody listens" in federation.nodes["north"].peers.all["east"].last_error)
    assert b"east: nobody listens there" in (await get(url + "/"))[1]


async def test_a_new_charter_is_taken_over_without_a_restart_and_a_bad_one_is_not(federation: Federation) -> None:
    path = federation.folder / "charter.toml"
    text = path.read_text()
    node = federation.nodes["north"]
    path.write_text(text.replace("number = 1", "number = 2").replace("warn_s = 3600", "warn_s = 60"))
    with pytest.raises(ForgeryError, match="no quorum"):
        await node.charters.reload()
    assert node.state.charter.number == 1
    following = parse_charter(path.read_bytes())
    for name in federation.names[:3]:
        following = sign_charter(following, name, SigningKey(read_key(federation.folder / name / "charter.key").seed))
    path.write_bytes(following.encode())
    for name in federation.names:
        await federation.nodes[name].charters.reload()
    assert node.state.charter.warn_s == 60
    await federation.agree()


async def test_a_mirror_that_gets_a_vote_cosigns_what_it_holds(tmp_path: Path) -> None:
    """Heads that were there before may be the last of their logs for a long time."""
    federation = Federation.make(tmp_path)
    path = tmp_path / "charter.toml"
    cards = [Card.parse((tmp_path / name / "card.json").read_text()) for name in NAMES]
    path.write_text(compose_charter("test-federation", cards, 3, mirrors=("east",)))
    await federation.start()
    _, device = await start_with_area(federation)
    await until(lambda: quorums(federation))
    await federation.agree()

    def cosigners(name: str) -> set[str]:
        log = federation.nodes[name].logs.get(device.origin)
        return set(log.head.witnesses) if log and log.head else set()

    assert not any("east" in witness for witness in cosigners("east"))
    following = parse_charter(compose_charter("test-federation", cards, 3, number=2).encode())
    for name in NAMES[:3]:
        following = sign_charter(following, name, SigningKey(read_key(tmp_path / name / "charter.key").seed))
    path.write_bytes(following.encode())
    for name in NAMES:
        await federation.nodes[name].charters.reload()
    assert any("east" in witness for witness in cosigners("east")), "whoever asks it gets a quorum with its word"
    await federation.stop()


async def test_a_node_starts_with_no_charter_that_is_older_or_unsigned(tmp_path: Path) -> None:
    """Whoever can write a file and restart the node cannot take the federation back a year, or away."""
    federation = Federation.make(tmp_path, ("north",), quorum=1)
    path = federation.folder / "charter.toml"
    first = path.read_text()
    await federation.start()
    path.write_text(first.replace("number = 1", "number = 2").replace("warn_s = 3600", "warn_s = 60"))
    await federation.nodes["north"].charters.try_reload()
    status, page = await get(federation.url("north") + "/status.json")
    assert status == 200
    assert "no quorum" in json.loads(page)["refused_charter"]
    await federation.stop()
    with pytest.raises(OperatorError, match=r"charter\.toml: charter 2 is signed by 0 operators .* Charter 1 was in"):
        await federation.start()
    key = SigningKey(read_key(federation.folder / "north" / "charter.key").seed)
    path.write_bytes(sign_charter(parse_charter(path.read_bytes()), "north", key).encode())
    await federation.start()
    assert federation.nodes["north"].state.charter.number == 2, "a lawful successor may come while the node is off"
    await federation.stop()
    path.write_text(first)
    with pytest.raises(OperatorError, match="charter 1 does not follow charter 2"):
        await federation.start()


async def test_a_node_with_a_map_answers_by_distance_and_one_without_says_so(tmp_path: Path) -> None:
    from peewit_federation import cbor

    federation = Federation.make(tmp_path, ("north",), quorum=1)
    config = federation.configs["north"]
    table = Path(__file__).parents[2] / "examples" / "data" / "postcodes-de.csv"
    federation.configs["north"] = config.model_copy(update={"places": table})
    await federation.start()
    mediator = TestMediator("mitte")
    await federation.nodes["north"].own.append(mediator.admission("1").encode())
    await federation.agree()
    device = Device.of(mediator)
    device.entries = encode_all(catchment("near", "10117"), catchment("far", "14193"))
    status, body = await device.publish(federation.url("north"))
    assert status == 200, body
    await federation.agree()
    for distance, expected in (("3", 1), ("30", 2)):
        status, body = await get(
            f"{federation.url('north')}/v1/catchments?postcode=10115&within_km={distance}&service=flu"
        )
        assert (status, len(cbor.decode(body)[2])) == (200, expected)
    status, body = await get(f"{federation.url('north')}/v1/catchments?service=nothing")
    assert (status, cbor.decode(body)[2]) == (200, [])
    await federation.stop()
    federation.configs["north"] = config
    await federation.start()
    status, body = await get(f"{federation.url('north')}/v1/catchments?postcode=10115&within_km=3")
    assert status == 400
    assert b"no map" in body
    await federation.stop()
