"""What carried statements establish: devices, closes, forks (design 4.1, 4.2 Close, 4.3 Fork).

Rules kept here: a statement counts by its own signature, wherever it was carried and however often;
it binds only the mediator that it names; whether its root stands is asked when it is used, so that
rotating a root needs no order. Of closes for one log by one mediator the smallest counts.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

from peewit_federation.errors import SenderError
from peewit_federation.statements.carried import (
    CarriedStatement,
    Close,
    Device,
    Evidence,
    ForkRevocation,
    open_carried,
    statement_id,
)
from peewit_federation.statements.mediator import Revocation

FORK_REVOCATIONS_MAX: Final = 1_000
"Carried of one log by one operator; a quota of nodes, not of the fold, which must not depend on order."


@dataclass
class Vouched:
    """All valid carried statements that were seen, by what they speak of."""

    devices: dict[bytes, dict[bytes, dict[bytes, tuple[Device, bytes]]]] = field(default_factory=dict)
    "By mediator, origin hash, SHA-256 of what is said: the statement, and its bytes to hand on."
    closes: dict[tuple[bytes, bytes], dict[bytes, Close]] = field(default_factory=dict)
    "By (mediator, origin hash), then root key: the smallest of each."
    close_bytes: dict[Close, bytes] = field(default_factory=dict)
    "The carried bytes of closes, to hand on."
    evidence: dict[bytes, Evidence] = field(default_factory=dict)
    "By origin hash; any one is enough."
    fork_revocations: dict[bytes, dict[bytes, tuple[int, bytes, Revocation]]] = field(default_factory=dict)
    "By origin hash, then revocation id: index, entry, revocation."
    known: set[bytes] = field(default_factory=set)
    "Ids of all carried statements that were joined."
    mediators_of: dict[bytes, set[bytes]] = field(default_factory=dict)
    "By origin hash: the mediators that claim the log, with its key's consent."

    def carry(self, data: bytes) -> CarriedStatement | None:
        """Join a carried statement. None if it is not valid or says nothing new."""
        key = statement_id(data)
        if key in self.known:
            return None
        try:
            statement = open_carried(data)
        except SenderError:
            return None
        if not self._join(statement, data):
            return None
        self.known.add(key)
        return statement

    def _join(self, statement: CarriedStatement, data: bytes) -> bool:
        match statement:
            case Device():
                logs = self.devices.setdefault(statement.mediator, {})
                said = logs.setdefault(statement.origin_hash, {})
                # The holder of the log key can countersign in endless ways; what is said stays one thing.
                key = statement_id(statement.encode())
                if key in said:
                    return False
                said[key] = statement, data
                self.mediators_of.setdefault(statement.origin_hash, set()).add(statement.mediator)
            case Close():
                closes = self.closes.setdefault((statement.mediator, statement.origin_hash), {})
                smallest = closes.get(statement.root)
                if smallest is not None and (smallest.size, smallest.root_hash) <= (
                    statement.size,
                    statement.root_hash,
                ):
                    return False
                closes[statement.root] = statement
                self.close_bytes[statement] = data
            case Evidence():
                if statement.origin_hash in self.evidence:
                    return False
                self.evidence[statement.origin_hash] = statement
            case ForkRevocation():
                index, entry, revocation = statement.verify()
                found = self.fork_revocations.setdefault(statement.origin_hash, {})
                held = found.get(statement_id(entry))
                if held is not None and held[0] <= index:
                    return False
                found[statement_id(entry)] = index, entry, revocation
        return True

    def devices_of(self, mediator: bytes, roots: Set[bytes]) -> dict[bytes, frozenset[bytes]]:
        """The logs that count for a mediator: origin hash -> the standing roots that vouch for it."""
        found = {}
        for origin, statements in self.devices.get(mediator, {}).items():
            behind = frozenset(device.root for device, _ in statements.values() if device.root in roots)
            if behind:
                found[origin] = behind
        return found

    def device(self, origin: bytes) -> Device | None:
        """Any statement of a log's device: its log key is the same in all."""
        return next((device for device, _ in self.device_statements(origin)), None)

    def device_statements(self, origin: bytes) -> list[tuple[Device, bytes]]:
        """All statements of a log's device, with their bytes."""
        return [
            found
            for mediator in sorted(self.mediators_of.get(origin, ()))
            for _, found in sorted(self.devices[mediator][origin].items())
        ]

    def close(self, mediator: bytes, origin: bytes, roots: Set[bytes]) -> Close | None:
        """The close that counts: the smallest by a standing root."""
        closes = [c for root, c in self.closes.get((mediator, origin), {}).items() if root in roots]
        return min(closes, key=lambda c: (c.size, c.root_hash), default=None)
