"""Stolen keys, forks and closes in the fold (design 4.2)."""

from __future__ import annotations

from random import Random

import pytest

from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Checkpoint, log_key, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.proof_file import LogProof
from peewit_federation.log.proofs import inclusion_proof, leaf_source
from peewit_federation.registry.admission import Constitution
from peewit_federation.registry.fold import MAIN, Registry
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.carried import Close, ForkRevocation, sign_close
from peewit_federation.statements.mediator import Catchment
from peewit_federation.statements.operator import Admission, Carried
from tests.federation.fold_kit import World, admitted, origin_hash_of, revocation, verdict
from tests.federation_kit import TestMediator, catchment, provider, seed

OPERATORS = [seed("operator", n) for n in range(4)]
REGIONS: dict[bytes, tuple[str, ...]] = {name: (str(n + 1),) for n, name in enumerate(OPERATORS)}
RULES = Constitution(2, REGIONS)
NOW = 1_000


@pytest.mark.parametrize("number", range(60))
def test_after_the_close_the_registry_equals_the_one_without_the_thief(number: int) -> None:
    """A thief with a device key acts at will, on any branch; the root closes; nothing of it remains."""
    random = Random(number)
    world, mediator = admitted()
    area = catchment("area", "10000")
    honest = [area.encode(), *(provider(f"p{n}", area).encode() for n in range(6)), revocation(seed("gone")).encode()]
    origin = origin_hash_of(mediator.log)
    world.publish(origin, *honest)
    expected = world.fold().digest()
    size, root = len(honest), root_of(map(leaf_hash, honest))

    def mischief() -> bytes:
        name = f"p{random.randrange(8)}"
        match random.randrange(5):
            case 0:
                return revocation(provider(name).subject, random.randrange(1000)).encode()
            case 1:
                return provider(name, area, version=2**31 - 1, status=random.randrange(2)).encode()
            case 2:
                return catchment("area", "99999", version=random.randint(2, 2**31 - 1)).encode()
            case 3:
                return b"\xa2\x00\x80\x01\x01"
            case _:
                return random.randbytes(random.randint(0, 50))

    def branch(start: int) -> list[bytes]:
        return honest[:start] + [mischief() for _ in range(random.randint(1, 40))]

    main = branch(random.choice([0, 3, size, size]))
    world.logs[origin] = main
    for other in (branch(random.randint(0, size)) for _ in range(2)):
        for statement in fork_revocations(mediator.log, other):
            world.say(random.randrange(4), Carried(statement).encode())
    world.believed[origin] = random.randint(0, len(main))
    close = Close(mediator.id, mediator.root.public, origin, size, root)
    world.say(random.randrange(4), Carried(sign_close(close, mediator.root)).encode())
    registry = Registry(RULES)
    parts = list(world.logs.items())
    random.shuffle(parts)
    for held, entries in parts:
        registry.grow(held, len(entries), min(len(entries), world.believed.get(held, 1 << 30)))
        world.read(registry, random)
    assert registry.unsettled() == [(mediator.id, origin, close)]
    if main[:size] == honest:
        registry.settle(mediator.id, origin, close, MAIN)
    else:
        registry.grow(origin, size, size, root)
        registry.settle(mediator.id, origin, close, root)
    while wants := registry.wanted():
        for want in wants:
            entries = honest if want.branch == root else world.logs[want.origin]
            registry.read(want, want.start, entries[want.start : want.end])
    assert registry.digest() == expected


def fork_revocations(key: SigningKey, entries: list[bytes]) -> list[bytes]:
    """What a node on this branch would carry."""
    leaves = [leaf_hash(entry) for entry in entries]
    head = sign_checkpoint(Checkpoint(log_key(key.public).name, len(entries), root_of(leaves)), key)
    found = []
    for index, entry in enumerate(entries):
        if entry[:3] == revocation(seed("x")).encode()[:3]:
            path = inclusion_proof(index, len(entries), leaf_source(leaves))
            found.append(
                ForkRevocation(key.public, LogProof(index, tuple(path), head.encode(), entry).encode()).encode()
            )
    return found


def test_until_the_close_revocations_of_all_branches_count_and_grants_only_with_a_quorum() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    origin = origin_hash_of(mediator.log)
    world.publish(origin, area.encode(), provider("p", area).encode(), provider("q", area).encode())
    other = [area.encode(), revocation(provider("p").subject).encode()]
    for statement in fork_revocations(mediator.log, other):
        world.say(3, Carried(statement).encode())
    world.believed[origin] = 2
    registry = world.fold()
    assert verdict(registry, mediator, provider("p").subject) is Verdict.REVOKED
    assert verdict(registry, mediator, provider("q").subject) is Verdict.UNKNOWN


def test_a_close_of_another_mediator_for_a_log_that_is_not_its_own_does_nothing() -> None:
    world, mediator = admitted()
    world.publish(origin_hash_of(mediator.log), catchment("area", "10000").encode())
    before = world.fold().digest()
    stranger = TestMediator("stranger")
    for operator in (0, 1):
        world.say(operator, stranger.admission("1").encode())
    expected_words = world.fold()
    close = Close(stranger.id, stranger.root.public, origin_hash_of(mediator.log), 0, root_of([]))
    world.say(1, Carried(sign_close(close, stranger.root)).encode())
    in_its_name = Close(mediator.id, stranger.root.public, origin_hash_of(mediator.log), 0, root_of([]))
    world.say(1, Carried(sign_close(in_its_name, stranger.root)).encode())
    registry = world.fold()
    assert registry.digest() == expected_words.digest() != before
    assert registry.close_of(mediator.id, origin_hash_of(mediator.log)) is None


