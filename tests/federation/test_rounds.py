"""Rounds: whose keys count, when a round opens, and what a flood of words comes to (design 4.5)."""

from __future__ import annotations

from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from peewit_federation.draw.blind_rsa import EXPONENT, TokenKey
from peewit_federation.draw.hours import Hours
from peewit_federation.draw.rounds import GROUPS_MAX, ROUNDS_KEPT, Rounds
from peewit_federation.draw.schedule import LATE_ROUNDS_MAX, Schedule, Seats
from peewit_federation.draw.tickets import Committee
from peewit_federation.draw.vrf import VrfKey
from peewit_federation.errors import ForgeryError, RefusedError, UnknownError
from peewit_federation.registry.admission import Constitution
from peewit_federation.registry.fold import Registry
from peewit_federation.statements.draw import DrawKey, TokenCount
from peewit_federation.statements.draw import TokenKey as TokenKeyStatement
from tests.federation_kit import seed

NAMES = ("north", "west", "south", "east")
ORIGINS = tuple(seed(name, "origin") for name in NAMES)
SEATS = Seats(0, Committee(NAMES, 2), ORIGINS)
WEEK = Schedule(1000, 0, (SEATS,))
PUBLICS = tuple(VrfKey(seed("vrf", place)).public for place in range(4))
OTHERS = tuple(VrfKey(seed("other", place)).public for place in range(4))


@cache
def key(number: int) -> TokenKey:
    """Test keys: made once, from the machine's randomness."""
    numbers = rsa.generate_private_key(EXPONENT, 2048).private_numbers()
    return TokenKey(numbers.p, numbers.q)


def token_key(number: int, which: int, group: str = "") -> TokenKeyStatement:
    return TokenKeyStatement(number, key(which).public.encode(), group)


def hold(rounds: Rounds, number: int, *members: str, publics: tuple[bytes, ...] = PUBLICS) -> None:
    """Members say that they hold the keys that they should."""
    for name in members:
        for place in SEATS.committee.held_by(name):
            rounds.say(SEATS.origin(name), DrawKey(number, SEATS.digest, place, publics[place]))


def signed(which: int, request: bytes) -> bytes:
    public = key(which).public
    blinded = public.blind(request, seed(which, request)[:16] * 3, seed(which) * 8)
    return public.finalize(request, key(which).blind_sign(blinded.data, seed("factor") * 8), blinded)


def test_the_first_token_key_of_a_round_and_group_counts() -> None:
    rounds = Rounds()
    rounds.say(ORIGINS[0], token_key(3, 0))
    rounds.say(ORIGINS[0], token_key(3, 1))
    assert rounds.token_key(ORIGINS[0], 3, "") == key(0).public
    assert rounds.token_key(ORIGINS[0], 3, "over80") is None
    assert rounds.token_key(ORIGINS[1], 3, "") is None


@pytest.mark.parametrize(("number", "group"), [(4, ""), (3, "over80"), (2, "")])
def test_a_modulus_that_was_used_before_counts_for_no_other_round_or_group(number: int, group: str) -> None:
    rounds = Rounds()
    rounds.say(ORIGINS[0], token_key(3, 0))
    rounds.say(ORIGINS[0], token_key(number, 0, group))
    assert rounds.token_key(ORIGINS[0], number, group) is None


def test_bytes_that_are_no_key_count_for_nothing_and_take_nobodys_place() -> None:
    rounds = Rounds()
    rounds.say(ORIGINS[0], TokenKeyStatement(3, b"\x01" + bytes(255)))
    rounds.say(ORIGINS[0], token_key(3, 0))
    assert rounds.token_key(ORIGINS[0], 3, "") == key(0).public


def test_a_request_needs_tokens_of_as_many_different_operators_as_the_threshold() -> None:
    rounds, request = Rounds(), seed("H")
    for place, origin in enumerate(ORIGINS[:3]):
        rounds.say(origin, token_key(3, place))
    tokens = [(origin, signed(place, request)) for place, origin in enumerate(ORIGINS[:3])]
    rounds.require_tokens(request, 3, "", tokens[1:], SEATS, ORIGINS)
    for wrong in (
        [], tokens[:1], [tokens[0]] * 9, [tokens[0], (ORIGINS[1], tokens[0][1])],
        [tokens[0], (seed("stranger"), tokens[1][1])],
    ):  # fmt: skip
        with pytest.raises(ForgeryError, match="it takes 2"):
            rounds.require_tokens(request, 3, "", wrong, SEATS, ORIGINS)
    with pytest.raises(ForgeryError):
        rounds.require_tokens(seed("H of a friend"), 3, "", tokens, SEATS, ORIGINS)
    with pytest.raises(UnknownError, match="not known here"):
        rounds.require_tokens(request, 4, "", tokens, SEATS, ORIGINS)
    with pytest.raises(ForgeryError):
        rounds.require_tokens(request, 3, "", tokens, SEATS, ORIGINS[:1])


