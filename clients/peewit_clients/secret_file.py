"""A secret in a file: sealed under a passphrase (Argon2id, XChaCha20-Poly1305), or bare, for its owner only.

    {"kdf": "argon2id", "ops": 3, "memory": 268435456, "salt": "…", "box": "…"}     or     {"bare": "…"}

Rules kept here: mode 0600, never over an existing file, durable before it is relied on; a wrong passphrase
and a damaged file are told apart from nothing else.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nacl.exceptions
import nacl.pwhash.argon2id as argon2
import nacl.secret
import nacl.utils

from peewit_clients.words import said
from peewit_federation.errors import OperatorError

OPS = argon2.OPSLIMIT_MODERATE
MEMORY = argon2.MEMLIMIT_MODERATE


def write_secret(path: Path, secret: bytes, passphrase: str | None) -> None:
    """Store `secret`. Raises `OperatorError` if the file exists."""
    if passphrase:
        salt = nacl.utils.random(argon2.SALTBYTES)
        key = argon2.kdf(nacl.secret.Aead.KEY_SIZE, passphrase.encode(), salt, OPS, MEMORY)
        box = bytes(nacl.secret.Aead(key).encrypt(secret))
        fields: dict[str, object] = {
            "kdf": "argon2id",
            "ops": OPS,
            "memory": MEMORY,
            "salt": salt.hex(),
            "box": box.hex(),
        }
    else:
        fields = {"bare": secret.hex()}
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(fields, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(fresh)  # whole, and never over another
    except FileExistsError:
        raise OperatorError(f"{path} exists already; secrets are never overwritten") from None
    finally:
        fresh.unlink()


def is_sealed(path: Path) -> bool:
    """Whether a passphrase is needed."""
    return "kdf" in _fields(path)


def read_secret(path: Path, passphrase: str | None = None) -> bytes:
    """The secret. Raises `OperatorError`."""
    fields = _fields(path)
    try:
        if "bare" in fields:
            return bytes.fromhex(str(fields["bare"]))
        ops, memory = int(str(fields["ops"])), int(str(fields["memory"]))
        if not passphrase:
            raise OperatorError(said("error_sealed", path=path))
        if ops > 16 or memory > 2 << 30:
            raise OperatorError(f"{path} asks for more work than any file of ours")
        salt, box = bytes.fromhex(str(fields["salt"])), bytes.fromhex(str(fields["box"]))
        key = argon2.kdf(nacl.secret.Aead.KEY_SIZE, passphrase.encode(), salt, ops, memory)
        return bytes(nacl.secret.Aead(key).decrypt(box))
    except (KeyError, ValueError):
        raise OperatorError(f"{path} is damaged, or not a secret of this program") from None
    except nacl.exceptions.CryptoError:
        raise OperatorError(said("error_passphrase", path=path)) from None


def _fields(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_mode & 0o077:
            raise OperatorError(said("error_readable", path=path))
        text = path.read_text(encoding="utf-8")
        if re.fullmatch(r"[0-9a-f]{64}\n?", text, re.ASCII):
            return {"bare": text.strip()}  # as `peewit node init` writes keys
        fields = json.loads(text)
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise OperatorError(f"{path} is damaged, or not a secret of this program") from None
    if not isinstance(fields, dict):
        raise OperatorError(f"{path} is damaged, or not a secret of this program")
    return fields
