"""What a mediator may speak of, and for how long: scopes, quotas, admissions (design 4.2)."""

from __future__ import annotations

import pytest

from peewit_federation.keys import SigningKey, key_id
from peewit_federation.log.merkle import leaf_hash, root_of
from peewit_federation.registry.admission import Constitution
from peewit_federation.registry.find import Finder
from peewit_federation.registry.subjects import Verdict
from peewit_federation.statements.carried import Close, sign_close
from peewit_federation.statements.mediator import Catchment, Issuer
from peewit_federation.statements.operator import Admission, Carried, Withdrawal
from tests.federation.fold_kit import World, admitted, origin_hash_of, verdict
from tests.federation_kit import TestMediator, catchment, provider, seed

OPERATORS = [seed("operator", n) for n in range(4)]
REGIONS: dict[bytes, tuple[str, ...]] = {name: (str(n + 1),) for n, name in enumerate(OPERATORS)}
RULES = Constitution(2, REGIONS)
NOW = 1_000


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
