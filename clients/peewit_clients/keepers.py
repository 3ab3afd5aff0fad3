"""Which operators keep the queues of a mediator's areas, and which of them are still there.

Rules kept here: an area names nodes by their operators' logs, and goes on naming one whose operator has left; its
mediator alone can name others. Where areas are for people, `areas` shows them.
"""

from __future__ import annotations

from dataclasses import dataclass

from peewit_clients.registry_view import RegistryView
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.kinds import MEDIATOR_KINDS, read_entry
from peewit_federation.statements.mediator import Catchment


@dataclass(frozen=True)
class Kept:
    """The queue of one area."""

    area: bytes
    nodes: tuple[str, ...]
    "Names of the operators that keep it and are in the charter."
    gone: int
    "How many more it names, which have left."


def keepers(view: RegistryView, mediator: bytes) -> list[Kept]:
    """The areas of a mediator that count, each with who keeps its queue. Refresh the view before."""
    fold, names = view.registry.folds.get(mediator), {o.origin_hash: o.name for o in view.charter.operators}
    kept = []
    for kind, subject in sorted(fold.subjects) if fold else ():
        found = view.finder.look(mediator, kind, subject, int(view.clock()))
        statement = read_entry(view.standing_entry(found) or b"", MEDIATOR_KINDS)
        if isinstance(statement, Catchment) and found.verdict is Verdict.ACTIVE:
            here = tuple(names[origin] for origin in statement.nodes if origin in names)
            kept.append(Kept(subject, here, len(statement.nodes) - len(here)))
    return kept
