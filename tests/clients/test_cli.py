"""The command line, as people use it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peewit_federation.gossip.heads import same_size_evidence
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.log.checkpoint import Checkpoint, log_key, sign_checkpoint
from tests.clients.office import AREAS, practices
from tests.commands import peewit
from tests.federation_kit import Federation, TestMediator, seed
from tests.federation_kit_http import Device, start_with_area, until


async def test_the_command_line_from_the_first_mediator_to_the_close_of_its_device(federation: Federation) -> None:
    folder = federation.folder
    code, output, errors = await peewit(folder, "charter", "show")
    assert code == 0, errors
    assert "3 of 4 nodes make a quorum" in output
    code, output, _ = await peewit(folder, "mediator", "init", "--json", env={"PEEWIT_PASSPHRASE": "open sesame"})
    identity = json.loads(output)
    secret = {"PEEWIT_PASSPHRASE": "open sesame"}
    code, _, errors = await peewit(folder, "mediator", "device", "desk", "--no-passphrase", env=secret)
    assert code == 3, "not admitted yet"
    assert "no operator admits" in errors
    shutil.rmtree(folder / "mediator" / "devices")
    for name in ("north", "west"):
        swapped = ("operator", "admit", identity["root"], "--root", identity["id"], "--postcodes", "1", "--data", name)
        code, _, errors = await peewit(folder, *swapped)
        assert (code, "are swapped" in errors) == (3, True), errors
        words = ("operator", "admit", identity["id"], "--root", identity["root"], "--postcodes", "1", "--data", name)
        code, output, errors = await peewit(folder, *words, "--dry-run")
        assert code == 0, errors
        code, output, errors = await peewit(folder, *words)
        assert code == 0, errors
        assert "entry" in output
    await federation.agree()
    code, output, errors = await peewit(folder, "mediator", "device", "desk", "--no-passphrase", env=secret)
    assert code == 0, errors
    (folder / "areas.csv").write_text(AREAS.replace("north west", "north"))
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
    assert "end within 60 days" not in output
    assert "at one node only, north" in " ".join(output.split())
    code, output, errors = await peewit(folder, "mediator", "log", "desk", "--json")
    assert code == 0, errors
    told = [(line["entry"], line["what"], line["name"], line["where"]) for line in json.loads(output)]
    assert told == [
        (0, "opens", "mitte", "everywhere"),
        (1, "admits", "p", "everywhere"),
        (2, "admits", "q", "everywhere"),
        (3, "suspends", "p", "everywhere"),
        (4, "revokes (key lost or stolen)", "q", "everywhere"),
    ]
    code, output, errors = await peewit(folder, "mediator", "close", "desk", "--at", "3", "--dry-run", env=secret)
    assert code == 0, errors
    assert output.splitlines()[1:] == [
        "entry 3 counts for nothing: suspends practice p",
        "entry 4 counts for nothing: revokes (key lost or stolen) practice q",
    ]
    code, output, errors = await peewit(folder, "mediator", "status", "--json")
    (origin,) = json.loads(output)["devices"]
    code, output, errors = await peewit(folder, "mediator", "close", origin, "--dry-run", env=secret)
    assert (code, "at 5 entries" in output) == (0, True), "a hash names the device whose folder is here"
    code, _, errors = await peewit(folder, "mediator", "init", "--folder", "other", "--no-passphrase")
    assert code == 0, errors
    wrong = ("mediator", "close", "desk", "--root", "other/root.key", "--dry-run")
    code, _, errors = await peewit(folder, *wrong)
    assert (code, "is not the root key of the mediator" in errors) == (4, True), errors
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
    trail = ("mediator", "trail", "--device", "spare", "--json")
    code, _, errors = await peewit(folder, *trail)
    assert (code, "a passphrase is needed, and nobody can be asked" in errors) == (4, True), errors
    code, _, errors = await peewit(folder, *trail, env={"PEEWIT_PASSPHRASE": "guess"})
    assert (code, "wrong passphrase" in errors) == (4, True), errors
    code, output, errors = await peewit(folder, *trail, env=secret)
    assert (code, json.loads(output)) == (0, []), errors
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
        (("node", "status", "north/node.toml"), 5, "is the node running"),
        (("operator", "withdraw", "00" * 32), 5, "is the node running"),
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


async def test_a_node_that_is_made_gives_programs_its_card(tmp_path: Path) -> None:
    words = ("node", "init", "north", "--operator", "north", "--url", "https://north.example", "--json")
    code, output, errors = await peewit(tmp_path, *words, "--dry-run")
    assert (code, json.loads(output)["dry_run"], list(tmp_path.iterdir())) == (0, True, []), errors
    code, output, errors = await peewit(tmp_path, *words)
    assert code == 0, errors
    assert json.loads(output) == json.loads((tmp_path / "north" / "card.json").read_text())
    assert json.loads(output)["url"] == "https://north.example"
    compose = ("charter", "new", "--name", "example", "north/card.json", "--committee", "0", "--threshold", "1")
    code, output, errors = await peewit(tmp_path, *compose, "--dry-run")
    assert (code, "1 operators admit a mediator; no draw" in output) == (0, True), errors


async def test_a_mediator_is_never_replaced_and_one_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    words = ("mediator", "init", "--no-passphrase", "--json")
    code, output, errors = await peewit(tmp_path, *words)
    assert code == 0, errors
    identity = json.loads(output)
    (tmp_path / "mediator" / "root.key").rename(tmp_path / "offline.key")
    code, _, errors = await peewit(tmp_path, *words)
    assert (code, "holds a mediator already" in errors) == (4, True), errors
    (tmp_path / "offline.key").rename(tmp_path / "mediator" / "root.key")
    (tmp_path / "mediator" / "mediator.json").unlink()
    code, output, errors = await peewit(tmp_path, *words)
    assert (code, json.loads(output)) == (0, identity), "its key stood already"
    (tmp_path / "mediator" / "devices" / "front").mkdir(parents=True)
    code, _, errors = await peewit(tmp_path, "mediator", "device", "front", "--no-publish", "--no-passphrase")
    assert code == 0, errors


async def test_operators_sign_a_charter_one_after_the_other_and_see_whether_it_follows(tmp_path: Path) -> None:
    Federation.make(tmp_path)
    first = (tmp_path / "charter.toml").read_text()
    (tmp_path / "2.toml").write_text(first.replace("number = 1", "number = 2"))
    follows = ("charter", "show", "--charter", "2.toml", "--follows", "charter.toml", "--json")
    code, _, errors = await peewit(tmp_path, *follows)
    assert (code, "no quorum" in errors) == (7, True), errors
    for name in ("north", "west", "south"):
        sign = ("charter", "sign", "2.toml", "--operator", name, "--key", f"{name}/charter.key")
        code, output, errors = await peewit(tmp_path, *sign)
        assert code == 0, errors
        (tmp_path / "2.toml").write_text(output)
    code, output, errors = await peewit(tmp_path, *follows)
    assert (code, json.loads(output)["signed_by"]) == (0, ["north", "south", "west"]), errors
    wrong = ("charter", "sign", "2.toml", "--operator", "north", "--key", "west/charter.key")
    code, _, errors = await peewit(tmp_path, *wrong)
    assert (code, "is not the charter key of north" in errors) == (4, True), errors


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


async def test_a_forged_file_of_evidence_proves_nothing_and_does_not_end_as_if_it_did(tmp_path: Path) -> None:
    """Scripts look at the exit code: 7 is a log that lied, not a file that does."""
    key = SigningKey(seed("thief"))
    name = log_key(key.public).name
    heads = [sign_checkpoint(Checkpoint(name, 1, seed("root", number)), key) for number in range(2)]
    data = same_size_evidence(key.public, *heads).encode()
    (tmp_path / "evidence").write_bytes(data)
    code, output, errors = await peewit(tmp_path, "fork", "show", "evidence")
    assert (code, "the log forked" in output) == (7, True), errors
    at = data.index(heads[1].encode()) + len(heads[1].encode()) - 20
    (tmp_path / "forged").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    code, _, errors = await peewit(tmp_path, "fork", "show", "forged")
    assert (code, "proves nothing" in errors or "base64" in errors) == (3, True), errors
