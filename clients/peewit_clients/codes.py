"""Signup codes: made once, printed on letters, and known to each node only as a hash for itself.

    codes.csv              code,group                          for the letters; nobody else may see it
    codes-north.csv        hash,group,<origin hash of north>   for the node of operator north, and no other

Rules kept here: a code is valid at exactly t nodes, where t admit: at more, several codes together would give more
places than there are codes. Codes are spread over all nodes, so that one that is down delays only its share. Files
are readable by their owner only, and never written over.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from peewit_federation.charter import Charter, Operator
from peewit_federation.draw.api import CODE_CHARACTERS, code_at, new_code
from peewit_federation.errors import MalformedError, OperatorError
from peewit_federation.statements.codec import GROUP

COUNT_MAX: Final = 1_000_000
LINES_AT_ONCE: Final = 3_000
COLUMNS: Final = ("hash", "group")


def nodes_for(charter: Charter, names: Sequence[str] = ()) -> list[tuple[Operator, ...]]:
    """The sets of nodes at which new codes are valid, in turn. Raises `OperatorError`."""
    if charter.schedule is None:
        raise OperatorError("the charter of this federation has no draw, so there is nothing to admit to")
    threshold = charter.schedule.seats[-1].committee.threshold
    chosen = [charter.operator(name) for name in names] or [o for o in charter.operators if o.votes]
    if len(chosen) != len(set(names or chosen)) or not all(operator.votes for operator in chosen):
        raise OperatorError("--node: different operators that vote")
    if len(chosen) < threshold:
        raise OperatorError(f"--node: {threshold} operators admit a request; name at least so many")
    turns = range(len(chosen) if len(chosen) > threshold else 1)
    return [tuple(chosen[(turn + step) % len(chosen)] for step in range(threshold)) for turn in turns]


def make(
    charter: Charter,
    count: int,
    group: str,
    folder: Path,
    randomness: Callable[[int], bytes],
    names: Sequence[str] = (),
) -> list[Path]:
    """Make codes, and the files for letters and nodes. Raises `OperatorError` or `MalformedError`."""
    if group:
        GROUP.check(group)
    turns = nodes_for(charter, names)
    codes = [new_code(randomness(CODE_CHARACTERS)) for _ in range(count)]
    hashes: dict[Operator, list[str]] = {}
    for number, code in enumerate(codes):
        for node in turns[number % len(turns)]:
            hashes.setdefault(node, []).append(code_at(code, node.origin_hash).hex())
    tables: dict[str, list[tuple[str, ...]]] = {"codes.csv": [("code", "group"), *((code, group) for code in codes)]}
    for node, values in sorted(hashes.items(), key=lambda item: item[0].name):
        head = *COLUMNS, node.origin_hash.hex()
        tables[f"codes-{node.name}.csv"] = [head, *((value, group) for value in sorted(values))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder / name, rows) for name, rows in tables.items()]
    except FileExistsError as error:
        raise OperatorError(f"{error.filename} exists already; codes are never written over") from None
    except OSError as error:
        raise OperatorError(f"{folder}: {error.strerror}") from None


def _write(path: Path, rows: Sequence[tuple[str, ...]]) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def read(text: str) -> tuple[bytes, list[tuple[bytes, str]]]:
    """A node's file: its operator's origin hash, and hashes with groups. Raises `MalformedError` naming the line."""
    reader = csv.reader(io.StringIO(text))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise MalformedError(f"after line {reader.line_num}: {error}") from None
    if not rows or tuple(rows[0][:2]) != COLUMNS or not re.fullmatch(r"[0-9a-f]{64}", rows[0][-1], re.ASCII):
        raise MalformedError(
            "the first line of a node's codes is hash,group and its operator; codes.csv is for letters, not for nodes"
        )
    found = []
    for line, row in enumerate(rows[1:], 2):
        if len(row) != 2 or not re.fullmatch(r"[0-9a-f]{64}", row[0], re.ASCII):
            raise MalformedError(f"line {line}: 64 hexadecimal digits and a group are due")
        try:
            found.append((bytes.fromhex(row[0]), GROUP.check(row[1]) if row[1] else ""))
        except MalformedError:
            raise MalformedError(f"line {line}: {row[1][:40]!r} is no name of a group") from None
    if len(found) > COUNT_MAX:
        raise MalformedError(f"{len(found)} codes; at most {COUNT_MAX} at once")
    return bytes.fromhex(rows[0][-1]), found
