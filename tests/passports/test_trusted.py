"""Whom a verifier's device trusts, as it comes from the mediators' logs over real nodes."""

from __future__ import annotations

import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_clients.trusted import gather
from peewit_federation.passports.messages import consented
from peewit_federation.passports.trust import Trust
from peewit_federation.statements.mediator import ACTIVE, Issuer
from tests.clients.office import charter_of
from tests.federation_kit import Federation, seed
from tests.federation_kit_http import start_with_area
from tests.passports.kit import private, spki


def consent(by: str, mediator: bytes) -> bytes:
    return private(by).sign(consented(mediator), ec.ECDSA(hashes.SHA256()))


async def test_a_mediator_that_lists_a_key_without_its_consent_judges_nobody(federation: Federation) -> None:
    """Public keys are public: who may list any could revoke the passports of any."""
    mediator, device = await start_with_area(federation)
    agreed = {
        "clinic-a": consent("clinic-a", mediator.id),
        "none": b"",
        "of another key": consent("clinic-a", mediator.id),
        "to another mediator": consent("to another mediator", seed("district-nord")),
    }
    now_s, old = int(time.time()), len(device.entries)
    device.entries += [
        Issuer(1, ACTIVE, now_s - 60, now_s + 86_400, (), 7, spki(name), b"", given).encode()
        for name, given in agreed.items()
    ]
    status, body = await device.publish(federation.url("north"), old)
    assert status == 200, body
    await federation.agree()
    async with BackendPool(charter_of(federation)) as pool:
        found = (await gather(RegistryView(charter_of(federation), pool), Trust())).all()
        told = [line for line in pool.complaints["a mediator's log"] if "never agreed" in line]
    assert [one.public_key for one in found] == [spki("clinic-a")]
    assert len(told) == 3
