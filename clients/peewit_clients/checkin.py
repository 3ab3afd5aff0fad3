"""The code with which a holder checks in: both sides compute it from the booking secret, and nobody else can."""

from __future__ import annotations

import base64

from peewit_federation.keys import sha256


def check_in_code(nonce: bytes) -> str:
    """Eight letters and digits in two groups: 40 bits of SHA-256."""
    text = base64.b32encode(sha256(b"peewit check-in v1", nonce)[:5]).decode()
    return f"{text[:4]}-{text[4:]}"
