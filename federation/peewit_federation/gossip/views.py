"""Views: what a node has, signed with the time (design 4.3, Fresh).

A view is a COSE_Sign1 by the node's witness key over {epoch, number, time, size, root}. The root is the
Merkle root over the node's lines, one for each log that it mirrors, in order:

    [mediator, origin hash, size, root hash]     or, with fork evidence,     [mediator, origin hash]

Operators' logs stand first, with an empty mediator. A client that asks for one mediator gets that range
with its neighbours and a range proof, and so knows that nothing of the mediator was left out.

Rules kept here: lines ascend strictly; a range is complete or refused. Which views make a quorum, and
what a holder lacks, is decided by `fresh_as_of`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from peewit_federation import cbor
from peewit_federation.cose import Sign1, sign1
from peewit_federation.errors import ForgeryError, MalformedError, UnknownError
from peewit_federation.keys import PublicKey, SigningKey, key_id
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.policy import Policy
from peewit_federation.log.proofs import RangeProof, leaf_source, range_proof
from peewit_federation.statements.codec import Bytes, Statement, Uint, labelled

VIEW_PURPOSE: Final = "peewit view v1"
LINES_MAX: Final = 9_000
OPERATORS: Final = b""
"What stands for the mediator in the lines of operators' logs."


@dataclass(frozen=True)
class View(Statement):
    """Everything that a node held at a time."""

    KIND: ClassVar[int] = 48

    epoch: bytes = labelled(2, Bytes(8))
    number: int = labelled(3, Uint())
    "How far the node's feed was."
    time_s: int = labelled(4, Uint())
    size: int = labelled(5, Uint())
    "How many lines."
    root: bytes = labelled(6, Bytes(32))


def is_newer(view: View, held: View) -> bool:
    """Whether a node signed `view` after `held`: by its feed within one life, by the time across lives."""
    if view.epoch == held.epoch:
        return (view.number, view.time_s) > (held.number, held.time_s)
    return view.time_s > held.time_s


def sign_view(view: View, key: SigningKey) -> bytes:
    """The view as it travels."""
    return sign1(view.encode(), VIEW_PURPOSE, key).encode()


def open_view(data: bytes, policy: Policy) -> tuple[str, View]:
    """The policy's name of the witness, and its verified view. Raises `SenderError`s."""
    envelope = Sign1.parse(data, size_bytes_max=4096)
    for name, party in policy.witnesses.items():
        if key_id(party.key.public.raw) == envelope.kid:
            envelope.verify(VIEW_PURPOSE, PublicKey(party.key.public.raw))
            envelope.refuse_countersignature(VIEW_PURPOSE)
            return name, View.decode(envelope.payload)
    raise UnknownError("a view of a node that is not a witness of the charter's policy")


@dataclass(frozen=True, order=True)
class Line:
    """One log in a view. A forked log has size -1 and no root."""

    mediator: bytes
    origin: bytes
    size: int = -1
    root: bytes = b""

    @property
    def forked(self) -> bool:
        return self.size < 0

    def fields(self) -> list[bytes | int]:
        """What is encoded."""
        if self.forked:
            return [self.mediator, self.origin]
        return [self.mediator, self.origin, self.size, self.root]

    @classmethod
    def of(cls, value: object) -> Line:
        """From decoded CBOR. Raises `MalformedError`."""
        match value:
            case [bytes(mediator), bytes(origin), *rest] if len(mediator) in (0, 32) and len(origin) == 32:
                match rest:
                    case []:
                        return cls(mediator, origin)
                    case [int(size), bytes(root)] if type(size) is int and size >= 0 and len(root) == 32:
                        return cls(mediator, origin, size, root)
        raise MalformedError("not a line of a view")


