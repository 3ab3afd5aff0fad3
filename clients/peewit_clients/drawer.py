"""Many small things in one file, each encrypted at rest, changed together (XChaCha20-Poly1305 under a key of its own).

    items     tag (BLAKE2b of kind and name under the key), nonce || box over CBOR [kind, name, body]
              in NAME, an SQLite file; its key lies in NAME.key, under a passphrase or for its owner only

Rules kept here: what is written together is there together or not at all, durably when `write` returns; what was
deleted is overwritten. Beside how many things there are and how long, the file tells nothing. One process at a time;
who works for long may let others in between.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import nacl.encoding
import nacl.exceptions
import nacl.hash
import nacl.secret
import nacl.utils

from peewit_clients.locks import take_lock
from peewit_clients.secret_file import read_secret, write_secret
from peewit_clients.vault import key_path
from peewit_clients.words import said
from peewit_federation import cbor
from peewit_federation.errors import OperatorError

ITEM_BYTES_MAX = 1 << 20


class Drawer:
    """An open drawer. Close it, or use it as a context manager."""

    def __init__(self, path: Path, passphrase: str | None = None, wait_s: float = 0.0) -> None:
        """Open a drawer that was made; wait for others for a while. Raises `OperatorError`."""
        self.path = path
        self._key = read_secret(key_path(path), passphrase)
        self._box = nacl.secret.Aead(self._key)
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock = take_lock(self._lock_path, path, wait_s)
        try:
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, isolation_level=None)
            for pragma in ("journal_mode=TRUNCATE", "synchronous=FULL", "secure_delete=ON"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.execute("CREATE TABLE IF NOT EXISTS items (tag BLOB PRIMARY KEY, box BLOB NOT NULL)")
            self._version = self._data_version()
        except (sqlite3.Error, OSError) as error:
            self._lock.close()
            raise OperatorError(said("error_store", path=path, why=str(error))) from None

    @classmethod
    def make(cls, path: Path, passphrase: str | None = None) -> Self:
        """Make an empty drawer. Raises `OperatorError` if there is one."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_secret(key_path(path), nacl.utils.random(nacl.secret.Aead.KEY_SIZE), passphrase)
        return cls(path, passphrase)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others open it."""
        self._database.close()
        self._lock.close()

    def pause(self) -> None:
        """Let others open it until `resume`; nothing is read or written meanwhile."""
        self._lock.close()

    def resume(self) -> bool:
        """Take it up again: whether others wrote something meanwhile. Raises `InUseError` while they have it."""
        self._lock = take_lock(self._lock_path, self.path)
        before, self._version = self._version, self._data_version()
        return self._version != before

    def _data_version(self) -> int:
        """Changes when another connection has written."""
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        return int(version)

    def read(self) -> list[tuple[int, bytes, bytes]]:
        """Everything: (kind, name, body). Raises `OperatorError` if the file is damaged."""
        found = []
        try:
            for tag, box in self._database.execute("SELECT tag, box FROM items"):
                kind, name, body = cbor.decode(bytes(self._box.decrypt(box, tag)), size_bytes_max=ITEM_BYTES_MAX)
                found.append((kind, name, body))
        except (sqlite3.Error, nacl.exceptions.CryptoError, ValueError) as error:
            raise OperatorError(f"{self.path} is damaged, or belongs to another key: {error}") from None
        return found

    def write(self, items: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        """Put things in place of those of the same kind and name; without a body they go. Raises `OperatorError`."""
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                for kind, name, body in items:
                    tag = nacl.hash.blake2b(cbor.encode([kind, name]), key=self._key, encoder=nacl.encoding.RawEncoder)
                    if body is None:
                        self._database.execute("DELETE FROM items WHERE tag = ?", (tag,))
                    else:
                        item = cbor.encode([kind, name, body])
                        if len(item) > ITEM_BYTES_MAX:
                            raise OperatorError(f"{self.path}: {len(item)} bytes at once; nothing was changed")
                        box = bytes(self._box.encrypt(item, tag))
                        self._database.execute("INSERT OR REPLACE INTO items VALUES (?, ?)", (tag, box))
        except sqlite3.Error as error:
            raise OperatorError(f"{self.path}: {error}; nothing was changed") from None
