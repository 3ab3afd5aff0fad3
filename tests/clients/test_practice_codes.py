"""Signup codes of practices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peewit_clients.identity import init_mediator
from peewit_clients.practice_codes import FILE, PracticeCodes
from peewit_federation.errors import OperatorError
from tests.federation_kit import seed


def codes_in(folder: Path, number: int) -> PracticeCodes:
    init_mediator(folder, seed("root", number), None)
    return PracticeCodes(folder, {})


def test_a_code_admits_one_practice_and_its_folder_does_not_know_it(tmp_path: Path) -> None:
    codes = codes_in(tmp_path, 1)
    first, second = codes.make(2, os.urandom)
    assert codes.holds(first.lower().replace("-", " "), seed("clinic-a")), "however it is typed"
    codes.spend(first, seed("clinic-a"))
    again = PracticeCodes.load(tmp_path)
    assert again is not None
    assert again.holds(first, seed("clinic-a")), "who says it again is the same"
    assert not again.holds(first, seed("clinic-b"))
    assert again.holds(second, seed("clinic-b"))
    assert not again.holds("", seed("clinic-b"))
    assert not again.holds("ABCDE-FGHJK-MNPQR-STVWX", seed("clinic-b"))
    stored = (tmp_path / FILE).read_text()
    assert first not in stored
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_of_several_practices_that_say_one_code_at_once_the_first_is_admitted(tmp_path: Path) -> None:
    codes = codes_in(tmp_path, 1)
    first, second = codes.make(2, os.urandom)
    asked = [(first, "clinic-a"), (first.lower(), "clinic-b"), (second, "clinic-c"), ("none", "clinic-d")]
    asked += [(first, "clinic-a")]
    assert codes.good((code, seed(name)) for code, name in asked) == [True, False, True, False, True]


def test_codes_are_of_one_mediator_and_another_machine_takes_their_hashes(tmp_path: Path) -> None:
    here, there = codes_in(tmp_path / "here", 1), codes_in(tmp_path / "there", 1)
    (code,) = here.make(1, os.urandom)
    here.spend(code, seed("clinic-a"))
    assert there.take_over(list(here.spent)) == 1
    assert there.take_over(list(here.spent)) == 0
    assert there.holds(code, seed("clinic-a"))
    other = codes_in(tmp_path / "other", 2)
    other.take_over(list(other.spent))
    assert not other.holds(code, seed("clinic-a"))
    assert PracticeCodes.load(tmp_path) is None, "nobody is asked for codes where none were made"
    (tmp_path / "here" / FILE).write_text("[]")
    with pytest.raises(OperatorError, match="is damaged"):
        PracticeCodes.load(tmp_path / "here")
