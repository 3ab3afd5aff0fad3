"""Judging a head that arrives against the head that is held (design 4.3).

Rules kept here: a head is only ever replaced by one that extends it; the same size with another root is
a fork, proven by the two heads alone; whether a longer or shorter head lies on the same history is
decided by tiles (`log.follow`) and answered here as evidence.
"""

from __future__ import annotations

from enum import Enum

from peewit_federation.log.checkpoint import Head
from peewit_federation.log.proofs import Source, consistency_proof, root_at
from peewit_federation.statements.carried import Evidence, evidence_of


class Relation(Enum):
    """How an incoming head stands to the held one."""

    SAME = "the same tree"
    LONGER = "a longer tree"
    SHORTER = "a shorter tree"
    FORK = "the same size with another root"


def relate(held: Head | None, incoming: Head) -> Relation:
    """Compare by size and root alone."""
    if held is None or incoming.size > held.size:
        return Relation.LONGER
    if incoming.size < held.size:
        return Relation.SHORTER
    return Relation.SAME if incoming.root == held.root else Relation.FORK


def same_size_evidence(log_key: bytes, a: Head, b: Head) -> Evidence:
    """Two heads of one size and different roots."""
    return evidence_of(log_key, a, b, b.root, [])


def shorter_evidence(log_key: bytes, shorter: Head, held: Head, source: Source) -> Evidence | None:
    """Evidence if `shorter` is not a prefix of the held tree, whose node hashes `source` gives; else None."""
    root = root_at(shorter.size, source)
    if root == shorter.root:
        return None
    return evidence_of(log_key, shorter, held, root, consistency_proof(shorter.size, held.size, source))
