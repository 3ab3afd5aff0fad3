"""A fixed bouquet of worlds in which every promise must hold, and the same world twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peewit_simulation import files
from peewit_simulation.cli import SCENARIOS
from peewit_simulation.faults import ACTIONS, Fault
from peewit_simulation.generate import draw
from peewit_simulation.hunt import run_apart, run_seed_apart, shrink
from peewit_simulation.scenario import Scenario

TWIN = """
import sys
from peewit_simulation.hunt import run_seed
for seed in sys.argv[1:]:
    found = run_seed(int(seed))
    print(seed, found.digest, found.promise)
"""


FOUND = (40, 77, 2111)
"Seeds that once broke a promise."


@pytest.mark.parametrize("seed", [*range(24), *FOUND])
def test_every_promise_holds_in_a_random_world(seed: int) -> None:
    found = run_seed_apart(seed)
    assert not found.promise, f"{found.promise}: {found.what}\npeewit simulate --random --seed {seed}"


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.*")), ids=lambda path: path.stem)
def test_every_promise_holds_in_the_scenarios_that_come_with_it(path: Path) -> None:
    found = run_apart(files.read(path, 1))
    assert not found.promise, f"{found.promise}: {found.what}"


@pytest.mark.parametrize("seed", [1, 14])
def test_the_same_seed_is_the_same_run_in_another_process_with_other_hashes(seed: int) -> None:
    digests = []
    for hash_seed, zone, allocator in (("1", "UTC", "pymalloc"), ("4711", "Asia/Kathmandu", "malloc")):
        command = [sys.executable, "-c", TWIN, str(seed)]
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone, "PYTHONMALLOC": allocator}
        digests.append(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)
    assert digests[0] == digests[1]
    assert len(digests[0].split()[1]) == 64


def test_another_seed_is_another_run() -> None:
    assert run_apart(Scenario(1, 3, (), 5.0)).digest != run_apart(Scenario(2, 3, (), 5.0)).digest


def test_drawn_scenarios_use_the_whole_vocabulary_and_survive_a_round_trip_through_toml(tmp_path: Path) -> None:
    used = set()
    for seed in range(300):
        scenario = draw(seed)
        used |= {fault.do for fault in scenario.faults}
        path = tmp_path / "scenario.toml"
        path.write_text(files.write(scenario))
        assert files.read(path, None) == scenario
    assert used == set(ACTIONS) - {"backup", "put_back"}, "which happen to practices (`bookings`)"


def test_a_broken_promise_is_shortened_to_what_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from peewit_node.gossip import Gossip

    real = Gossip._idle
    monkeypatch.setattr(Gossip, "_idle", lambda self: ([], real(self)[1]))
    nodes = ("n000", "n001", "n002", "n003")
    noise = (Fault(1.0, "slow", ("n001", 0.05)), Fault(2.0, "lose", (0.01,)), Fault(3.0, "skew", ("n002", 5.0, 0.0)))
    needed = (
        Fault(5.0, "partition", (nodes[:2], (*nodes[2:], "district"))),
        Fault(40.0, "crash", ("district",)),
    )
    whole = Scenario(0, 4, (*noise, *needed), 60.0)
    assert run_apart(whole).promise == "NodesAgree"
    assert shrink(whole, "NodesAgree").faults == needed
