"""The charter as a node reads it from its disk, and when it takes over another one.

Rules kept here: a charter in which the keys of this node are not the operator's is refused, and so is one that is not
the lawful successor of the one in force, or whose new committee would have to make keys at once.
"""

from __future__ import annotations

from pathlib import Path

from peewit_federation.charter import Charter
from peewit_federation.charter_file import parse_charter
from peewit_federation.draw.schedule import AHEAD
from peewit_federation.errors import OperatorError
from peewit_node.node_state import NodeState


def load_charter(path: Path) -> Charter:
    """Read a charter file. Raises `OperatorError` naming it."""
    try:
        return parse_charter(path.read_bytes())
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}; set `charter` in node.toml") from None
    except OperatorError as error:
        raise OperatorError(f"{path}: {error}") from None


def check_keys(state: NodeState) -> None:
    """Raise `OperatorError` unless the node's keys are those of its operator."""
    for name, key, expected in (
        ("log", state.log_key, state.operator.log),
        ("witness", state.witness_key, state.operator.witness),
    ):
        if key.public != expected.public.raw:
            raise OperatorError(
                f"{state.config.data / name}.key is not the {name} key of operator {state.operator.name}"
            )


def require_successor(held: Charter, charter: Charter, now_s: float) -> None:
    """Raise a `PeewitError` unless a node that has `held` may go on with `charter` now."""
    held.require_successor(charter)
    if charter.schedule is not None:
        soon = charter.schedule.round_at(now_s) + AHEAD
        known = {seats.from_round for seats in held.schedule.seats} if held.schedule else set()
        if any(0 < seats.from_round <= soon for seats in charter.schedule.seats if seats.from_round not in known):
            raise OperatorError(f"a new committee begins with round {soon + 1} or later: keys are made ahead")


def stamp(path: Path) -> tuple[int, int]:
    """What changes when the file does."""
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return stat.st_mtime_ns, stat.st_size