def test_a_device_of_another_mediator_does_not_speak_for_this_one() -> None:
    world, mediator = admitted()
    stranger = TestMediator("stranger")
    for operator in (0, 1):
        world.say(operator, stranger.admission("1").encode())
    world.say(0, Carried(stranger.device()).encode())
    area = catchment("area", "10000")
    world.publish(origin_hash_of(mediator.log), area.encode(), provider("p", area).encode())
    world.publish(origin_hash_of(stranger.log), revocation(provider("p").subject).encode())
    registry = world.fold()
    assert verdict(registry, mediator, provider("p").subject) is Verdict.ACTIVE
    assert verdict(registry, stranger, provider("p").subject) is Verdict.REVOKED


def test_one_operator_cannot_give_a_mediator_of_others_a_root_of_its_own() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    world.publish(origin_hash_of(mediator.log), area.encode(), provider("p", area).encode())
    evil = SigningKey(seed("evil"))
    world.say(2, Admission(mediator.id, (evil.public,), ("3",), ()).encode())
    close = Close(mediator.id, evil.public, origin_hash_of(mediator.log), 0, root_of([]))
    world.say(2, Carried(sign_close(close, evil)).encode())
    registry = world.fold()
    assert evil.public not in registry.standing_roots(mediator.id)
    assert verdict(registry, mediator, provider("p").subject) is Verdict.ACTIVE


def test_one_operator_cannot_silence_a_regional_mediator_with_quotas_of_nothing() -> None:
    world, mediator = World(), TestMediator("regional")
    world.say(0, mediator.admission("1").encode(), Carried(mediator.device()).encode())
    world.say(3, Admission(mediator.id, (mediator.root.public,), ("4",), (), (0, 0, 0)).encode())
    area = catchment("area", "10000")
    world.publish(origin_hash_of(mediator.log), area.encode())
    assert verdict(world.fold(), mediator, area.area, Catchment.KIND) is Verdict.ACTIVE


def carried_on_branch(key: SigningKey, entries: list[bytes], index: int) -> bytes:
    leaves = [leaf_hash(entry) for entry in entries]
    head = sign_checkpoint(Checkpoint(log_key(key.public).name, len(entries), root_of(leaves)), key)
    path = inclusion_proof(index, len(entries), leaf_source(leaves))
    proof = LogProof(index, tuple(path), head.encode(), entries[index])
    return ForkRevocation(key.public, proof.encode()).encode()


@pytest.mark.parametrize("places", [(1, 4), (4, 1), (4,), (1,)])
def test_a_revocation_from_a_branch_counts_by_its_smallest_place_and_not_behind_a_close(
    places: tuple[int, ...],
) -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    origin = origin_hash_of(mediator.log)
    ended = revocation(provider("p").subject).encode()
    world.publish(origin, area.encode(), provider("p", area).encode(), area.encode(), area.encode())
    for place in places:
        branch = [provider(f"x{n}").encode() for n in range(6)]
        branch[place] = ended
        world.say(3, Carried(carried_on_branch(mediator.log, branch, place)).encode())
    nowhere = Close(mediator.id, mediator.root.public, origin, 3, seed("a branch that nobody has"))
    world.say(2, Carried(sign_close(nowhere, mediator.root)).encode())
    registry = Registry(RULES)
    for held, entries in world.logs.items():
        registry.grow(held, len(entries), len(entries))
    world.read(registry, None)
    expected = Verdict.REVOKED if 1 in places else Verdict.ACTIVE
    assert verdict(registry, mediator, provider("p").subject) is expected


def test_when_the_root_behind_a_settled_close_is_rotated_out_its_word_is_gone() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    origin = origin_hash_of(mediator.log)
    fresh = SigningKey(seed("fresh root"))
    rotated = TestMediator("mitte")
    rotated.root = fresh
    for operator in (0, 1):
        both = tuple(sorted((mediator.root.public, fresh.public)))
        world.say(operator, Admission(mediator.id, both, ("1",), ()).encode())
    world.say(2, Carried(sign_device_for(mediator, fresh)).encode())
    entries = [area.encode(), provider("p", area).encode()]
    world.publish(origin, *entries)
    world.believed[origin] = 1
    close = Close(mediator.id, mediator.root.public, origin, 2, root_of(map(leaf_hash, entries)))
    world.say(3, Carried(sign_close(close, mediator.root)).encode())
    registry = world.fold()
    assert verdict(registry, mediator, provider("p").subject) is Verdict.ACTIVE, "the close vouches for it"
    for operator in (0, 1):
        world.say(operator, Admission(mediator.id, (fresh.public,), ("1",), ()).encode())
        entries_now = len(world.logs[OPERATORS[operator]])
        registry.grow(OPERATORS[operator], entries_now, entries_now)
    world.read(registry, None)
    assert verdict(registry, mediator, provider("p").subject) is Verdict.UNKNOWN, "and no quorum does"
    assert registry.digest() == world.fold().digest()


def sign_device_for(mediator: TestMediator, root: SigningKey) -> bytes:
    from peewit_federation.statements.carried import Device, sign_device

    return sign_device(Device(mediator.id, root.public, mediator.log.public, bytes(1216)), root, mediator.log)
