"""Whom a verifier trusts: signers by key id, what was revoked, and as of when it knows.

    file     "peewit trust v1\\n", then records, each behind its length (4 bytes):
             [[[mediator, as of], …], [Ed25519 keys that sign rules]], the list of revoked passports,
             [key id, public key, from, to, uses, country, mediator, state, certificate, signs until] for each signer;
             state: 0 good, 1 revoked, 2 suspended

Rules kept here: several signers may have one key id, and each is tried. A key in a mediator's log has agreed to be
there, so what that mediator says of it holds wherever else the key is listed, and an imported copy of it counts for
nothing. A list that is imported takes the place of the one of the same name, for such lists take a signer back by
leaving it out. Whether a key agreed, the caller has checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from peewit_federation import cbor
from peewit_federation.errors import LimitError, MalformedError
from peewit_federation.keys import key_id as hash_of_key
from peewit_federation.passports.revocation import RevokedList
from peewit_federation.passports.signed import KID_BYTES
from peewit_federation.passports.signer import Signer, read_signer

MAGIC: Final = b"peewit trust v1\n"
RECORD_BYTES_MAX: Final = 64 << 20
SIGNERS_MAX: Final = 1_000_000


@dataclass(frozen=True)
class Trust:
    """What a verifier's device knows."""

    as_of: Mapping[bytes, int] = field(default_factory=dict)
    "By mediator, POSIX seconds: its revocations until then are known."
    signers: Mapping[bytes, tuple[Signer, ...]] = field(default_factory=dict)
    "By key id, of 8 bytes."
    revoked: RevokedList = field(default_factory=lambda: RevokedList(frozenset()))
    rule_keys: frozenset[bytes] = frozenset()
    "Ed25519 keys whose rules count."

    @classmethod
    def of(
        cls,
        as_of: Mapping[bytes, int],
        signers: Iterable[Signer],
        revoked: RevokedList,
        rule_keys: Iterable[bytes] = (),
    ) -> Trust:
        """From signers, each under all of its key ids."""
        known = list(signers)
        logged = {signer.public_key for signer in known if not signer.imported}
        revoked_keys = {signer.public_key for signer in known if signer.revoked}
        suspended_keys = {signer.public_key for signer in known if signer.suspended}
        found: dict[bytes, set[Signer]] = {}
        for signer in known:
            if signer.imported and signer.public_key in logged:
                continue
            ended, held = signer.public_key in revoked_keys, signer.public_key in suspended_keys
            for kid in key_ids(signer):
                found.setdefault(kid, set()).add(replace(signer, revoked=ended, suspended=held and not ended))
        by_kid = {kid: tuple(sorted(several, key=_encode_signer)) for kid, several in found.items()}
        return cls(dict(sorted(as_of.items())), by_kid, revoked, frozenset(rule_keys))

    def all(self) -> list[Signer]:
        """Each signer once."""
        return list(dict.fromkeys(signer for several in self.signers.values() for signer in several))

    def with_list(self, name: str, signers: Iterable[Signer], at_s: int) -> Trust:
        """With a list of signers that was imported, in the place of the one of that name."""
        source = name.encode("ascii")
        kept = [signer for signer in self.all() if signer.mediator != source]
        brought = [replace(signer, mediator=source) for signer in signers]
        return Trust.of({**self.as_of, source: at_s}, [*kept, *brought], self.revoked, self.rule_keys)

    def without_list(self, name: str) -> Trust:
        """Without a list that was imported."""
        source = name.encode("ascii")
        as_of = {whose: at_s for whose, at_s in self.as_of.items() if whose != source}
        kept = [signer for signer in self.all() if signer.mediator != source]
        return Trust.of(as_of, kept, self.revoked, self.rule_keys)

    def encode(self) -> bytes:
        """As a file."""
        records = [
            cbor.encode([[[m, at_s] for m, at_s in self.as_of.items()], sorted(self.rule_keys)]),
            self.revoked.encode(),
        ]
        records += sorted(map(_encode_signer, self.all()))
        return MAGIC + b"".join(len(record).to_bytes(4, "big") + record for record in records)

    @classmethod
    def decode(cls, data: bytes) -> Trust:
        """Raises `MalformedError` or `LimitError`."""
        if not data.startswith(MAGIC):
            raise MalformedError("not a file of whom a verifier trusts")
        head, revoked, *signers = _records(data)
        match cbor.decode(head):
            case [list(times), list(keys)] if all(isinstance(key, bytes) for key in keys):
                as_of = dict(map(_decode_time, times))
            case _:
                raise MalformedError("a file of trust whose first record is another")
        return cls.of(as_of, map(_decode_signer, signers), RevokedList.decode(revoked), keys)


def key_ids(signer: Signer) -> tuple[bytes, ...]:
    """Under which key ids passports of a signer come: of its certificate, and of its bare key."""
    return tuple(dict.fromkeys((signer.kid, hash_of_key(signer.public_key)[:KID_BYTES])))


def _records(data: bytes) -> Iterator[bytes]:
    at = len(MAGIC)
    for count in range(2 + SIGNERS_MAX + 1):
        if at == len(data) and count >= 2:
            return
        size = int.from_bytes(data[at : at + 4], "big")
        if size > RECORD_BYTES_MAX or at + 4 + size > len(data):
            raise MalformedError("a file of trust that is cut off")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size
    raise LimitError(f"a file of trust with more than {SIGNERS_MAX} signers")


def _decode_time(value: object) -> tuple[bytes, int]:
    match value:
        case [bytes(mediator), int(time_s)] if time_s >= 0:
            return mediator, time_s
    raise MalformedError("a file of trust with a time that is none")


def _encode_signer(signer: Signer) -> bytes:
    return cbor.encode([
        signer.kid, signer.public_key, signer.not_before_s, signer.not_after_s, sorted(signer.uses), signer.country,
        signer.mediator, 1 if signer.revoked else 2 if signer.suspended else 0, signer.certificate,
        signer.signs_until_s,
    ])  # fmt: skip


def _decode_signer(data: bytes) -> Signer:
    match cbor.decode(data):
        case [
            bytes(kid), bytes(key), int(begins_s), int(ends_s), list(uses), str(country), bytes(mediator), int(revoked),
            bytes(certificate), int(until_s),
        ] if len(kid) == KID_BYTES and {*uses} <= {"v", "t", "r"}:  # fmt: skip
            times = begins_s, ends_s
            state = revoked == 1, revoked == 2
            return Signer(
                kid, key, *times, frozenset(uses), country, certificate, mediator, *state, signs_until_s=until_s
            )  # fmt: skip
    raise MalformedError("a signer in a file of trust that is none")


def import_certificates(ders: Iterable[bytes]) -> tuple[list[Signer], list[str]]:
    """Signers from certificates of others (a national trust list), and why some were left out."""
    signers, refused = [], []
    for number, der in enumerate(ders, start=1):
        try:
            signer = read_signer(der)
            if signer.authority and not signer.signs:
                raise MalformedError("of an authority: it signs certificates, not passports")
            if isinstance(signer.key, ec.EllipticCurvePublicKey) and signer.key.curve.name != "secp256r1":
                raise MalformedError("its key is on another curve than P-256, which ES256 is for")
            signers.append(signer)
        except (MalformedError, LimitError) as error:
            refused.append(f"certificate {number}: {error}")
    return signers, refused
