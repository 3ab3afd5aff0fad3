"""Whose cosignatures suffice (C2SP tlog-policy): logs, witnesses, groups, and one quorum.

    witness north north.example/witness+5a1e0c2d+BAb…= https://north.example/
    witness west  west.example/witness+77c0ffee+BCd…=
    group nodes 2 north west
    quorum nodes

Rules kept here: the syntax and its canonical meaning; and, for federations, that quorums intersect
honestly. Since every name may be a member only once, a quorum is a tree of thresholds, so the
smallest overlap of two quorums and the smallest set whose absence blocks every quorum are computed
exactly, in one walk.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from peewit_federation.errors import OperatorError, PeewitError
from peewit_federation.log.note import COSIGNATURE_V1, ED25519, VerifierKey

LINES_MAX: Final = 1024
WITNESSES_MAX: Final = 16

Count = Callable[[int, int], int]
"(threshold, members) -> how many of the cheapest members to count."


@dataclass(frozen=True)
class Party:
    """A log or a witness: its key, and a URL if the policy names one."""

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True)
class Group:
    """Satisfied when at least `threshold` of `members` (names of witnesses or groups) are."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """A parsed policy. `quorum` is None for `quorum none`."""

    logs: dict[str, Party]
    "By origin."
    witnesses: dict[str, Party]
    "By the name that the policy gives."
    groups: dict[str, Group]
    quorum: str | None

    @cached_property
    def witness_keys(self) -> dict[str, VerifierKey]:
        """The witnesses' keys by key name, for `open_head`."""
        return {party.key.name: party.key for party in self.witnesses.values()}

    def satisfied(self, cosigners: Set[str]) -> bool:
        """Whether witnesses with these key names are a quorum."""
        return self.quorum is None or (len(cosigners) >= self._least and self._satisfied(self.quorum, cosigners))

    def _satisfied(self, name: str, cosigners: Set[str]) -> bool:
        if name in self.witnesses:
            return self.witnesses[name].key.name in cosigners
        group = self.groups[name]
        return sum(self._satisfied(member, cosigners) for member in group.members) >= group.threshold

    @cached_property
    def _least(self) -> int:
        return self.needed()

    def needed(self) -> int:
        """The size of the smallest quorum, in witnesses."""
        return 0 if self.quorum is None else self._fold(self.quorum, lambda k, _: k)

    def overlap(self) -> int:
        """The fewest witnesses that any two quorums have in common."""
        return 0 if self.quorum is None else self._fold(self.quorum, lambda k, n: max(0, 2 * k - n))

    def blocking(self) -> int:
        """The fewest witnesses whose absence leaves no quorum."""
        return 0 if self.quorum is None else self._fold(self.quorum, lambda k, n: n - k + 1)

    def voters(self) -> frozenset[str]:
        """The names of the witnesses that can contribute to the quorum."""
        found, todo = set(), [] if self.quorum is None else [self.quorum]
        while todo:
            name = todo.pop()
            if name in self.witnesses:
                found.add(name)
            else:
                todo += self.groups[name].members
        return frozenset(found)

    def _fold(self, name: str, cheapest: Count) -> int:
        if name in self.witnesses:
            return 1
        group = self.groups[name]
        costs = sorted(self._fold(member, cheapest) for member in group.members)
        return sum(costs[: cheapest(group.threshold, len(group.members))])

    def require_honest_intersection(self) -> None:
        """Refuse a policy under which liars could split the federation, or a few failures stop it.

        With n voting witnesses and f = (n - 1) // 3 liars, any two quorums must share more than f
        witnesses, and any n - f must be a quorum: (n + f) / 2 < q <= n - f for a flat threshold q.
        """
        voters = len(self.voters())
        if voters < 1 or voters != len(self.witnesses):
            raise OperatorError("every witness of a federation's policy must count towards its quorum")
        if voters > WITNESSES_MAX:
            raise OperatorError(f"{voters} witnesses; at most {WITNESSES_MAX} signatures are read by every C2SP reader")
        faulty = (voters - 1) // 3
        if self.overlap() <= faulty:
            raise OperatorError(
                f"the quorum is too weak: two quorums of {self.needed()} of {voters} witnesses may share only "
                f"{self.overlap()}, and {faulty} of them may lie; raise the threshold"
            )
        if self.blocking() <= faulty:
            raise OperatorError(
                f"the quorum is too demanding: {self.blocking()} of {voters} witnesses can stop it, and {faulty} "
                f"may fail at once; lower the threshold"
            )


