"""HPKE key pairs of the KEM MLKEM768-X25519 ("X-Wing", draft-connolly-cfrg-xwing-kem).

A private key is its 32-byte seed; SHAKE-256 expands it to the 64-byte seed of ML-KEM-768 and the 32-byte
X25519 key. A public key is the 1,184 bytes of ML-KEM-768 followed by the 32 bytes of X25519.

Rules kept here: how keys are made and written. Sealing with them comes with appointments.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


def xwing_public(seed: bytes) -> bytes:
    """The 1,216-byte public key of a 32-byte seed."""
    expanded = hashlib.shake_256(seed).digest(96)
    lattice = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    curve = X25519PrivateKey.from_private_bytes(expanded[64:])
    return lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
