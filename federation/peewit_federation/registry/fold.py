"""The registry: the fold of all logs into who may do what (design 4.2).

    registry.grow(origin, held, believed)           a log grew, or a quorum cosigned more of it
    for want in registry.wanted():                  what must be read because of it
        registry.read(want, entries)                ... in pieces, in order
    registry.digest()                               equal wherever the same logs were folded

Rules kept here: the result depends on the logs only, not on the order in which they arrived. Growing is
incremental; when what counts shrinks (a close, a withdrawn root, another branch), the mediator concerned
is folded anew beside its old state and replaces it when complete, so that no revocation ever
disappears for a moment. Who holds the entries, and which branch of a forked log a close picks, the
caller says (`settle`).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from peewit_federation import cbor
from peewit_federation.draw.rounds import Rounds
from peewit_federation.registry.admission import Admissions, Constitution
from peewit_federation.registry.mediator import Cursor, LogState, MediatorFold
from peewit_federation.registry.vouched import Vouched
from peewit_federation.statements.carried import CarriedStatement, Close, Evidence
from peewit_federation.statements.draw import DrawKey, TokenCount, TokenKey
from peewit_federation.statements.kinds import OPERATOR_KINDS, read_entry
from peewit_federation.statements.operator import Admission, Carried, Node, Withdrawal

RULES_VERSION: Final = 1
MAIN: Final = b""
NOTHING: Final = LogState(0, 0)


@dataclass(frozen=True)
class Cut:
    """How much of which branch of a log counts for a mediator."""

    branch: bytes
    "`MAIN`, or the root hash of the closed branch that was fetched beside it."
    limit: int
    settled: bool
    "Whether a close vouches for all below `limit`, so that no quorum is needed."


@dataclass(frozen=True)
class Want:
    """Entries [start, end) of a branch that must be read, for a mediator or (None) of an operator's log."""

    origin: bytes
    branch: bytes
    start: int
    end: int
    mediator: bytes | None


