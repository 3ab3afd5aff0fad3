"""What happened in a world, as those who did it and the disks saw it: what checkers judge by.

Rules kept here: only facts, with the time of the world; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from peewit_federation.api import Append
from peewit_federation.errors import PeewitError
from peewit_federation.log.checkpoint import Checkpoint, origin_hash
from peewit_federation.log.note import Note
from peewit_node.engine import Write
from peewit_node.logs import UPDATE
from peewit_simulation.kernel.world import World


@dataclass
class Stored:
    """A head that a node stored: with its own cosignature, or with a quorum's."""

    time_s: float
    node: str
    origin: bytes
    size: int
    root: bytes
    cosigned_by: tuple[str, ...]


@dataclass
class Said:
    """Something a mediator's device signed."""

    time_s: float
    origin: bytes
    index: int
    root: bytes
    "Of the log that ends with it."
    subject: bytes
    what: str
    "admit, suspend or revoke."


@dataclass
class Accepted:
    """A client found that it may book with a practice."""

    time_s: float
    client: str
    subject: bytes


@dataclass
class History:
    """All of it."""

    world: World
    heads: list[Stored] = field(default_factory=list)
    "Every head that became durable at a node, once for each node and note."
    quorums: list[Stored] = field(default_factory=list)
    "Every head with a quorum, likewise."
    acknowledged: list[Stored] = field(default_factory=list)
    "Every append that a node answered with its receipt."
    posts: list[tuple[str, bytes]] = field(default_factory=list)
    "Every path and body that a node took from an honest client."
    said: list[Said] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    stolen: set[bytes] = field(default_factory=set)
    "Logs of which a thief tells another history."
    refused: int = 0
    "How often a client could not tell whether it may book."
    served: int = 0
    failed: int = 0
    events: list[tuple[float, str]] = field(default_factory=list)
    _seen: set[tuple[str, bytes]] = field(default_factory=set)

    def tell(self, what: str) -> None:
        """Something for the timeline."""
        self.events.append((self.world.now_s, what))

    def watcher(self, node: str) -> partial[None]:
        """What is told of everything that becomes durable at a node."""
        return partial(self._stored, node)

    def _stored(self, node: str, writes: Sequence[Write]) -> None:
        for write in writes:
            if write.sql == UPDATE:
                for kind, note in ((self.heads, write.parameters[2]), (self.quorums, write.parameters[3])):
                    if note and (node + str(kind is self.heads), note) not in self._seen:
                        self._seen.add((node + str(kind is self.heads), note))
                        kind.append(self._head(node, note))

    def _head(self, node: str, data: bytes) -> Stored:
        note = Note.parse(data)
        head = Checkpoint.parse(note.text)
        names = tuple(sorted(s.name for s in note.signatures if s.name != head.origin))
        return Stored(self.world.now_s, node, origin_hash(head.origin), head.size, head.root, names)

    def receipt(self, node: str, body: bytes) -> None:
        """A node acknowledged an append."""
        try:
            self.acknowledged.append(self._head(node, Append.decode(body).note))
        except PeewitError:
            self.tell(f"{node} acknowledged something that is no append")

    def effective_s(self, said: Said) -> float | None:
        """When a quorum first had an entry. Of a log with two histories, only heads that surely have it count."""
        for head in self.quorums:
            if head.origin == said.origin and head.size > said.index:
                if said.origin not in self.stolen or (head.size, head.root) == (said.index + 1, said.root):
                    return head.time_s
        return None
