"""What people and practices are told when nodes are down, terminals narrow, and what they say makes no sense."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.clients.test_people import NO_PASSPHRASE, PERSON, admitted, done, found, people, refused
from tests.commands import peewit
from tests.federation_kit import Federation

__all__ = ["people"]


@pytest.fixture
async def booked(people: Federation) -> Federation:
    """A person with an appointment the day after tomorrow."""
    folder = people.folder
    await admitted(folder)
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() + 2 * 86_400))
    (folder / "day").write_text(day)
    times = ("--service", "flu", "--from", "09:00", "--to", "09:30", "--minutes", "10")
    await done(folder, "provider", "calendar", "add", "--day", day, *times)
    await done(folder, "user", "request", *PERSON)
    await done(folder, "provider", "run", "--once")
    await done(folder, "user", "accept", "1")
    await done(folder, "provider", "run", "--once")
    return people


async def test_who_has_no_network_still_sees_the_appointment_and_its_code(booked: Federation) -> None:
    folder = booked.folder
    code = (await found(folder, "user", "show"))["check_in"]
    await booked.stop()
    shown = await done(folder, "user", "show")
    assert "No node can be reached now" in shown
    assert code in shown
    assert "Example Street 1" in shown
    assert "revoked" not in shown, "nothing is said of the practice that is not known"
    assert "Jetzt ist kein Knoten zu erreichen" in await done(folder, "user", "status", "--language", "de")
    facts = await found(folder, "user", "status")
    assert (facts["state"], facts["offline"]) == ("booked", True)
    assert (await found(folder, "user", "show"))["check_in"] == code
    await refused(folder, 5, "", "user", "cancel")
    assert (await found(folder, "user", "status"))["state"] == "booked", "what nobody was told is not so"
    environment = os.environ | NO_PASSPHRASE | {"PYTHONIOENCODING": "latin-1"}
    words = (sys.executable, "-m", "peewit_clients.cli", "user", "show")
    process = await asyncio.create_subprocess_exec(*words, cwd=folder, env=environment, stdout=PIPE, stderr=PIPE)
    output, errors = await process.communicate()
    assert (code in output.decode("latin-1"), b"Traceback" in errors) == (True, False)
    full = Path("/dev/full").open("wb")  # noqa: SIM115
    process = await asyncio.create_subprocess_exec(*words, cwd=folder, env=environment, stdout=full, stderr=PIPE)
    _, errors = await process.communicate()
    full.close()
    assert (process.returncode, b"could not be printed" in errors, b"Traceback" in errors) == (4, True, False)


async def test_what_makes_no_sense_is_refused_and_what_is_done_already_is_said(booked: Federation) -> None:
    folder, day = booked.folder, (booked.folder / "day").read_text()
    await refused(folder, 3, "move people to another day", "provider", "move", "--day", day, "--to", day)
    assert "is booked already" in await done(folder, "user", "accept", "1")
    await refused(folder, 3, "at most 1000 letters", "user", "note", "x" * 1001)
    assert (await found(folder, "user", "status"))["words"] == []
    assert await found(folder, "user", "note", "I use a wheelchair") == {"said": "I use a wheelchair"}
    assert await found(folder, "user", "cancel") == {"state": "cancelled", "told": True}
    assert (await found(folder, "user", "again"))["state"] == "waiting"
    await refused(folder, 3, "no area of this request offers measles", "user", "change", "--service", "measles")
    past = ("--days", "2020-01-01..2020-01-02")
    await refused(folder, 3, "that is over", "user", "change", *past)
    assert await found(folder, "user", "withdraw") == {"state": "withdrawn"}
    assert (
        "No application waits"
        in (await peewit(folder, "mediator", "approve", "--all", "--device", "desk", env=NO_PASSPHRASE))[2]
    )
    words = (*PERSON[:1], "Other", *PERSON[2:], "--person", "max", "--group", "nurses")
    await refused(folder, 3, "has no group 'nurses' (over80)", "user", "request", *words)


async def test_a_number_means_the_time_that_was_shown_there_and_nothing_that_came_since(booked: Federation) -> None:
    folder, day = booked.folder, (booked.folder / "day").read_text()
    times = ("--service", "flu", "--from", "09:00", "--to", "09:30", "--minutes", "10")
    await done(folder, "user", "cancel")
    await done(folder, "user", "again")
    await done(folder, "provider", "run", "--once")
    before = await found(folder, "user", "offers")
    later = time.strftime("%Y-%m-%d", time.localtime(time.time() + 3 * 86_400))
    await done(folder, "provider", "calendar", "remove", "--day", day)
    await done(folder, "provider", "calendar", "add", "--day", later, *times)
    await done(folder, "provider", "run", "--once")
    await refused(folder, 3, "look again", "user", "accept", "1")
    await refused(folder, 3, "no offer", "user", "accept", str(len(before) + 5))
    after = await found(folder, "user", "offers")
    assert before[0]["begins"] != after[0]["begins"]
    accepted = await done(folder, "user", "accept", "1")
    assert later in accepted
    assert after[0]["practice"]["name"] in accepted


async def test_a_store_that_is_damaged_says_how_to_go_on(booked: Federation) -> None:
    folder = booked.folder
    (store,) = (path for path in Path(folder).rglob("practice") if path.is_file())
    store.write_bytes(b"no database" * 100)
    await refused(folder, 4, "peewit provider restore", "provider", "status")
    store.write_bytes(b"")
    await refused(folder, 4, "peewit provider restore", "provider", "status")


async def test_a_recovery_code_is_shown_again_and_one_node_alone_is_refused_with_a_reason(booked: Federation) -> None:
    folder = booked.folder
    code = (await found(folder, "user", "recovery"))["recovery_code"]
    assert code in await done(folder, "user", "recovery")
    await done(folder, "user", "restore", code, "--person", "again")
    assert (await found(folder, "user", "show", "--person", "again"))["check_in"]
    await refused(folder, 4, "name at least two", "user", "status", "--node", "north")


async def test_times_that_are_kept_open_are_free_again_when_their_holders_are_sent_home(booked: Federation) -> None:
    folder, day = booked.folder, (booked.folder / "day").read_text()
    (before,) = await found(folder, "provider", "calendar", "show")
    await done(folder, "provider", "cancel", "--day", day, "--keep-open")
    (after,) = await found(folder, "provider", "calendar", "show")
    assert (before["booked"], after["booked"]) == (1, 0)
    assert after["free"] == before["free"] + before["offered"] + before["booked"]


async def test_what_has_to_be_typed_again_is_whole_in_a_narrow_terminal(booked: Federation) -> None:
    folder, day = booked.folder, (booked.folder / "day").read_text()
    (row,) = await found(folder, "provider", "day", day)
    for columns in ("50", "80"):
        _, shown, _ = await peewit(folder, "provider", "day", day, env=NO_PASSPHRASE | {"COLUMNS": columns})
        assert row["code"] in shown
    assert json.loads((await peewit(folder, "user", "find", "10115", "--json", env=NO_PASSPHRASE))[1])
