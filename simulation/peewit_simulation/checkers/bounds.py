"""Promises about what a node uses, and what it never gives away."""

from __future__ import annotations

import base64
from typing import Final

from peewit_node.intake import NOTED_MAX
from peewit_simulation.checkers import Checker
from peewit_simulation.federation import Simulation

TASKS_MAX: Final = 64
SOCKETS_MAX: Final = 600


class NodesStayBounded(Checker):
    """Memory, tasks, queues and connections of a node stay bounded, whatever others do."""

    def watch(self) -> None:
        for name, node in self.sim.honest().items():
            host = self.sim.hosts[name]
            counts = {
                "background tasks": (len(node.state.tasks), TASKS_MAX),
                "conversations": (len(node.gossip._talking), len(self.sim.names)),
                "noted heads": (len(node.intake._noted), NOTED_MAX),
                "sockets": (len(host.sockets), SOCKETS_MAX),
                "waiting entries": (len(node.own._waiting), 1000),
            }
            for what, (count, most) in counts.items():
                if count > most:
                    raise self.broken(f"{name} has {count} {what}")
            if node.state.failed.is_set():
                raise self.broken(f"a part of {name} has ended: {self.sim.errors[-1:]}")


class SecretsStay(Checker):
    """No private key is ever sent or logged."""

    def __init__(self, sim: Simulation, secrets: list[bytes]) -> None:
        super().__init__(sim)
        self._forms = [form for secret in secrets for form in _forms(secret)]
        self._passed: list[bytes] = []
        sim.world.watchers.append(self._passed.append)

    def watch(self) -> None:
        passed = b"".join(self._passed)
        self._passed.clear()
        if any(form in passed for form in self._forms):
            raise self.broken("a private key was sent or logged")

    def end(self) -> None:
        self.watch()


def _forms(secret: bytes) -> list[bytes]:
    """How it would look: raw, hexadecimal, and base64 wherever it begins in what is encoded."""
    first = {0: 0, 1: 2, 2: 3}  # the first character that depends on nothing before the secret
    shifted = [base64.b64encode(bytes(shift) + secret)[at : at + 38] for shift, at in first.items()]
    return [secret, secret.hex().encode(), *shifted]


class NodesDoNotFail(Checker):
    """Nothing that others do makes a node log an error of its own."""

    def end(self) -> None:
        if self.sim.errors:
            raise self.broken(f"{len(self.sim.errors)} errors, the first: {self.sim.errors[0]}")
