"""Scenario files, and the commands around them: every mistake is named, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from peewit_federation.errors import OperatorError
from peewit_simulation import files
from peewit_simulation.cli import hunt_, simulate_
from peewit_simulation.faults import ACTIONS, Fault
from peewit_simulation.words import WORDS, in_words

FAULT = '[[fault]]\nat_s = 1\ndo = "{}"\nwith = {}\n'
THEFT = '[theft]\nat_s = {}\nfirst = "{}"\nsecond = "{}"\n'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nodes = 1\n", "nodes: a whole number from 2 to 300, not 1"),
        ("nodes = 4.9\n", "nodes: a whole number, not 4.9"),
        ("nodes = true\n", "nodes: a whole number, not true"),
        ('seed = "5"\n', 'seed: a whole number, not "5"'),
        ("faulty_s = inf\n", "faulty_s: seconds, more than 0"),
        ('replays = "false"\n', 'replays: true or false, not "false"'),
        ("nodez = 4\n", "nodez is not known; there are seed, nodes"),
        ("nodes = \n", "Invalid value"),
        ("[fault]\nat_s = 1\n", "write [[fault]]"),
        ("fault = 3\n", "fault: a list"),
        ("fault = [3]\n", "fault 1: a table"),
        ('[[fault]]\ndo = "heal"\n', "fault 1: at_s is missing"),
        ('[[fault]]\nat_s = 1\ndo = "explode"\n', "there is no fault 'explode'"),
        ('[[fault]]\nat_s = 1\ndo = "heal"\nwhith = []\n', "fault 1: whith is not known"),
        ('[[fault]]\nat_s = nan\ndo = "heal"\n', "heal: at_s is nan"),
        ('[[fault]]\nat_s = 60\ndo = "heal"\n', "heal: at_s is 60.0; faults happen from 0 on and before 60 s"),
        (FAULT.format("crash", '"n000"'), 'fault 1: with: a list in brackets, not "n000"'),
        (FAULT.format("crash", '["n009"]'), "crash at 1 s: name: there is no host 'n009'; there are n000 to n003"),
        (FAULT.format("crash", "[3]"), 'crash at 1 s: name: a host such as "n000", not 3'),
        (FAULT.format("crash", '["n000", 1]'), "crash at 1 s: power: true or false, not 1"),
        (FAULT.format("crash", "[]"), "missing a required argument: 'name'; crash(name, power=False)"),
        (FAULT.format("pause", '[["n001"]]'), "pause at 1 s: name: a host"),
        (FAULT.format("partition", '["n000", "n001"]'), "sides: a list of hosts such as"),
        (FAULT.format("partition", '[["n000"]]'), "at least two sides"),
        (FAULT.format("partition", '[["n000"], []]'), "sides: a list of hosts"),
        (FAULT.format("partition", '[["n000"], ["n001", "n000"]]'), "n000 is named twice"),
        (FAULT.format("hold", '[["n000"], ["n000"]]'), "n000 is named twice"),
        (FAULT.format("lose", "[1.5]"), "lose at 1 s: share: a number from 0 to 0.9, not 1.5"),
        (FAULT.format("lose", "[nan]"), "share: a number from 0 to 0.9, not nan"),
        (FAULT.format("delay", '[-1, "n000"]'), "seconds: a number from 0 to 60, not -1"),
        (FAULT.format("slow", '["n000", 1e9]'), "seconds: a number from 0 to 60"),
        (FAULT.format("skew", '["n000", 1, 2]'), "drift: a number from -0.1 to 0.1, not 2"),
        ('[[liar]]\nnode = "n000"\nlie = "sing"\n', "liar n000: there is no lie 'sing'; there are withhold"),
        ('[[liar]]\nnode = "n011"\nlie = "forge"\n', "liar: there is no node 'n011'; there are n000 to n003"),
        ('[[liar]]\nnode = "n000"\nlie = "forge"\n' * 2, "liar n000: a node tells one lie"),
        ("[theft]\n", "theft: at_s is missing"),
        (THEFT.format(1, "a", "n001"), "theft: there is no node 'a'"),
        (THEFT.format(1, "n001", "n001"), "theft: first and second are two nodes"),
        (THEFT.format(99, "n000", "n001"), "theft: at_s is 99.0"),
        (THEFT.format(1, "n000", "n001") + 'closes = "no"\n', 'theft: closes: true or false, not "no"'),
    ],
)
def test_a_bad_scenario_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(OperatorError, match="bad.toml") as caught:
        files.read(path, None)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("def tell(story):\n    story.at(3).explode()\n", "line 2: there is no fault 'explode'"),
        ("def tell(story):\n    story.nodez = 3\n", "line 2: a story has nodes, faulty_s, replays, not 'nodez'"),
        ("def tell(story):\n\n    story.at(3).partition({'n000'}, ['n001'])\n", "line 3: partition at 3 s: sides"),
        ("def tell(story):\n    story.at(3).crash('n000', strength=3)\n", "line 2: crash: got an unexpected keyword"),
        ("def tell(story):\n    story.at('3')\n", "line 2: at: seconds, not '3'"),
        ("def tell(story):\n    story.nodes = '4'\n", "nodes: a whole number from 2 to 300, not '4'"),
        ("def tell(story):\n    story.lie('n007', 'forge')\n", "liar: there is no node 'n007'"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("def tell(story):\n    return 1 / 0\n", "line 2: ZeroDivisionError"),
        ("def tell(story:\n", "line 1: SyntaxError"),
        ("def tall(story):\n    pass\n", "it has no function tell(story)"),
    ],
)
def test_a_bad_story_is_refused_with_its_line(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(OperatorError, match="bad.py") as caught:
        files.read(path, None)
    assert what in str(caught.value)


def test_a_story_and_a_table_that_say_the_same_are_the_same_scenario(tmp_path: Path) -> None:
    told, written = tmp_path / "a.py", tmp_path / "b.toml"
    told.write_text(
        "def tell(story):\n"
        "    story.at(9).heal()\n"
        "    story.at(5).crash('n001', power=True).at(7).restart('n001')\n"
        "    story.at(8).theft('n000', 'n002', closes=False)\n"
        "    story.lie('n003', 'forge')\n"
        "    story.replays = True\n"
    )
    scenario = files.read(told, 7)
    assert [fault.at_s for fault in scenario.faults] == [5.0, 7.0, 9.0]
    written.write_bytes(b"\xef\xbb\xbf" + files.write(scenario).encode())
    assert files.read(written, None) == scenario


def test_every_fault_has_words() -> None:
    assert WORDS.keys() == ACTIONS.keys()
    assert in_words(Fault(1.0, "crash", ("n000", True))) == "crash: n000 loses its power"
    sides = ("n003", "n001", "n002", "district"), ("n000", "patient")
    assert in_words(Fault(1.0, "partition", sides)) == "partition: n001…n003, district | n000, patient"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--partition", "abc"], "'abc' is not a time such as 60s"),
        (["--partition", "99999h"], "less than a day"),
        (["--random", "theft"], "say one of"),
        (["theft", "--nodes", "5"], "says itself how many nodes"),
        (["--nodes", "1"], "2<=x<=300"),
        (["--plot", "x.foo"], "does not end in .svg"),
        (["--log", "."], "is a directory"),
    ],
)
def test_wrong_use_of_simulate_is_a_usage_error(arguments: list[str], what: str) -> None:
    result = CliRunner().invoke(simulate_, arguments)
    assert result.exit_code == 2
    assert what in result.output


def test_a_hunt_that_cannot_read_where_it_stopped_says_so(tmp_path: Path) -> None:
    (tmp_path / "next").write_text("x\n")
    result = CliRunner().invoke(hunt_, ["--folder", str(tmp_path), "--seeds", "1"])
    assert isinstance(result.exception, OperatorError)
    assert "--from 0" in str(result.exception)


def test_a_broken_promise_ends_with_7_and_with_what_is_enough_to_break_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lies.toml").write_text(
        "faulty_s = 20\n" + FAULT.format("slow", '["n000", 0.05]')
        + "".join(f'[[liar]]\nnode = "n00{number}"\nlie = "withhold"\n' for number in range(3))
    )  # fmt: skip
    result = CliRunner().invoke(simulate_, ["lies.toml"])
    assert result.exit_code == 7
    assert "3 of 4 nodes lie" in result.output
    short = Path(".hunt/0.toml").read_text()
    assert "withhold" in short
    assert "slow" not in short
    again = CliRunner().invoke(simulate_, [".hunt/0.toml", "--no-shorten", "--json"])
    assert again.exit_code == 7
    facts = json.loads(again.stdout)
    assert facts["broken"]["promise"] in result.output
    assert [liar["lie"] for liar in facts["scenario"]["liar"]] == ["withhold"] * 3
