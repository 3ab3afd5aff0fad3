"""`peewit user`, `peewit provider` and the mediator's desk, as people use them, over real nodes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peewit_clients.charters import usual_draw
from peewit_node.config import Admission
from tests.commands import peewit, started
from tests.federation_kit import NAMES, Federation
from tests.federation_kit_http import until
from tests.node.test_draw import opened

AREAS = "name,postcodes,services,groups,nodes,days\nmitte,10115 10117,flu,over80,north west,400\n"
PERSON = ("--family", "Muster", "--given", "Erika", "--born", "1940-08-12", "--postcode", "10115", "--service", "flu")
NO_PASSPHRASE = {"PEEWIT_PASSPHRASE": "", "PEEWIT_LANGUAGE": "en"}


async def done(folder: Path, *words: str) -> str:
    code, output, errors = await peewit(folder, *words, env=NO_PASSPHRASE)
    assert code == 0, (words, errors)
    return output


async def found(folder: Path, *words: str) -> Any:
    return json.loads(await done(folder, *words, "--json"))


async def refused(folder: Path, expected: int, message: str, *words: str) -> None:
    code, output, errors = await peewit(folder, *words, env=NO_PASSPHRASE)
    assert (code, message in errors) == (expected, True), (words, code, output, errors)
    assert "Traceback" not in errors


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[Federation]:
    """Nodes with a draw, and a district with one area and a device."""
    admission = Admission(kind="work", work_bits=4, groups=("over80",))
    federation = Federation.make(tmp_path, draw=usual_draw(NAMES), admission=admission)
    await federation.start()
    identity = json.loads((await peewit(tmp_path, "mediator", "init", "--no-passphrase", "--json"))[1])
    (tmp_path / "id").write_text(identity["id"])
    for name in NAMES[:2]:
        words = ("operator", "admit", identity["id"], "--root", identity["root"], "--postcodes", "1", "--data", name)
        await done(tmp_path, *words)
    await federation.agree()
    for name in ("desk", "deputy"):
        await done(tmp_path, "mediator", "device", name)
    (tmp_path / "areas.csv").write_text(AREAS)
    await done(tmp_path, "mediator", "catchments", "import", "areas.csv", "--device", "desk")
    await opened(federation, ("", "over80"))
    yield federation
    await federation.stop()


async def admitted(folder: Path) -> None:
    await done(folder, "provider", "init", "--mediator", (folder / "id").read_text())
    await refused(folder, 3, "not admitted yet", "provider", "run", "--once")
    words = ("--name", "Clinic A", "--street", "Example Street 1", "--postcode", "10115", "--service", "flu")
    await done(folder, "provider", "apply", "--name", "Clinic Typo", *words[2:])
    await asyncio.sleep(1)  # an application has its second
    await done(folder, "provider", "apply", *words, "--step-free", "--speak", "de", "--speak", "en")
    (application,) = await found(folder, "mediator", "applications", "--device", "desk")
    assert application["data"]["street"] == "Example Street 1"
    number = application["number"]
    assert "eigene Angaben" in await done(folder, "mediator", "applications", "--device", "desk", "--language", "de")
    approved = await done(folder, "mediator", "approve", number, "--device", "desk", "--language", "de")
    assert "lässt zu: Clinic A" in approved
    assert "wirksam" in approved
    assert await found(folder, "mediator", "applications", "--device", "desk") == [], "nor the one that it replaced"
    assert "Clinic A is admitted" in await done(folder, "provider", "status")


async def test_where_it_takes_two_persons_one_device_admits_nobody(people: Federation) -> None:
    folder = people.folder
    assert "two devices" in await done(folder, "mediator", "two-persons", "on")
    await done(folder, "provider", "init", "--mediator", (folder / "id").read_text())
    words = ("--name", "Clinic A", "--street", "Example Street 1", "--postcode", "10115", "--service", "flu")
    await done(folder, "provider", "apply", *words)
    for _ in range(2):
        assert "wait for a second person" in await done(folder, "mediator", "approve", "--all", "--device", "desk")
        assert "has not decided yet" in await done(folder, "provider", "status"), (
            "one device says it as often as it likes"
        )
    (folder / "practices.csv").write_text("name,areas,services,signing_key,encryption_key,days\n")
    await refused(folder, 3, "two persons", "mediator", "provider", "admit", "practices.csv", "--device", "desk")
    (waiting,) = await found(folder, "mediator", "applications", "--device", "deputy")
    assert waiting["first_yes"]
    await done(folder, "mediator", "approve", waiting["number"], "--device", "deputy")
    assert "Clinic A is admitted" in await done(folder, "provider", "status")
    # The same for the key with which it signs passports.
    await done(folder, "provider", "passport", "key")
    approve = ("mediator", "passports", "approve", "--all")
    assert "wait for a second person" in await done(folder, *approve, "--device", "deputy")
    assert "waits for your health district" in await done(folder, "provider", "passport", "key")
    await done(folder, *approve, "--device", "desk")
    assert "active" in await done(folder, "provider", "passport", "key")


async def test_an_appointment_from_the_application_of_a_practice_to_its_end(people: Federation) -> None:
    folder = people.folder
    await admitted(folder)
    day, next_day = (time.strftime("%Y-%m-%d", time.localtime(time.time() + n * 86_400)) for n in (2, 3))
    times = ("--service", "flu", "--from", "09:00", "--to", "09:30", "--minutes", "10")
    await done(folder, "provider", "calendar", "add", "--day", day, *times)
    (area,) = await found(folder, "user", "find", "10115")
    assert (area["practices"], area["waiting"], area["postcodes"]) == (1, 0, ["10115", "10117"])
    await refused(folder, 3, "does not offer measles", "user", "request", *PERSON[:-1], "measles", "--area", "1")
    await refused(folder, 3, "there is no area", "user", "request", *PERSON, "--area", "2")
    assert "over80, everybody" in await done(folder, "user", "find", "10115")
    asked = await found(folder, "user", "request", *PERSON, "--group", "over80", "--hours", "9-12")
    assert await found(folder, "user", "request", *PERSON, "--group", "over80") == asked, "saying it again is harmless"
    assert (await found(folder, "user", "change", "--hours", "8-20", "--days", "any"))["version"] > 1
    assert "0 rounds with 0 people of earlier groups" in await done(folder, "user", "status")
    await done(folder, "user", "change", "--speak", "tr")
    assert "no free time, way in or language suits" in await done(folder, "provider", "run", "--once")
    await done(folder, "user", "change", "--speak", "any", "--step-free")
    assert "1 offers sent" in await done(folder, "provider", "run", "--once")
    assert len(await found(folder, "user", "offers")) == 2
    await refused(folder, 3, "there is no appointment", "user", "note", "hello")
    await refused(folder, 3, "there is no offer 9", "user", "accept", "9")
    assert "was told who you are" in await done(folder, "user", "accept", "2")
    await refused(folder, 3, "you have chosen a time already", "user", "request", *PERSON, "--group", "over80")
    await refused(folder, 3, "only a request that waits", "user", "change", "--hours", "8-20")
    assert "You have accepted" in await done(folder, "user", "accept", "1"), "it is not said that 1 was accepted"
    assert "booked" in await done(folder, "provider", "run", "--once")
    address = "Clinic A, Example Street 1, 10115, way in without steps, languages: de en"
    assert address in await done(folder, "user", "status")
    shown = await found(folder, "user", "show")
    assert "Ihr Termin" in await done(folder, "user", "show", "--language", "de")
    listed = await found(folder, "provider", "day", day, "--pdf", "day.pdf")
    assert [(row["name"], row["code"]) for row in listed] == [("Muster, Erika", shown["check_in"])]
    assert (folder / "day.pdf").read_bytes().startswith(b"%PDF")
    assert "The draw of this request is proven" in await done(folder, "user", "receipt")
    proof = await found(folder, "user", "receipt")
    for name, changes in (
        ("good", {}),
        ("earlier", {"priority": "00" + proof["priority"][2:]}),
        ("group", {"group": ""}),
        ("nothing", {"ticket": "zz"}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(proof | changes))
    check = ("user", "receipt", "--check")
    assert "The draw of this request is proven" in await done(folder, *check, "good.json", "--person", "stranger")
    await refused(folder, 7, "gave this request another priority", *check, "earlier.json")
    await refused(folder, 7, "0 operators admitted this request", *check, "group.json")
    await refused(folder, 3, "nothing.json is not a receipt", *check, "nothing.json")
    await done(folder, "user", "note", "I use a wheelchair")
    assert "wheelchair" in await done(folder, "provider", "run", "--once")
    code = asked["recovery_code"]
    await done(folder, "user", "restore", code, "--person", "erika-again")
    again = ("--person", "erika-again")
    back = await found(folder, "user", "show", *again)
    assert (back["check_in"], back["begins"]) == (shown["check_in"], shown["begins"]), "back on an empty device"
    await done(folder, "provider", "calendar", "add", "--day", next_day, *times)
    await done(folder, "provider", "move", "--day", day, "--to", next_day, "--text", "the fridge is broken")
    (row,) = await found(folder, "provider", "calendar", "show")
    assert row["day"] == next_day, "nobody else is offered a time on the day that is off"
    await done(folder, "provider", "calendar", "add", "--day", day, *times)
    assert "fridge" in await done(folder, "user", "status", *again)
    assert next_day in await done(folder, "user", "show", *again)
    await done(folder, "provider", "calendar", "export", "out.ics")
    assert (folder / "out.ics").read_text().count("BEGIN:VEVENT") == 1
    await done(folder, "user", "cancel", "--text", "I am well", *again)
    assert "cancelled: I am well" in await done(folder, "provider", "run", "--once")
    assert "Nobody comes" in await done(folder, "provider", "day", next_day)
    await done(folder, "user", "again", *again)
    await done(folder, "provider", "run", "--once")
    await done(folder, "user", "accept", "1", *again)
    assert "booked" in await done(folder, "provider", "run", "--once")
    await done(folder, "provider", "cancel", "--day", day, "--text", "sorry")
    assert "sorry" in await done(folder, "user", "status", *again)
    off = time.strftime("%Y-%m-%d", time.localtime(time.time() + 9 * 86_400))
    await done(folder, "provider", "calendar", "add", "--day", off, *times)
    assert "0 people" in await done(folder, "provider", "cancel", "--day", off), "a day on which nobody is booked yet"
    assert off not in await done(folder, "provider", "calendar", "show")
    await done(folder, "user", "withdraw", *again)
    assert (await found(folder, "user", "status", *again))["state"] == "withdrawn"
    await refused(folder, 3, "you have withdrawn this request", "user", "request", *PERSON, *again)
    await refused(folder, 3, "'doctors'", "user", "request", *PERSON, *again, "--anew", "--group", "doctors")
    await done(folder, "user", "again", *again)
    assert (await found(folder, "user", "status", *again))["state"] == "waiting", (
        "the old place, as there is no new one"
    )
    anew = await found(folder, "user", "request", *PERSON, *again, "--anew")
    assert anew["recovery_code"] != code
    standing = await found(folder, "user", "status", *again)
    assert (standing["state"], standing["parked"], standing["ended"]) == ("waiting", False, False)


async def test_a_practice_that_is_at_work_can_still_be_asked_and_told(people: Federation) -> None:
    """Its folder is free between two turns, and what was changed meanwhile counts from the next."""
    folder = people.folder
    await admitted(folder)
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() + 2 * 86_400))
    times = ("--service", "flu", "--from", "09:00", "--to", "09:10", "--minutes", "10")
    async with started(folder, "provider", "run", "--every", "0.5", env=NO_PASSPHRASE) as practice:
        await done(folder, "provider", "calendar", "add", "--day", day, *times)
        await done(folder, "user", "request", *PERSON)
        await until(lambda: "1 offers sent" in practice.output(), 60)
        await done(folder, "user", "accept", "1")
        await until(lambda: "booked" in practice.output(), 60)
        assert "Muster" in await done(folder, "provider", "day", day)
        await done(folder, "provider", "cancel", "--day", day, "--text", "sorry")
        assert "sorry" in await done(folder, "user", "status")
        # It reloads what another command changed while no node answers, and goes on when they do.
        await people.stop()
        await done(folder, "provider", "calendar", "add", "--day", day, *times)
        await asyncio.sleep(2)
        await people.start()
        await done(folder, "user", "again")
        before = practice.output().count("booked")
        await until(lambda: practice.output().count("1 offers sent") == 2, 90)
        await done(folder, "user", "accept", "1")
        await until(lambda: practice.output().count("booked") > before, 60)
        practice.interrupt()
        code, output, errors = await practice.wait()
        assert (code, "goes on from here" in output) == (0, True), errors


async def test_a_practice_that_decides_by_hand_books_nobody_before_it_said_so(people: Federation) -> None:
    folder = people.folder
    await admitted(folder)
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() + 2 * 86_400))
    times = ("--service", "flu", "--from", "09:00", "--to", "09:20", "--minutes", "10")
    await done(folder, "provider", "calendar", "add", "--day", day, *times)
    run = ("provider", "run", "--once", "--by-hand")
    await done(folder, "user", "request", *PERSON)
    await done(folder, *run)
    await done(folder, "user", "accept", "1")
    assert "1 people wait for your decision" in await done(folder, *run)
    (row,) = await found(folder, "provider", "asking")
    assert (row["name"], row["birth date"]) == ("Muster, Erika", "1940-08-12")
    assert (await found(folder, "user", "status"))["state"] == "sent"
    await refused(folder, 3, "nobody with the code AAAA-AAAA waits", "provider", "confirm", "AAAA-AAAA")
    await refused(folder, 3, "name the codes", "provider", "decline")
    assert "told" in await done(folder, "provider", "decline", row["code"].lower())
    assert await found(folder, "provider", "asking") == []
    assert (await found(folder, "user", "status"))["state"] == "declined"
    await done(folder, *run)
    await done(folder, "user", "accept", "1")
    assert "booked" in await done(folder, "provider", "confirm", "--all")
    assert (await found(folder, "user", "show"))["check_in"] == row["code"]
    assert "Muster" in await done(folder, "provider", "day", day)


async def test_a_practice_whose_machine_is_gone_goes_on_from_its_recovery_code(people: Federation) -> None:
    folder = people.folder
    await admitted(folder)
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() + 2 * 86_400))
    times = ("--service", "flu", "--from", "09:00", "--to", "09:10", "--minutes", "10")
    await done(folder, "provider", "calendar", "add", "--day", day, *times)
    code = (await found(folder, "provider", "recovery"))["recovery_code"]
    await done(folder, "user", "request", *PERSON)
    await done(folder, "provider", "run", "--once")
    await done(folder, "user", "accept", "1")
    await done(folder, "provider", "run", "--once")
    shown = await found(folder, "user", "show")
    wrong = ("B" if code[0] != "B" else "C") + code[1:]
    await refused(folder, 3, "a letter of the recovery code", "provider", "restore", wrong, "--folder", "new")
    await refused(folder, 4, "holds a practice already", "provider", "restore", code)
    assert "1 booked" in await done(folder, "provider", "restore", code, "--folder", "new")
    (row,) = await found(folder, "provider", "day", day, "--folder", "new")
    assert row["code"] == shown["check_in"]
    await done(folder, "provider", "note", row["code"], "come to the back door", "--folder", "new")
    assert "back door" in await done(folder, "user", "status")
    await done(folder, "provider", "run", "--once")
    assert "back door" in await done(folder, "provider", "day", day), "the old device takes over what it missed"
    assert "3 of 3 nodes have all" in await done(folder, "provider", "journal")
    keepers = await found(folder, "provider", "journal")
    await people.stop(keepers["nodes"][0]["node"])
    shown = await done(folder, "provider", "journal", "--go-on")
    assert "does not answer" in shown
    assert "2 of 3 nodes have all" in shown


async def test_a_deputy_opens_what_was_written_to_the_desk_and_gets_its_keys(people: Federation) -> None:
    folder = people.folder
    await admitted(folder)
    await done(folder, "provider", "init", "--folder", "other", "--mediator", (folder / "id").read_text())
    words = ("--name", "Clinic A", "--postcode", "10117", "--service", "flu", "--folder", "other")
    await done(folder, "provider", "apply", *words)
    await done(folder, "mediator", "keys", "--device", "desk")
    (application,) = await found(folder, "mediator", "applications", "--device", "deputy")
    assert application["areas"] == ["10115 10117 (flu)"], "what another device named is told by where it is"
    reason = "send us your licence"
    await done(folder, "mediator", "reject", application["number"], "--reason", reason, "--device", "deputy")
    assert reason in await done(folder, "provider", "status", "--folder", "other")
    await done(folder, "provider", "apply", *words)
    await done(folder, "mediator", "approve", "--all", "--device", "deputy")
    assert "admitted, to 1 catchment" in await done(folder, "provider", "status", "--folder", "other")
    trail = await found(folder, "mediator", "trail", "--device", "deputy")
    assert (trail[0]["what"], trail[0]["detail"]) == ("rejected", reason)
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() + 86_400 * 2))
    times = ("--day", day, "--service", "flu", "--from", "09:00", "--to", "09:10", "--minutes", "10")
    await done(folder, "provider", "calendar", "add", *times, "--folder", "other")
    await done(folder, "user", "request", *PERSON)
    assert "1 offers sent" in await done(folder, "provider", "run", "--once", "--folder", "other")
    await done(folder, "provider", "calendar", "remove", "--day", day, "--text", "ill", "--folder", "other")
    assert "took back: ill" in await done(folder, "user", "offers")
    await done(folder, "mediator", "provider", "revoke", "Clinic A", "--device", "deputy")
    await done(folder, "provider", "apply", *words)
    approve = ("mediator", "approve", "--all", "--device", "deputy")
    (signup,) = (await done(folder, "mediator", "codes", "new", "--count", "1")).split()
    code, _, errors = await peewit(folder, *approve, "--readmit", env=NO_PASSPHRASE)
    assert (code, "has no good code" in errors) == (0, True), errors
    await asyncio.sleep(1)  # an application has its second
    await done(folder, "provider", "apply", *words, "--code", signup.lower())
    (application,) = await found(folder, "mediator", "applications", "--device", "deputy")
    assert application["code_holds"] is True
    code, _, errors = await peewit(folder, *approve, env=NO_PASSPHRASE)
    assert (code, "was revoked; --readmit admits it again" in errors) == (0, True), errors
    shown = await found(folder, *approve, "--readmit", "--dry-run")
    assert [line.split(" in ")[0] for line in shown["consequences"]] == ["admits again Clinic A"]


async def test_what_people_get_wrong_is_said_in_a_sentence(people: Federation) -> None:
    folder, bad = people.folder, refused
    await bad(folder, 3, "is not a postcode", "user", "find", "1011x")
    await bad(folder, 3, "no catchment area for 99999", "user", "request", *PERSON, "--postcode", "99999")
    german = ("--language", "de", "--postcode", "99999")
    await bad(folder, 3, "Fehler: kein Einzugsgebiet für 99999", "user", "request", *PERSON, *german)
    await bad(folder, 3, "is not a day", "user", "request", *PERSON, "--born", "12.8.1940")
    await bad(folder, 3, "write it as 9-12", "user", "request", *PERSON, "--hours", "12-9")
    await bad(folder, 3, "write it as 9-12", "user", "request", *PERSON, "--hours", "9-" + 5000 * "1")
    (folder / "receipt.json").write_text('{"request": "", "ticket": "", "round": 1e400}')
    await bad(folder, 3, "is not a receipt", "user", "receipt", "--check", "receipt.json")
    for year in ("0001-01-01", "9999-12-31"):
        add = ("--service", "flu", "--from", "09:00", "--to", "23:59", "--minutes", "10")
        await bad(folder, 3, "is not a day", "provider", "calendar", "add", "--day", year, *add)
    await bad(folder, 3, "a signup code has", "user", "request", *PERSON, "--code", "ABC")
    await bad(folder, 3, "'doctors'", "user", "request", *PERSON, "--group", "doctors", "--person", "x")
    await bad(folder, 3, "is not a language", "user", "request", *PERSON, "--speak", "klingon", "--person", "x")
    await done(folder, "user", "request", *PERSON, "--speak", "de", "--person", "x")
    assert (await found(folder, "user", "status", "--person", "x"))["group"] == "", "what was wrong was forgotten"
    await bad(folder, 3, "small letters", "user", "status", "--person", "../x")
    await bad(folder, 4, "there is no request", "user", "status", "--person", "nobody")
    await bad(folder, 3, "no recovery code", "user", "restore", "ABCDE")
    await bad(folder, 4, "holds no practice", "provider", "day")
    await bad(folder, 3, "64 hexadecimal digits", "provider", "init", "--mediator", "12")
    await done(folder, "provider", "init", "--mediator", (folder / "id").read_text())
    past = ("--service", "flu", "--day", "2020-12-01", "--from", "09:00", "--to", "10:00", "--minutes", "10")
    await bad(folder, 3, "they have passed", "provider", "calendar", "add", *past)
    await bad(folder, 3, "nothing to say", "user", "note", " ", "--person", "x")
    await bad(folder, 3, "nothing to say", "provider", "note", "AAAA-AAAA", "")
    await done(folder, "provider", "init", "--mediator", "ab" * 32, "--folder", "lost")
    lost = ("provider", "apply", "--folder", "lost", "--service", "flu", "--postcode", "10115", "--name")
    await bad(folder, 3, "--name: of the practice", *lost, "")
    await bad(folder, 3, "admitted a health district with the id abababab", *lost, "a")
    await bad(folder, 4, "exists already", "provider", "init", "--mediator", (folder / "id").read_text())
    words = ("provider", "apply", "--name", "a", "--service", "flu", "--postcode")
    await bad(folder, 3, "no catchment area for 80331", *words, "80331")
    await done(folder, *words, "10115")
    measles = (*past[2:3], "2030-12-01", *past[4:], "--service", "measles")
    await bad(folder, 3, "you applied for flu", "provider", "calendar", "add", *measles)
    await bad(folder, 3, "nobody comes on", "provider", "cancel", "--day", "2026-12-01")
    await bad(folder, 3, "no application '1'", "mediator", "reject", "1", "--reason", "no", "--device", "desk")
    await bad(folder, 2, "say --all", "mediator", "approve", "--device", "desk")
