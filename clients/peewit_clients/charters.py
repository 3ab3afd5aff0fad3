"""Making a charter out of the cards of its operators."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from peewit_federation.charter import Retired
from peewit_federation.charter_file import parse_charter
from peewit_federation.errors import OperatorError, PeewitError
from peewit_federation.log.checkpoint import origin_hash
from peewit_federation.log.note import VerifierKey

FIELDS = ("name", "url", "region", "log", "witness", "charter_key")


@dataclass(frozen=True)
class Card:
    """What an operator says of its node before there is a charter."""

    name: str
    url: str
    region: tuple[str, ...]
    log: VerifierKey
    witness: VerifierKey
    charter_key: VerifierKey

    @classmethod
    def parse(cls, text: str, where: str = "card") -> Card:
        """Raises `OperatorError` naming the file."""
        try:
            fields: dict[str, Any] = json.loads(text)
            name, url, region, log, witness, charter_key = (fields[key] for key in FIELDS)
            keys = (VerifierKey.parse(text) for text in (log, witness, charter_key))
            return cls(str(name), str(url), tuple(map(str, region)), *keys)
        except (ValueError, KeyError, TypeError, PeewitError) as error:
            raise OperatorError(f"{where} is not a card of `peewit node init`: {error}") from None


@dataclass(frozen=True)
class Draw:
    """The committee of a federation with appointments, and how long its rounds are."""

    members: tuple[str, ...]
    threshold: int
    round_s: int = 7 * 86_400
    starts_s: int = 4 * 86_400
    later: tuple[tuple[int, tuple[str, ...], int], ...] = ()
    "Committees that follow: from which round on, members, threshold."

    def table(self) -> str:
        """As it stands in a charter."""
        text = f"\n[draw]\nround_s = {self.round_s}\nstarts_s = {self.starts_s}\n"
        for from_round, members, threshold in ((0, self.members, self.threshold), *self.later):
            names = ", ".join(json.dumps(name) for name in members)
            text += f"\n[[draw.committee]]\nfrom_round = {from_round}\nmembers = [{names}]\nthreshold = {threshold}\n"
        return text


def usual_draw(
    voters: Sequence[str], committee: int | None = None, threshold: int | None = None, round_s: int = 7 * 86_400
) -> Draw:
    """Five members of which three must collude; of fewer voters, all of which half must."""
    members = tuple(voters[: 5 if committee is None else committee])
    return Draw(members, usual_threshold(len(members)) if threshold is None else threshold, round_s)


def usual_threshold(members: int) -> int:
    """So many of a committee must collude."""
    return (members + 1) // 2


def compose_charter(
    name: str,
    cards: list[Card],
    quorum: int,
    *,
    number: int = 1,
    threshold: int | None = None,
    mirrors: Container[str] = (),
    freshness_s: tuple[int, int] = (3600, 86_400),
    draw: Draw | None = None,
    retired: Sequence[Retired] = (),
) -> str:
    """The text of a charter; nodes of `mirrors` have no vote. Raises `OperatorError` if it would not be a valid one."""
    threshold = min(2, len(cards)) if threshold is None else threshold
    voters = [card for card in cards if card.name not in mirrors]
    lines = [f"log {card.log} {card.url}/log/{origin_hash(card.log.name).hex()}/" for card in cards]
    lines += [f"witness {card.name} {card.witness} {card.url}" for card in voters]
    lines += [f"group nodes {quorum} {' '.join(card.name for card in voters)}", "quorum nodes"]
    head = f'format = 1\nnumber = {number}\nname = "{name}"\nadmission_threshold = {threshold}\npolicy = """\n'
    limits = f"warn_s = {freshness_s[0]}\nrefuse_s = {freshness_s[1]}\n"
    tables = "".join(_table(card, votes=card in voters) for card in cards)
    text = head + "\n".join(lines) + '\n"""\n\n[freshness]\n' + limits + tables + (draw.table() if draw else "")
    text += "".join(map(_retired, retired))
    parse_charter(text.encode())
    return text


def _table(card: Card, *, votes: bool) -> str:
    region = ", ".join(json.dumps(prefix) for prefix in card.region)
    return (
        f"\n[[operator]]\nname = {json.dumps(card.name)}\norigin = {json.dumps(card.log.name)}\n"
        + ("" if votes else f"witness = {json.dumps(str(card.witness))}\n")
        + f"url = {json.dumps(card.url)}\nregion = [{region}]\ncharter_key = {json.dumps(str(card.charter_key))}\n"
    )


def _retired(party: Retired) -> str:
    voted = "voted = true\n" if party.voted else ""
    return (
        f'\n[[retired]]\nlog = {json.dumps(str(party.log))}\nsize = {party.size}\nroot = "{party.root.hex()}"\n{voted}'
    )


def usual_quorum(operators: int) -> int:
    """The smallest threshold whose quorums intersect honestly."""
    faulty = (operators - 1) // 3
    return (operators + faulty) // 2 + 1
