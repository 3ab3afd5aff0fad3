"""C2SP tlog-policy, and that quorums intersect honestly."""

from __future__ import annotations

import itertools

import pytest

from peewit_federation.errors import OperatorError
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import log_key, witness_key
from peewit_federation.log.policy import Policy, parse_policy

KEYS = [witness_key(f"w{i}.example", SigningKey(bytes([i + 1]) * 32).public) for i in range(17)]
LOG = str(log_key(SigningKey(b"\x99" * 32).public))


def witnesses(count: int) -> str:
    return "".join(f"witness w{i} {KEYS[i]}\n" for i in range(count))


def flat(count: int, quorum: int) -> str:
    names = " ".join(f"w{i}" for i in range(count))
    return f"log {LOG} https://log.example/\n{witnesses(count)}group all-of-us {quorum} {names}\nquorum all-of-us\n"


NESTED = (
    witnesses(6)
    + "group X-witnesses 2 w0 w1 w2\ngroup Y-witnesses any w3 w4 w5\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
)


def test_the_example_of_the_specification() -> None:
    policy = parse_policy(NESTED)
    assert policy.satisfied({"w0.example", "w2.example", "w5.example"})
    assert not policy.satisfied({"w0.example", "w3.example", "w4.example", "w5.example"})
    assert not policy.satisfied({"w0.example", "w1.example", "w2.example"})
    assert policy.needed() == 3


def test_comments_tabs_and_quorum_none() -> None:
    policy = parse_policy("# a comment\n\n \t log\t" + LOG + "  \nquorum none\n")
    assert policy.satisfied(set())
    assert list(policy.logs) == [LOG.split("+")[0]]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no quorum"),
        (witnesses(1), "no quorum"),
        ("quorum w0\n", "not defined"),
        (witnesses(1) + "quorum w0\nquorum w0\n", "second quorum"),
        (witnesses(1) + witnesses(1) + "quorum none\n", "twice"),
        (witnesses(1) + f"witness w0 {KEYS[1]}\nquorum none\n", "already taken"),
        (witnesses(1) + f"witness none {KEYS[1]}\nquorum none\n", "already taken"),
        (f"log {LOG}\nlog {LOG}\nquorum none\n", "twice"),
        (witnesses(2) + "group g 3 w0 w1\nquorum g\n", "threshold"),
        (witnesses(2) + "group g 0 w0 w1\nquorum g\n", "threshold"),
        (witnesses(2) + "group g 01 w0 w1\nquorum g\n", "threshold"),
        (witnesses(2) + "group g 1 w0 w0\nquorum g\n", "twice"),
        (witnesses(2) + "group g 1 w0 w1\ngroup h 1 w0\nquorum g\n", "twice"),
        (witnesses(2) + "group g 1 w0 h\nquorum g\n", "not defined"),
        (witnesses(2) + "group g 1\nquorum g\n", "not a log"),
        ("witness w0 nonsense\nquorum none\n", "verifier key"),
        (f"witness w0 {LOG}\nquorum none\n", "type"),
        (f"log {KEYS[0]}\nquorum none\n", "type"),
        ("frobnicate\nquorum none\n", "not a log"),
        (witnesses(1) + "quorum w0\r\n", "control character"),
        (witnesses(1) + f"witness w1 {KEYS[0]}\nquorum w0\n", "twice"),
    ],
)
def test_a_bad_policy_is_refused_with_its_line(text: str, what: str) -> None:
    with pytest.raises(OperatorError, match=what):
        parse_policy(text)


@pytest.mark.parametrize("count", range(1, 17))
def test_flat_quorums_are_accepted_exactly_between_the_two_bounds(count: int) -> None:
    faulty = (count - 1) // 3
    for quorum in range(1, count + 1):
        policy = parse_policy(flat(count, quorum))
        if (count + faulty) / 2 < quorum <= count - faulty:
            policy.require_honest_intersection()
        else:
            with pytest.raises(OperatorError, match="too weak|too demanding"):
                policy.require_honest_intersection()


def brute(policy: Policy) -> tuple[int, int]:
    names = [party.key.name for party in policy.witnesses.values()]
    sets = [set(c) for n in range(len(names) + 1) for c in itertools.combinations(names, n)]
    quorums = [s for s in sets if policy.satisfied(s)]
    overlap = min(len(a & b) for a in quorums for b in quorums)
    blocking = min(len(s) for s in sets if not policy.satisfied(set(names) - s))
    return overlap, blocking


@pytest.mark.parametrize(
    "text",
    [
        NESTED,
        flat(5, 4),
        witnesses(7) + "group a 2 w0 w1 w2\ngroup b 2 w3 w4 w5\ngroup c 2 a b w6\nquorum c\n",
        witnesses(6) + "group a all w0 w1\ngroup b any w2 w3\ngroup c 3 a b w4 w5\nquorum c\n",
    ],
)
def test_overlap_and_blocking_are_what_trying_all_sets_gives(text: str) -> None:
    policy = parse_policy(text)
    assert (policy.overlap(), policy.blocking()) == brute(policy)


def test_more_than_sixteen_witnesses_or_idle_ones_are_refused() -> None:
    with pytest.raises(OperatorError, match="16"):
        parse_policy(flat(17, 12)).require_honest_intersection()
    with pytest.raises(OperatorError, match="count towards"):
        parse_policy(witnesses(2) + "quorum w0\n").require_honest_intersection()
    with pytest.raises(OperatorError, match="count towards"):
        parse_policy(witnesses(2) + "quorum none\n").require_honest_intersection()
