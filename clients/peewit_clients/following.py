"""The charter that follows another one: an operator leaves, joins, or goes on with other keys.

Rules kept here: what an operator said before it left stays in force up to where a quorum cosigned its log; rounds that
had a committee keep it, and another one begins with the first round whose keys nobody has begun to make. Signing is
left to the operators' charter keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

from peewit_clients.backend import Backend
from peewit_clients.charters import Card, Draw, compose_charter, usual_quorum, usual_threshold
from peewit_clients.pool import BackendPool
from peewit_federation.charter import Charter, Operator, Retired
from peewit_federation.draw.schedule import AHEAD, Schedule
from peewit_federation.errors import OperatorError, PeewitError
from peewit_federation.log.checkpoint import Checkpoint, Head, open_head
from peewit_federation.log.policy import Policy

NOTE_BYTES_MAX = 64 * 1024


async def ended(pool: BackendPool, operator: Operator) -> Retired:
    """The log of an operator that leaves, as far as a quorum cosigned it. Raises `OperatorError` if none did."""
    policy = pool.charter.policy

    async def head_at(backend: Backend) -> Head | None:
        try:
            data = await pool.fetch(backend, f"/log/{operator.origin_hash.hex()}/checkpoint", NOTE_BYTES_MAX)
            return open_head(data, operator.log, policy.witness_keys)
        except PeewitError:
            return None  # it is away, or lies; the others are enough

    heads = [head for head in await asyncio.gather(*map(head_at, pool.order())) if head]
    best = furthest(heads, policy)
    if best is None:
        raise OperatorError(f"no quorum shows where the log of {operator.name} ends: are enough nodes up?")
    return Retired(operator.log, best.size, best.root, operator.votes)


def furthest(heads: Iterable[Head], policy: Policy) -> Head | None:
    """Of the heads that several nodes show of one log, the largest that a quorum cosigned, all of them together."""
    merged: dict[Checkpoint, Head] = {}
    for head in heads:
        known = merged.get(head.checkpoint)
        merged[head.checkpoint] = known.merged(head) if known else head
    cosigned = [head for head in merged.values() if policy.satisfied(head.witnesses)]
    return max(cosigned, key=lambda head: head.size, default=None)


def following(
    charter: Charter,
    gone: Sequence[Retired],
    joining: Sequence[Card],
    now_s: float,
    *,
    mirrors: Collection[str] = (),
    quorum: int | None = None,
) -> str:
    """The text of the next charter, which `joining` follows. `mirrors` name who of them has no vote.

    Raises `OperatorError` if it would not be a valid one.
    """
    if set(charter.policy.groups) != {charter.policy.quorum}:
        raise OperatorError("the quorum of this charter has groups of its own: write its successor by hand")
    left, names = {retired.origin_hash for retired in gone}, {card.name for card in joining}
    staying = [operator for operator in charter.operators if operator.origin_hash not in left]
    if twice := names & {operator.name for operator in staying}:
        raise OperatorError(f"{min(twice)} is an operator already; with other keys it leaves and joins")
    silent = {operator.name for operator in staying if not operator.votes} | set(mirrors)
    cards = [*map(_card, staying), *joining]
    voters = [card.name for card in cards if card.name not in silent]
    if not voters:
        raise OperatorError("nobody would be left who votes")
    draw = None if charter.schedule is None else _draw(charter, charter.schedule, left, voters, now_s)
    return compose_charter(
        charter.name, cards, usual_quorum(len(voters)) if quorum is None else quorum, number=charter.number + 1,
        threshold=min(charter.admission_threshold, len(cards)), mirrors=silent,
        freshness_s=(charter.warn_s, charter.refuse_s), draw=draw, retired=(*charter.retired, *gone),
    )  # fmt: skip


def _card(operator: Operator) -> Card:
    return Card(operator.name, operator.url, operator.region, operator.log, operator.witness, operator.charter_key)


def _draw(charter: Charter, schedule: Schedule, left: Collection[bytes], voters: list[str], now_s: float) -> Draw:
    """The committees that were, with the logs of who left for their names, and one without them."""
    now = {operator.origin_hash: operator.name for operator in charter.operators if operator.origin_hash not in left}
    logs = {origin: key.name for origin, key in charter.logs.items()}
    seats = [
        (seat.from_round, tuple(now.get(o) or logs[o] for o in seat.origins), seat.committee.threshold)
        for seat in schedule.seats
    ]
    begins, members, threshold = seats[-1]
    staying = tuple(name for name in members if name in voters)
    if len(staying) < len(members):
        others = [name for name in voters if name not in staying]
        committee = staying + tuple(others[: len(members) - len(staying)])
        first = max(schedule.round_at(now_s) + AHEAD + 1, begins + 1)
        same = len(committee) == len(members)
        seats.append((first, committee, threshold if same else usual_threshold(len(committee))))
    (_, members, threshold), *later = seats
    return Draw(members, threshold, schedule.round_s, schedule.starts_s, tuple(later))
