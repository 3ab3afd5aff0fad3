"""From the vaccinated arm to a code that a verifier reads without a network, by the command line, over real nodes."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from peewit_clients.trusted import load
from peewit_node.node import DATABASE
from tests.clients.test_people import NO_PASSPHRASE, PERSON, admitted, done, found, refused
from tests.clients.test_people import people as people
from tests.commands import peewit
from tests.federation_kit import Federation


async def said(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and verdict of `peewit verify`."""
    code, output, errors = await peewit(folder, "verify", *words, "--json", env=NO_PASSPHRASE)
    assert "Traceback" not in errors, errors
    return code, json.loads(output) if output else {}


@pytest.fixture
async def booked(people: Federation) -> tuple[Federation, str]:
    """A person with an appointment, and the code to check in with."""
    folder = people.folder
    await admitted(folder)
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() + 2 * 86_400))
    times = ("--service", "flu", "--from", "09:00", "--to", "09:30", "--minutes", "10")
    await done(folder, "provider", "calendar", "add", "--day", day, *times)
    await done(folder, "user", "request", *PERSON)
    await done(folder, "provider", "run", "--once")
    await done(folder, "user", "accept", "1")
    await done(folder, "provider", "run", "--once")
    return people, (await found(folder, "user", "show"))["check_in"]


async def certified(folder: Path, *more: str) -> None:
    await done(folder, "provider", "passport", "key")
    asked = (await found(folder, "mediator", "passports", "list", "--device", "desk"))["asked"]
    assert ["asks for a key" in one["what"] for one in asked] == [True]
    await done(folder, "mediator", "passports", "approve", asked[0]["number"], "--device", "desk", *more)
    assert "active" in await done(folder, "provider", "passport", "key")


async def test_a_passport_from_the_appointment_to_the_verifier_and_back(booked: tuple[Federation, str]) -> None:
    federation, code = booked
    folder = federation.folder
    dose = ("--vaccine", "comirnaty", "--dose", "2/2", "--yes")
    await refused(folder, 3, "there is no key", "provider", "passport", "issue", code, *dose)
    await refused(folder, 3, "no passport yet", "user", "passport")
    await certified(folder)
    assert "Signed for Erika Muster" in await done(folder, "provider", "passport", "issue", code, *dose)
    await refused(folder, 3, "there is a passport for this dose", "provider", "passport", "issue", code, *dose)
    assert "Comirnaty" in await done(folder, "user", "passport")
    await refused(folder, 3, "shows everything", "user", "passport", "--form", "hc1", "--show", "born")
    assert "Impfstoff: Comirnaty" in await done(folder, "user", "passport", "--language", "de")
    files = ("--picture", "p.png", "--pdf", "p.pdf")
    await done(folder, "user", "passport", *files)
    some = ("--show", "doses", "--show", "day")
    await done(folder, "user", "passport", "--picture", "some.svg", *some)
    only = (await found(folder, "user", "passport", *some))["text"]
    whole = (await found(folder, "user", "passport"))["text"]
    await refused(folder, 4, "peewit trust refresh", "verify", whole)
    await done(folder, "trust", "refresh")
    assert (await found(folder, "trust", "show"))["issuers"] == 1
    await federation.stop()  # from here on without any node
    assert (await found(folder, "user", "passport"))["text"] == whole, "its holder needs none to show it"
    for shown in (whole, "p.png", "p.pdf"):
        assert (await said(folder, shown))[0] == 0, shown
    assert (await said(folder, whole))[1] == {
        "source": "text", "verdict": "valid", "reason": "", "words": "Compare with an identity document. A vaccination. "
        "No rules were applied: whether it is enough is for you to say.",
    }, "names are printed only if asked for"  # fmt: skip
    assert (await said(folder, whole, "--names"))[1]["name"] == "Erika Muster"
    big = await done(folder, "verify", "p.png")
    assert "VALID" in big
    assert re.search("Erika Muster.*born 1940-08-12.*identity document", big, re.DOTALL)
    code_, partly = await said(folder, only, "--names")
    assert (code_, partly["name"], partly["born"], partly["shown"]["doses"]) == (6, "", "", "2/2")
    assert partly["reason"] == "too little shown"
    assert (await said(folder, whole, "--at", "2030-01-01T00:00:00+00:00"))[1]["reason"] == "expired"
    assert (await said(folder, whole[:-5] + "AAAAA"))[0] in (3, 6)


