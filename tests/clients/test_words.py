"""The catalogues say the same things in every language."""

from __future__ import annotations

import re
from pathlib import Path

from peewit_clients.words import LANGUAGES, catalogue, verdict_line, words_in
from peewit_federation.passports.pw1 import CLAIMS
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import REASONS

USED = re.compile(r'(?:tell|say|said)\(\s*"([a-z_]+)"')
CLI = Path(__file__).parents[2] / "clients" / "peewit_clients" / "cli"


def test_every_language_says_the_same_with_the_same_values() -> None:
    first = catalogue(LANGUAGES[0])
    for language in LANGUAGES[1:]:
        other = catalogue(language)
        assert set(other) == set(first)
        for name, line in first.items():
            assert set(re.findall(r"{[a-z]+}", line)) == set(re.findall(r"{[a-z]+}", other[name])), name
            assert line != other[name], f"{name} is not translated"


def test_every_line_is_used_and_every_line_that_is_used_is_there() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (*CLI.glob("*.py"), *CLI.parent.glob("*.py")))
    used = set(USED.findall(source)) | set(re.findall(r'"((?:column|said|practice)_[a-z]+)"', source))
    used |= set(re.findall(r'"((?:clinic|office|entry|fresh|kind|trail|passphrase|error)_[a-z_]+)"', source)) | {
        verdict_line(verdict) for verdict in Verdict
    }
    used |= (
        {f"claim_{name}" for name in CLAIMS.values()} | {f"reason_{number}" for number in REASONS} | {"fresh", "error"}
    )
    used |= {f"meaning_{verdict.name.lower()}" for verdict in Verdict}
    assert used - {"practice_data"} <= set(catalogue("en"))
    assert set(catalogue("en")) <= used


def test_a_line_is_said_with_its_values() -> None:
    assert words_in("de")("show_code", code="ABCD-EFGH") == "Anmeldecode ABCD-EFGH"
