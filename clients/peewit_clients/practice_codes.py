"""Signup codes of practices: a mediator that sends them out admits nobody without one.

    folder/practice-codes.json        {hash of a code: "" or the subject for which it was spent}, mode 0600

Rules kept here: a code is spent for one practice, whatever that says again; codes themselves are kept nowhere. It is a
rule of the office, on each machine whose folder has the file: whoever takes over a device can break it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Self

from peewit_clients.identity import Identity
from peewit_clients.whole_file import replace_whole
from peewit_federation.draw.api import CODE_CHARACTERS, code_at, new_code
from peewit_federation.errors import MalformedError, OperatorError

FILE: Final = "practice-codes.json"


class PracticeCodes:
    """The codes of one mediator."""

    def __init__(self, folder: Path, spent: dict[str, str]) -> None:
        self._path = folder / FILE
        self._mediator = Identity.load(folder).id
        self.spent = spent
        "By hash: the subject (hexadecimal) for which it was spent, or nothing."

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Those of a folder; None if none are asked for. Raises `OperatorError`."""
        path = folder / FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise OperatorError(f"{path} is damaged: {error}") from None
        if not isinstance(fields, dict) or not all(isinstance(x, str) for item in fields.items() for x in item):
            raise OperatorError(f"{path} is damaged")
        return cls(folder, fields)

    def make(self, count: int, randomness: Callable[[int], bytes]) -> list[str]:
        """So many new codes."""
        codes = [new_code(randomness(CODE_CHARACTERS)) for _ in range(count)]
        self.spent |= {self._name(code): "" for code in codes}
        self._save()
        return codes

    def take_over(self, hashes: Sequence[str]) -> int:
        """Codes that were made on another machine; how many were new."""
        fresh = [name for name in hashes if name not in self.spent]
        self.spent |= dict.fromkeys(fresh, "")
        self._save()
        return len(fresh)

    def holds(self, code: str, subject: bytes) -> bool:
        """Whether this practice may be admitted with this code."""
        try:
            return self.spent.get(self._name(code)) in ("", subject.hex())
        except MalformedError:
            return False

    def good(self, asked: Iterable[tuple[str, bytes]]) -> list[bool]:
        """Which of several practices, by code and subject, may be admitted: of those with one code the first."""
        first: dict[str, bytes] = {}
        return [
            self.holds(code, subject) and first.setdefault(self._name(code), subject) == subject
            for code, subject in asked
        ]

    def spend(self, code: str, subject: bytes) -> None:
        """From now on it is this practice's."""
        if self.holds(code, subject):
            self.spent[self._name(code)] = subject.hex()
            self._save()

    def _name(self, code: str) -> str:
        return code_at(code, self._mediator).hex()

    def _save(self) -> None:
        replace_whole(self._path, json.dumps(self.spent, indent=1).encode())
