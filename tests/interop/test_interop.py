"""Ours and independent implementations finish and verify what the other began (`make test` installs them)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gmpy2
import pytest

from peewit_federation.draw.blind_rsa import EXPONENT, Blinded, TokenKey
from peewit_federation.draw.vrf import VrfKey, output, verify
from peewit_federation.errors import ForgeryError
from peewit_federation.sealed import Context, _pad, _unpad, open_sealed, seal, xwing_public
from tests.federation_kit import seed

HERE = Path(__file__).parent
FOR = Context("offer", seed("mailbox"), seed("key"), seed("salt"))


def other(ask: str, **values: object) -> Any:
    """What the other implementation answers."""
    node = shutil.which("node")
    assert node, "Node.js is needed for the tests"
    assert (HERE / "node_modules").is_dir(), "`make test` installs the other implementations"
    given = {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}
    done = subprocess.run(
        [node, HERE / "answer.mjs"], input=json.dumps({"ask": ask, **given}).encode(), capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def prime(name: str) -> int:
    found = int.from_bytes(b"".join(seed(f"{name} {part}") for part in range(4)), "big") | 3 << 1022
    while True:
        found = int(gmpy2.next_prime(found))
        if gmpy2.gcd(found - 1, EXPONENT) == 1:
            return found


@pytest.fixture(scope="module")
def key() -> TokenKey:
    return TokenKey(prime("p"), prime("q"))


def jwk(key: TokenKey, *, private: bool = False) -> dict[str, str]:
    def text(number: int) -> str:
        return base64.urlsafe_b64encode(number.to_bytes(-(-number.bit_length() // 8), "big")).rstrip(b"=").decode()

    p, q = (int.from_bytes(part, "big") for part in key.primes())
    found = {"kty": "RSA", "n": text(key.public.modulus), "e": text(EXPONENT)}
    if private:
        d = int(gmpy2.invert(EXPONENT, gmpy2.lcm(p - 1, q - 1)))
        found |= {"d": text(d), "p": text(p), "q": text(q), "dp": text(d % (p - 1)), "dq": text(d % (q - 1))}
        found |= {"qi": text(int(gmpy2.invert(q, p)))}
    return found


MESSAGE = b"the hash of a request"
FACTOR = b"".join(seed(f"factor {part}") for part in range(9))


def test_what_ours_blinds_the_other_signs_and_ours_finishes(key: TokenKey) -> None:
    blinded = key.public.blind(MESSAGE, bytes(48), FACTOR)
    signed = bytes.fromhex(other("blindSign", key=jwk(key, private=True), blinded=blinded.data))
    assert key.public.verifies(MESSAGE, key.public.finalize(MESSAGE, signed, blinded))


def test_what_the_other_blinds_ours_signs_and_the_other_finishes(key: TokenKey) -> None:
    begun = other("blind", key=jwk(key), message=MESSAGE)
    signed = key.blind_sign(bytes.fromhex(begun["blinded"]), FACTOR)
    values = {"key": jwk(key), "message": MESSAGE}
    signature = bytes.fromhex(other("finalize", **values, signature=signed, inverse=begun["inverse"]))
    assert key.public.verifies(MESSAGE, signature)
    # And ours finishes it too, to the same signature.
    assert key.public.finalize(MESSAGE, signed, Blinded(b"", int(begun["inverse"], 16))) == signature


def test_both_verify_the_same_signatures_and_refuse_the_same(key: TokenKey) -> None:
    blinded = key.public.blind(MESSAGE, bytes(48), FACTOR)
    signature = key.public.finalize(MESSAGE, key.blind_sign(blinded.data, FACTOR), blinded)
    assert other("verifies", key=jwk(key), message=MESSAGE, signature=signature) is True
    assert other("verifies", key=jwk(key), message=b"another", signature=signature) is False
    assert not key.public.verifies(b"another", signature)


@pytest.mark.parametrize("data", [b"", b"a request hash", bytes(range(200))], ids=len)
def test_both_make_and_verify_the_same_draw(data: bytes) -> None:
    ours = VrfKey(seed("drawer"))
    proof = ours.prove(data)
    assert other("vrfProve", secret=ours.secret, data=data) == {"proof": proof.hex(), "output": output(proof).hex()}
    assert other("vrfVerify", publicKey=ours.public, data=data, proof=proof) == verify(ours.public, data, proof).hex()
    assert other("vrfVerify", publicKey=ours.public, data=data + b"!", proof=proof) is None
    with pytest.raises(ForgeryError):
        verify(ours.public, data + b"!", proof)


def test_what_ours_seals_the_other_opens() -> None:
    sealed = seal(xwing_public(seed("mine")), b"ten o'clock", FOR)
    assert _unpad(bytes.fromhex(other("open", seed=seed("mine"), sealed=sealed, info=FOR.info()))) == b"ten o'clock"


def test_what_the_other_seals_ours_opens_and_nowhere_else() -> None:
    plaintext = _pad(b"ten o'clock")
    sealed = bytes.fromhex(other("seal", publicKey=xwing_public(seed("mine")), plaintext=plaintext, info=FOR.info()))
    assert open_sealed(seed("mine"), sealed, FOR) == b"ten o'clock"
    with pytest.raises(ForgeryError):
        open_sealed(seed("mine"), sealed, Context("accept"))
