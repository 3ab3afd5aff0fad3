"""Every flag of every official vector, but for those that contradict the specification or themselves."""

from __future__ import annotations

import json

import pytest

from peewit_federation.passports.values import PRODUCTS
from tests.passports.vectors import EXCEPTIONS, FOLDER, Vector, vectors

ALL = vectors()
pytestmark = pytest.mark.skipif(
    not ALL, reason=f"no official vectors in {FOLDER.name}; name their folder in PEEWIT_DCC"
)


@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.name)
def test_x15_every_stage_of_an_official_vector_is_as_it_says(vector: Vector) -> None:
    flags = {flag: value for flag, value in vector.expected.items() if (vector.name, flag) not in EXCEPTIONS}
    assert {flag: vector.holds(flag) for flag in flags} == flags


def test_what_is_excepted_is_there_and_fails_as_its_reason_says() -> None:
    by_name = {vector.name: vector for vector in ALL}
    there = [(name, flag) for name, flag in EXCEPTIONS if name in by_name]
    assert there
    for name, flag in there:
        assert by_name[name].holds(flag) != by_name[name].expected[flag], EXCEPTIONS[name, flag]


def test_what_we_issue_is_in_the_official_value_sets_with_the_maker_and_kind_that_belong_to_it() -> None:
    def values(name: str) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = json.loads((FOLDER / "valuesets" / f"{name}.json").read_text())[
            "valueSetValues"
        ]
        return found

    products, makers, kinds = (
        values(name) for name in ("vaccine-medicinal-product", "vaccine-mah-manf", "vaccine-prophylaxis")
    )
    told = {str(one["vaccine-code"]): one for one in values("vaccine-encoding-instructions").values()}
    for one in PRODUCTS:
        assert products[one.code]["active"], one
        assert makers[one.maker]["active"], one
        assert kinds[one.kind]["active"], one
        assert told[one.code]["vaccine-manufacturer"] == one.maker, one
        assert one.kind in told[one.code]["sct-codes"], one  # type: ignore[operator]
