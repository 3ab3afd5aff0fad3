"""The charter's file, which every client ships with: TOML, and signatures of the operators' charter keys (design 4.4).

    format = 1
    number = 1
    name = "example-federation"
    admission_threshold = 2
    policy = '''
    log peewit/5f…+0a1b2c3d+AQ…  https://north.example/log/77…/
    witness north north.example/witness+5a1e0c2d+BA… https://north.example/
    …
    group nodes 3 north west south east
    quorum nodes
    '''

    [freshness]
    warn_s = 3600
    refuse_s = 86400

    [[operator]]
    name = "north"                      # a witness of the policy, or else with a key of its own:
    # witness = "north.example/witness+5a1e0c2d+BA…"    a mirror, whose cosignatures count for no quorum
    origin = "peewit/5f…"               # a log of the policy
    url = "https://north.example"
    region = ["1", "2"]                 # postcode prefixes
    charter_key = "north/charter+…"     # kept offline; signs charters

    [draw]                              # left out: no appointments; see `draw.schedule`
    round_s = 604800
    [[draw.committee]]
    from_round = 0
    members = ["north", "west", "south", "east"]
    threshold = 2

    [[retired]]                         # a log that ended: of an operator that left, or changed its key
    log = "peewit/0d…+77c0ffee+AQ…"
    size = 812
    root = "9f…"                        # hexadecimal
    voted = true                        # if it had a vote: people whom it admitted keep their places

A later file ends, after an empty line, with signature lines of a signed note by the operators' charter keys.

Rules kept here: unknown or missing keys, keys that serve two purposes, an operator without log or witness, and weak
quorums are refused with the name of the key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any, Final

from peewit_federation.charter import Charter, Operator, Retired
from peewit_federation.draw.schedule import ROUND_S, Schedule, Seats
from peewit_federation.draw.tickets import Committee
from peewit_federation.errors import OperatorError, PeewitError
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import ORIGIN_PREFIX, origin_of
from peewit_federation.log.note import COSIGNATURE_V1, ED25519, Signature, VerifierKey, sign
from peewit_federation.log.policy import Policy, parse_policy

CHARTER_BYTES_MAX: Final = 256 * 1024
FORMAT: Final = 1
PATH = r"(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?"
URL: Final = re.compile(rf"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{{1,5}})?{PATH}", re.ASCII)
"No name and password, no query: what is said beside the host leads astray."


def parse_charter(data: bytes) -> Charter:
    """Parse and check a charter file. Raises `OperatorError` naming key and reason."""
    if len(data) > CHARTER_BYTES_MAX:
        raise OperatorError(f"a charter of {len(data)} bytes; at most {CHARTER_BYTES_MAX} are read")
    try:
        whole = data.decode()
        text, signatures = _split(whole)
        table = tomllib.loads(text)
    except UnicodeDecodeError:
        raise OperatorError("the charter is not UTF-8") from None
    except ValueError as error:
        raise OperatorError(f"the charter is not TOML: {str(error)[:200]}") from None
    except RecursionError:
        raise OperatorError("the charter is nested too deeply") from None
    return _Reader(table).charter(text, signatures)


def sign_charter(charter: Charter, operator: str, key: SigningKey) -> Charter:
    """With one more operator's signature."""
    signature = sign(charter.text, charter.operator(operator).charter_key.name, key)
    return parse_charter(charter.text.encode() + b"\n" + "".join(map(str, (*charter.signatures, signature))).encode())


def walk(charter: Charter, files: Iterable[bytes]) -> Charter:
    """Walk a chain of charter files from `charter`, which is trusted, to the newest."""
    for data in files:
        following = parse_charter(data)
        charter.require_successor(following)
        charter = following
    return charter