@dataclass(frozen=True)
class Range:
    """A mediator's lines with the neighbours on both sides, and their proof."""

    lines: tuple[Line, ...]
    proof: RangeProof

    def value(self) -> list[object]:
        """For encoding: [first, [lines], [left], [right]]."""
        proof = self.proof
        return [proof.first, [line.fields() for line in self.lines], list(proof.left), list(proof.right)]

    @classmethod
    def of(cls, value: object, size: int) -> Range:
        """From decoded CBOR, for a view of `size` lines."""
        match value:
            case [int(first), list(lines), list(left), list(right)] if type(first) is int and all(
                isinstance(node, bytes) and len(node) == 32 for node in left + right
            ):
                proof = RangeProof(first, size, tuple(left), tuple(right))
                return cls(tuple(map(Line.of, lines)), proof)
        raise MalformedError("not a range of a view")

    def open(self, mediator: bytes, view: View) -> tuple[Line, ...]:
        """All lines of `mediator` in `view`. Raises `ForgeryError` if one could be missing."""
        hashes = [leaf_hash(cbor.encode(line.fields())) for line in self.lines]
        if self.proof.size != view.size or self.proof.root(hashes) != view.root:
            raise ForgeryError("a range that is not of this view")
        if any(a >= b for a, b in zip(self.lines, self.lines[1:], strict=False)):
            raise ForgeryError("a range whose lines do not ascend")
        inside = tuple(line for line in self.lines if line.mediator == mediator)
        end = self.proof.first + len(self.lines)
        if self.proof.first > 0 and not (self.lines and self.lines[0].mediator < mediator):
            raise ForgeryError("a range that may have left out lines at its beginning")
        if end < view.size and not (self.lines and self.lines[-1].mediator > mediator):
            raise ForgeryError("a range that may have left out lines at its end")
        return inside


class ViewList:
    """The lines behind a view, in order."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lines = sorted(lines)
        if len(self.lines) > LINES_MAX:
            raise MalformedError(f"a view of more than {LINES_MAX} lines")
        self._mediators = [line.mediator for line in self.lines]
        self._hashes = [leaf_hash(cbor.encode(line.fields())) for line in self.lines]
        self._source = leaf_source(self._hashes)
        self.root = root_of(self._hashes)

    def range(self, mediator: bytes) -> Range:
        """A mediator's lines with their neighbours and proof."""
        first = max(0, bisect_left(self._mediators, mediator) - 1)
        end = min(len(self.lines), bisect_right(self._mediators, mediator) + 1)
        proof = range_proof(first, end, len(self.lines), self._source)
        return Range(tuple(self.lines[first:end]), proof)

    def encode(self, base: ViewList | None = None) -> bytes:
        """All lines, or what differs from `base`: [base root or empty, [lines added], [origins dropped]]."""
        if base is None:
            return cbor.encode([b"", [line.fields() for line in self.lines], []])
        ours, theirs = set(self.lines), set(base.lines)
        if len(ours ^ theirs) > len(ours):
            return self.encode()
        added = [line.fields() for line in sorted(ours - theirs)]
        return cbor.encode([base.root, added, [line.fields() for line in sorted(theirs - ours)]])

    @classmethod
    def decode(cls, data: bytes, root: bytes, base: ViewList | None = None) -> ViewList:
        """The list with this root, from what `encode` made. Raises `SenderError`s."""
        match cbor.decode(data, size_bytes_max=4 << 20):
            case [bytes(base_root), list(added), list(dropped)]:
                lines = set()
                if base_root:
                    if base is None or base.root != base_root:
                        raise MalformedError("a list of lines as a difference from something else")
                    lines = set(base.lines)
                lines -= set(map(Line.of, dropped))
                lines |= set(map(Line.of, added))
                found = cls(lines)
                if found.root != root:
                    raise ForgeryError("a list of lines that does not lead to its view's root")
                return found
        raise MalformedError("not a list of lines")


def lacks(
    lines: Sequence[Line],
    held: dict[bytes, tuple[int, bytes]],
    forked: Iterable[bytes],
    limits: Mapping[bytes, int] | None = None,
) -> list[Line]:
    """The lines of a view that tell of something a holder does not have.

    `held` maps origin hashes to the size and root held; `forked` are the logs known to have forked, of
    which all branches are asked for anyway; `limits` are the sizes beyond which entries count for nothing.
    A shorter line lacks nothing: heads only grow.
    """
    known, limits = set(forked), limits or {}
    missing = []
    for line in lines:
        size, root = held.get(line.origin, (-1, b""))
        if line.origin in known or (line.origin in limits and size >= limits[line.origin]):
            continue
        if line.forked or size < line.size or (size == line.size and root != line.root):
            missing.append(line)
    return missing


def fresh_as_of(times_s: dict[str, int], policy: Policy) -> int | None:
    """The latest time T such that the witnesses whose complete view is of T or later are a quorum."""
    keys = {name: party.key.name for name, party in policy.witnesses.items()}
    for time_s in sorted(set(times_s.values()), reverse=True):
        if policy.satisfied({keys[name] for name, at in times_s.items() if at >= time_s and name in keys}):
            return time_s
    return None