def parse_policy(text: str) -> Policy:
    """Parse a policy. Raises `OperatorError` naming the line."""
    if any((ord(c) < 0x20 and c not in "\t\n") or c == "\x7f" for c in text):
        raise OperatorError("the policy contains a control character other than tab and newline")
    lines = text.split("\n")
    if len(lines) > LINES_MAX:
        raise OperatorError(f"the policy has {len(lines)} lines; at most {LINES_MAX} are read")
    parser = _Parser()
    for number, line in enumerate(lines, start=1):
        words = [word for word in line.replace("\t", " ").split(" ") if word]
        if words and not words[0].startswith("#"):
            try:
                parser.line(words)
            except PeewitError as error:
                raise OperatorError(f"policy line {number}: {error}") from None
    if not parser.quorum_seen:
        raise OperatorError("the policy has no quorum line")
    return Policy(parser.logs, parser.witnesses, parser.groups, parser.quorum)


class _Parser:
    def __init__(self) -> None:
        self.logs: dict[str, Party] = {}
        self.witnesses: dict[str, Party] = {}
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None
        self.quorum_seen = False
        self.members: set[str] = set()

    def line(self, words: list[str]) -> None:
        match words:
            case ["log", vkey, *url] if len(url) < 2:
                key = _fresh_key(vkey, ED25519, self.logs)
                if key.name in self.logs:
                    raise OperatorError(f"two logs with the origin {key.name!r}")
                self.logs[key.name] = Party(key, *url)
            case ["witness", name, vkey, *url] if len(url) < 2:
                key = _fresh_key(vkey, COSIGNATURE_V1, self.witnesses)
                if any(key.name == party.key.name for party in self.witnesses.values()):
                    raise OperatorError(f"two witnesses with the key name {key.name!r}")
                self.witnesses[self._new(name)] = Party(key, *url)
            case ["group", name, threshold, *members] if members:
                for member in members:
                    self._known(member)
                    if member in self.members:
                        raise OperatorError(f"{member!r} is a member of a group twice")
                    self.members.add(member)
                self.groups[self._new(name)] = Group(_threshold(threshold, len(members)), tuple(members))
            case ["quorum", name]:
                if self.quorum_seen:
                    raise OperatorError("a second quorum line")
                self.quorum_seen = True
                self.quorum = None if name == "none" else self._known(name)
            case _:
                raise OperatorError(f"not a log, witness, group or quorum line: {words[0][:20]!r}")

    def _new(self, name: str) -> str:
        if name == "none" or name in self.witnesses or name in self.groups:
            raise OperatorError(f"the name {name!r} is already taken")
        return name

    def _known(self, name: str) -> str:
        if name not in self.witnesses and name not in self.groups:
            raise OperatorError(f"the name {name!r} is not defined above")
        return name


def _fresh_key(vkey: str, algorithm: int, parties: dict[str, Party]) -> VerifierKey:
    key = VerifierKey.parse(vkey)
    if key.algorithm != algorithm:
        raise OperatorError(f"the key of {key.name} is of type {key.algorithm:#04x}, not {algorithm:#04x}")
    if any(party.key.public == key.public for party in parties.values()):
        raise OperatorError(f"the key of {key.name} stands there twice")
    return key


def _threshold(text: str, members: int) -> int:
    if text in ("any", "all"):
        return 1 if text == "any" else members
    if (
        not (text.isascii() and text.isdigit())
        or len(text) > 3
        or str(int(text)) != text
        or not 1 <= int(text) <= members
    ):
        raise OperatorError(f"a group's threshold is any, all, or a number from 1 to {members}")
    return int(text)