async def test_a_revoked_passport_and_a_revoked_key_are_refused_and_honest_ones_are_signed_anew(
    booked: tuple[Federation, str],
) -> None:
    federation, code = booked
    folder = federation.folder
    await certified(folder)
    dose = ("--vaccine", "Spikevax", "--dose", "1/2", "--yes")
    wrong = (await found(folder, "provider", "passport", "issue", code, *dose))["passport"]
    first = (await found(folder, "user", "passport"))["text"]
    right = ("--vaccine", "Spikevax", "--dose", "2/2", "--yes", "--replaces", wrong)
    await done(folder, "provider", "passport", "issue", code, *right)
    (listed, _) = sorted(
        await found(folder, "provider", "passport", "list"), key=lambda one: not one["revocation_asked"]
    )
    assert (listed["revocation_asked"], listed["revoked"]) == (True, False), "asked is not done"
    fresh = await found(folder, "user", "passport")
    assert (fresh["passports"], fresh["text"] != first) == (1, True), "the wrong one is gone from the wallet"
    await done(folder, "mediator", "passports", "approve", "--all", "--device", "desk")
    await done(folder, "trust", "refresh")
    assert await said(folder, first) == (3, {
        "source": "text", "verdict": "not valid", "reason": "revoked",
        "words": "It was revoked. Its holder can ask the practice why.",
    })  # fmt: skip
    assert (await said(folder, fresh["text"]))[0] == 0
    # The key is stolen: everything it ever signed is refused, and the practice signs anew with another one.
    await done(folder, "mediator", "passports", "revoke-keys", "Clinic A", "--device", "desk")
    await done(folder, "trust", "refresh", "--node", "south")
    assert (await said(folder, fresh["text"]))[1]["reason"] == "revoked"
    await refused(folder, 3, "no key", "provider", "passport", "renew")
    await certified(folder, "--country", "DE")
    assert "1 passports were signed anew" in await done(folder, "provider", "passport", "renew")
    again = await found(folder, "user", "passport")
    assert again["passports"] == 1
    await done(folder, "trust", "refresh")
    assert (await said(folder, again["text"]))[0] == 0
    # Its key has a certificate now: whoever imports it, without the federation, reads the passport too.
    exported = await found(folder, "trust", "export")
    assert [bool(one["rawData"]) for one in exported] == [True]
    (folder / "list.json").write_text(json.dumps(exported))
    await done(folder, "trust", "import", "list.json", "--trust", "outside")
    assert (await said(folder, again["text"], "--trust", "outside"))[0] == 0
    assert "BEGIN CERTIFICATE" in await done(folder, "mediator", "passports", "authority", "--device", "desk")
    assert (await said(folder, fresh["text"]))[1]["reason"] == "revoked"
    # By its holder's wish, at the mediator.
    await done(folder, "mediator", "passports", "revoke", again["passport"], "--device", "desk")
    await done(folder, "trust", "refresh")
    assert (await said(folder, again["text"]))[1]["reason"] == "revoked"
    listed = await found(folder, "provider", "passport", "list")
    assert [one["revoked"] for one in listed] == [True, True], "the practice's list knows what its mediator revoked"
    _, _, warned = await peewit(folder, "user", "passport", env=NO_PASSPHRASE)
    assert "was revoked" in warned, "and so does the holder's wallet"
    # What it does not want to do, it takes off its desk.
    await done(folder, "provider", "passport", "revoke", again["passport"])
    await done(folder, "provider", "passport", "revoke", wrong)
    assert (await found(folder, "mediator", "passports", "list", "--device", "desk"))["asked"] == []


async def test_x1_x6_x7_a_suspended_practice_signs_nothing_and_no_node_ever_kept_a_name_or_a_dose(
    booked: tuple[Federation, str],
) -> None:
    federation, code = booked
    folder = federation.folder
    await certified(folder)
    dose = ("--vaccine", "Bimervax", "--dose", "1/1", "--yes")
    paper = ("--pdf", "paper.pdf", "--language", "de")
    assert "Auf Papier" in await done(folder, "provider", "passport", "issue", code, *dose, *paper)
    said_ = await done(folder, "mediator", "provider", "suspend", "Clinic A", "--device", "desk")
    assert "it signs no more passports" in said_
    await refused(folder, 3, "is suspended", "provider", "passport", "issue", code, *dose, "--again")
    assert "suspended in the registry" in await done(folder, "provider", "status")
    await done(folder, "trust", "refresh")
    assert (await said(folder, "paper.pdf"))[0] == 0, "what it signed counts on"
    (key,) = load(folder / "peewit-trust").all()
    assert not key.signed_in_time(int(time.time()) + 60, 0), "whoever has the key has to date back"
    # No node keeps a name, a dose, or an identifier (x6, x7).
    await federation.stop()
    kept = list(folder.rglob(DATABASE + "*"))
    assert len([path for path in kept if path.name == DATABASE]) == len(federation.names)
    for path in kept:
        body = path.read_bytes()
        assert not [word for word in (b"Muster", b"Erika", b"1940-08-12", b"EU/1/22", b"URN:UVCI") if word in body]


