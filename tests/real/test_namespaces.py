"""The same faults for real: node processes with HTTPS in network namespaces, cut with nftables (docs/simulation.md)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from peewit_federation.keys import SigningKey
from peewit_federation.sealed import xwing_public
from tests.federation_kit import seed
from tests.real.namespaces import NODES, Lab, wait, why_not

REASON = why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"network namespaces: {REASON}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as made:
        done = made.peewit("mediator", "init", "--no-passphrase", "--json")
        facts = json.loads(done.stdout)
        for name in NODES[:2]:
            admitted = made.peewit(
                *("operator", "admit", facts["id"], "--root", facts["root"], "--postcodes", "1"),
                *("--data", str(made.folder / name)),
            )
            assert admitted.returncode == 0, admitted.stderr
        wait(
            lambda: made.peewit("mediator", "device", "desk", "--no-passphrase").returncode == 0,
            "no node vouches for the device",
        )
        areas = made.folder / "areas.csv"
        areas.write_text("name,postcodes,services,groups,nodes,days\nmitte,10115,flu,,north west,400\n")
        practices = made.folder / "practices.csv"
        sealed = base64.b64encode(xwing_public(seed("sealed"))).decode()
        lines = [
            f"practice-{n},mitte,flu,{SigningKey(seed('practice', n)).public.hex()},{sealed},400" for n in range(4)
        ]
        practices.write_text("\n".join(["name,areas,services,signing_key,encryption_key,days", *lines]) + "\n")
        for words in (("catchments", "import", str(areas)), ("provider", "admit", str(practices))):
            found = made.peewit("mediator", *words)
            assert found.returncode == 0, found.stdout + found.stderr
        wait(lambda: len(made.digests()) == 1, "the nodes do not agree")
        yield made


def test_a_half_half_partition_delays_a_revocation_and_heals(lab: Lab) -> None:
    near, far = (*NODES[:2], "desk"), NODES[2:]
    lab.cut(near, far)
    lab.cut(far, near)
    try:
        found = lab.peewit("mediator", "provider", "revoke", "practice-0", "--wait", "5")
        assert found.returncode == 6, "2 of 4 nodes are no quorum: " + found.stdout + found.stderr
        assert "not yet effective: 2 of 3" in found.stdout
        assert len(lab.digests()) == 2
    finally:
        lab.heal()
    assert lab.peewit("mediator", "publish").returncode == 0
    wait(lambda: len(lab.digests()) == 1, "the nodes do not agree after the partition")


def test_a_node_that_hears_but_is_not_heard_holds_up_nobody(lab: Lab) -> None:
    lab.cut(("east",), (*NODES[:3], "desk"))
    try:
        found = lab.peewit("mediator", "provider", "revoke", "practice-1")
        assert found.returncode == 0, found.stdout + found.stderr
    finally:
        lab.heal()
    wait(lambda: len(lab.digests()) == 1, "the nodes do not agree after the one-way cut")


def test_a_killed_node_is_not_missed_and_catches_up(lab: Lab) -> None:
    lab.kill("south")
    found = lab.peewit("mediator", "provider", "revoke", "practice-2")
    assert found.returncode == 0, found.stdout + found.stderr
    lab.start("south")
    wait(lambda: len(lab.digests()) == 1, "the nodes do not agree after the restart")
    assert len(lab.processes) == len(NODES)
