"""Mailboxes at this node.

Rules kept here: a message is stored before it is acknowledged, and once, however often it is sent; a mailbox holds 32
messages, sixteen of who has its owner's leave and the last two of each practice; so nobody fills one that is not
theirs, nor does who vouches for many practices; and who does not look misses what a practice said first, not what it
said last. The fuller the node, the more work a new one costs, and the less it holds: who opens many cannot take all the
room. The database stays under its limit. What has ended is deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from peewit_federation.appointment.mailbox import (
    LIFETIME_S_MAX,
    MESSAGE_BYTES_MAX,
    MESSAGES_MAX,
    UNREAD_MAX,
    Terms,
    bits_done,
    bits_due,
    bytes_due,
)
from peewit_federation.errors import QuotaError, RefusedError, UnknownError
from peewit_federation.keys import key_id, sha256
from peewit_node.engine import Engine, Write, WriteConflictError

OPEN: Final = (
    "INSERT INTO mailboxes VALUES (?, ?, ?, ?) "
    "ON CONFLICT (address) DO UPDATE SET until = excluded.until, practices = excluded.practices"
)
PUT: Final = (
    "INSERT INTO messages (address, writer, digest, body) SELECT ?, ?, ?, ? "
    "WHERE (SELECT count(*) FROM messages WHERE address = ?) < ? "
    "AND (SELECT count(*) FROM messages WHERE address = ? AND writer = ?) < ? "
    "AND EXISTS (SELECT 1 FROM mailboxes WHERE address = ?)"
)
MAKE_WAY: Final = (
    "DELETE FROM messages WHERE number = (SELECT min(number) FROM messages WHERE address = ? AND writer = ?) "
    "AND (SELECT count(*) FROM messages WHERE address = ? AND writer = ?) >= ?"
)
ROOM: Final = " AND (SELECT coalesce(sum(length(body)), 0) FROM messages WHERE address = ?) + ? <= ?"
"Behind `PUT`, at a node that is rather full."
DROP_ONE: Final = "DELETE FROM messages WHERE number = ?"
DROP_ENDED: Final = "DELETE FROM messages WHERE address IN (SELECT address FROM mailboxes WHERE until <= ?)"
KNOWN_MAX: Final = 10_000


class FullError(QuotaError):
    """A mailbox that holds as many messages as it may."""


class Mailboxes:
    """Keeps messages until they are fetched or end."""

    def __init__(self, engine: Engine, node: bytes, mailboxes_max: int, database_bytes_max: int) -> None:
        """`node`: our operator's origin hash, to which work is bound."""
        self._engine = engine
        self._node = node
        self._mailboxes_max = mailboxes_max
        self._database_bytes_max = database_bytes_max
        self._size_bytes = 0
        "Of the database, lately, and of what came since."
        self._count = self._opened = self._opening = 0
        self._known: dict[bytes, tuple[bytes, Terms]] = {}
        "Owner and terms by address, of some that were used lately."

    async def load(self) -> None:
        """Count what is there; of what is opened just now rather too many, until the next time."""
        opened, opening = self._opened, self._opening
        ((count,),) = await self._engine.fetch("SELECT count(*) FROM mailboxes")
        self._count = count + opening + self._opened - opened
        self._size_bytes = await self._engine.size_bytes()

    @property
    def bits(self) -> int:
        """How much work a new mailbox costs now."""
        return bits_due(self._count, self._mailboxes_max)

    @property
    def full(self) -> bool:
        """Whether no new mailbox is opened, whatever is done for it."""
        return self._count >= self._mailboxes_max

    async def open(self, owner: bytes, terms: Terms, now_s: float) -> None:
        """Open the mailbox of a public key, or change its terms. Raises `RefusedError` or `QuotaError`."""
        if not now_s < terms.until_s <= now_s + LIFETIME_S_MAX:
            raise RefusedError(f"a mailbox ends within {LIFETIME_S_MAX // 86_400} days")
        known = await self._engine.look("SELECT 1 FROM mailboxes WHERE address = ?", key_id(owner))
        if not known and self.full:
            raise QuotaError("this node keeps as many mailboxes as it can; use another")
        if not known and bits_done(self._node, key_id(owner), terms.work) < self.bits:
            raise QuotaError(f"this node is rather full: a new mailbox costs work of {self.bits} bits now")
        self._count += not known
        self._opened += not known
        self._opening += not known
        try:
            await self._engine.write(Write(OPEN, (key_id(owner), owner, terms.until_s, int(terms.practices))))
        finally:
            self._opening -= not known
        self._know(key_id(owner), (owner, terms))

    async def terms(self, address: bytes, now_s: float) -> tuple[bytes, Terms]:
        """The owner's public key and terms. Raises `UnknownError`."""
        known = self._known.get(address)
        if known is None:
            rows = await self._engine.look("SELECT public, until, practices FROM mailboxes WHERE address = ?", address)
            for public, until_s, practices in rows:
                # Not over what its owner said meanwhile.
                known = self._known.get(address) or self._know(address, (public, Terms(until_s, bool(practices))))
        if known is None or known[1].until_s <= now_s:
            raise UnknownError("there is no such mailbox at this node, or it has ended")
        return known

    def _know(self, address: bytes, known: tuple[bytes, Terms]) -> tuple[bytes, Terms]:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[address] = known
        return known

    async def put(self, address: bytes, writer: bytes, message: bytes, *, leave: bool) -> None:
        """Store a message, whose writer has the owner's `leave` or not. Raises `QuotaError` if the mailbox is full.

        Without leave it takes the place of what its writer said first: an offer that nobody read has probably ended.
        """
        if self._size_bytes + len(message) > self._database_bytes_max:
            raise QuotaError("this node keeps as much as it may; use another")
        digest = sha256(message)
        row = address, writer, digest, message, address, MESSAGES_MAX, address, writer, UNREAD_MAX[leave], address
        room = bytes_due(self._size_bytes, self._database_bytes_max)
        write = Write(PUT, row, 1)
        if room < MESSAGES_MAX * MESSAGE_BYTES_MAX:
            write = Write(PUT + ROOM, (*row, address, len(message), room), 1)
        make_way = Write(MAKE_WAY, (address, writer, address, writer, UNREAD_MAX[leave]))
        try:
            await self._engine.write(*([] if leave else [make_way]), write)
            self._size_bytes += len(message)
        except WriteConflictError:
            known = "SELECT 1 FROM messages WHERE address = ? AND writer = ? AND digest = ?"
            if not await self._engine.look(known, address, writer, digest):
                raise FullError("this mailbox is full; its owner has to read it first") from None

    async def make_room(self, address: bytes, writer: bytes, side: Callable[[bytes], bytes]) -> bool:
        """In a full mailbox, delete the first message of the side that has most, if that has more than the writer's.

        `side` tells who vouches for a writer: so nobody fills a mailbox by vouching for many.
        """
        rows = await self._engine.look("SELECT number, writer FROM messages WHERE address = ? ORDER BY number", address)
        if len(rows) < MESSAGES_MAX:
            return False  # what it lacks is bytes, of which one letter more or less has none
        sides = [(number, side(known)) for number, known in rows]
        counts = Counter(name for _, name in sides if name)
        most = max(counts, key=lambda name: counts[name], default=b"")
        if not most or counts[most] <= counts[side(writer)] + 1:
            return False
        await self._engine.write(Write(DROP_ONE, (next(number for number, name in sides if name == most),)))
        return True

    async def read(self, address: bytes) -> list[bytes]:
        """All messages, oldest first."""
        rows = await self._engine.look("SELECT body FROM messages WHERE address = ? ORDER BY number", address)
        return [row[0] for row in rows]

    async def delete(self, address: bytes, digests: list[bytes]) -> None:
        """Delete messages; those that are not there are none the less gone."""
        drop = "DELETE FROM messages WHERE address = ? AND digest = ?"
        await self._engine.write(*(Write(drop, (address, digest)) for digest in digests))

    async def expire(self, now_s: float) -> None:
        """Delete what has ended."""
        now = int(now_s)
        await self._engine.write(
            Write(DROP_ENDED, (now,), large=True),
            Write("DELETE FROM mailboxes WHERE until <= ?", (now,)),
        )
        await self.load()
        self._known.clear()