async def test_x16_a_wrong_name_is_corrected_and_a_lost_passport_is_signed_and_printed_again(
    people: Federation,
) -> None:
    folder = people.folder
    await admitted(folder)
    await certified(folder)
    wrong = ("--family", "Mustr", "--given", "Erika", "--born", "1950-01-01")
    code = (await found(folder, "wallet", "request", *wrong))["code"]
    dose = ("--vaccine", "Comirnaty", "--dose", "1/2", "--yes")
    first = (await found(folder, "provider", "passport", "issue", code, *dose))["passport"]
    await done(folder, "wallet", "show")
    right = ("--family", "Muster", "--given", "Erika", "--born", "1950-01-01")
    await refused(folder, 4, "say --correct", "wallet", "request", *right)
    await refused(folder, 3, "between 1900", "wallet", "request", *right[:-1], "2090-01-01", "--correct")
    await refused(folder, 3, "wallet request` again", "provider", "passport", "issue", code, *dose)
    code = (await found(folder, "wallet", "request", *right, "--correct"))["code"]
    await done(folder, "provider", "passport", "issue", code, *dose, "--replaces", first[:10])
    await done(folder, "mediator", "passports", "approve", "--all", "--device", "desk")
    mine = await found(folder, "wallet", "show")
    await done(folder, "trust", "refresh")
    assert (await said(folder, mine["text"], "--names"))[1]["name"] == "Erika Muster"
    assert mine["passports"] == 1
    made = await found(folder, "provider", "passport", "reprint", mine["passport"][:12], "--pdf", "again.pdf")
    assert made["passport"] == mine["passport"], "under its old identifier"
    assert (await said(folder, "again.pdf"))[0] == 0
    await done(folder, "mediator", "passports", "revoke", mine["passport"], "--device", "desk")
    _, _, warned = await peewit(folder, "wallet", "show", env=NO_PASSPHRASE)
    assert "was revoked" in warned, "a wallet tells it too"
    # One thing that cannot be read keeps no other from being read.
    code_, output, _ = await peewit(folder, "verify", "nope.png", "again.pdf", "--json", env=NO_PASSPHRASE)
    assert [one["verdict"] for one in json.loads(output)] == ["cannot tell", "valid"]
    assert code_ == 6


async def test_x12_who_comes_without_an_appointment_or_an_account_shows_a_code_and_gets_a_passport(
    people: Federation,
) -> None:
    folder = people.folder
    await admitted(folder)
    await certified(folder)
    mine = ("--family", "Öztürk-Weiß", "--given", "Zoë", "--born", "1990-02-03")
    code = (await found(folder, "wallet", "request", *mine))["code"]
    assert (await found(folder, "wallet", "request", *mine))["code"] == code, "asking again is harmless"
    await refused(folder, 4, "another name or birth date", "wallet", "request", *mine[:-1], "1990-02-04")
    await refused(folder, 3, "no passport yet", "wallet", "show")
    dose = ("--vaccine", "Nuvaxovid", "--dose", "1/2", "--yes")
    await refused(
        folder, 3, "wrong", "provider", "passport", "issue", code[:-1] + ("A" if code[-1] != "A" else "B"), *dose
    )
    assert "Zoë Öztürk-Weiß" in await done(folder, "provider", "passport", "issue", code.lower(), *dose)
    text = (await found(folder, "wallet", "show"))["text"]
    await done(folder, "trust", "refresh")
    verdict = (await said(folder, text, "--names"))[1]
    assert (verdict["verdict"], verdict["name"]) == ("valid", "Zoë Öztürk-Weiß")
    await refused(folder, 3, "no node has a copy", "provider", "passport", "issue", code, *dose)


