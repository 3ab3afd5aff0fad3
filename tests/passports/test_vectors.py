"""Every flag of every official vector, but for those that contradict the specification or themselves."""

from __future__ import annotations

import pytest

from tests.passports.vectors import EXCEPTIONS, FOLDER, Vector, vectors

ALL = vectors()
pytestmark = pytest.mark.skipif(
    not ALL, reason=f"no official vectors in {FOLDER.name}; name their folder in PEEWIT_DCC"
)


@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.name)
def test_every_stage_of_an_official_vector_is_as_it_says(vector: Vector) -> None:
    flags = {flag: value for flag, value in vector.expected.items() if (vector.name, flag) not in EXCEPTIONS}
    assert {flag: vector.holds(flag) for flag in flags} == flags


def test_what_is_excepted_is_there_and_fails_as_its_reason_says() -> None:
    by_name = {vector.name: vector for vector in ALL}
    for name, flag in EXCEPTIONS:
        vector = by_name[name]
        assert vector.expected[flag]
        assert "2DCODE" not in vector.fields if "no picture" in EXCEPTIONS[name, flag] else not vector.holds(flag)
