"""Private keys in files: the 64 hexadecimal digits of their seeds, readable by the owner only."""

from __future__ import annotations

import os
from pathlib import Path

from peewit_federation.errors import OperatorError
from peewit_federation.keys import SigningKey


def write_key(path: Path, seed: bytes) -> SigningKey:
    """Store a new key with mode 0600; never over an existing one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise OperatorError(f"{path} exists already; keys are never overwritten") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(seed.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return SigningKey(seed)


def read_key(path: Path) -> SigningKey:
    """Read a signing key; refuse one that others may read."""
    return SigningKey(read_seed(path))


def read_seed(path: Path) -> bytes:
    """Read the seed of a key; refuse one that others may read."""
    try:
        if path.stat().st_mode & 0o077:
            raise OperatorError(f"{path} may be read by others; run: chmod 600 {path}")
        seed = bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}; make keys with `peewit node init`") from None
    except ValueError:
        raise OperatorError(f"{path} is not a key of 64 hexadecimal digits") from None
    if len(seed) != 32:
        raise OperatorError(f"{path} is not a key of 64 hexadecimal digits")
    return seed
