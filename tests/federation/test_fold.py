"""The registry's fold: a join over logs, whatever the order, and what a thief leaves behind (design 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from peewit_federation.keys import SigningKey, key_id
from peewit_federation.log.checkpoint import Checkpoint, log_key, origin_hash, origin_of, sign_checkpoint
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.log.proof_file import LogProof
from peewit_federation.log.proofs import inclusion_proof, leaf_source
from peewit_federation.registry.admission import Constitution
from peewit_federation.registry.find import Finder
from peewit_federation.registry.fold import MAIN, Registry
from peewit_federation.registry.subjects import REVOCATIONS_MAX, Standing, Subject, Verdict
from peewit_federation.statements.carried import Close, ForkRevocation, sign_close, statement_id
from peewit_federation.statements.mediator import AFTER_MAX, Catchment, Issuer, Provider, Revocation
from peewit_federation.statements.operator import Admission, Carried, Withdrawal
from tests.federation_kit import TestMediator, catchment, provider, seed

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


# Order


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


# Thieves


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


# Grants and revocations


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


# Scope


@pytest.mark.parametrize(
    ("operators", "prefixes", "postcode", "expected"),
    [
        ((0, 1), ("3",), "30000", Verdict.ACTIVE),
        ((0,), ("3",), "30000", Verdict.OUT_OF_SCOPE),
        ((2,), ("3",), "30000", Verdict.ACTIVE),
        ((0, 1), ("1", "2"), "30000", Verdict.OUT_OF_SCOPE),
        ((0,), ("1",), "10000", Verdict.ACTIVE),
        ((), (), "10000", Verdict.UNKNOWN),
    ],
)
def test_a_mediator_counts_within_its_scope_only(
    operators: tuple[int, ...], prefixes: tuple[str, ...], postcode: str, expected: Verdict
) -> None:
    world, mediator = World(), TestMediator("scoped")
    # One operator alone lets the mediator stand in its region; what is asked for may lie elsewhere.
    for operator in operators:
        own = REGIONS[OPERATORS[operator]][0]
        world.say(operator, mediator.admission(*{*prefixes, own}).encode())
    world.say(3, Carried(mediator.device()).encode())
    area = catchment("area", postcode)
    world.publish(origin_hash_of(mediator.log), area.encode())
    assert verdict(world.fold(), mediator, area.area, Catchment.KIND) is expected


def test_services_outside_the_scope_do_not_count_even_inside_an_area_that_does() -> None:
    world, mediator = World(), TestMediator("flu-only")
    for operator in (0, 1):
        world.say(operator, Admission(mediator.id, (mediator.root.public,), ("1",), ("flu",)).encode())
    world.say(0, Carried(mediator.device()).encode())
    from dataclasses import replace

    area = catchment("area", "10000")
    greedy = replace(provider("p", area), services=("covid", "flu"))
    world.publish(origin_hash_of(mediator.log), area.encode(), greedy.encode())
    finder = Finder(world.fold())
    assert [f.subject for f in finder.providers(mediator.id, area.area, NOW, "flu")] == [greedy.subject]
    assert list(finder.providers(mediator.id, area.area, NOW, "covid")) == []


def test_an_issuer_needs_several_operators_because_passports_have_no_place() -> None:
    for operators, expected in (((0,), Verdict.OUT_OF_SCOPE), ((0, 1), Verdict.ACTIVE)):
        world, mediator = World(), TestMediator("issuer")
        for operator in operators:
            world.say(operator, mediator.admission("1").encode())
        world.say(0, Carried(mediator.device()).encode())
        issuer = Issuer(1, 0, 0, 4_000_000_000, (), 7, b"k" * 91)
        world.publish(origin_hash_of(mediator.log), issuer.encode())
        assert verdict(world.fold(), mediator, issuer.subject, Issuer.KIND) is expected


def test_withdrawing_a_mediator_ends_it_at_once_and_admitting_it_again_restores_it() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    world.publish(origin_hash_of(mediator.log), area.encode())
    before = verdict(world.fold(), mediator, area.area, Catchment.KIND)
    world.say(0, Withdrawal(mediator.id).encode())
    world.say(1, Withdrawal(mediator.id).encode())
    world.believed[OPERATORS[0]] = world.believed[OPERATORS[1]] = 2
    assert (before, verdict(world.fold(), mediator, area.area, Catchment.KIND)) == (Verdict.ACTIVE, Verdict.UNKNOWN)
    world.believed.clear()
    world.say(0, mediator.admission("1").encode())
    assert verdict(world.fold(), mediator, area.area, Catchment.KIND) is Verdict.ACTIVE


def test_a_rotated_root_needs_its_devices_vouched_for_anew() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    world.publish(origin_hash_of(mediator.log), area.encode())
    fresh = SigningKey(seed("fresh root"))
    for operator in (0, 1):
        world.say(operator, Admission(mediator.id, (fresh.public,), ("1",), ()).encode())
    assert verdict(world.fold(), mediator, area.area, Catchment.KIND) is Verdict.UNKNOWN
    rotated = TestMediator("mitte")
    rotated.root = fresh
    world.say(0, Carried(rotated.device()).encode())
    assert verdict(world.fold(), mediator, area.area, Catchment.KIND) is Verdict.ACTIVE


def test_quotas_cut_a_log_at_the_same_size_everywhere() -> None:
    world, mediator = World(), TestMediator("small")
    for operator in (0, 1):
        world.say(operator, Admission(mediator.id, (mediator.root.public,), ("1",), (), (1, 3, 10)).encode())
    world.say(0, Carried(mediator.device()).encode())
    area = catchment("area", "10000")
    entries = [area.encode(), provider("a", area).encode(), provider("b", area).encode(), provider("c", area).encode()]
    world.publish(origin_hash_of(mediator.log), *entries)
    registry = world.fold()
    assert registry.mirrors(origin_hash_of(mediator.log)) == 3
    assert verdict(registry, mediator, provider("b").subject) is Verdict.ACTIVE
    assert verdict(registry, mediator, provider("c").subject) is Verdict.UNKNOWN


def test_words_and_closes_in_a_retired_operators_log_stand() -> None:
    world, mediator = admitted()
    area = catchment("area", "10000")
    origin = origin_hash_of(mediator.log)
    world.publish(origin, area.encode(), provider("p", area).encode())
    root = root_of([leaf_hash(area.encode())])
    close = Close(mediator.id, mediator.root.public, origin, 1, root)
    world.say(1, Carried(sign_close(close, mediator.root)).encode())
    expected = world.fold().digest()
    rest = {o: r for o, r in REGIONS.items() if o != OPERATORS[1]}
    retired = Constitution(2, rest, {OPERATORS[1]: len(world.logs[OPERATORS[1]])})
    assert world.fold(rules=retired).digest() == expected
    forgotten = Constitution(2, rest, {OPERATORS[1]: 0})
    assert world.fold(rules=forgotten).digest() != expected


def test_the_thirty_third_word_of_nobody_is_ignored() -> None:
    """Malformed entries, foreign kinds and unknown versions are mirrored and count for nothing."""
    world, mediator = admitted()
    before = world.fold().digest()
    for junk in (b"", b"\x00", b"\xa2\x00\x80\x01\x01", b"\xa2\x00\xf5\x01\xf5", mediator.admission("9").encode()):
        world.publish(origin_hash_of(mediator.log), junk)
    world.say(0, provider("p").encode(), b"\xa2\x00\x02\x01\x63", b"\xff" * 100)
    assert world.fold().digest() == before
    assert key_id(mediator.root.public) == mediator.id


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
