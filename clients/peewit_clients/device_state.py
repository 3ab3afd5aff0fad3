"""What one device of a mediator keeps on its disk: keys, its log, and the names that the log must not carry.

Rules kept here: one process at a time; a head and the entries that it covers are stored in one transaction,
before either leaves the device; a counter in the file and one beside it tell whether the file was put back
from a backup, in which case the device must ask others how long its log is before it signs again. Keys, names, secrets
and the trail are sealed under the key in `device.key`, which a passphrase may seal; the log is what anybody may read.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import nacl.encoding
import nacl.exceptions
import nacl.hash
import nacl.secret
import nacl.utils

from peewit_clients.device_file import DATABASE, DeviceFile
from peewit_clients.locks import take_lock
from peewit_clients.secret_file import read_secret, write_secret
from peewit_federation import cbor
from peewit_federation.errors import OperatorError
from peewit_federation.keys import SigningKey
from peewit_federation.log.checkpoint import Head

TRAIL: Final = b"trail"
COUNTER: Final = "starts"
KEY: Final = "device.key"
SEALED: Final = frozenset({"seed", "encryption"})
"Facts that nobody else may read."
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS entries (place INTEGER PRIMARY KEY, entry BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS heads (size INTEGER PRIMARY KEY, note BLOB NOT NULL)",
    # `tag` is a keyed hash of the name, `box` has the name and what is kept with it.
    """CREATE TABLE IF NOT EXISTS names
       (kind INTEGER, tag BLOB, subject BLOB NOT NULL, box BLOB NOT NULL, PRIMARY KEY (kind, tag))""",
    # All secrets that were ever made, for an older grant may stand for a while after a newer one was written.
    """CREATE TABLE IF NOT EXISTS secrets
       (kind INTEGER, subject BLOB, tag BLOB, box BLOB NOT NULL, PRIMARY KEY (kind, subject, tag))""",
    "CREATE TABLE IF NOT EXISTS trail (time INTEGER, box BLOB NOT NULL)",
)


class DeviceState(DeviceFile):
    """An open state. Close it, or use it as a context manager."""

    def __init__(self, folder: Path, passphrase: str | None = None) -> None:
        """Raises `OperatorError`."""
        if not (folder / DATABASE).exists():
            raise OperatorError(f"{folder} holds no device; make one with `peewit mediator device`")
        self._key = read_secret(folder / KEY, passphrase)
        self._box = nacl.secret.Aead(self._key)
        self._lock = take_lock(folder / "lock", folder)
        try:
            super().__init__(folder, _connect(folder / DATABASE))
            self._load()
        except sqlite3.Error as error:
            self._lock.close()
            raise OperatorError(
                f"{folder / DATABASE} is damaged ({error}); put it back from a backup, or close this device with "
                f"the root key (peewit mediator close) and make a new one"
            ) from None
        except BaseException:
            self._lock.close()
            raise

    def _load(self) -> None:
        self.key = SigningKey(self._secret_fact("seed"))
        self.encryption_seed = self._secret_fact("encryption")
        self.restored = self._count()
        "Whether the file was put back from a backup since it was last used."

    @classmethod
    def create(
        cls, folder: Path, seed: bytes, encryption_seed: bytes, device: bytes, passphrase: str | None = None
    ) -> DeviceState:
        """Make a new device's state: whole, or not at all. Raises `OperatorError`."""
        if (folder / DATABASE).exists():
            raise OperatorError(f"{folder / DATABASE} exists already; a device is never overwritten")
        made = folder / ".new"
        facts = {"seed": seed, "encryption": encryption_seed, "device": device, "starts": b"0"}
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.rmtree(made, ignore_errors=True)  # of a try that was cut short
            made.mkdir(mode=0o700)
            _fill(made, facts, passphrase)
            for path in sorted(made.iterdir(), key=lambda path: path.name == DATABASE):
                path.replace(folder / path.name)  # the database last: without it there is no device
        except (OSError, sqlite3.Error) as error:
            raise OperatorError(f"{folder}: {error}; no device was made") from None
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return cls(folder, passphrase)

    def close(self) -> None:
        super().close()
        self._lock.close()

    def _secret_fact(self, name: str) -> bytes:
        return self._open(self.fact(name), name.encode())

    def _open(self, box: bytes, about: bytes) -> bytes:
        try:
            return bytes(self._box.decrypt(box, about))
        except (nacl.exceptions.CryptoError, ValueError):
            raise OperatorError(f"{self.folder / DATABASE} is damaged, or belongs to another {KEY}") from None

    def _tag(self, *about: object) -> bytes:
        return nacl.hash.blake2b(cbor.encode(list(about)), key=self._key, encoder=nacl.encoding.RawEncoder)

    def _count(self) -> bool:
        beside = self.folder / COUNTER
        inside = int(self.fact("starts"))
        try:
            outside = int(beside.read_text(encoding="ascii"))
        except (OSError, ValueError):
            outside = -1
        # The file beside is written last, so a crash between the two leaves it one behind.
        with self._database:
            self._database.execute("BEGIN")
            started = max(inside, outside) + 1
            self._database.execute("UPDATE facts SET body = ? WHERE name = 'starts'", (str(started).encode(),))
            if outside not in (inside, inside - 1):
                self._database.execute("INSERT OR REPLACE INTO facts VALUES ('restored', x'01')")
        beside.write_text(str(started), encoding="ascii")
        return bool(self._database.execute("SELECT 1 FROM facts WHERE name = 'restored'").fetchall())

    def confirm(self) -> None:
        """A quorum has told how long the log is: a restored file may be relied on again."""
        self._database.execute("DELETE FROM facts WHERE name = 'restored'")
        self.restored = False

    # The log

    def append(self, entries: Sequence[bytes], head: Head, names: Sequence[tuple[int, str, bytes, bytes]] = ()) -> None:
        """Store entries, the head that covers them, and names (kind, name, subject, secret), all or none."""
        start = self.size
        assert head.size == start + len(entries)
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            rows = [(start + i, entry) for i, entry in enumerate(entries)]
            self._database.executemany("INSERT INTO entries VALUES (?, ?)", rows)
            self._database.execute("INSERT OR REPLACE INTO heads VALUES (?, ?)", (head.size, head.encode()))
            for kind, name, subject, secret in names:
                box = bytes(self._box.encrypt(cbor.encode([name, secret]), subject))
                row = kind, self._tag(kind, name), subject, box
                self._database.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?)", row)
                self.learn(kind, subject, secret)

    # Names that stay on the device

    def subject(self, kind: int, name: str) -> bytes | None:
        """What a name stands for."""
        query = "SELECT subject FROM names WHERE kind = ? AND tag = ?"
        rows = self._database.execute(query, (kind, self._tag(kind, name))).fetchall()
        return rows[0][0] if rows else None

    def names(self, kind: int) -> dict[bytes, str]:
        """All names of a kind, by subject."""
        rows = self._database.execute("SELECT subject, box FROM names WHERE kind = ?", (kind,))
        return {subject: str(self._kept(box, subject)[0]) for subject, box in rows}

    def secret(self, kind: int, subject: bytes) -> bytes | None:
        """What was kept with the name of a subject last."""
        query = "SELECT box FROM names WHERE kind = ? AND subject = ?"
        rows = self._database.execute(query, (kind, subject)).fetchall()
        return bytes(self._kept(rows[0][0], subject)[1]) if rows else None

    def _kept(self, box: bytes, subject: bytes) -> list[Any]:
        found: list[Any] = cbor.decode(self._open(box, subject))
        return found

    def secrets(self, kind: int, subject: bytes) -> list[bytes]:
        """All secrets that this device knows of a subject, in the order in which it learnt them."""
        query = "SELECT box FROM secrets WHERE kind = ? AND subject = ? ORDER BY rowid"
        return [self._open(row[0], subject) for row in self._database.execute(query, (kind, subject))]

    def learn(self, kind: int, subject: bytes, secret: bytes) -> None:
        """Keep a secret that another device of the mediator shares."""
        row = kind, subject, self._tag(kind, subject, secret), bytes(self._box.encrypt(secret, subject))
        self._database.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?, ?, ?)", row)

    # The trail

    def note_down(self, at_s: int, what: str, name: str, detail: str) -> None:
        """Write down what was decided, for whoever has to account for it."""
        box = bytes(self._box.encrypt(cbor.encode([what, name, detail]), TRAIL))
        self._database.execute("INSERT INTO trail VALUES (?, ?)", (at_s, box))

    def trail(self) -> list[tuple[int, str, str, str]]:
        """(time, what, of which application, detail), oldest first."""
        rows = self._database.execute("SELECT time, box FROM trail ORDER BY time, rowid").fetchall()
        return [(at_s, *map(str, cbor.decode(self._open(box, TRAIL)))) for at_s, box in rows]


def _fill(folder: Path, facts: Mapping[str, bytes], passphrase: str | None) -> None:
    write_secret(folder / KEY, nacl.utils.random(nacl.secret.Aead.KEY_SIZE), passphrase)
    box = nacl.secret.Aead(read_secret(folder / KEY, passphrase))
    (folder / DATABASE).touch(mode=0o600)
    with closing(_connect(folder / DATABASE)) as database, database:
        database.execute("BEGIN")
        for name, body in facts.items():
            kept = bytes(box.encrypt(body, name.encode())) if name in SEALED else body
            database.execute("INSERT INTO facts VALUES (?, ?)", (name, kept))
    (folder / COUNTER).write_text("0", encoding="ascii")


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    for statement in SCHEMA:
        database.execute(statement)
    return database
