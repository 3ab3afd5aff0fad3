"""Signup codes, from the office that prints them to the nodes where they count."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from peewit_clients import codes
from peewit_clients.charters import Card, compose_charter, usual_draw
from peewit_clients.code_letters import PAGES_MAX, write_letters
from peewit_clients.words import words_in
from peewit_federation.charter import Charter
from peewit_federation.charter_file import parse_charter
from peewit_federation.draw.api import code_at, new_code
from peewit_federation.errors import MalformedError, OperatorError
from peewit_node.config import Admission
from tests.commands import peewit
from tests.federation.test_charter import card
from tests.federation_kit import NAMES, Federation


def charter(threshold: int = 2) -> Charter:
    cards: list[Card] = [card(name) for name in NAMES]
    return parse_charter(compose_charter("x", cards, 3, draw=usual_draw(NAMES, 4, threshold)).encode())


def test_a_code_is_valid_at_as_many_nodes_as_admit_and_codes_are_spread_over_all() -> None:
    turns = [[node.name for node in nodes] for nodes in codes.nodes_for(charter())]
    assert turns == [["north", "west"], ["west", "south"], ["south", "east"], ["east", "north"]]
    (pair,) = codes.nodes_for(charter(), ("east", "west"))
    assert [node.name for node in pair] == ["east", "west"]
    for names in (("north",), ("north", "north"), ("nobody", "north")):
        with pytest.raises(OperatorError):
            codes.nodes_for(charter(), names)


def test_files_are_for_their_readers_only_and_are_never_written_over(tmp_path: Path) -> None:
    letters, *others = codes.make(charter(), 8, "over80", tmp_path / "x", os.urandom)
    printed = [line.split(",")[0] for line in letters.read_text().splitlines()[1:]]
    assert all((path.stat().st_mode & 0o077) == 0 for path in (letters, *others))
    assert len(set(printed)) == 8
    valid = dict.fromkeys(printed, 0)
    for path in others:
        node = charter().operator(path.stem.removeprefix("codes-"))
        found = {value for value, _ in codes.read(path.read_text())[1]}
        for code in printed:
            valid[code] += code_at(code, node.origin_hash) in found
            assert code not in path.read_text()
    assert set(valid.values()) == {2}
    with pytest.raises(OperatorError, match="never written over"):
        codes.make(charter(), 5, "over80", tmp_path / "x", os.urandom)


def test_a_code_is_read_as_people_type_it() -> None:
    code, origin = new_code(bytes(range(20))), bytes(32)
    assert code == "ABCDE-FGHJK-MNPQR-STVWX"
    same = code_at(code, origin)
    assert code_at("abcdefghjk mnpqrstvwx", origin) == same
    assert code_at("OIL00-" + "A" * 15, origin) == code_at("01100-" + "A" * 15, origin)
    for wrong in ("", code[:-1], code + "A", "ABCDE-FGHJK-MNPQR-STVWU", "ABCDE-FGHJK-MNPQR-STVWÄ"):
        with pytest.raises(MalformedError, match="a signup code has 20"):
            code_at(wrong, origin)


HEAD = f"hash,group,{bytes(32).hex()}\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the first line"),
        ("code,group\nABCDE-FGHJK-MNPQR-STVWX,\n", "is for letters, not for nodes"),
        ("hash,group\n" + "0" * 64 + ",\n", "and its operator"),
        (HEAD + "xyz,\n", "line 2: 64 hexadecimal"),
        (HEAD + "0" * 64 + "\n", "line 2"),
        (HEAD + "0" * 64 + ",\n" + "0" * 64 + ",Über 80\n", "line 3: 'Über 80' is no name of a group"),
        (HEAD + "0" * 200_000, "after line 2"),
    ],
)
def test_a_bad_file_of_codes_is_refused_with_its_line(text: str, what: str) -> None:
    with pytest.raises(MalformedError) as caught:
        codes.read(text)
    assert what in str(caught.value)


def test_each_letter_carries_one_code_that_a_camera_reads_and_room_for_an_address(tmp_path: Path) -> None:
    import pypdfium2
    import zxingcpp

    made = [new_code(os.urandom(20)) for _ in range(PAGES_MAX + 2)]
    heard: list[int] = []
    paths = write_letters(tmp_path, made, "over80", "Musterland", words_in("de"), heard.append)
    assert ([path.name for path in paths], heard) == (["letters-0001.pdf", "letters-0002.pdf"], [PAGES_MAX, 2])
    assert all((path.stat().st_mode & 0o077) == 0 for path in paths)
    with pypdfium2.PdfDocument(paths[1]) as last:
        assert len(last) == 2
        for page, code in zip(last, made[-2:], strict=True):
            image = page.render(scale=2).to_pil()
            (found,) = zxingcpp.read_barcodes(image)
            text = page.get_textpage().get_text_range()
            assert found.text == code
            assert "Gruppe over80" in " ".join(text.split())
            assert "--code CODE --group over80" in " ".join(text.split())
            # Nothing is printed where an envelope has its window.
            assert image.crop((0, 0, image.width, image.height // 3)).getextrema() == ((255, 255),) * 3
    with pytest.raises(OperatorError, match="never written over"):
        write_letters(tmp_path, made[:1], "", "Musterland", words_in("en"), heard.append)


async def test_codes_travel_from_the_office_to_the_nodes_by_the_command_line(tmp_path: Path) -> None:
    admission = Admission(groups=("over80",))
    federation = Federation.make(tmp_path, draw=usual_draw(NAMES), admission=admission)
    await federation.start("north")
    try:
        code, output, errors = await peewit(tmp_path, "charter", "show")
        assert "There is no draw" not in output
        assert "2 operators admit a request" in " ".join(output.split())
        made = ("codes", "new", "--count", "7000", "--group", "over80", "--folder", "letters")
        code, output, errors = await peewit(tmp_path, *made)
        assert code == 0, errors
        assert all(f"codes-{name}.csv" in output for name in NAMES)
        few = ("codes", "new", "--count", "3", "--pdf", "paper", "--language", "de", "--json")
        code, output, errors = await peewit(tmp_path, *few)
        assert (code, json.loads(output)["files"][-1]) == (0, "paper/letters-0001.pdf"), errors
        code, output, errors = await peewit(tmp_path, "codes", "new", "--count", "3")
        assert (code, "--pdf" in errors) == (2, True)
        for fresh in (3500, 0):
            load = ("codes", "load", "letters/codes-north.csv", "--data", "north", "--json")
            code, output, errors = await peewit(tmp_path, *load)
            assert (code, json.loads(output)) == (0, {"codes": 3500, "new": fresh}), errors
        code, output, errors = await peewit(tmp_path, "codes", "load", "letters/codes.csv", "--data", "north")
        assert (code, "is for letters" in errors) == (3, True)
        code, output, errors = await peewit(tmp_path, "codes", "load", "letters/codes-west.csv", "--data", "north")
        assert (code, "the node of another operator" in errors) == (3, True), errors
        made = ("codes", "new", "--count", "8", "--group", "staff", "--folder", "staff")
        code, output, errors = await peewit(tmp_path, *made)
        code, output, errors = await peewit(tmp_path, "codes", "load", "staff/codes-north.csv", "--data", "north")
        assert (code, "admission.groups" in errors) == (3, True), errors
        code, output, errors = await peewit(tmp_path, "codes", "load", "letters/codes-west.csv", "--data", "west")
        assert (code, "is the node running?" in errors) == (5, True)
    finally:
        await federation.stop()
