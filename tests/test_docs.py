"""What the documentation promises: examples are the real bytes, vectors are frozen, commands and settings exist."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from peewit_clients.cli import main
from peewit_federation.appointment import applications, notes, request
from peewit_federation.appointment import messages as appointment_messages
from peewit_federation.passports import messages as passport_messages
from peewit_federation.passports import rules
from peewit_federation.statements.codec import Statement
from peewit_node.config import Gossip, Limits
from tests.vectors import examples, shown

ROOT = Path(__file__).parents[1]
PROTOCOL = ROOT / "docs" / "protocol.md"
VECTORS = ROOT / "docs" / "vectors.json"
BLOCK = re.compile(r"<!-- example: (.+?) -->\n```\n(.*?)\n?```", re.DOTALL)


def test_every_format_is_shown_with_its_real_bytes() -> None:
    """UPDATE_DOCS=1 writes them anew; a change of a format shows as a change of docs/protocol.md."""
    found = examples()
    text = PROTOCOL.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_DOCS"):
        text = BLOCK.sub(lambda m: f"<!-- example: {m[1]} -->\n```\n{shown(m[1], found[m[1]])}\n```", text)
        PROTOCOL.write_text(text, encoding="utf-8")
    blocks = dict(BLOCK.findall(text))
    assert sorted(blocks) == sorted(found)
    for name, block in blocks.items():
        assert block == shown(name, found[name]), name


def test_the_published_vectors_are_what_the_code_makes() -> None:
    found = {name: data.hex() for name, data in examples().items()}
    if os.environ.get("UPDATE_DOCS"):
        VECTORS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert json.loads(VECTORS.read_text(encoding="utf-8")) == found


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_command_that_is_shown_exists(path: Path) -> None:
    text = re.sub(r"`peewit [a-z]+ v1`", "", path.read_text(encoding="utf-8"))
    commands = {
        " ".join(match.split()[:3]) for match in re.findall(r"(?:^|`)peewit ((?:[a-z]+ ?){1,3})", text, re.MULTILINE)
    }
    for words in sorted(commands):
        parts = words.split()
        while parts:
            if CliRunner().invoke(main, [*parts, "--help"]).exit_code == 0:
                break
            parts.pop()
        assert parts, f"peewit {words}"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    for section, model in (("gossip", Gossip), ("limits", Limits)):
        for name in model.model_fields:
            assert f"`{section}.{name}`" in text, f"{section}.{name}"


@pytest.mark.parametrize("name", ["query_federation.py", "mirror_log.py", "book_appointment.py"])
def test_the_examples_run(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), "--self-contained"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_federation_is_pure_and_arrows_do_not_run_back() -> None:
    impure = re.compile(
        r"^\s*(?:from|import) +(asyncio|aiohttp|sqlite3|structlog|time|secrets|random|socket|os)\b", re.MULTILINE
    )
    for path in (ROOT / "federation").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not impure.search(text), path
        assert not re.search(r"peewit_(node|clients)", text), path
    for path in (ROOT / "node").rglob("*.py"):
        assert "peewit_clients" not in path.read_text(encoding="utf-8"), path
    for path in (ROOT / "clients").rglob("*.py"):
        assert "import peewit_node" not in path.read_text(encoding="utf-8"), path
        assert "from peewit_node" not in path.read_text(encoding="utf-8"), path


def test_nothing_but_its_edges_reads_a_clock_or_draws_random_numbers_in_the_node() -> None:
    for path in (ROOT / "node").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name not in ("node.py", "cli.py", "status.py"):
            assert not re.search(r"time\.time\(|os\.urandom|secrets\.|uuid", text), path


def test_every_table_has_its_purpose_and_lifetime_on_paper() -> None:
    text = (ROOT / "docs" / "compliance" / "retention.md").read_text(encoding="utf-8")
    schema = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "node").rglob("*.sql"))
    device = (ROOT / "clients" / "peewit_clients" / "device_state.py").read_text(encoding="utf-8")
    for where, source in (("node", schema), ("device", device)):
        lines = [line for line in text.split("\n") if line.startswith(f"| {where}:")]
        for table in re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", source):
            assert any(f"`{table}`" in line for line in lines), f"{where}: {table}"


def test_every_field_of_every_table_file_and_message_has_a_reader_and_an_end() -> None:
    from dataclasses import fields

    from peewit_clients import practice_state, user_state
    from peewit_clients.device_state import SCHEMA
    from peewit_node.migrate import migrations

    rows: dict[str, list[str]] = {}
    text = (ROOT / "docs" / "compliance" / "retention.md").read_text(encoding="utf-8").split("## Every field")[1]
    for line in text.split("\n"):
        if line.startswith("| ") and line.count(" | ") == 3:
            name, named, reader, until = line.strip("| ").split(" | ")
            assert reader, name
            assert until, name
            rows.setdefault(name, []).append(named)

    def check(name: str, expected: set[str]) -> None:
        assert any(expected <= set(re.findall(r"`(\w+)`", named)) for named in rows.get(name, [])), (name, expected)

    for statements in ("\n".join(sql for _, sql in migrations()), ";\n".join(SCHEMA)):
        database = sqlite3.connect(":memory:")
        database.executescript(statements)
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            check(f"`{table}`", {column[1] for column in database.execute(f"PRAGMA table_info({table})")})
        database.close()
    for kind in (user_state.UserState, user_state.Chosen):
        check(f"person: {kind.__name__}", {field.name for field in fields(kind)})
    for part in ("PracticeState", "Offered", "Booking", "Letter", "JournalState"):
        check(f"practice: {part}", {field.name for field in fields(getattr(practice_state, part))})
    for message in messages():
        check(f"{message.KIND} {message.__name__}", {field.name for field in fields(message)})


def test_every_kind_of_message_is_on_the_protocols_page() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert len(messages()) == 13
    for kind in messages():
        assert f"| {kind.KIND} | " in text, kind


def messages() -> list[type[Statement]]:
    """What people, practices and mediators send each other."""
    parts = (applications, appointment_messages, notes, passport_messages, request, rules)
    modules = {module.__name__ for module in parts}
    return [kind for kind in Statement.__subclasses__() if kind.__module__ in modules]


def test_every_test_that_a_paper_names_exists() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for page in [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "compliance").glob("*.md")]:
        for name in re.findall(r"`(test_(?!hours`)[a-z0-9_]+)(?:…)?`", page.read_text(encoding="utf-8")):
            assert f"def {name}" in tests, (page.name, name)
