"""The simulation is itself tested: every bug that is planted must be found, and nothing where none is planted."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from peewit_simulation.checkers import Checker
from peewit_simulation.hunt import run_apart
from tests.simulation.planted import PLANTED, Planted

PROMISES = {checker.__name__ for checker in Checker.__subclasses__()}


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Planted) -> None:
    with ExitStack() as stack:
        bug.plant(stack)
        for scenario in bug.scenarios:
            found = run_apart(scenario)
            if found.promise:
                assert found.promise in (bug.promises or PROMISES), found
                return
    pytest.fail(f"none of {len(bug.scenarios)} scenarios found it")


@pytest.mark.parametrize("name", sorted({bug.name for bug in PLANTED if len(bug.scenarios) < 20}))
def test_the_same_scenarios_hold_where_nothing_is_planted(name: str) -> None:
    bug = next(bug for bug in PLANTED if bug.name == name)
    assert run_apart(bug.scenarios[0]).promise == ""