def test_a_round_opens_when_all_holders_of_every_key_but_one_hold_it() -> None:
    rounds = Rounds()
    hold(rounds, 3, "north", "west")
    assert rounds.keys(SEATS, 3) is None
    hold(rounds, 3, "east")
    assert rounds.keys(SEATS, 3) == PUBLICS, "one member is dead"
    hold(rounds, 3, "south", publics=OTHERS)
    assert rounds.keys(SEATS, 3) == PUBLICS, "or says something else"


@pytest.mark.parametrize("liar", NAMES)
def test_a_member_that_names_keys_that_it_hands_to_nobody_prevents_no_round(liar: str) -> None:
    rounds = Rounds()
    hold(rounds, 3, liar, publics=OTHERS)
    assert rounds.keys(SEATS, 3) is None
    hold(rounds, 3, *(name for name in NAMES if name != liar))
    assert rounds.keys(SEATS, 3) == PUBLICS


def test_two_keys_of_one_place_never_both_count_and_a_member_does_not_take_its_word_back() -> None:
    rounds = Rounds()
    hold(rounds, 3, "north", "west")
    hold(rounds, 3, "south", "east", publics=OTHERS)
    before = rounds.keys(SEATS, 3)
    hold(rounds, 3, "north", "west", publics=OTHERS)
    hold(rounds, 3, "south", "east")
    assert rounds.keys(SEATS, 3) == before
    assert all(len(rounds.held(SEATS, 3, place)) == 3 for place in range(4))


@pytest.mark.parametrize(
    ("members", "threshold", "words"),
    [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (5, 3, 2), (5, 2, 3), (9, 5, 4)],
)
def test_two_keys_of_one_place_can_never_both_have_words_enough(members: int, threshold: int, words: int) -> None:
    names = tuple(f"n{number}" for number in range(members))
    seats = Seats(0, Committee(names, threshold), tuple(map(seed, names)))
    assert seats.words == words
    assert 2 * seats.words > members - threshold + 1


def test_words_of_strangers_of_another_committee_or_for_keys_that_are_not_theirs_open_nothing() -> None:
    rounds = Rounds()
    for place in range(4):
        rounds.say(seed("stranger"), DrawKey(3, SEATS.digest, place, PUBLICS[place]))
        for name, origin in zip(NAMES, ORIGINS, strict=True):
            rounds.say(origin, DrawKey(3, seed("committee"), place, PUBLICS[place]))
            if place not in SEATS.committee.held_by(name):
                rounds.say(origin, DrawKey(3, SEATS.digest, place, PUBLICS[place]))
    assert rounds.keys(SEATS, 3) is None
    assert rounds.held(SEATS, 3, 0) == []


def test_a_round_that_does_not_open_leaves_the_last_one_open_for_a_while() -> None:
    rounds = Rounds()
    hold(rounds, 3, *NAMES)
    assert rounds.open_round(WEEK, 2_999.0) is None
    assert rounds.open_round(WEEK, 3_500.0) == 3
    assert rounds.open_round(WEEK, 4_500.0) == 3
    assert rounds.open_round(WEEK, 3_500.0 + (LATE_ROUNDS_MAX - 1) * 1000) == 3
    assert rounds.open_round(WEEK, 3_500.0 + LATE_ROUNDS_MAX * 1000) is None
    hold(rounds, 4, *NAMES, publics=OTHERS)
    assert rounds.open_round(WEEK, 4_500.0) == 4


def refuses(hours: Hours, number: int, now_s: float, *, admitting: bool = False) -> bool:
    try:
        hours.require(WEEK, number, now_s, admitting=admitting)
    except RefusedError as error:
        assert f"round {number} is not open" in str(error)
        return True
    return False


def test_a_closed_round_is_drawn_for_a_short_grace_and_the_next_a_little_early_and_admit_while_clocks_differ() -> None:
    """A code that one node has taken at the last moment would be worth nothing at the next."""
    rounds = Rounds()
    hold(rounds, 3, *NAMES)
    hold(rounds, 4, *NAMES, publics=OTHERS)
    hours = Hours(rounds)
    assert not refuses(hours, 3, 3_500.0, admitting=True)
    assert refuses(hours, 4, 3_899.0)
    assert hours.require(WEEK, 4, 3_901.0, admitting=True) == OTHERS
    assert hours.require(WEEK, 3, 4_000.0) == PUBLICS
    assert not refuses(hours, 3, 4_049.0, admitting=True)
    assert refuses(hours, 3, 4_051.0, admitting=True), "and who is admitted has time to be drawn"
    assert hours.oldest(WEEK, 4_099.0) == 3
    assert not refuses(hours, 3, 4_099.0)
    assert refuses(hours, 3, 4_101.0)
    assert hours.oldest(WEEK, 4_101.0) == 4
    assert refuses(hours, 5, 4_101.0)
    assert refuses(hours, -1, 4_101.0)