async def test_what_verifiers_and_practices_get_wrong_is_said_in_a_sentence(booked: tuple[Federation, str]) -> None:
    federation, code = booked
    folder = federation.folder
    await certified(folder)
    bad = refused
    issue = ("provider", "passport", "issue")
    await bad(folder, 3, "is no vaccine", *issue, code, "--vaccine", "Aspirin", "--dose", "1/1", "--yes")
    await bad(folder, 3, "write it as 2/2", *issue, code, "--vaccine", "Spikevax", "--dose", "two", "--yes")
    await bad(folder, 3, "doses are counted", *issue, code, "--vaccine", "Spikevax", "--dose", "0/2", "--yes")
    await bad(folder, 3, "nobody with the code", *issue, "AAAA-AAAA", "--vaccine", "Spikevax", "--dose", "1/2", "--yes")
    future = (*issue, code, "--vaccine", "Spikevax", "--dose", "1/2", "--yes", "--day", "2099-01-01")
    await bad(folder, 3, "in the future", *future)
    await bad(folder, 3, "no such passport", "provider", "passport", "revoke", "12")
    await bad(folder, 3, "no such passport", "provider", "passport", "revoke", "00" * 16)
    await bad(folder, 3, "URN:UVCI", "mediator", "passports", "revoke", "x", "--device", "desk")
    wrong = "URN:UVCI:01:DE:NONSENSE#A"
    await bad(folder, 3, "is wrong", "mediator", "passports", "revoke", wrong, "--device", "desk")
    await bad(folder, 3, "vouched for no issuer key", "mediator", "passports", "revoke-keys", "x", "--device", "desk")
    await bad(folder, 3, "nobody asks for 'x'", "mediator", "passports", "approve", "x", "--device", "desk")
    await bad(folder, 3, "two capitals", "provider", "passport", "key", "--country", "Germany")
    await bad(folder, 3, "FAMILY<<GIVEN", *issue, code, "--vaccine", "Spikevax", "--dose", "1/2", "--yes",
              "--machine-name", "1")  # fmt: skip
    await done(folder, "trust", "refresh")
    await bad(folder, 4, "neither the text of a passport", "verify", "nonsense")
    await bad(folder, 2, "nothing was shown", "verify", "")
    (folder / "empty.txt").write_text("")
    await bad(folder, 6, "", "verify", "empty.txt")
    (folder / "empty.png").write_bytes(b"")
    (folder / "list.json").write_text("{}")
    await bad(folder, 6, "", "verify", "empty.png")
    await bad(folder, 3, "a list of certificates", "trust", "import", "list.json")
    await bad(folder, 4, "not there", "verify", "--trust", "other", "HC1:")
    (folder / "rules.toml").write_text("doses = 0\ndays_from = 14\ndays_to = 270\n")
    await done(folder, "trust", "rules", "rules.toml", "--out", "rules.cose", "--device", "desk")
    await done(folder, *issue, code, "--vaccine", "Spikevax", "--dose", "1/2", "--yes")
    text = (await found(folder, "user", "passport"))["text"]
    verdict = (await said(folder, text, "--rules", "rules.cose"))[1]
    assert (verdict["reason"], "too few doses" in verdict["words"]) == ("rule", True)
    (folder / "rules.toml").write_text("doses = -1\ndays_from = 14\ndays_to = 270\nnonsense = 1\n")
    await bad(folder, 4, "nonsense", "trust", "rules", "rules.toml", "--out", "x", "--device", "desk")
    (folder / "texts.txt").write_text(f"{text}\n\nHC1:GGW\n")
    code_, several = await said(folder, "texts.txt")
    assert (code_, [one["verdict"] for one in several]) == (6, ["valid", "cannot tell"])  # type: ignore[index]
    _, output, _ = await peewit(folder, "verify", "texts.txt", env=NO_PASSPHRASE)
    assert several[1]["words"][:20] in output, "what to do is said for each"  # type: ignore[index]
    issued = (await found(folder, "provider", "passport", "list"))[0]["passport"]
    await done(folder, "provider", "passport", "revoke", issued)
    (asked,) = (await found(folder, "mediator", "passports", "list", "--device", "desk"))["asked"]
    reject = ("mediator", "passports", "reject", asked["number"], "--reason", "not without a visit", "--device", "desk")
    assert "would reject" in await done(folder, *reject, "--dry-run")
    assert "rejected" in await done(folder, *reject)
    assert (await found(folder, "mediator", "passports", "list", "--device", "desk"))["asked"] == []
    assert (await found(folder, "mediator", "trail", "--device", "desk"))[-1]["detail"] == "not without a visit"