def _split(whole: str) -> tuple[str, tuple[Signature, ...]]:
    lines = whole.split("\n")
    end = len(lines) - 1
    while end > 0 and lines[end - 1].startswith("— "):
        end -= 1
    found = lines[end : len(lines) - 1]
    if not found:
        return whole, ()
    if lines[-1] or end < 2 or lines[end - 1]:
        raise OperatorError("signatures of a charter follow after an empty line, each on a line")
    try:
        return "\n".join(lines[: end - 1]) + "\n", tuple(map(Signature.parse, found))
    except PeewitError as error:
        raise OperatorError(f"a signature of the charter: {error}") from None


class _Reader:
    """Takes values out of a TOML table; what is missing, of another type or left over is an error."""

    def __init__(self, table: dict[str, Any], where: str = "") -> None:
        self.table = dict(table)
        self.where = where

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        value = self.table.pop(key, default)
        if value is None:
            raise OperatorError(f"charter: {self.where}{key} is missing")
        if type(value) is not kind:
            raise OperatorError(f"charter: {self.where}{key} is not of type {kind.__name__}")
        return value

    def number(self, key: str, least: int, default: int | None = None) -> int:
        value: int = self.take(key, int, default)
        if not least <= value < 1 << 53:
            raise OperatorError(f"charter: {self.where}{key} must be at least {least}")
        return value

    def done(self) -> None:
        if self.table:
            raise OperatorError(f"charter: {self.where}{min(self.table)} is not known")

    def charter(self, text: str, signatures: tuple[Signature, ...]) -> Charter:
        if self.number("format", 1) != FORMAT:
            raise OperatorError(f"charter: format is not {FORMAT}; a newer program may read it")
        number, name = self.number("number", 1), self.take("name", str)
        threshold = self.number("admission_threshold", 1, 2)
        policy = parse_policy(self.take("policy", str))
        policy.require_honest_intersection()
        freshness = _Reader(self.take("freshness", dict, {}), "freshness.")
        warn_s, refuse_s = freshness.number("warn_s", 1, 3600), freshness.number("refuse_s", 1, 86_400)
        freshness.done()
        if warn_s > refuse_s:
            raise OperatorError("charter: freshness.warn_s is larger than freshness.refuse_s")
        tables = self.take("operator", list)
        gone = self.take("retired", list, [])
        if not all(isinstance(table, dict) for table in tables + gone):
            raise OperatorError("charter: operator and retired are tables, written [[operator]] and [[retired]]")
        operators = tuple(_Reader(t, f"operator {i + 1}: ").operator(policy) for i, t in enumerate(tables))
        retired = tuple(_Reader(t, f"retired {i + 1}: ").retired() for i, t in enumerate(gone))
        draw = self.take("draw", dict, {})
        schedule = _Reader(draw, "draw.").schedule(operators, retired) if draw else None
        self.done()
        _check_operators(operators, policy, threshold)
        return Charter(
            text, signatures, number, name, threshold, warn_s, refuse_s, policy, operators, retired, schedule
        )

    def operator(self, policy: Policy) -> Operator:
        name, origin = self.take("name", str), self.take("origin", str)
        self.where = f"operator {name}: "
        votes = name in policy.witnesses
        if not votes and "witness" not in self.table:
            raise OperatorError(
                f"charter: {self.where}the policy has no witness of this name, and no witness key is given"
            )
        witness = policy.witnesses[name].key if votes else self.key("witness", COSIGNATURE_V1)
        if origin not in policy.logs:
            raise OperatorError(f"charter: {self.where}the policy has no log with this origin")
        url, region = self.take("url", str), self.take("region", list, [])
        if not URL.fullmatch(url):
            raise OperatorError(
                f"charter: {self.where}url must be https://HOST, perhaps with a port and a path, no slash at the end"
            )
        if not all(isinstance(p, str) and p.isascii() and p.isdigit() and len(p) <= 5 for p in region):
            raise OperatorError(f"charter: {self.where}region must be a list of postcode prefixes")
        key = self.key("charter_key", ED25519)
        self.done()
        return Operator(name, policy.logs[origin].key, witness, url, tuple(region), key, votes)

    def schedule(self, operators: tuple[Operator, ...], retired: tuple[Retired, ...]) -> Schedule:
        round_s, starts_s = self.number("round_s", ROUND_S[0], 7 * 86_400), self.number("starts_s", 0, 4 * 86_400)
        tables = self.take("committee", list)
        self.done()
        if round_s > ROUND_S[1]:
            raise OperatorError(f"charter: {self.where}round_s must be at most {ROUND_S[1]}")
        if not tables or not all(isinstance(table, dict) for table in tables):
            raise OperatorError("charter: draw.committee is one or several tables, written [[draw.committee]]")
        seats = tuple(_Reader(t, f"draw.committee {i + 1}: ").seats(operators, retired) for i, t in enumerate(tables))
        begins = [seat.from_round for seat in seats]
        if begins[0] != 0 or begins != sorted(set(begins)):
            raise OperatorError("charter: the first draw.committee has from_round = 0, and each other a later one")
        return Schedule(round_s, starts_s, seats)

    def seats(self, operators: tuple[Operator, ...], retired: tuple[Retired, ...]) -> Seats:
        from_round, threshold = self.number("from_round", 0, 0), self.number("threshold", 1)
        members = self.take("members", list)
        self.done()
        voting = {operator.name: operator.origin_hash for operator in operators if operator.votes}
        voting |= {party.log.name: party.origin_hash for party in retired}
        for name in members:
            if not isinstance(name, str) or name not in voting:
                raise OperatorError(
                    f"charter: {self.where}members are voting operators, or logs that are retired; {name!r:.70} is none"
                )
        try:
            committee = Committee(tuple(members), threshold)
        except PeewitError as error:
            raise OperatorError(f"charter: {self.where}{error}") from None
        return Seats(from_round, committee, tuple(voting[name] for name in members))

    def key(self, name: str, algorithm: int) -> VerifierKey:
        try:
            key = VerifierKey.parse(self.take(name, str))
        except PeewitError as error:
            raise OperatorError(f"charter: {self.where}{name}: {error}") from None
        if key.algorithm != algorithm:
            raise OperatorError(f"charter: {self.where}{name} is not of type {algorithm:#04x}")
        return key

    def retired(self) -> Retired:
        log, size, root = self.take("log", str), self.number("size", 0), self.take("root", str)
        voted = self.take("voted", bool, False)
        self.done()
        if not re.fullmatch(r"[0-9a-f]{64}", root, re.ASCII):
            raise OperatorError(f"charter: {self.where}root is not 64 hexadecimal digits")
        try:
            return Retired(VerifierKey.parse(log), size, bytes.fromhex(root), voted)
        except PeewitError as error:
            raise OperatorError(f"charter: {self.where}log: {error}") from None


def _check_operators(operators: tuple[Operator, ...], policy: Policy, threshold: int) -> None:
    if len({o.name for o in operators}) != len(operators) or {o.name for o in operators if o.votes} != set(
        policy.witnesses
    ):
        raise OperatorError("charter: each witness of the policy belongs to exactly one operator")
    if len({o.log.name for o in operators}) != len(operators):
        raise OperatorError("charter: each operator has a log of its own")
    if len({o.witness.name for o in operators}) != len(operators):
        raise OperatorError("charter: two nodes cosign under one name")
    keys = [key.public.raw for o in operators for key in (o.log, o.witness, o.charter_key)]
    if len(set(keys)) != len(keys):
        raise OperatorError("charter: a key serves two purposes")
    if threshold > len(operators):
        raise OperatorError(f"charter: admission_threshold is {threshold}, but there are {len(operators)} operators")
    for operator in operators:
        if operator.log.name.startswith(ORIGIN_PREFIX) and operator.log.name != origin_of(operator.log.public.raw):
            raise OperatorError(f"charter: operator {operator.name}: the log's origin is not that of its key")
