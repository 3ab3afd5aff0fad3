"""Passports: verifying against the bare signature, and what a list of revoked ones weighs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from tests.federation_kit import seed
from tests.passports.kit import MEDIATOR, NOW, issuer, passport, trust

from bench.kit import middle
from peewit_clients.paper import qr
from peewit_federation.passports import hc1
from peewit_federation.passports.revocation import RevokedList
from peewit_federation.passports.signed import Signed
from peewit_federation.passports.verdict import Outcome, verify

ROUNDS, EACH = 15, 300
ISSUED, REVOKED = 1_000_000, 10_000
LOOKUPS = 100_000


def timed(work: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def verification() -> list[tuple[str, str, str]]:
    """A whole verdict against nothing but `key.verify`, interleaved."""
    lists, text = trust(), passport().hc1
    signed = Signed.parse(hc1.unpack(text))
    key, message = issuer().key.public_key(), signed.to_be_signed
    r, s = (int.from_bytes(part, "big") for part in (signed.signature[:32], signed.signature[32:]))
    der = encode_dss_signature(r, s)
    assert verify(text, lists, NOW).outcome is Outcome.VALID
    shown = passport().pw1

    def signature() -> bool:
        opened = Signed.parse(hc1.unpack(text))
        return any(opened.verifies(signer.key) for signer in lists.signers[opened.kid])

    works = {
        "HC1 from text to verified signature": signature,
        "HC1 whole verdicts (form, times, revocation too)": lambda: verify(text, lists, NOW),
        "PW1 whole verdicts": lambda: verify(shown, lists, NOW),
    }
    rows = []
    for what, work in works.items():
        bare, whole = [], []
        for _ in range(ROUNDS):
            bare.append(timed(lambda: key.verify(der, message, ec.ECDSA(SHA256())), EACH))
            whole.append(timed(work, EACH))
        ratio = middle([b / w for b, w in zip(bare, whole, strict=True)])
        wanted = "≥ 50 %" if "HC1" in what else "stated"
        rows.append(
            (f"{what}, against the bare ES256 rate", f"{100 * ratio:.0f} % ({1 / middle(whole):,.0f}/s)", wanted)
        )
    return rows


def lists() -> list[tuple[str, str, str]]:
    """Ten thousand revoked of a million issued."""
    ids = [seed("passport", number)[:16] for number in range(REVOKED)]
    revoked = RevokedList.of((MEDIATOR, one) for one in ids)
    data = revoked.encode()
    assert RevokedList.decode(data) == revoked
    closed = math.lgamma(ISSUED + 1) - math.lgamma(REVOKED + 1) - math.lgamma(ISSUED - REVOKED + 1)
    wrong = REVOKED / 2**48
    opened = REVOKED * math.log2(1 / wrong) / 8
    small = RevokedList.of((MEDIATOR, one) for one in ids[:10])
    one, times = ids[5], []
    for _ in range(5):
        few = timed(lambda: small.has(MEDIATOR, one), LOOKUPS)
        times.append((few, timed(lambda: revoked.has(MEDIATOR, one), LOOKUPS)))
    load_s = timed(lambda: RevokedList.decode(data), 5)
    weight = f"{len(data) / 1000:.1f} kB; the bound is {opened / 1000:.1f} kB for false alarms of {wrong:.0e}"
    known = f"{closed / math.log(2) / 8000:.1f} kB if everybody knew all {ISSUED:,} that were issued"
    return [
        (f"list of {REVOKED:,} revoked, of any number issued", weight, f"stated; {known}"),
        ("asking a list of 10,000 against one of 10", f"{middle([b / a for a, b in times]):.2f} times", "1"),
        ("loading it", f"{1000 * load_s:.0f} ms", "stated"),
    ]  # fmt: skip


def codes() -> list[tuple[str, str, str]]:
    one = passport()
    found = [qr(text) for text in (one.hc1, one.pw1)]
    shown = ", ".join(f"{name} {len(text)} characters, {code.symbol_size(1, 0)[0]} modules"
                      for name, text, code in zip(("HC1", "PW1"), (one.hc1, one.pw1), found, strict=True))  # fmt: skip
    return [("codes of a usual vaccination, correction Q", shown, "no larger than the official vectors'")]


def run() -> list[tuple[str, str, str]]:
    return [*verification(), *lists(), *codes()]