def test_a_round_that_opens_late_gives_the_one_before_its_grace_from_then_on() -> None:
    rounds = Rounds()
    hold(rounds, 3, *NAMES)
    hours = Hours(rounds)
    assert not refuses(hours, 3, 4_600.0, admitting=True)
    hold(rounds, 4, *NAMES, publics=OTHERS)
    assert not refuses(hours, 3, 4_601.0)
    assert hours.oldest(WEEK, 4_650.0) == 3
    assert refuses(hours, 3, 4_702.0)


def test_a_node_that_starts_in_the_grace_of_a_round_still_draws_it() -> None:
    rounds = Rounds()
    hold(rounds, 3, *NAMES)
    hold(rounds, 4, *NAMES, publics=OTHERS)
    assert not refuses(Hours(rounds), 3, 4_050.0)
    assert refuses(Hours(rounds), 3, 4_150.0)


def test_a_committee_rules_from_its_round_on() -> None:
    later = Seats(5, Committee(NAMES[1:], 2), ORIGINS[1:])
    schedule = Schedule(1000, 0, (SEATS, later))
    assert schedule.seats_of(4) == SEATS
    assert schedule.seats_of(5) == schedule.seats_of(99) == later
    assert SEATS.digest != later.digest
    assert Seats(0, Committee(("n", "w", "s", "e"), 2), ORIGINS).digest == SEATS.digest, "names do not matter, logs do"


def test_a_flood_of_words_is_bounded() -> None:
    rounds = Rounds()
    for number in range(GROUPS_MAX + 5):
        rounds.say(ORIGINS[0], token_key(3, number % 3, f"g{number}"))
    for number in range(1000):
        rounds.say(ORIGINS[0], DrawKey(3, seed("committee", number), number % 126, bytes(32)))
        rounds.say(ORIGINS[0], TokenCount(3, number, f"x{number}"))
    for number in range(1000):
        rounds.say(ORIGINS[0], DrawKey(number, SEATS.digest, 0, bytes(32)))
    words = rounds.words[ORIGINS[0]]
    assert len(words.rounds) == ROUNDS_KEPT
    assert all(len(said.keys) <= 252 for said in words.rounds.values())
    assert all(len(said.counts) <= GROUPS_MAX for said in words.rounds.values())
    assert min(words.rounds) == 1000 - ROUNDS_KEPT
    rounds.say(ORIGINS[0], token_key(3, 0))
    assert rounds.token_key(ORIGINS[0], 3, "") is None, "words far behind its own newest do not count"


def test_counts_are_those_that_enough_operators_say_and_never_shrink() -> None:
    rounds = Rounds()
    rounds.say(ORIGINS[0], token_key(3, 0))
    rounds.say(ORIGINS[1], token_key(3, 1))
    for origin, count in ((ORIGINS[0], 50), (ORIGINS[1], 70), (ORIGINS[1], 60)):
        rounds.say(origin, TokenCount(3, count))
    assert [rounds.signatures(3, "", operators) for operators in (1, 2, 3)] == [70, 50, 0]
    assert rounds.signatures(3, "over80", 1) == 0


def test_words_count_only_as_far_as_a_quorum_has_cosigned_the_log() -> None:
    registry = Registry(Constitution(2, dict.fromkeys(ORIGINS, ("1",))))
    logs = {
        origin: [token_key(3, number).encode()]
        + [DrawKey(3, SEATS.digest, place, PUBLICS[place]).encode() for place in SEATS.committee.held_by(name)]
        for number, (name, origin) in enumerate(zip(NAMES, ORIGINS, strict=True))
    }
    for believed in (1, 4):
        for origin in ORIGINS:
            registry.grow(origin, 4, believed)
        for want in registry.wanted():
            registry.read(want, want.start, logs[want.origin][want.start : want.end])
        assert registry.rounds.token_key(ORIGINS[0], 3, "") == key(0).public
        assert registry.rounds.keys(SEATS, 3) == (PUBLICS if believed == 4 else None)
    registry.reconstitute(Constitution(2, dict.fromkeys(ORIGINS[:2], ("1",))))
    assert registry.rounds.token_key(ORIGINS[2], 3, "") is None, "who is no operator any more has no keys"


def test_a_charter_cannot_draw_again_what_was_drawn() -> None:
    later = Seats(5, Committee(NAMES[1:], 2), ORIGINS[1:])
    WEEK.require_successor(Schedule(1000, 0, (SEATS, later)))
    other = Seats(0, SEATS.committee, ORIGINS[::-1])
    for wrong in (None, Schedule(2000, 0, (SEATS,)), Schedule(1000, 7, (SEATS,)), Schedule(1000, 0, (other,))):
        with pytest.raises(ForgeryError):
            WEEK.require_successor(wrong)
    with pytest.raises(ForgeryError):
        Schedule(1000, 0, (SEATS, later)).require_successor(WEEK)