class Registry:
    """Everything that the logs say, as far as it was read."""

    def __init__(self, constitution: Constitution) -> None:
        self.constitution = constitution
        self.vouched = Vouched()
        self.admissions: dict[bytes, Admissions] = {}
        self.folds: dict[bytes, MediatorFold] = {}
        self.rebuilding: dict[bytes, MediatorFold] = {}
        self.cuts: dict[bytes, dict[bytes, Cut]] = {}
        self.logs: dict[tuple[bytes, bytes], LogState] = {}
        self.operators: dict[bytes, Cursor] = _cursors(constitution, {})
        self.rounds = Rounds()
        self.nodes: dict[bytes, Node] = {}
        "What each operator last said of its node."
        self.generation = 0
        "Grows whenever what must be read may have changed."
        self.scopes: dict[bytes, int] = {}
        "By mediator: grows whenever its scope may have changed."
        self._targets: dict[bytes, dict[bytes, Cursor]] = {}
        self._settled: dict[tuple[bytes, bytes], tuple[int, bytes, bytes]] = {}
        self._dirty: dict[bytes, None] = {}

    # What is held

    def grow(self, origin: bytes, held: int, believed: int, branch: bytes = MAIN) -> None:
        """Say how far a branch is held, and how far a quorum has cosigned it."""
        self.logs[origin, branch] = LogState(held, min(held, believed))
        for mediator in self.vouched.mediators_of.get(origin, ()):
            self._dirty[mediator] = None

    def settle(self, mediator: bytes, origin: bytes, close: Close, branch: bytes) -> None:
        """Say where the prefix that a close picks is held: in `MAIN`, or beside it under its root hash."""
        self._settled[mediator, origin] = (close.size, close.root_hash, branch)
        self._rebase(mediator)

    def unsettled(self) -> list[tuple[bytes, bytes, Close]]:
        """Closes that count but whose branch nobody has pointed out yet."""
        return [
            (mediator, origin, close)
            for mediator, cuts in self.cuts.items()
            for origin, cut in cuts.items()
            if not cut.settled and (close := self.close_of(mediator, origin)) is not None
        ]

    # What must be read

    def wanted(self, only: Container[bytes] | None = None) -> list[Want]:
        """What to read next; call again after reading. `only` names the mediators that interest."""
        wants = []
        for origin, cursor in self.operators.items():
            state = self._operator_state(origin)
            start = min(cursor.seen, cursor.believed)
            if cursor.seen < state.held or cursor.believed < state.believed:
                wants.append(Want(origin, MAIN, start, max(state.held, state.believed), None))
        for mediator in list(self._dirty):
            if only is not None and mediator not in only:
                continue
            if mediator in self.rebuilding and self._caught_up(mediator):
                self._replace(mediator)
            found = self._wants_of(mediator)
            if not found:
                del self._dirty[mediator]
            wants += found
        return wants

    def read(self, want: Want, start: int, entries: Sequence[bytes]) -> None:
        """Fold entries of a want, in order: `start` is where the last piece ended.

        A want that has been overtaken (another branch, a fold begun anew) is left aside.
        """
        if want.mediator is None:
            cursor = self.operators.get(want.origin)
            if cursor is not None and start <= max(cursor.seen, cursor.believed):
                self._read_operator(want.origin, start, entries)
            return
        fold = self.rebuilding.get(want.mediator) or self.folds.get(want.mediator)
        cut = self.cuts.get(want.mediator, {}).get(want.origin)
        if fold is None or cut is None or cut.branch != want.branch:
            return
        cursor = fold.cursors.get(want.origin, Cursor())
        if start <= max(cursor.seen, cursor.believed):
            fold.read(want.origin, start, entries, self._state(want.mediator, want.origin))

    def _wants_of(self, mediator: bytes) -> list[Want]:
        fold = self.rebuilding.get(mediator) or self.folds.setdefault(mediator, MediatorFold())
        wants = []
        for origin, cut in self.cuts.get(mediator, {}).items():
            span = fold.wanted(origin, self._state(mediator, origin))
            if span:
                wants.append(Want(origin, cut.branch, *span, mediator))
        return wants

    def _state(self, mediator: bytes, origin: bytes) -> LogState:
        cut = self.cuts[mediator][origin]
        state = self.logs.get((origin, cut.branch), NOTHING).limited(cut.limit)
        return LogState(state.held, state.held) if cut.settled else state

    # Operators' logs

    def _operator_state(self, origin: bytes) -> LogState:
        return self.logs.get((origin, MAIN), NOTHING).limited(self.constitution.retired.get(origin))

    def _read_operator(self, origin: bytes, start: int, entries: Sequence[bytes]) -> None:
        cursor, state = self.operators[origin], self._operator_state(origin)
        touched: dict[bytes, None] = {}
        for index, entry in enumerate(entries, start):
            restrict = cursor.seen <= index < state.held
            permit = cursor.believed <= index < state.believed
            match read_entry(entry, OPERATOR_KINDS) if restrict or permit else None:
                case Admission() as word if permit:
                    if self._admissions(word.mediator).say(origin, index, word):
                        touched[word.mediator] = None
                case TokenKey() | DrawKey() | TokenCount() as word if permit:
                    self.rounds.say(origin, word)
                case Node() as word if permit:
                    self.nodes[origin] = word
                case Withdrawal() as word if restrict:
                    if self._admissions(word.mediator).say(origin, index, None):
                        touched[word.mediator] = None
                case Carried() as carried if restrict:
                    if statement := self.vouched.carry(carried.statement):
                        touched.update(dict.fromkeys(self._concerned(statement)))
        end = start + len(entries)
        if start <= cursor.seen:
            cursor.seen = max(cursor.seen, min(end, state.held))
        if start <= cursor.believed:
            cursor.believed = max(cursor.believed, min(end, state.believed))
        for mediator in touched:
            self._rebase(mediator)

    def carry(self, data: bytes) -> CarriedStatement | None:
        """Join a carried statement that came by itself, not through a log. None if it is invalid or old."""
        statement = self.vouched.carry(data)
        if statement is not None:
            for mediator in self._concerned(statement):
                self._rebase(mediator)
        return statement

    def _concerned(self, statement: CarriedStatement) -> set[bytes]:
        return self.vouched.mediators_of.get(statement.origin_hash, set())

    def _admissions(self, mediator: bytes) -> Admissions:
        return self.admissions.setdefault(mediator, Admissions())

    # What counts for a mediator

    def standing_roots(self, mediator: bytes) -> frozenset[bytes]:
        """The root keys that stand for a mediator anywhere."""
        held = self.admissions.get(mediator)
        return held.standing_roots(self.constitution) if held else frozenset()

    def close_of(self, mediator: bytes, origin: bytes) -> Close | None:
        """The close that counts for a mediator's log."""
        if (mediator, origin) not in self.vouched.closes:
            return None
        return self.vouched.close(mediator, origin, self.standing_roots(mediator))

    def closed_branch(self, origin: bytes, root_hash: bytes) -> bytes | None:
        """Where the prefix that a close with this root picked is held, once it is settled."""
        for (_, closed), (_, root, branch) in self._settled.items():
            if closed == origin and root == root_hash:
                return branch
        return None

    def mirrors(self, origin: bytes) -> int | None:
        """How many entries of a device's log are wanted by anybody; None if nobody who stands vouches for it."""
        limits = [
            cut.limit
            for mediator in self.vouched.mediators_of.get(origin, ())
            if (cut := self.cuts.get(mediator, {}).get(origin))
        ]
        return max(limits, default=None)

    def _basis(self, mediator: bytes) -> dict[bytes, Cut]:
        roots = self.standing_roots(mediator)
        if not roots:
            return {}
        devices, entries, _ = self._admissions(mediator).quotas(self.constitution)
        cuts = {}
        for origin in sorted(self.vouched.devices_of(mediator, roots))[:devices]:
            close = self.vouched.close(mediator, origin, roots)
            if close is None:
                cuts[origin] = Cut(MAIN, entries, False)
            elif (settled := self._settled.get((mediator, origin))) and settled[:2] == (close.size, close.root_hash):
                cuts[origin] = Cut(settled[2], min(close.size, entries), True)
            else:
                cuts[origin] = Cut(MAIN, min(close.size, entries), False)
        return cuts

    def _rebase(self, mediator: bytes) -> None:
        old, new = self.cuts.get(mediator, {}), self._basis(mediator)
        self.cuts[mediator] = new
        self._dirty[mediator] = None
        self.generation += 1
        self.scopes[mediator] = self.scopes.get(mediator, 0) + 1
        fold = self.rebuilding.get(mediator) or self.folds.get(mediator)
        if fold is not None and any(self._shrinks(fold, origin, cut, new.get(origin)) for origin, cut in old.items()):
            fold = self.rebuilding[mediator] = MediatorFold()
            shown = self.folds.get(mediator, MediatorFold())
            self._targets[mediator] = {o: Cursor(c.seen, c.believed) for o, c in shown.cursors.items()}
        if fold is None:
            fold = self.folds[mediator] = MediatorFold()
        for origin, cut in new.items():
            if not cut.settled:
                self._join_fork_revocations(fold, origin, cut.limit)

    def _shrinks(self, fold: MediatorFold, origin: bytes, old: Cut, new: Cut | None) -> bool:
        cursor = fold.cursors.get(origin, Cursor())
        if new is None or new.branch != old.branch or max(cursor.seen, cursor.believed) > new.limit:
            return True
        if old.settled and not new.settled:
            return True
        joined = self.vouched.fork_revocations.get(origin)
        return bool(joined) and (new.settled != old.settled or new.limit != old.limit)

    def _join_fork_revocations(self, fold: MediatorFold, origin: bytes, limit: int) -> None:
        for index, entry, revocation in self.vouched.fork_revocations.get(origin, {}).values():
            if index < limit:
                fold.revoke(origin, index, entry, revocation)

    def _caught_up(self, mediator: bytes) -> bool:
        """Whether a fold that was begun anew has read all that the shown one had, as far as it still counts.

        It need not have read what came since: whoever appends for ever could put off a close for ever.
        """
        fresh, targets = self.rebuilding[mediator], self._targets[mediator]
        for origin, target in targets.items():
            if origin in self.cuts.get(mediator, {}):
                state, cursor = self._state(mediator, origin), fresh.cursors.get(origin, Cursor())
                if cursor.seen < min(target.seen, state.held) or cursor.believed < min(target.believed, state.believed):
                    return False
        settled = (o for o, cut in self.cuts.get(mediator, {}).items() if cut.settled)
        return all(fresh.wanted(origin, self._state(mediator, origin)) is None for origin in settled)

    def _replace(self, mediator: bytes) -> None:
        fresh = self.rebuilding.pop(mediator)
        del self._targets[mediator]
        stale = self.folds.get(mediator)
        if stale is not None:
            fresh.changed |= set(stale.subjects)
        self.folds[mediator] = fresh

    def reconstitute(self, constitution: Constitution) -> None:
        """Take over another charter's operators, regions and threshold."""
        self.constitution = constitution
        self.operators = _cursors(constitution, self.operators)
        for operator, size in constitution.retired.items():
            if max(self.operators[operator].seen, self.operators[operator].believed) > size:
                # What it said behind its end is forgotten, and what it said before is read again.
                self.operators[operator] = Cursor()
                self.rounds.forget(operator)
                for admissions in self.admissions.values():
                    admissions.words.pop(operator, None)
        self.generation += 1
        self.rounds.keep(self.operators)
        self.nodes = {operator: node for operator, node in self.nodes.items() if operator in self.operators}
        for admissions in self.admissions.values():
            for operator in [o for o in admissions.words if o not in self.operators]:
                del admissions.words[operator]
        for mediator in list(self.admissions):
            self._rebase(mediator)

    # What it comes to

    def forked(self, origin: bytes) -> Evidence | None:
        """The evidence that a log forked, if there is any."""
        return self.vouched.evidence.get(origin)

    def digest(self) -> bytes:
        """SHA-256 over all that counts: equal on any two parties that have read the same logs."""
        parts = []
        for mediator in sorted(self.admissions):
            words = [[operator, word.encode()] for operator, word in self.admissions[mediator].current()]
            if words:
                fold = self.folds.get(mediator, MediatorFold())
                parts.append(sha256(cbor.encode([mediator, words, fold.digest()])).digest())
        return sha256(RULES_VERSION.to_bytes(4, "big") + b"".join(parts)).digest()


def _cursors(constitution: Constitution, held: dict[bytes, Cursor]) -> dict[bytes, Cursor]:
    return {origin: held.get(origin, Cursor()) for origin in (*constitution.regions, *constitution.retired)}
