"""The fold gives the same registry in any order, and grants and revocations count as they should (design 4.2)."""

from __future__ import annotations

from random import Random

import pytest

from peewit_federation.keys import SigningKey
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.registry.admission import Constitution
from peewit_federation.registry.find import Finder
from peewit_federation.registry.subjects import REVOCATIONS_MAX, Standing, Subject, Verdict
from peewit_federation.statements.carried import Close, sign_close, statement_id
from peewit_federation.statements.mediator import AFTER_MAX, Provider
from peewit_federation.statements.operator import Carried, Withdrawal
from tests.federation.fold_kit import World, admitted, origin_hash_of, revocation, verdict
from tests.federation_kit import TestMediator, catchment, provider, seed

OPERATORS = [seed("operator", n) for n in range(4)]
REGIONS: dict[bytes, tuple[str, ...]] = {name: (str(n + 1),) for n, name in enumerate(OPERATORS)}
RULES = Constitution(2, REGIONS)
NOW = 1_000


def busy_world(random: Random) -> tuple[World, TestMediator, list[SigningKey]]:
    """Several devices that speak of the same subjects, suspend, revoke, re-admit, and close each other."""
    world, mediator = admitted()
    keys = [SigningKey(seed("device", n)) for n in range(3)]
    areas = [catchment(f"area-{n}", f"1{n}000") for n in range(2)]
    made: list[bytes] = []
    for key in keys:
        world.say(random.randrange(4), Carried(mediator.device(key)).encode())
        for area in areas:
            world.publish(origin_hash_of(key), area.encode())
        for _ in range(random.randint(5, 25)):
            name = f"practice-{random.randrange(4)}"
            if random.random() < 0.3:
                entry = revocation(provider(name).subject, random.randrange(6)).encode()
                made.append(statement_id(entry))
            else:
                after = tuple(sorted(random.sample(made, min(len(made), random.randint(0, 3)))))
                after = tuple(sorted(set(after)))
                entry = provider(
                    name, areas[0], version=random.randint(1, 6), status=random.randrange(2), after=after
                ).encode()
            world.publish(origin_hash_of(key), entry)
        world.believed[origin_hash_of(key)] = random.randint(0, 20)
    if random.random() < 0.7:
        key = random.choice(keys)
        entries = world.logs[origin_hash_of(key)]
        for size in random.sample(range(len(entries)), 2):
            root = root_of(map(leaf_hash, entries[:size]))
            close = sign_close(Close(mediator.id, mediator.root.public, origin_hash_of(key), size, root), mediator.root)
            world.say(random.randrange(4), Carried(close).encode())
    if random.random() < 0.3:
        world.say(0, Withdrawal(mediator.id).encode())
    return world, mediator, keys


@pytest.mark.parametrize("number", range(150))
def test_any_interleaving_duplication_and_delay_folds_to_the_same_registry(number: int) -> None:
    world, _, _ = busy_world(Random(number))
    expected = world.fold().digest()
    for attempt in range(4):
        assert world.fold(Random(1000 * number + attempt)).digest() == expected


def test_folding_one_more_entry_equals_folding_from_scratch() -> None:
    world, mediator, keys = busy_world(Random(7))
    registry = world.fold()
    origin = origin_hash_of(keys[0])
    world.logs[origin].append(provider("new").encode())
    world.believed.pop(origin)
    registry.grow(origin, len(world.logs[origin]), len(world.logs[origin]))
    world.read(registry, None)
    assert registry.digest() == world.fold().digest()
    assert mediator.id in registry.folds


def test_the_join_of_a_subject_is_commutative_associative_and_idempotent() -> None:
    random = Random(3)
    grants = [
        Standing.of(provider("p", version=random.randint(1, 3), status=random.randrange(2)), seed(n), seed("o"), n)
        for n in range(12)
    ]
    revocations = [seed("r", n) for n in range(100)]
    expected = None
    for _ in range(60):
        parts: list[Standing | bytes] = [*grants, *revocations, *random.sample(revocations, 10)]
        random.shuffle(parts)
        subject = Subject()
        for part in parts:
            subject = subject.with_revocation(part) if isinstance(part, bytes) else subject.with_grant(part)
        expected = expected or subject
        assert subject == expected
    assert expected is not None
    assert len(expected.revocations) == REVOCATIONS_MAX


@pytest.mark.parametrize("version", [1, 2, 2**31 - 1])
def test_a_revocation_survives_any_concurrent_update(version: int) -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    second = SigningKey(seed("second"))
    world.say(1, Carried(mediator.device(second)).encode())
    world.publish(origin_hash_of(mediator.log), area.encode(), provider("p", area).encode())
    world.publish(origin_hash_of(mediator.log), revocation(provider("p").subject).encode())
    world.publish(origin_hash_of(second), provider("p", area, version=version).encode())
    assert verdict(world.fold(), mediator, provider("p").subject) is Verdict.REVOKED


def test_only_a_deliberate_readmission_outlives_revocations_and_only_those_it_lists() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    first, second = (revocation(provider("p").subject, n).encode() for n in range(2))
    origin = origin_hash_of(mediator.log)
    again = provider("p", area, version=2, after=(statement_id(first),))
    world.publish(origin, area.encode(), provider("p", area).encode(), first, again.encode())
    assert verdict(world.fold(), mediator, again.subject) is Verdict.ACTIVE
    world.publish(origin, second)
    assert verdict(world.fold(), mediator, again.subject) is Verdict.REVOKED


def test_a_suspension_needs_no_quorum_and_a_grant_does() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    origin = origin_hash_of(mediator.log)
    world.publish(origin, area.encode(), provider("p", area).encode())
    world.believed[origin] = 2
    world.publish(origin, provider("p", area, version=2, status=1).encode(), provider("q", area).encode())
    registry = world.fold()
    assert verdict(registry, mediator, provider("p").subject) is Verdict.SUSPENDED
    assert verdict(registry, mediator, provider("q").subject) is Verdict.UNKNOWN


def test_expired_grants_are_hidden_and_nothing_older_returns() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    from dataclasses import replace

    origin = origin_hash_of(mediator.log)
    short = replace(provider("p", area, version=2), not_after=NOW)
    world.publish(origin, area.encode(), provider("p", area).encode(), short.encode())
    finder = Finder(world.fold())
    assert finder.look(mediator.id, Provider.KIND, short.subject, NOW - 1).verdict is Verdict.ACTIVE
    assert finder.look(mediator.id, Provider.KIND, short.subject, NOW).verdict is Verdict.EXPIRED


def test_more_revocations_than_a_grant_can_outlive_end_a_subject_for_good_at_a_bounded_cost() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    origin = origin_hash_of(mediator.log)
    flood = [revocation(provider("p").subject, n).encode() for n in range(3000)]
    world.publish(origin, area.encode(), *flood)
    ids = sorted(map(statement_id, flood))[:AFTER_MAX]
    world.publish(origin, provider("p", area, version=9, after=tuple(ids)).encode())
    registry = world.fold()
    assert verdict(registry, mediator, provider("p").subject) is Verdict.REVOKED
    assert (
        len(registry.folds[mediator.id].subjects[Provider.KIND, provider("p").subject].revocations) == REVOCATIONS_MAX
    )
