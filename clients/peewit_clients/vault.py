"""A file that is encrypted at rest and replaced whole (XChaCha20-Poly1305 under a key of its own).

    nonce (24 bytes) || box                 in NAME; its key lies in NAME.key, under a passphrase or for its owner only

Rules kept here: a state is durable when `write` returns, and either the old or the new one is there, whenever the
power goes; what was replaced is gone. One process at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import nacl.exceptions
import nacl.secret
import nacl.utils

from peewit_clients.locks import take_lock
from peewit_clients.secret_file import read_secret, write_secret
from peewit_clients.whole_file import replace_whole
from peewit_clients.words import said
from peewit_federation.errors import OperatorError


class Vault:
    """An open vault. Close it, or use it as a context manager."""

    def __init__(self, path: Path, passphrase: str | None = None) -> None:
        """Open a vault that was made. Raises `OperatorError`."""
        self.path = path
        self._box = nacl.secret.Aead(read_secret(key_path(path), passphrase))
        self._lock = take_lock(path.with_name(path.name + ".lock"), path)

    @classmethod
    def make(cls, path: Path, passphrase: str | None = None) -> Self:
        """Make an empty vault. Raises `OperatorError` if there is one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(key_path(path), nacl.utils.random(nacl.secret.Aead.KEY_SIZE), passphrase)
        return cls(path, passphrase)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others open it."""
        self._lock.close()

    def read(self) -> bytes | None:
        """What was written last; None if nothing was. Raises `OperatorError` if it is damaged."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OperatorError(f"{self.path}: {error.strerror}") from None
        try:
            return bytes(self._box.decrypt(data))
        except (nacl.exceptions.CryptoError, ValueError):
            raise OperatorError(said("error_damaged", path=self.path)) from None

    def write(self, state: bytes) -> None:
        """Replace what was written before, durably. Raises `OperatorError`."""
        replace_whole(self.path, bytes(self._box.encrypt(state)))


def key_path(path: Path) -> Path:
    """Where the key of a file lies."""
    return path.with_name(path.name + ".key")
