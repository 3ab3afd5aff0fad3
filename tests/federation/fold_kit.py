"""A world of logs for tests of the fold."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import origin_hash, origin_of
from peewit_federation.registry.admission import Constitution
from peewit_federation.registry.find import Finder
from peewit_federation.registry.fold import MAIN, Registry
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.mediator import Provider, Revocation
from peewit_federation.statements.operator import Carried
from tests.federation_kit import TestMediator, seed

OPERATORS = [seed("operator", n) for n in range(4)]
REGIONS: dict[bytes, tuple[str, ...]] = {name: (str(n + 1),) for n, name in enumerate(OPERATORS)}
RULES = Constitution(2, REGIONS)
NOW = 1_000


@dataclass
class World:
    """Logs as they are in the end."""

    logs: dict[bytes, list[bytes]] = field(default_factory=dict)
    believed: dict[bytes, int] = field(default_factory=dict)

    def say(self, operator: int, *statements: bytes) -> None:
        self.logs.setdefault(OPERATORS[operator], []).extend(statements)

    def publish(self, origin: bytes, *statements: bytes) -> None:
        self.logs.setdefault(origin, []).extend(statements)

    def fold(self, random: Random | None = None, rules: Constitution = RULES) -> Registry:
        """Fold everything, growing logs in pieces and in any order, some of them more than once."""
        registry = Registry(rules)
        held = dict.fromkeys(self.logs, 0)
        believed = dict.fromkeys(self.logs, 0)
        while random and any(held[o] < len(e) for o, e in self.logs.items()):
            origin = random.choice(list(self.logs))
            held[origin] = min(len(self.logs[origin]), held[origin] + random.randint(0, 4))
            believed[origin] = min(held[origin], self._limit(origin), believed[origin] + random.randint(0, 5))
            registry.grow(origin, held[origin], believed[origin])
            if random.random() < 0.5:
                self.read(registry, random, random.randint(1, 3))
        for origin, entries in self.logs.items():
            registry.grow(origin, len(entries), min(len(entries), self._limit(origin)))
        self.read(registry, random)
        for mediator, origin, close in registry.unsettled():
            registry.settle(mediator, origin, close, MAIN)
        self.read(registry, random)
        return registry

    def _limit(self, origin: bytes) -> int:
        return self.believed.get(origin, 1 << 30)

    def read(self, registry: Registry, random: Random | None, steps: int = 10_000) -> None:
        for _ in range(steps):
            wants = registry.wanted()
            if not wants:
                return
            want = random.choice(wants) if random else wants[0]
            end = want.end if random is None else min(want.end, want.start + random.randint(1, 7))
            registry.read(want, want.start, self.logs[want.origin][want.start : end])
        assert steps < 10_000, "the fold never comes to an end"


def origin_hash_of(key: SigningKey) -> bytes:
    return origin_hash(origin_of(key.public))


def admitted(name: str = "mitte", *prefixes: str) -> tuple[World, TestMediator]:
    world, mediator = World(), TestMediator(name)
    for operator in (0, 1):
        world.say(operator, mediator.admission(*(prefixes or ("1", "2", "3"))).encode())
    world.say(0, Carried(mediator.device()).encode())
    return world, mediator


def revocation(subject: bytes, number: int = 0, kind: int = Provider.KIND) -> Revocation:
    return Revocation(kind, subject, 1, seed("nonce", number)[:16])


def verdict(registry: Registry, mediator: TestMediator, subject: bytes, kind: int = Provider.KIND) -> Verdict:
    return Finder(registry).look(mediator.id, kind, subject, NOW).verdict
